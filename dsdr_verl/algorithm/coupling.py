"""Global-to-local coupling (§3.2.2): which correct rollouts of a prompt the local term acts on, and how evenly."""

import torch
from torch import Tensor

from dsdr_verl.algorithm.groups import count_groups, segment_largest, segment_sum


def coupling_weights(d_bar_B: Tensor, correct_B: Tensor, group_B: Tensor, tau: float) -> Tensor:
    """w_i = exp(τ d̄_i) / Σ_{j∈P} exp(τ d̄_j) over the correct rollouts of the group, 0 for the others (Eq. 11).

    The softmax of Prop. C.5, relative to the group's largest τ d̄ and in float64: it neither overflows nor vanishes.

    Args:
        d_bar_B: float [B].
        correct_B: bool [B]; false for padding.
        group_B: int64 [B].
        tau: τ >= 0. 0 is uniform.

    Returns:
        float32 [B]; sums to 1 in every group with a correct rollout.
    """
    at = correct_B.nonzero(as_tuple=True)
    group, P = group_B[at], count_groups(group_B)
    logit = tau * d_bar_B[at].double()
    share = (logit - segment_largest(logit, group, P)[group]).exp()
    w_B = torch.zeros_like(d_bar_B, dtype=torch.float32)
    w_B[at] = (share / segment_sum(share, group, P)[group]).float()
    return w_B


def effective_rollouts(w_B: Tensor, group_B: Tensor) -> Tensor:
    """1 / Σ_i w_i² of each group, float64 [P]: from 1 to the number of correct rollouts; 0 where none is correct."""
    square_P = segment_sum(w_B.double() ** 2, group_B, count_groups(group_B))
    return square_P.reciprocal().where(square_P > 0, 0.0)


def coupling_entropy(w_B: Tensor, group_B: Tensor) -> Tensor:
    """H(w) = -Σ_i w_i log w_i of each group in nats, float64 [P]; 0 where none is correct."""
    w_B = w_B.double()
    return -segment_sum(torch.xlogy(w_B, w_B), group_B, count_groups(group_B))
