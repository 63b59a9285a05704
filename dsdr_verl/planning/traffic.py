"""Bytes that a step moves between GPUs, by what verl 0.9.1 does with FSDP2 and colocated vLLM. Estimates."""

from __future__ import annotations

from dataclasses import dataclass

from dsdr_verl.planning.batches import Batches
from dsdr_verl.planning.shapes import ModelShape


@dataclass(frozen=True)
class Traffic:
    sync_gathered: float  # that each GPU receives in a weight sync, in float32
    sync_copied: float  # from each trainer process to its vLLM, within the GPU
    micro_batch: float  # that each GPU receives and sends for one micro-batch of the update

    @property
    def sync(self) -> float:
        return self.sync_gathered + self.sync_copied


def traffic(shape: ModelShape, batch: Batches) -> Traffic:
    """P parameters over N GPUs.

    A weight sync gathers every float32 tensor on every GPU, 4P(1 − 1/N), and hands it to vLLM as it is, 4P: verl leaves
    the cast to vLLM. A micro-batch gathers the bfloat16 weights twice, 2 · 2P, and reduces float32 gradients, 4P, all
    times 1 − 1/N; verl's default repeats the reduction for every micro-batch.
    """
    P, others = shape.parameters, 1 - 1 / batch.gpus
    return Traffic(sync_gathered=4 * P * others, sync_copied=4 * P, micro_batch=8 * P * others)
