"""Seconds of a step's stages from data-sheet figures and assumed efficiencies: for the order of size, and for what
saturates first. Estimates; docs/scaling.md compares them with published runs."""

from __future__ import annotations

import math
from dataclasses import dataclass

from omegaconf import DictConfig

from dsdr_verl.checks.reading import ROLLOUT, get
from dsdr_verl.planning.batches import Batches
from dsdr_verl.planning.memory import GIB, Memory
from dsdr_verl.planning.shapes import ModelShape
from dsdr_verl.planning.traffic import traffic


@dataclass(frozen=True)
class GPU:
    """Data-sheet figures, in one direction where there are two, and of a common 8-GPU node with it."""

    memory: float  # bytes
    bandwidth: float  # of the memory, bytes/s
    flops: float  # bfloat16, dense, 1/s
    link: float  # NVLink, bytes/s
    network: float  # of a node, bytes/s


GPUS = {
    "a100-40gb": GPU(40 * GIB, 1.555e12, 312e12, 300e9, 50e9),
    "a100-80gb": GPU(80 * GIB, 2.039e12, 312e12, 300e9, 50e9),
    "h100-80gb": GPU(80 * GIB, 3.35e12, 989e12, 450e9, 400e9),
}

# Assumed shares of those that are reached.
TRAINING, DECODING, MOVING = 0.35, 0.6, 0.7
ITERATION = 4e-3  # seconds of a decoding iteration beside reading memory: scheduler, sampler, kernel launches

# Measured on one core without a GPU (docs/performance.md): seconds to verify a rollout, to parse a character of it for
# formulas, and to embed a window; characters a token, and tokens a window.
VERIFY, PARSE, EMBED, CHARACTERS, WINDOW = 0.34e-3, 0.52e-6, 0.067, 14_000 / 4096, 256


@dataclass(frozen=True)
class Stages:
    """Seconds of one step, if responses have `response` tokens on average."""

    response: float
    tokens: float  # of the step, prompts included
    concurrency: int  # sequences that a replica decodes at once
    generation: float
    tail: float  # of it, the least that the longest response takes, however many GPUs there are
    log_prob: float
    update: float
    sync: float  # at least: bandwidth alone, and hundreds of tensors each have their latency
    scoring: float  # core-seconds
    embedding: float  # of them, the encoder's

    @property
    def step(self) -> float:
        return self.generation + self.log_prob + self.update + self.sync

    @property
    def throughput(self) -> float:
        """Tokens a second, over all GPUs."""
        return self.tokens / self.step

    @property
    def cores(self) -> float:
        """Cores that hide scoring behind generation."""
        return self.scoring / self.generation


def stages(config: DictConfig, shape: ModelShape, batch: Batches, room: Memory, gpu: GPU, response: float) -> Stages:
    """Every stage with its formula; P parameters, N GPUs, `response` tokens and half of the longest prompt a rollout.

    Decoding: an iteration gives one token to each of c sequences (what the cache holds, up to max_num_seqs and the
    replica's share) and takes the longer of reading weights and cache, (2P + c · context · kv) / tp at `DECODING`, and
    2Pc/tp FLOPs at `TRAINING`, plus `ITERATION`. Generation lasts as long as all tokens do, or as the longest response
    does with nothing else in the batch. Old log-probabilities: 2P FLOPs a token; the update: 8P, as checkpointing
    repeats the forward pass; or what its traffic takes, if that is longer. Attention's own FLOPs are left out.
    """
    P, N = shape.parameters, batch.gpus
    prompt = (batch.longest - batch.longest_response) / 2
    tokens = batch.rollouts * (prompt + response)
    tp = get(config, f"{ROLLOUT}.tensor_model_parallel_size")
    context = prompt + response / 2
    fits = int(room.cache // (context * shape.kv_bytes / tp))
    concurrency = max(1, min(get(config, f"{ROLLOUT}.max_num_seqs"), batch.rollouts_per_replica, fits))

    def iteration(sequences: int) -> float:
        read = (2 * P + sequences * context * shape.kv_bytes) / tp / (gpu.bandwidth * DECODING)
        return max(read, 2 * P * sequences / tp / (gpu.flops * TRAINING)) + ITERATION

    tail = batch.longest_response * iteration(1)
    decoding = batch.rollouts_per_replica * response / concurrency * iteration(concurrency)
    moved, nodes = traffic(shape, batch), N / batch.gpus_per_node
    # a ring passes everything once over each link, and once over each node's network
    link = (min(gpu.link, gpu.network) if nodes > 1 else gpu.link) * MOVING
    micro_batches = batch.optimiser_steps * math.ceil(
        max(batch.mini_batch_per_rank * (prompt + response) / (batch.token_limit * N / batch.ranks), 1)
    )
    windows = 1
    if config.scoring.embedding.long == "chunk":
        windows = min(config.scoring.embedding.max_windows, math.ceil(response / WINDOW))
    on_cpu = config.scoring.embedding.device == "cpu"  # what a GPU takes has not been measured
    embedding = batch.rollouts * windows * EMBED if on_cpu else 0.0
    return Stages(
        response=response,
        tokens=tokens,
        concurrency=concurrency,
        generation=max(decoding, tail),
        tail=tail,
        log_prob=2 * P * tokens / N / (gpu.flops * TRAINING),
        update=max(8 * P * tokens / N / (gpu.flops * TRAINING), micro_batches * moved.micro_batch / link),
        sync=moved.sync_gathered / link + moved.sync_copied / (gpu.bandwidth * MOVING),
        scoring=embedding + batch.rollouts * (VERIFY + PARSE * CHARACTERS * response),
        embedding=embedding,
    )
