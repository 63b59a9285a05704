"""Groups: the rollouts of one prompt, told apart by a dense index into the batch."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor


def group_index(uids: Sequence[Any] | np.ndarray) -> tuple[Tensor, int]:
    """Dense group number of every rollout.

    Args:
        uids: [B] prompt ids, equal for the rollouts of one prompt: strings or integers, in any order.

    Returns:
        group_B: int64 [B], in 0..P-1 by the sorted order of the ids.
        n_groups: P.

    Raises:
        ValueError: `uids` is not one-dimensional.
        TypeError: the ids cannot be ordered among each other (say, strings mixed with integers).
    """
    ids = np.asarray(uids, dtype=object)  # else numpy turns [1, "1"] into two equal strings
    if ids.ndim != 1:
        raise ValueError(f"uids must be one id per rollout, got shape {ids.shape}")
    unique, group_B = np.unique(ids, return_inverse=True)
    return torch.from_numpy(group_B.astype(np.int64)), len(unique)


def count_groups(group_B: Tensor) -> int:
    """P, from a dense group index int64 [B]."""
    return int(group_B.max()) + 1 if group_B.numel() else 0


def segment_sum(x_B: Tensor, index_B: Tensor, n: int) -> Tensor:
    """Sum of the rows of `x_B` [B, ...] that share an index (int64 [B], below n): [n, ...]; 0 where there are none."""
    return x_B.new_zeros(n, *x_B.shape[1:]).index_add_(0, index_B, x_B)


def segment_largest(x_B: Tensor, index_B: Tensor, n: int) -> Tensor:
    """Largest of the entries of `x_B` [B] that share an index (int64 [B], below n): [n]; -inf where there are none."""
    return x_B.new_full((n,), -torch.inf).scatter_reduce_(0, index_B, x_B, "amax")


def segment_mean_std(x_B: Tensor, index_B: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (n - 1 in the denominator) of the entries of `x_B` [B] that share an index: [n], [n].

    Two passes, with sums taken relative to the largest entry: equal entries give that very entry and a std of exactly
    0. As with `torch.std`, the std of a single entry is NaN.
    """
    size = segment_sum(torch.ones_like(x_B), index_B, n)
    anchor = segment_largest(x_B, index_B, n)
    mean = anchor + segment_sum(x_B - anchor[index_B], index_B, n) / size
    variance = segment_sum((x_B - mean[index_B]) ** 2, index_B, n) / (size - 1)
    return mean, variance.sqrt()


class SolveCounts(NamedTuple):
    """How many groups were solved by all, some or none of their rollouts."""

    all_correct: int
    mixed: int
    all_wrong: int

    def shares(self) -> dict[str, float]:
        """Each count over their total; all 0 if there are no groups."""
        return {name: count / max(sum(self), 1) for name, count in self._asdict().items()}


def solve_counts(correct_B: Tensor, group_B: Tensor, valid_B: Tensor) -> SolveCounts:
    """Counts of all-correct, mixed and all-wrong groups; a group without a valid rollout is none of them.

    Args:
        correct_B, valid_B: bool [B].
        group_B: int64 [B].
    """
    at = valid_B.nonzero(as_tuple=True)
    P = count_groups(group_B)
    solved_P = segment_sum(correct_B[at].bool().long(), group_B[at], P)
    size_P = segment_sum(torch.ones_like(group_B[at]), group_B[at], P)
    all_correct = (size_P > 0) & (solved_P == size_P)
    all_wrong = (size_P > 0) & (solved_P == 0)
    mixed = (size_P > 0) & ~all_correct & ~all_wrong
    return SolveCounts(*(int(kind.sum()) for kind in (all_correct, mixed, all_wrong)))


def mixed_probability(p: float, G: int) -> float:
    """Lemma C.3: P(G rollouts, each correct with probability p, are neither all correct nor all wrong).

    Raises:
        ValueError: p outside [0, 1] or G below 1.
    """
    if not 0 <= p <= 1 or G < 1:
        raise ValueError(f"p must be in [0, 1] and G at least 1, got p={p}, G={G}")
    return max(0.0, 1 - p**G - (1 - p) ** G)
