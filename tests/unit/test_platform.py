"""What the CPU engine computes in its own way, against the plain way: packed attention and log-probs."""

import subprocess
import sys

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen3Config

from dsdr_verl.platform.attention import NAME
from dsdr_verl.platform.fsdp import token_log_probs

SIZES = dict(
    vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=8, max_position_embeddings=64,
)  # fmt: skip
LENGTHS = [5, 1, 12, 3]


def model_with(config, implementation: str):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config, attn_implementation=implementation, dtype=torch.float64).train()


def packed(ids: list[torch.Tensor]) -> dict:
    positions = torch.cat([torch.arange(len(row)) for row in ids])
    return {"input_ids": torch.cat(ids)[None], "position_ids": positions[None], "use_cache": False}


@pytest.mark.parametrize("config", [LlamaConfig(**SIZES), Qwen3Config(**SIZES)], ids=["llama", "qwen3"])
def test_packed_sequences_do_not_see_each_other(config):
    """Logits and gradients are those of the sequences taken alone, by transformers' own attention."""
    ids = [torch.randint(64, (n,)) for n in LENGTHS]
    ours, theirs = model_with(config, NAME), model_with(config, "sdpa")
    together = ours(**packed(ids)).logits[0]
    alone = torch.cat([theirs(input_ids=row[None], use_cache=False).logits[0] for row in ids])
    torch.testing.assert_close(together, alone)
    weights = torch.randn_like(alone)
    (together * weights).sum().backward()
    (alone * weights).sum().backward()
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, msg=name)


def test_rows_that_are_not_packed_are_refused():
    with pytest.raises(NotImplementedError, match="use_remove_padding=true"):
        model_with(LlamaConfig(**SIZES), NAME)(input_ids=torch.randint(64, (2, 5)), use_cache=False)


def test_a_sliding_window_that_would_matter_is_refused():
    model = model_with(MistralConfig(**SIZES, sliding_window=8), NAME)
    model(**packed([torch.randint(64, (8,))]))
    with pytest.raises(NotImplementedError, match=r"12 tokens.*8.*attn_implementation=sdpa"):
        model(**packed([torch.randint(64, (12,))]))


@pytest.mark.parametrize("shape", [(7, 50), (2, 3, 50)])
def test_log_probs(shape):
    logits = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(50, shape[:-1])
    plain = logits.log_softmax(-1).gather(-1, labels[..., None]).squeeze(-1)
    ours = token_log_probs(logits, labels)
    torch.testing.assert_close(ours, plain)
    weights = torch.randn_like(plain)
    (expected,) = torch.autograd.grad((plain * weights).sum(), logits)
    (actual,) = torch.autograd.grad((ours * weights).sum(), logits)
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("keep", [True, False], ids=["as-the-trainer-has-it", "as-malloc-has-it"])
def test_freed_memory_is_kept_for_the_next_micro_batch(keep):
    code = f"""
import numpy as np, psutil
from dsdr_verl.platform.memory import keep_freed_memory
if {keep}:
    keep_freed_memory()
arrays = [np.ones(2**23) for _ in range(6)]  # 64 MiB each
barrier = bytearray(2**16)
full = psutil.Process().memory_info().rss
arrays.clear()
print((full - psutil.Process().memory_info().rss) // 2**20)
"""
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    returned = int(output.split()[-1])
    assert returned < 64 if keep else returned > 300
