"""Numbers of prompts, rollouts and tokens: each by itself, what must divide what, and what must have room for what."""

import math

from omegaconf import DictConfig

from dsdr_verl.checks.reading import ACTOR, CONTEXT, ROLLOUT, TRAIN_BATCH, get, gpus, longest, ulysses, whole
from dsdr_verl.checks.wording import Problems, less_than, not_dividing, show

MINI_BATCH, GROUP, DYNAMIC = f"{ACTOR}.ppo_mini_batch_size", f"{ROLLOUT}.n", f"{ACTOR}.use_dynamic_bsz"
LEAST = {
    TRAIN_BATCH: (1, " (prompts of a step)"),
    MINI_BATCH: (1, " (prompts of an optimiser step)"),
    GROUP: (2, " (rollouts of a prompt; advantage and diversity compare each with the others)"),
    "data.max_prompt_length": (1, ""),
    "data.max_response_length": (1, ""),
    "trainer.n_gpus_per_node": (1, ""),
    "trainer.nnodes": (1, ""),
    "trainer.total_training_steps": (1, " or to null"),
    f"{ROLLOUT}.tensor_model_parallel_size": (1, ""),
    CONTEXT: (1, " or to null (the model's own limit)"),
}


def numbers(config: DictConfig) -> Problems:
    for key, (least, note) in LEAST.items():
        value = get(config, key)
        if whole(config, key, least) is None and not (value is None and "or to null" in note):
            yield f"{key} is {show(value)}; set it to a whole number of at least {least}{note}"


def ranks(config: DictConfig) -> int | None:
    """FSDP ranks that share a batch; None where other parallelism decides."""
    total, fsdp = gpus(config), get(config, f"{ACTOR}.strategy") in ("fsdp", "fsdp2")
    return total // ulysses(config) if total and fsdp and total % ulysses(config) == 0 else None


def batch_sizes(config: DictConfig) -> Problems:
    train, mini, n, parts = whole(config, TRAIN_BATCH), whole(config, MINI_BATCH), whole(config, GROUP), ranks(config)
    yield from not_dividing(MINI_BATCH, mini, train, TRAIN_BATCH)
    if not get(config, "algorithm.filter_groups.enable"):  # verl then fetches prompts one by one
        yield from not_dividing("data.gen_batch_size", whole(config, "data.gen_batch_size"), train, TRAIN_BATCH)
    if train and mini and n and parts and any(size * n % parts for size in (train, mini)):
        sizes = f"{TRAIN_BATCH} is {train} and {MINI_BATCH} is {mini}"
        prompts, shared = nearest(train, mini, n, parts)
        yield (
            f"{sizes}, with {GROUP}={n} {train * n} and {mini * n} rollouts, which {parts} data-parallel ranks cannot "
            f"share evenly; {TRAIN_BATCH}={prompts} {MINI_BATCH}={shared} is the nearest that they can, with as many "
            "optimiser steps"
        )


def nearest(train: int, mini: int, n: int, ranks: int) -> tuple[int, int]:
    """Prompts of a step and of an optimiser step that the ranks can share, n rollouts each."""
    step = ranks // math.gcd(n, ranks)
    shared = max(1, round(mini / step)) * step
    return shared * math.ceil(train / mini), shared


def micro_batches(config: DictConfig) -> Problems:
    """The update and the old log-probabilities go through the model in parts, by tokens (`DYNAMIC`) or by rollouts."""
    dynamic, n, parts = get(config, DYNAMIC), whole(config, GROUP), ranks(config)
    limit, other = ("max_token_len_per_gpu", "") if dynamic else ("micro_batch_size_per_gpu", f", or {DYNAMIC}=true")
    for name, prompts in ((f"{ACTOR}.ppo", MINI_BATCH), (f"{ROLLOUT}.log_prob", TRAIN_BATCH)):
        key, size, tokens = f"{name}_{limit}", whole(config, prompts), longest(config)
        if not whole(config, key):
            yield f"{key} is {show(get(config, key))}; set it to a whole number of at least 1{other}"
        elif dynamic and tokens:
            least = math.ceil(tokens / ulysses(config))
            yield from less_than(key, whole(config, key), least, "the longest prompt and response")
        elif size and n and parts and size * n % parts == 0:
            yield from not_dividing(key, whole(config, key), size * n // parts, f"a rank's part of {prompts} × {GROUP}")


def vllm_lengths(config: DictConfig) -> Problems:
    tokens, chunked = f"{ROLLOUT}.max_num_batched_tokens", f"{ROLLOUT}.enable_chunked_prefill"
    limit = whole(config, CONTEXT)
    yield from less_than(CONTEXT, limit, longest(config), "data.max_prompt_length + data.max_response_length")
    if not get(config, chunked):
        yield from less_than(tokens, whole(config, tokens), limit, f"{CONTEXT} with {chunked}=false")
