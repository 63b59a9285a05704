"""Train the tiny model of the tests and quick studies from scratch, on one CPU core.

It learns arithmetic from solutions written in several styles, some of them wrong on purpose: at temperature 1 it is
right about half of the time and in many ways, which is what an RL run with a diversity term needs to start from.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
import string
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from dsdr_verl.data.models import TINY_FOLDER
from dsdr_verl.data.tasks import TINY_ARITHMETIC, Problem

SPECIAL = ["<pad>", "<unk>", "<bos>", "<eos>", "<|system|>", "<|user|>", "<|assistant|>"]
VOCABULARY = 128
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] }}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
LENGTH = 48  # tokens of a training example; longer ones are dropped


def solve(problem: Problem, rng: random.Random, noise: float) -> str:
    """Write one solution in a style drawn at random; with probability ``noise`` its result is slightly wrong."""
    slip = rng.choice([-10, -2, -1, 1, 2, 10]) if rng.random() < noise else 0
    right = problem.answer
    result = right + slip if right + slip >= 0 else right - slip
    a, b, *rest = problem.operands
    if problem.kind == "difference":
        steps = rng.choice([f"{a}-{b}={result}", f"{a}-{b}={result}", f"{b}+{result}={a}, so the answer is {result}"])
        if b >= 10 and rng.random() < 0.5:
            steps = f"{a}-{b // 10 * 10}={a - b // 10 * 10}, {a - b // 10 * 10}-{b % 10}={result}"
    elif problem.kind == "product":
        low, high = sorted((a, b))
        steps = rng.choice([f"{a}*{b}={result}", f"{b}*{a}={result}"])
        if low <= 4 and rng.random() < 0.5:
            steps = f"{'+'.join([str(high)] * low)}={result}"
    elif rest:
        x, y, z = rng.sample(problem.operands, 3)
        steps = rng.choice([f"{x}+{y}={x + y}, {x + y}+{z}={result}", f"{x}+{y}={x + y}, {z}+{x + y}={result}"])
        if rng.random() < 0.25:
            steps = f"{x}+{y}+{z}={result}"
    else:
        if rng.random() < 0.5:
            a, b = b, a
        tens, ones = a // 10 * 10 + b // 10 * 10, a % 10 + b % 10
        steps = rng.choice(
            [
                f"{a}+{b}={result}",
                f"{a // 10 * 10}+{b // 10 * 10}={tens}, {a % 10}+{b % 10}={ones}, {tens}+{ones}={result}",
                f"{a}+{b // 10 * 10}={a + b // 10 * 10}, {a + b // 10 * 10}+{b % 10}={result}",
            ]
        )
    if "answer" in steps:
        return steps
    return rng.choice(
        [
            steps,
            f"${steps}$",
            f"{steps}, so the answer is {result}",
            f"{steps}. Answer: {result}",
            steps.removesuffix(str(result)) + f"\\boxed{{{result}}}",
        ]
    )


def build_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Make a byte-pair tokenizer of single digits, printable ASCII, and the few words that the solutions use."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\\boxed\{| ?[A-Za-z]+|[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        initial_alphabet=list(string.digits + string.ascii_letters + string.punctuation + " \n"),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def build_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Make the untrained model: 4 layers of width 128, heads of 32 (the smallest that vLLM's CPU backend takes)."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=512,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def encode(
    tokenizer: PreTrainedTokenizerFast, problems: list[Problem], rng: random.Random, noise: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokenise problems with fresh solutions; return ids and labels, both ``[B, L]``, labels on the solutions only."""
    ids, labels = [], []
    for problem in problems:
        chat = tokenizer.apply_chat_template(TINY_ARITHMETIC.ask(problem), add_generation_prompt=True, tokenize=False)
        prompt = tokenizer(chat, add_special_tokens=False).input_ids
        solution = [*tokenizer(solve(problem, rng, noise), add_special_tokens=False).input_ids, tokenizer.eos_token_id]
        if len(prompt) + len(solution) <= LENGTH:
            ids.append(torch.tensor(prompt + solution))
            labels.append(torch.tensor([-100] * len(prompt) + solution))
    pad = torch.nn.utils.rnn.pad_sequence
    return pad(ids, True, tokenizer.pad_token_id), pad(labels, True, -100)


def answer_of(response: str) -> str | None:
    """Take the last number: every style ends with the result."""
    numbers = re.findall(r"-?\d+", response.replace("-", " -"))
    return numbers[-1] if numbers else None


@torch.no_grad()
def evaluate(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, problems: list[Problem], samples: int
) -> dict:
    """Sample at temperature 1 and describe what comes: share right, greedy too, mixed groups, variety, length."""
    chats = [
        tokenizer.apply_chat_template(TINY_ARITHMETIC.ask(p), add_generation_prompt=True, tokenize=False)
        for p in problems
    ]
    inputs = tokenizer(chats, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False)
    inputs.pop("token_type_ids", None)
    start = inputs.input_ids.shape[1]
    greedy = model.generate(**inputs, do_sample=False, max_new_tokens=LENGTH)[:, start:]
    sampled = model.generate(**inputs, do_sample=True, top_k=0, num_return_sequences=samples, max_new_tokens=LENGTH)[
        :, start:
    ]
    texts = tokenizer.batch_decode(sampled, skip_special_tokens=True)
    groups = [texts[i : i + samples] for i in range(0, len(texts), samples)]
    right = [[answer_of(text) == str(p.answer) for text in group] for p, group in zip(problems, groups, strict=True)]
    greedy_texts = tokenizer.batch_decode(greedy, skip_special_tokens=True)
    return {
        "pass": sum(map(sum, right)) / len(texts),
        "greedy": sum(answer_of(t) == str(p.answer) for t, p in zip(greedy_texts, problems, strict=True))
        / len(problems),
        "mixed": sum(any(r) and not all(r) for r in right) / len(right),
        "distinct": sum(len(set(group)) for group in groups) / len(groups),
        "prompt_tokens": inputs.attention_mask.sum().item() / len(problems),
        "response_tokens": (sampled != tokenizer.pad_token_id).sum().item() / len(texts),
        "ended": (sampled == tokenizer.eos_token_id).any(1).float().mean().item(),
        "examples": groups[0][:4],
    }


def train(args: argparse.Namespace) -> dict:
    """Run the training; save the model; return the last evaluation."""
    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    pools = [[p for p in problems if p.split == "train"] for problems in TINY_ARITHMETIC.pools]

    def draw(count: int) -> list[Problem]:
        return [rng.choice(problems) for problems in rng.choices(pools, TINY_ARITHMETIC.shares, k=count)]

    tokenizer = build_tokenizer([solve(problem, rng, args.noise) for problem in draw(5000)])
    model = build_model(tokenizer)
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    held_out = TINY_ARITHMETIC.problems("val", 64, seed=args.seed)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(tokenizer)} tokens")
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, betas=(0.9, 0.98), weight_decay=0.01)
    started, report = time.time(), {}
    for step in range(args.steps):
        scale = min(1.0, (step + 1) / 50) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / args.steps)))
        for group in optimizer.param_groups:
            group["lr"] = args.lr * scale
        ids, labels = encode(tokenizer, draw(args.batch), rng, args.noise)
        logits = model(input_ids=ids).logits[:, :-1]  # pads come last: causal attention never looks at them
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % args.every == 0 or step + 1 == args.steps:
            report = evaluate(model.eval(), tokenizer, held_out, samples=8)
            model.train()
            print(
                f"step {step + 1} {time.time() - started:.0f} s loss {loss.item():.3f} {json.dumps(report)}", flush=True
            )
    save(model, tokenizer, args.out)
    return report


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write an ordinary Hugging Face folder, its weights in float16."""
    folder.mkdir(parents=True, exist_ok=True)
    model.config.architectures = ["LlamaForCausalLM"]
    model.config.dtype = torch.float16
    model.config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    tokenizer_config = folder / "tokenizer_config.json"  # the class by the name that older transformers know too
    tokenizer_config.write_text(tokenizer_config.read_text().replace("TokenizersBackend", "PreTrainedTokenizerFast"))
    weights = {name: value.detach().to(torch.float16).contiguous() for name, value in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)  # safetensors makes it private


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--out", type=Path, default=TINY_FOLDER, help="folder of the finished model")
    parser.add_argument("--steps", type=int, default=800, help="training steps")
    parser.add_argument("--batch", type=int, default=128, help="problems in a step")
    parser.add_argument("--lr", type=float, default=3e-3, help="peak of the learning rate")
    parser.add_argument("--noise", type=float, default=0.3, help="share of solutions with a wrong result")
    parser.add_argument("--every", type=int, default=100, help="steps between evaluations")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    train(args)


if __name__ == "__main__":
    main()
