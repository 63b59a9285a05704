"""Correct-only shaping (§3.2.1) and GRPO's advantages on the shaped rewards."""

import torch
from torch import Tensor

from dsdr_verl.algorithm.groups import count_groups, segment_mean_std, segment_sum


def diversity_bonus(d_bar_B: Tensor, correct_B: Tensor, lambda_d: float) -> Tensor:
    """λ_d · d̄_i · 1[correct], [B]: what Eq. 10 adds to the reward."""
    return (lambda_d * d_bar_B).where(correct_B.bool(), 0.0)


def shaped_reward(r_B: Tensor, d_bar_B: Tensor, correct_B: Tensor, lambda_d: float) -> Tensor:
    """r̃_i = r_i + λ_d · d̄_i · 1[correct], [B] (Eq. 10). With λ_d = 0 it is r, bit for bit.

    Correctness is asked for apart, for the reward may hold more than the verifier's 0 or 1, such as a length penalty.
    In float32, with 1.2e-7 from 1 to the next number, λ_d = 0.001 carries d̄ to about 1e-4: with a std(d̄) of 0.1 the
    rounding is under 1 % of an advantage, with 0.01 some 2 %. Add the bonus in float64 where that matters.
    """
    return r_B + diversity_bonus(d_bar_B, correct_B, lambda_d)


def group_advantage(
    r_B: Tensor, group_B: Tensor, norm_by_std: bool = True, eps: float = 1e-6, valid_B: Tensor | None = None
) -> Tensor:
    """A_i = (r̃_i - mean) / (std + ε) within the group (Eq. 2), or r̃_i - mean without `norm_by_std` (Dr. GRPO).

    The same as verl's `compute_grpo_outcome_advantage`: the std has n - 1 in its denominator, and a group of one has
    mean 0 and std 1. Computed in float64, for the rewards of an all-correct group lie near 1 and some 1e-4 apart.
    A group of equal rewards gets exactly 0.

    Args:
        r_B: float [B] rewards, one per rollout.
        group_B: int64 [B].
        norm_by_std: divide by the std.
        eps: ε > 0.
        valid_B: bool [B], or None if all are.

    Returns:
        [B], of r_B's dtype; 0 where not valid.
    """
    at = slice(None) if valid_B is None else valid_B.nonzero(as_tuple=True)
    r, group, P = r_B[at].double(), group_B[at], count_groups(group_B)
    alone_P = segment_sum(torch.ones_like(group), group, P) == 1
    mean_P, std_P = segment_mean_std(r, group, P)
    A = r - mean_P.where(~alone_P, 0.0)[group]
    if norm_by_std:
        A = A / (std_P.where(~alone_P, 1.0)[group] + eps)
    A_B = torch.zeros_like(r_B)
    A_B[at] = A.to(r_B.dtype)
    return A_B
