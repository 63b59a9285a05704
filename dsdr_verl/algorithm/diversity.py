"""Global diversity (§3.2.1): how unlike the rest of its group a rollout is, in meaning and in formulas."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dsdr_verl.algorithm.groups import count_groups, segment_sum
from dsdr_verl.algorithm.options import CHOICES

# Rows that are worked on at once: their float64 copies stay in the cache, where whole ones would be faulted in anew.
ROWS = 256


def semantic_diversity(
    z_BD: Tensor, group_B: Tensor, valid_B: Tensor, correct_B: Tensor, reference_set: str = "all"
) -> Tensor:
    """D_emb (Eqs. 4-6): the mean of d_emb(i, j) = (1 - z̄_i·z̄_j) / 2 over the other rollouts j of the reference set.

    With z̄ = z / ‖z‖₂ (Eq. 4). Linear in z̄_j, so that the sum over j is one product with the sum of the reference set's
    z̄: no pair is formed.

    Args:
        z_BD: float [B, D] embeddings of the responses, of any norm. A zero vector is at distance ½ from every other.
        group_B: int64 [B].
        valid_B, correct_B: bool [B].
        reference_set: "all" valid rollouts of the group (the paper), or the "correct" ones among them.

    Returns:
        float32 [B] in [0, 1]; 0 for a rollout with no other to compare with.

    Raises:
        ValueError: a valid rollout's embedding is not finite, or an unknown `reference_set`.
    """
    if reference_set not in CHOICES["reference_set"]:
        raise ValueError(f"reference_set must be one of {CHOICES['reference_set']}, got {reference_set!r}")
    valid_B = valid_B.bool()
    norm_B = z_BD.norm(dim=-1, dtype=torch.float64)  # finite if and only if all of its row is
    if bad := (valid_B & ~norm_B.isfinite()).nonzero().flatten().tolist():
        raise ValueError(f"{len(bad)} embedding(s) hold NaN or infinity, rows {bad[:8]}; check the embedder's output")

    B, P = len(z_BD), count_groups(group_B)
    reference_B = valid_B & correct_B.bool() if reference_set == "correct" else valid_B
    reference_group_B = group_B.where(reference_B, P)  # one more group, for those that nobody is compared with
    self_B = reference_B.double()  # a rollout of the reference set is not compared with itself
    others_B = segment_sum(self_B, reference_group_B, P + 1)[group_B] - self_B

    self_B = self_B * (norm_B > 0)  # z̄_i·z̄_i
    norm_B = norm_B.where(norm_B > 0, 1.0)
    blocks = [slice(first, first + ROWS) for first in range(0, B, ROWS)]
    sum_PD = z_BD.new_zeros(P + 1, z_BD.shape[-1], dtype=torch.float64)  # Σ_j z̄_j
    for b in blocks:
        sum_PD.index_add_(0, reference_group_B[b], z_BD[b].double() / norm_B[b, None])
    similarity_B = torch.empty_like(norm_B)  # Σ_{j≠i} z̄_i·z̄_j
    for b in blocks:
        similarity_B[b] = sum_PD.index_select(0, group_B[b]).mul_(z_BD[b]).sum(-1) / norm_B[b] - self_B[b]
    D_emb_B = (others_B - similarity_B) / (2 * others_B.clamp(min=1))
    return D_emb_B.where(valid_B & (others_B > 0), 0.0).clamp(0, 1).float()


def formula_diversity(row_F: Tensor, formula_F: Tensor, group_B: Tensor, valid_B: Tensor) -> Tensor:
    """D_eq (Eqs. 7-8): the share of a rollout's formulas that no other rollout of its group has.

    Args:
        row_F: int64 [F], the rollout of every (rollout, formula) pair, in any order. Repeats of a pair count once.
        formula_F: int64 [F], the formula's id; the same formula has the same id in the whole batch.
        group_B: int64 [B].
        valid_B: bool [B].

    Returns:
        float32 [B] in [0, 1]; 0 for a rollout without formulas. Alone in its group, a rollout with formulas gets 1.

    Raises:
        ValueError: `row_F` points outside the batch.
    """
    B = len(group_B)
    if row_F.numel() and not (int(row_F.min()) >= 0 and int(row_F.max()) < B):
        raise ValueError(f"row_F must be in 0..{B - 1}, got {int(row_F.min())}..{int(row_F.max())}")
    kinds, formula_F = formula_F.unique(return_inverse=True)
    group_B = group_B.where(valid_B.bool(), count_groups(group_B))  # one more group, for those that do not count

    # One sorted number for (group, formula, rollout): sets S(o_i), and the holders of a formula side by side.
    bits = B.bit_length()  # of a rollout's number
    key_F = group_B[row_F].mul_(len(kinds)).add_(formula_F).bitwise_left_shift_(bits).add_(row_F).unique()
    row_F, held_F = key_F & (1 << bits) - 1, key_F >> bits
    new_F = held_F.diff(prepend=held_F.new_tensor([-1])) != 0
    I_F = (new_F & new_F.roll(-1)).double()  # Eq. 7: no holder before it, and none after
    size_B = segment_sum(torch.ones_like(I_F), row_F, B)
    return (segment_sum(I_F, row_F, B) / size_B.clamp(min=1)).where(valid_B.bool(), 0.0).float()


def formula_pairs(formula_ids: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Every (rollout, formula) pair, as `row_F` and `formula_F` int64 [F], from the ids int64 of each rollout."""
    row_F = torch.repeat_interleave(torch.tensor([len(ids) for ids in formula_ids], dtype=torch.long))
    formula_F = np.concatenate([np.empty(0, np.int64), *formula_ids]).astype(np.int64)
    return row_F, torch.from_numpy(formula_F)


def combined_diversity(D_emb_B: Tensor, D_eq_B: Tensor) -> Tensor:
    """d = ½ (D_emb + D_eq), [B] (Eq. 9)."""
    return 0.5 * (D_emb_B + D_eq_B)


def clipped(d_B: Tensor, sigma_d: float) -> Tensor:
    """d̄ = clip(d, 0, σ_d), [B] (Eq. 10)."""
    return d_B.clamp(0, sigma_d)
