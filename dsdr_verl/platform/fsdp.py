"""FSDP2 on the CPU. verl imports this module through `actor_rollout_ref.model.external_lib=dsdr_verl.platform.fsdp`.

What differs from a GPU:

* torch refuses verl's process-group string "cpu:gloo,cpu:gloo", so the group is made here first; verl skips its own
  call when one exists.
* verl builds the reference model with `CPUOffloadPolicy(pin_memory=True)`, which needs an accelerator.
* Without flash-attn's cross entropy verl takes log-probs row by row, which costs a tenth of an update.
* transformers' attention computes all pairs of packed tokens (`attention`), and malloc gives back what the next
  micro-batch needs again (`memory`).
* gloo binds to what the host's name resolves to, often a loopback that other hosts cannot reach: it is told the
  interface of the address by which Ray knows this node.
* Weights are sent by `vllm_rollout`, registered here in place of verl's sender.
"""

from __future__ import annotations

import os

import psutil
import ray.util
import torch
import torch.distributed
from torch.distributed.fsdp import CPUOffloadPolicy
from verl.workers.engine import EngineRegistry
from verl.workers.engine.fsdp import transformer_impl
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead
from verl.workers.rollout.base import _ROLLOUT_REGISTRY

import dsdr_verl.platform.attention  # noqa: F401 - registers itself with transformers
from dsdr_verl.platform.memory import keep_freed_memory

_ROLLOUT_REGISTRY[("vllm", "async")] = "dsdr_verl.platform.vllm_rollout.CPUServerAdapter"


@EngineRegistry.register(model_type="language_model", backend=["fsdp2"], device="cpu")
class CPUFSDPEngineWithLMHead(FSDPEngineWithLMHead):
    """verl's FSDP2 engine, without pinned memory and with log-probs taken at once."""

    def _build_fsdp_module(self, module):
        # No extension point: verl's methods take both from these module-level names.
        transformer_impl.CPUOffloadPolicy = lambda pin_memory: CPUOffloadPolicy(pin_memory=False)
        transformer_impl.logprobs_from_logits = token_log_probs
        return super()._build_fsdp_module(module)


def token_log_probs(logits: torch.Tensor, labels: torch.Tensor, inplace_backward: bool = False) -> torch.Tensor:
    """log π of `labels` [...] under `logits` [..., V]: [...]. `inplace_backward` is of use to flash-attn only."""
    flat = torch.nn.functional.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="none")
    return -flat.view(labels.shape)


def interface_of(address: str) -> str | None:
    """The network interface that has an address of this machine; None if none has."""
    interfaces = psutil.net_if_addrs().items()
    return next((name for name, has in interfaces if any(a.address == address for a in has)), None)


def _is_training_worker() -> bool:
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ and "MASTER_ADDR" in os.environ


if _is_training_worker():
    keep_freed_memory()
    if interface := interface_of(ray.util.get_node_ip_address()):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group(
            backend="cpu:gloo", rank=int(os.environ["RANK"]), world_size=int(os.environ["WORLD_SIZE"])
        )
