"""Memory of a GPU in each phase of verl's synchronous trainer, and of a node's host. Estimates.

Trainer and vLLM share each GPU and take turns: vLLM sleeps, with neither weights nor cache, while the trainer computes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from omegaconf import DictConfig

from dsdr_verl.checks.reading import ACTOR, MODEL, ROLLOUT, get
from dsdr_verl.planning.batches import Batches
from dsdr_verl.planning.shapes import ModelShape

GIB = 2**30

# Assumed, as nothing has been measured on a GPU here.
CONTEXT = 0.6 * GIB  # CUDA and NCCL, of a process
ASLEEP = 1.0 * GIB  # what vLLM keeps while it sleeps: its context and CUDA graphs
WORKSPACE = 2.5 * GIB  # vLLM's activations and CUDA graphs, within its share
FRAGMENTS = 0.05  # of the GPU, that the allocator cannot use
LOGIT_BYTES = 8  # of a logit in the update: itself and its gradient in bfloat16, and one float32 copy
ENCODER = 1.5 * GIB  # a scoring actor that embeds on a GPU: its context, 90 MB of weights, a batch
PROCESS = 1.5 * GIB  # of host memory a GPU: trainer, vLLM engine and their Ray workers


@dataclass(frozen=True)
class Memory:
    """Bytes by phase and part. The rollout engine's cache is `cache` of its share."""

    phases: dict[str, dict[str, float]]
    cache: float
    cached_sequences: float  # of the longest, that fit into the cache at once
    host: float  # of a node, at start-up, when it is highest
    checkpoint: float  # of a checkpoint, over all nodes

    def peak(self, phase: str) -> float:
        return sum(self.phases[phase].values())

    @property
    def highest(self) -> str:
        return max(self.phases, key=self.peak)


def memory(config: DictConfig, shape: ModelShape, batch: Batches, gpu_bytes: float) -> Memory:
    """Peak memory of a GPU of `gpu_bytes`, with P parameters over N GPUs.

    Trainer, sharded by FSDP2 in float32: weights 4P/N, gradients 4P/N, AdamW's moments 8P/N; what is offloaded is
    absent except where it is used. vLLM: weights 2P/tp in bfloat16, `WORKSPACE`, and the rest of its share as cache.
    Activations and gathered weights are those of `activations`, `logits` and `gathered`.
    The weight sync goes through the trainer's float32: one full tensor at a time, and a bucket that both sides map.
    A reference model (`use_kl_loss`) is left out: verl keeps it on the host.
    """
    P, N = shape.parameters, batch.gpus
    weights, moments, gradients = 4 * P / N, 8 * P / N, 4 * P / N
    offload = f"{ACTOR}.fsdp_config"
    kept = {
        "trainer: weights": 0 if get(config, f"{offload}.param_offload") else weights,
        "trainer: AdamW moments": 0 if get(config, f"{offload}.optimizer_offload") else moments,
    }
    tensor_parallel = get(config, f"{ROLLOUT}.tensor_model_parallel_size")
    share = get(config, f"{ROLLOUT}.gpu_memory_utilization") * gpu_bytes
    engine = 2 * P / tensor_parallel
    cache = max(share - engine - WORKSPACE, 0.0)
    bucket = get(config, f"{ROLLOUT}.checkpoint_engine.update_weights_bucket_megabytes") * 2**20
    tokens = batch.token_limit
    # Ray does not hide a node's GPUs from an actor that asks for none, and "cuda" is the first for each of them
    on_gpu = config.scoring.embedding.device != "cpu"
    encoders = ENCODER * math.ceil(config.scoring.actors * batch.gpus_per_node / N) if on_gpu else 0.0
    phases = {
        "generation": kept
        | {
            "vLLM: weights": engine,
            "vLLM: workspace": WORKSPACE,
            "vLLM: KV cache": cache,
            "contexts": CONTEXT,
            "scoring": encoders,
        },
        "update": {
            "trainer: weights": weights,
            "trainer: gradients": gradients,
            "trainer: AdamW moments": moments,
            "trainer: gathered layers": gathered(shape),
            "trainer: activations": activations(
                shape, tokens, bool(get(config, f"{MODEL}.enable_gradient_checkpointing"))
            ),
            "trainer: logits": logits(shape, tokens),
            "contexts": CONTEXT + ASLEEP,
            "scoring": encoders,
        },
        "weight sync": kept
        | {
            "trainer: one full tensor": 4 * shape.vocab_parameters,
            "bucket": bucket,
            "vLLM: weights": engine,
            "contexts": CONTEXT + ASLEEP,
            "scoring": encoders,
        },
    }
    # verl loads a model with tied embeddings whole in every process, others in the first only
    copies = batch.gpus_per_node if shape.tied else 1
    offloaded = (weights - kept["trainer: weights"]) + (moments - kept["trainer: AdamW moments"])
    return Memory(
        phases=phases,
        cache=cache,
        cached_sequences=cache / (batch.longest * shape.kv_bytes / tensor_parallel),
        host=4 * P * copies + batch.gpus_per_node * (offloaded + PROCESS),
        checkpoint=12 * P,
    )


def activations(shape: ModelShape, tokens: int, checkpointing: bool) -> float:
    """bfloat16 activations of `tokens`, with flash attention.

    A layer holds a (2 norms' outputs and 3 residuals, q, k, v, attention's output, 4 of the MLP's width). With
    checkpointing each layer keeps its input only, and one layer at a time has a and its gradient; without, all keep a.
    """
    layer = 2 * tokens * (5 * shape.hidden + 2 * shape.q_width + 2 * shape.kv_width + 4 * shape.mlp)
    if checkpointing:
        return shape.layers * 2 * tokens * shape.hidden + 2 * layer
    return (shape.layers + 1) * layer


def logits(shape: ModelShape, tokens: int) -> float:
    """[tokens, vocab] at `LOGIT_BYTES`. flash-attn's in-place cross entropy saves up to half of it."""
    return LOGIT_BYTES * tokens * shape.vocab


def gathered(shape: ModelShape) -> float:
    """What FSDP2 has whole: the embedding matrices and two layers in bfloat16, and of the largest the gradient in
    bfloat16 and its float32 copy on the way to the reduction."""
    whole = shape.vocab_parameters * (1 if shape.tied else 2) + 2 * shape.layer_parameters
    return 2 * whole + 6 * max(shape.vocab_parameters, shape.layer_parameters)
