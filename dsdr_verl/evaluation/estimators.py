"""What n samples of a problem say about it, one value a problem: Avg@n, pass@k, maj@k, distinct solution modes.

All are exact expectations over k samples drawn from the n without replacement, so nothing here is random. Names: P
problems, n samples of a problem (may differ between problems), K values of k.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from functools import lru_cache

import numpy as np
from scipy.signal import convolve2d
from scipy.special import binom

from dsdr_verl.evaluation.passk import pass_at_k

# One entry a problem, of one entry a sample: a matrix [P, n] or lists of their own lengths.
Samples = Sequence[Sequence] | np.ndarray

MOST_VOTES = 1000  # beyond, C(n, k) leaves float64


def avg_at_n(correct: Samples) -> np.ndarray:
    """The share of samples that are correct, which is pass@1 without bias; or truncated, or any other yes and no.

    Args:
        correct: [P, n] of bool, 0 or 1; None, a missing verdict, counts as no.

    Returns:
        [P], in [0, 1].

    Raises:
        ValueError: no problem, a problem without samples, or another value; names the problem.
    """
    return np.array([row.mean() for row in _outcomes(correct)])


def pass_at_ks(correct: Samples, ks: Sequence[int]) -> np.ndarray:
    """Unbiased pass@k (`pass_at_k`) for each problem and k.

    Args:
        correct: as of `avg_at_n`.
        ks: [K], each from 1 to the samples of the problem that has fewest.

    Returns:
        [P, K], in [0, 1].

    Raises:
        ValueError: as `avg_at_n`, or a k out of range.
    """
    rows = _outcomes(correct)
    _check_ks(rows, ks)
    return np.array([[pass_at_k(len(row), int(row.sum()), k) for k in ks] for row in rows])


def majority_at_ks(correct: Samples, answers: Samples, ks: Sequence[int]) -> np.ndarray:
    """maj@k: the chance that the most frequent answer of k samples is correct (Wang et al. 2022, arXiv 2203.11171).

    Ties are broken uniformly. A sample without an answer has no vote; if nobody votes, the majority is wrong. Should
    equal answers have unequal verdicts, the majority is as right as the share of that answer's samples that are.

    Args:
        correct: as of `avg_at_n`.
        answers: [P, n] of hashables, None for a sample without one. Equal answers must compare equal: "0.5" and
            "1/2" vote apart unless the caller makes them one.
        ks: as of `pass_at_ks`.

    Returns:
        [P, K], in [0, 1].

    Raises:
        ValueError: as `pass_at_ks`, answers that do not match `correct` in shape, a correct sample without an answer,
            or more than 1000 samples of a problem.
    """
    rows = _outcomes(correct)
    _check_ks(rows, ks)
    k_most = max(ks)
    majority_PK = np.zeros((len(rows), len(ks)))
    for p, (row, labels) in enumerate(_labelled(rows, answers, "answers")):
        n = len(row)
        if n > MOST_VOTES:
            raise ValueError(f"problem {p} (from 0) has {n} samples; maj@k takes {MOST_VOTES} at most: vote over fewer")
        votes = Counter(label for label in labels if label is not None)
        right = Counter(label for label, is_right in zip(labels, row, strict=True) if is_right)
        for label, n_right in right.items():
            others = tuple(sorted((votes - Counter({label: votes[label]})).values()))
            wins = _win_chances(n, votes[label], others, k_most)
            majority_PK[p] += n_right / votes[label] * wins[list(ks)]
    return majority_PK.clip(max=1)  # rounding


def distinct_modes_at_ks(correct: Samples, modes: Samples, ks: Sequence[int]) -> np.ndarray:
    """The expected number of distinct modes among the correct of k samples: Hurlbert's rarefaction (1971), Ecology 52.

    The sum over modes m of 1 − C(n−c_m, k) / C(n, k), with c_m correct samples of mode m: pass@k of each, added up.

    Args:
        correct: as of `avg_at_n`.
        modes: [P, n] of hashables, the kind of solution that a sample is; those of incorrect samples are not looked at.
        ks: as of `pass_at_ks`.

    Returns:
        [P, K], in [0, k].

    Raises:
        ValueError: as `pass_at_ks`, modes that do not match `correct` in shape, or None for a correct sample.
    """
    rows = _outcomes(correct)
    _check_ks(rows, ks)
    modes_PK = np.zeros((len(rows), len(ks)))
    for p, (row, labels) in enumerate(_labelled(rows, modes, "modes")):
        counts = Counter(label for label, is_right in zip(labels, row, strict=True) if is_right)
        for c in counts.values():
            modes_PK[p] += [pass_at_k(len(row), c, k) for k in ks]
    return modes_PK


def label_shares(labels: Samples) -> dict[Hashable, np.ndarray]:
    """For each label that occurs, such as a verdict's name, its share [P] of each problem's samples.

    Raises:
        ValueError: no problem, or one without samples.
    """
    counts = [Counter(row) for row in labels]
    if not counts or not all(counts):
        raise ValueError("shares need at least one problem, and at least one sample of each")
    found = sorted(set().union(*counts), key=str)
    return {label: np.array([count[label] / count.total() for count in counts]) for label in found}


@lru_cache(maxsize=4096)  # many problems have the same few counts
def _win_chances(n: int, mine: int, others: tuple[int, ...], k_most: int) -> np.ndarray:
    """The chance that an answer wins the vote of k of n samples, for k = 0..k_most [k_most + 1].

    Sums over the j votes that it gets. The other answers' ways are a generating function: the power of x counts
    samples, that of y the answers that tie at j, which leave the answer a chance of 1 / (1 + ties).

    Args:
        mine: samples with this answer.
        others: samples of each other answer, sorted; what is left of n has no vote.
    """
    ways = np.zeros(k_most + 1)
    no_vote = n - mine - sum(others)
    for j in range(1, min(mine, k_most) + 1):
        room = k_most - j
        below = no_vote + sum(m for m in others if m < j)  # these cannot reach j, whoever is drawn: (1 + x)^below
        ways_yx = binom(below, np.arange(room + 1))[None]
        for m in others:
            if m >= j:
                factor_yx = np.zeros((2, j + 1))
                factor_yx[0, :j] = binom(m, np.arange(j))
                factor_yx[1, j] = binom(m, j)
                ways_yx = convolve2d(ways_yx, factor_yx)[: room // j + 1, : room + 1]
        ways[j:] += binom(mine, j) * (1 / np.arange(1, len(ways_yx) + 1)) @ ways_yx
    return ways / binom(n, np.arange(k_most + 1))


def _outcomes(correct: Samples) -> list[np.ndarray]:
    """Each problem's samples as bool [n]."""
    rows = [np.array([False if value is None else value for value in row]) for row in correct]
    if not rows:
        raise ValueError("there is no problem to estimate from")
    for p, row in enumerate(rows):
        if not row.size:
            raise ValueError(f"problem {p} (from 0) has no samples: leave it out, or sample it")
        if row.ndim != 1 or row.dtype.kind not in "biuf" or not np.isin(row, (0, 1)).all():
            raise ValueError(f"problem {p} (from 0) has outcomes other than True, False and None: {row.tolist()[:8]}")
    return [row.astype(bool) for row in rows]


def _check_ks(rows: list[np.ndarray], ks: Sequence[int]) -> None:
    fewest = min(range(len(rows)), key=lambda p: len(rows[p]))
    wrong = [k for k in ks if k != int(k) or not 1 <= k <= len(rows[fewest])]
    if wrong or not len(ks):
        raise ValueError(
            f"k = {', '.join(map(str, wrong)) or 'nothing'}: choose whole numbers from 1 to {len(rows[fewest])}, the "
            f"samples of problem {fewest} (from 0), which has fewest"
        )


def _labelled(rows: list[np.ndarray], labels: Samples, what: str) -> Iterator[tuple[np.ndarray, list[Hashable]]]:
    """(outcomes, labels) of each problem."""
    if len(labels) != len(rows):
        raise ValueError(f"{what} are of {len(labels)} problems, the outcomes of {len(rows)}")
    for p, (row, of_problem) in enumerate(zip(rows, labels, strict=True)):
        if len(of_problem) != len(row):
            raise ValueError(f"problem {p} (from 0) has {len(of_problem)} {what} and {len(row)} outcomes")
        if any(label is None for label, is_right in zip(of_problem, row, strict=True) if is_right):
            raise ValueError(f"problem {p} (from 0) has a correct sample whose entry in {what} is None: give it one")
        yield row, list(of_problem)
