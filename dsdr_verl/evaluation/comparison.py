"""Two checkpoints on the same problems: how far apart, and whether that could be chance."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import permutation_test

from dsdr_verl.evaluation.intervals import ROUNDING, Estimate, mean_interval

_SHOWN = 5  # problems named in a message


@dataclass(frozen=True)
class Comparison:
    """A candidate against a baseline; a positive difference is the candidate's gain."""

    baseline: float  # mean over problems
    candidate: float
    difference: Estimate  # candidate − baseline
    p_value: float  # two-sided, of no difference on any problem


def compare(
    baseline: Mapping[Hashable, float],
    candidate: Mapping[Hashable, float],
    *,
    bounds: tuple[float, float] = (0.0, 1.0),
    level: float = 0.95,
    n_resamples: int = 9999,
    seed: int = 0,
) -> Comparison:
    """Paired by problem: the difference with its bootstrap interval, and a sign-flip permutation test.

    The test's null is that the two are exchangeable on each problem, so that each difference could as well have the
    other sign. It is exact where the 2^m flips of the m problems that differ are no more than `n_resamples`; else that
    many are drawn, and the least p is 2 / (n_resamples + 1).

    Args:
        baseline, candidate: one value a problem, by the problem's id.
        bounds: the least and the greatest value that a problem can have.
        level, n_resamples, seed: as of `mean_interval`.

    Raises:
        ValueError: the problems of the two are not the same, or values that `mean_interval` refuses.
    """
    _check_same_problems(baseline, candidate)
    before_P = np.array(list(baseline.values()), dtype=float)
    after_P = np.array([candidate[problem] for problem in baseline], dtype=float)
    options = {"level": level, "n_resamples": n_resamples, "seed": seed}
    width = bounds[1] - bounds[0]
    return Comparison(
        baseline=float(before_P.mean()),
        candidate=float(after_P.mean()),
        difference=mean_interval(after_P - before_P, bounds=(-width, width), **options),
        p_value=sign_flip_p(after_P - before_P, n_resamples, seed),
    )


def sign_flip_p(differences: np.ndarray, n_resamples: int = 9999, seed: int = 0) -> float:
    """The two-sided p of the sign-flip test (Fisher 1935) that `compare` speaks of, for differences [P]."""
    # a problem without a difference has nothing to flip, and leaving it out makes more tests exact
    moved = differences[np.abs(differences) > ROUNDING]
    if len(moved) < 2:
        return 1.0
    # one sample of pairs with their negation: this is how scipy spells flipping signs
    test = permutation_test(
        (moved,), np.mean, permutation_type="samples", vectorized=True, n_resamples=n_resamples, batch=1000, rng=seed
    )
    return float(test.pvalue)


def holm(p_values: Mapping[Hashable, float]) -> dict[Hashable, float]:
    """p-values of several comparisons, adjusted so that the chance of any false alarm is kept (Holm 1979)."""
    adjusted, largest = {}, 0.0
    for rank, name in enumerate(sorted(p_values, key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}


def _check_same_problems(baseline: Mapping[Hashable, float], candidate: Mapping[Hashable, float]) -> None:
    parts = []
    for name, here, there in (("baseline", baseline, candidate), ("candidate", candidate, baseline)):
        if only := [problem for problem in here if problem not in there]:
            more = f" and {len(only) - _SHOWN} more" if len(only) > _SHOWN else ""
            parts.append(f"{len(only)} only in the {name} ({', '.join(map(str, only[:_SHOWN]))}{more})")
    if parts:
        raise ValueError(f"the problems differ: {'; '.join(parts)}. Evaluate both on the same ones")
