"""Every call to TransferQueue. Upstream plans to replace it, so nothing else of this package imports it."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import torch
import transfer_queue as tq
from tensordict import TensorDict
from transfer_queue import KVBatchMeta


@dataclass
class RolloutBatch:
    """What the group reduction needs of a batch of B rollouts, in the order of `KVBatchMeta.keys`.

    `reward_extra_info[i]` is what the reward manager returned for rollout i; a padding row holds a *copy* of another
    rollout's, so `valid_B` must be applied before it is believed.
    """

    uid: np.ndarray  # [B] object
    rm_scores: torch.Tensor  # nested [B, T]
    reward_extra_info: list[dict]
    valid_B: torch.Tensor  # bool


def read_rollouts(batch: KVBatchMeta) -> RolloutBatch:
    data = tq.kv_batch_get(
        keys=batch.keys, partition_id=batch.partition_id, select_fields=["uid", "rm_scores", "extra_fields"]
    )
    extra_fields = _as_list(data["extra_fields"])
    return RolloutBatch(
        uid=np.array(_as_list(data["uid"]), dtype=object),
        rm_scores=data["rm_scores"],
        reward_extra_info=[fields.get("reward_extra_info") or {} for fields in extra_fields],
        valid_B=torch.tensor([not tag.get("is_padding", False) for tag in batch.tags]),
    )


def number_of(key: str) -> list[tuple[int, str]]:
    """What sorts keys as they were asked for: `<step>-<group>_<rollout>_<output>`, by number."""
    return [(int(part) if part.isdecimal() else -1, part) for part in re.split("[-_]", key)]


def _as_list(column) -> list:
    """A non-tensor column arrives as a NonTensorStack, a list subclass or an array, depending on its content."""
    return column.tolist() if hasattr(column, "tolist") else [getattr(item, "data", item) for item in column]


def write_columns(batch: KVBatchMeta, **columns: torch.Tensor) -> None:
    """Put dense [B] or nested [B, T] tensors beside the rollouts they belong to."""
    fields = TensorDict(columns, batch_size=len(batch.keys))
    tq.kv_batch_put(keys=batch.keys, partition_id=batch.partition_id, fields=fields)


def add_at_first_token(nested_BT: torch.Tensor, value_B: torch.Tensor) -> torch.Tensor:
    """nested [B, T] with `value_B` added to the first token of each row; empty rows stay as they are.

    Not to the last, where the reward is: beside a 1, float32 resolves a bonus of 1e-4 to a thousandth only, which the
    std normalisation of a solved group then blows up. The estimator sums a row in float64.
    """
    values, offsets = nested_BT.values().clone(), nested_BT.offsets()
    filled = offsets.diff() > 0
    values[offsets[:-1][filled]] += value_B[filled].to(values.dtype)
    return torch.nested.nested_tensor_from_jagged(values, offsets)
