"""Everything DSDR derives from a batch of rollouts before the first gradient step, and what to log of it."""

from dataclasses import dataclass

from torch import Tensor

from dsdr_verl.algorithm.advantage import diversity_bonus, shaped_reward
from dsdr_verl.algorithm.coupling import coupling_entropy, coupling_weights, effective_rollouts
from dsdr_verl.algorithm.diversity import clipped, combined_diversity, formula_diversity, semantic_diversity
from dsdr_verl.algorithm.groups import count_groups, segment_largest, segment_sum, solve_counts
from dsdr_verl.algorithm.options import DSDROptions


@dataclass(frozen=True, eq=False)
class GroupScores:
    """Per rollout, float32 [B] each; 0 where not valid."""

    semantic: Tensor  # D_emb, Eq. 6
    formula: Tensor  # D_eq, Eq. 8
    diversity: Tensor  # d̄, Eqs. 9-10
    bonus: Tensor  # λ_d d̄ where correct, else 0
    shaped_reward: Tensor  # r̃, Eq. 10
    weight: Tensor  # w, Eq. 11


def score_groups(
    reward_B: Tensor,
    correct_B: Tensor,
    embedding_BD: Tensor,
    row_F: Tensor,
    formula_F: Tensor,
    group_B: Tensor,
    valid_B: Tensor,
    options: DSDROptions,
) -> GroupScores:
    """Eqs. 4-11 for a whole batch.

    Args:
        reward_B: float [B] task rewards; may hold more than correctness, such as a length penalty.
        correct_B, valid_B: bool [B].
        embedding_BD: float [B, D].
        row_F, formula_F: int64 [F], the rollout and the formula id of every (rollout, formula) pair.
        group_B: int64 [B], as from `group_index`.
        options: λ_d, τ, σ_d, what d is, and the reference set.

    Raises:
        ValueError: lengths that differ, an embedding of a valid rollout that is not finite, `row_F` outside the batch.
    """
    lengths = [len(x) for x in (reward_B, correct_B, embedding_BD, group_B, valid_B)]
    if len(set(lengths)) > 1 or len(row_F) != len(formula_F):
        raise ValueError(
            f"reward, correct, embedding, group, valid have {lengths} rows and row_F, formula_F {len(row_F)}, "
            f"{len(formula_F)}; the former must agree, and the latter"
        )
    valid_B = valid_B.bool()
    correct_B = correct_B.bool() & valid_B
    semantic_B = semantic_diversity(embedding_BD, group_B, valid_B, correct_B, options.reference_set)
    formula_B = formula_diversity(row_F, formula_F, group_B, valid_B)
    d_B = {
        "combined": combined_diversity(semantic_B, formula_B),
        "semantic": semantic_B,
        "formula": formula_B,
    }[options.score]
    d_bar_B = clipped(d_B, options.sigma_d)
    return GroupScores(
        semantic=semantic_B,
        formula=formula_B,
        diversity=d_bar_B,
        bonus=diversity_bonus(d_bar_B, correct_B, options.lambda_d),
        shaped_reward=shaped_reward(reward_B.float(), d_bar_B, correct_B, options.lambda_d).where(valid_B, 0.0),
        weight=coupling_weights(d_bar_B, correct_B, group_B, options.tau),
    )


def diversity_metrics(scores: GroupScores, correct_B: Tensor, group_B: Tensor, valid_B: Tensor) -> dict[str, float]:
    """What to log of a batch, always under the same keys; 0 where there is nothing to average.

    Diversities are means over rollouts, correct and incorrect apart; `bonus/` is over correct rollouts; `coupling/` is
    a mean over the groups with a correct rollout; `groups/` are shares of all groups, and their count. No key contains
    "max" or "min", by which verl would pick how to reduce it.

    Args:
        scores: of `score_groups`.
        correct_B, valid_B: bool [B].
        group_B: int64 [B].
    """
    valid_B = valid_B.bool()
    correct_B = correct_B.bool() & valid_B
    kinds = {"correct": correct_B, "incorrect": valid_B & ~correct_B}
    metrics = {
        f"{name}/{kind}": _mean(getattr(scores, name)[kind_B])
        for name in ("semantic", "formula", "diversity")
        for kind, kind_B in kinds.items()
    }
    metrics["bonus/mean"] = _mean(scores.bonus[correct_B])
    metrics["bonus/largest"] = float(scores.bonus.max()) if correct_B.any() else 0.0

    P = count_groups(group_B)
    solved_P = segment_sum(correct_B.long(), group_B, P) > 0
    metrics["coupling/entropy"] = _mean(coupling_entropy(scores.weight, group_B)[solved_P])
    metrics["coupling/effective_rollouts"] = _mean(effective_rollouts(scores.weight, group_B)[solved_P])
    metrics["coupling/largest_weight"] = _mean(segment_largest(scores.weight, group_B, P)[solved_P])

    counts = solve_counts(correct_B, group_B, valid_B)
    metrics |= {f"groups/{name}": share for name, share in counts.shares().items()}
    metrics["groups/count"] = float(sum(counts))
    return {f"dsdr/{name}": value for name, value in metrics.items()}


def _mean(x: Tensor) -> float:
    return float(x.double().mean()) if x.numel() else 0.0
