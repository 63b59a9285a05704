"""Plain PyTorch: forward and backward of kept rollouts, padded micro-batches of a token budget.

python -m tests.bench.plain MODEL TOKENS_PER_MICRO_BATCH ROLLOUTS.pt...
"""

import json
import sys
import time
from statistics import median

import torch
from transformers import AutoModelForCausalLM


def main(model_path: str, budget: int, files: list[str]) -> None:
    model = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32, attn_implementation="sdpa").train()
    rates = []
    for file in files:
        rows = list(torch.load(file, weights_only=False)["tensordict"]["input_ids"].unbind())
        rates.append(tokens_per_second(model, rows, budget))
    # the first batch warms up
    print(json.dumps({"tokens_per_second": median(rates[1:] or rates)}))


def tokens_per_second(model, rows: list[torch.Tensor], budget: int) -> float:
    rows = sorted(rows, key=len)
    start = time.perf_counter()
    per_batch = max(budget // len(rows[-1]), 1)
    for i in range(0, len(rows), per_batch):
        ids = torch.nn.utils.rnn.pad_sequence(rows[i : i + per_batch], batch_first=True)
        mask = torch.nn.utils.rnn.pad_sequence(
            [torch.ones_like(row) for row in rows[i : i + per_batch]], batch_first=True
        )
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
        log_probs = -torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        (log_probs.view(len(ids), -1) * mask[:, 1:]).mean().backward()
    seconds = time.perf_counter() - start
    model.zero_grad(set_to_none=True)
    return sum(map(len, rows)) / seconds


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
