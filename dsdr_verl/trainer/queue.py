"""Every call to TransferQueue. Upstream plans to replace it, so nothing else of this package imports it."""

from __future__ import annotations

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
    extra_fields = data["extra_fields"].tolist()
    return RolloutBatch(
        uid=np.array(data["uid"].tolist(), dtype=object),
        rm_scores=data["rm_scores"],
        reward_extra_info=[fields.get("reward_extra_info") or {} for fields in extra_fields],
        valid_B=torch.tensor([not tag.get("is_padding", False) for tag in batch.tags]),
    )


def write_columns(batch: KVBatchMeta, **columns: torch.Tensor) -> None:
    """Put dense [B] or nested [B, T] tensors beside the rollouts they belong to."""
    fields = TensorDict(columns, batch_size=len(batch.keys))
    tq.kv_batch_put(keys=batch.keys, partition_id=batch.partition_id, fields=fields)


def add_at_last_token(nested_BT: torch.Tensor, value_B: torch.Tensor) -> torch.Tensor:
    """A copy of nested [B, T] with `value_B` added to the last token of each row; empty rows stay as they are."""
    values, offsets = nested_BT.values().clone(), nested_BT.offsets()
    filled = offsets.diff() > 0
    values[offsets[1:][filled] - 1] += value_B[filled].to(values.dtype)
    return torch.nested.nested_tensor_from_jagged(values, offsets)
