"""From what the scoring service said of each rollout to the scores of its group."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dsdr_verl.algorithm.diversity import formula_pairs
from dsdr_verl.algorithm.groups import group_index
from dsdr_verl.algorithm.options import DSDROptions
from dsdr_verl.algorithm.scores import GroupScores, score_groups
from dsdr_verl.trainer.reward_manager import EMBEDDING, FORMULAS

KEPT = ("semantic", "formula", "diversity", "weight")  # of `GroupScores`, for each validation sample


def reduce_groups(
    info: Sequence[dict], uids: Sequence[str], reward_B: Tensor, valid_B: Tensor, options: DSDROptions
) -> tuple[GroupScores, Tensor, Tensor]:
    """Eqs. 4-11 over a batch.

    Args:
        info: [B], `reward_extra_info` of the reward manager.
        uids: [B], equal within a group.
        reward_B: float [B], the task's rewards.
        valid_B: bool [B].

    Returns:
        The scores; which rollouts are correct, bool [B]; the group of each, int64 [B].
    """
    group_B, _ = group_index(uids)
    correct_B = torch.tensor([row["acc"] > 0 for row in info]) & valid_B
    row_F, formula_F = formula_pairs([np.asarray(row[FORMULAS], dtype=np.int64) for row in info])
    scores = score_groups(
        reward_B=reward_B,
        correct_B=correct_B,
        embedding_BD=torch.from_numpy(np.stack([np.asarray(row[EMBEDDING], np.float32) for row in info])),
        row_F=row_F,
        formula_F=formula_F,
        group_B=group_B,
        valid_B=valid_B,
        options=options,
    )
    return scores, correct_B, group_B


def kept_of_samples(columns: dict[str, list], options: DSDROptions) -> dict[str, list]:
    """What is written to disk of samples: their diversities and weights in place of embeddings and formula ids.

    Args:
        columns: verl's, of one entry a sample; None where a sample has no such entry. `uid` is verl's key of a sample,
            which starts with that of its prompt.

    Returns:
        The same without `EMBEDDING` and `FORMULAS`, and with `KEPT` if those were there.
    """
    kept = {name: values for name, values in columns.items() if name not in (EMBEDDING, FORMULAS)}
    if EMBEDDING not in columns:
        return kept
    scored = [i for i, embedding in enumerate(columns[EMBEDDING]) if embedding is not None]
    for name in KEPT:
        kept[name] = [None] * len(columns["uid"])
    if scored:
        info = [{name: columns[name][i] for name in ("acc", EMBEDDING, FORMULAS)} for i in scored]
        uids = [columns["uid"][i].rsplit("_", 2)[0] for i in scored]
        reward_B = torch.tensor([row["acc"] for row in info])
        scores, _, _ = reduce_groups(info, uids, reward_B, torch.ones(len(info), dtype=torch.bool), options)
        for name in KEPT:
            for i, value in zip(scored, getattr(scores, name).tolist(), strict=True):
                kept[name][i] = value
    return kept
