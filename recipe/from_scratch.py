"""What the scripts share that train a small Llama from scratch: tokenizer, model, training, samples, saving."""

from __future__ import annotations

import argparse
import json
import math
import string
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from dsdr_verl.data.rows import Messages

SPECIAL = ["<pad>", "<unk>", "<bos>", "<eos>", "<|system|>", "<|user|>", "<|assistant|>"]
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] }}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
LENGTH = 48  # tokens of a training example; longer ones are dropped

Example = tuple[Messages, str]  # a question, and a response to it


def build_tokenizer(texts: Sequence[str], pattern: str, vocabulary: int) -> PreTrainedTokenizerFast:
    """Make a byte-pair tokenizer of printable ASCII, and what `pattern` holds together in the texts."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), "isolated")
    tokenizer.decoder = decoders.Fuse()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
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


def build_model(tokenizer: PreTrainedTokenizerFast, vocabulary: int, width: int, layers: int) -> LlamaForCausalLM:
    """Make the untrained model, with heads of 32 (the smallest that vLLM's CPU backend takes)."""
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 32,
        num_key_value_heads=width // 64,
        head_dim=32,
        max_position_embeddings=512,
        tie_word_embeddings=False,
        **ids,
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(**ids)
    return model


def encode(tokenizer: PreTrainedTokenizerFast, examples: Sequence[Example]) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokenise examples; return ids and labels, both ``[B, L]``, labels on the responses only."""
    chats = [tokenizer.apply_chat_template(m, add_generation_prompt=True, tokenize=False) for m, _ in examples]
    prompts = tokenizer(chats, add_special_tokens=False).input_ids
    responses = tokenizer([response for _, response in examples], add_special_tokens=False).input_ids
    ids, labels = [], []
    for prompt, response in zip(prompts, responses, strict=True):
        response = [*response, tokenizer.eos_token_id]
        if len(prompt) + len(response) <= LENGTH:
            ids.append(torch.tensor(prompt + response))
            labels.append(torch.tensor([-100] * len(prompt) + response))
    pad = torch.nn.utils.rnn.pad_sequence
    return pad(ids, True, tokenizer.pad_token_id), pad(labels, True, -100)


@torch.no_grad()
def describe(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    questions: Sequence[Messages],
    keys: Sequence[Callable[[str], str | None]],
    samples: int = 8,
) -> dict:
    """Sample at temperature 1 and describe what comes: share right, greedy too, mixed groups, variety, length.

    Args:
        keys: for each question, what tells a right response from others; None for a wrong one.
    """
    chats = [tokenizer.apply_chat_template(m, add_generation_prompt=True, tokenize=False) for m in questions]
    inputs = tokenizer(chats, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False)
    inputs.pop("token_type_ids", None)
    start = inputs.input_ids.shape[1]
    greedy = model.generate(**inputs, do_sample=False, max_new_tokens=LENGTH)[:, start:]
    sampled = model.generate(**inputs, do_sample=True, top_k=0, num_return_sequences=samples, max_new_tokens=LENGTH)
    sampled = sampled[:, start:]
    texts = tokenizer.batch_decode(sampled, skip_special_tokens=True)
    groups = [texts[i : i + samples] for i in range(0, len(texts), samples)]
    found = [[key(text) for text in group] for key, group in zip(keys, groups, strict=True)]
    right = [[key is not None for key in group] for group in found]
    greedy_texts = tokenizer.batch_decode(greedy, skip_special_tokens=True)
    return {
        "right": sum(map(sum, right)) / len(texts),
        "greedy": sum(k(t) is not None for k, t in zip(keys, greedy_texts, strict=True)) / len(groups),
        "mixed": sum(any(r) and not all(r) for r in right) / len(groups),
        "distinct": sum(len(set(group)) for group in groups) / len(groups),
        "distinct_right": sum(len({*group} - {None}) for group in found) / len(groups),
        "prompt_tokens": inputs.attention_mask.sum().item() / len(groups),
        "response_tokens": (sampled != tokenizer.pad_token_id).sum().item() / len(texts),
        "ended": (sampled == tokenizer.eos_token_id).any(1).float().mean().item(),
        "examples": texts[:4],
    }


def fit(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    draw: Callable[[int], Sequence[Example]],
    report: Callable[[], dict],
    args: argparse.Namespace,
) -> None:
    """Train on fresh examples, with a warm-up and a cosine, and save and report now and then."""
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(tokenizer)} tokens", flush=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, betas=(0.9, 0.98), weight_decay=0.01)
    started = time.time()
    for step in range(args.steps):
        scale = min(1.0, (step + 1) / 50) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / args.steps)))
        for group in optimizer.param_groups:
            group["lr"] = args.lr * scale
        ids, labels = encode(tokenizer, draw(args.batch))
        logits = model(input_ids=ids).logits[:, :-1]  # pads come last: causal attention never looks at them
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % args.every == 0 or step + 1 == args.steps:
            save(model, tokenizer, args.out)
            model.eval()
            shown = json.dumps(report())
            model.train()
            print(f"step {step + 1} {time.time() - started:.0f} s loss {loss.item():.3f} {shown}", flush=True)


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


def parser(description: str | None, out: Path, **defaults: object) -> argparse.ArgumentParser:
    """The options that every script has; `defaults` by their names."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    options.add_argument("--out", type=Path, default=out, help="folder of the finished model")
    options.add_argument("--steps", type=int, help="training steps")
    options.add_argument("--batch", type=int, help="problems in a step")
    options.add_argument("--lr", type=float, default=3e-3, help="peak of the learning rate")
    options.add_argument("--noise", type=float, help="share of solutions with a wrong result")
    options.add_argument("--every", type=int, default=100, help="steps between evaluations")
    options.add_argument("--seed", type=int, default=0)
    options.set_defaults(**defaults)
    return options
