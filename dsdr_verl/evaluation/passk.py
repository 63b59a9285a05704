"""Unbiased pass@k (Chen et al. 2021, arXiv 2107.03374, Eq. 1)."""

from __future__ import annotations

from collections import defaultdict

import numpy as np


def pass_at_k(n: int, c: int, k: int) -> float:
    """1 − C(n−c, k) / C(n, k): the chance that k of n samples, drawn without replacement, hold one of the c correct.

    Raises:
        ValueError: unless 0 ≤ c ≤ n and 1 ≤ k ≤ n.
    """
    if not (0 <= c <= n and 1 <= k <= n):
        raise ValueError(f"pass@k needs 0 <= c <= n and 1 <= k <= n, got n={n}, c={c}, k={k}")
    if n - c < k:
        return 1.0
    return float(1.0 - np.prod(1.0 - k / np.arange(n - c + 1, n + 1)))


def powers_of_two(n: int) -> list[int]:
    """1, 2, 4, … up to n, and n itself."""
    return sorted({2**i for i in range(n.bit_length()) if 2**i <= n} | {n})


def validation_metrics(data_sources: list[str], uids: list[str], acc: list[float]) -> dict[str, float]:
    """`val-core/<source>/acc/pass@k`, averaged over problems, for k = 1, 2, 4, … up to the samples of a problem.

    Args:
        data_sources, uids, acc: one entry a sample; samples of a problem share their uid. A missing verdict (None)
            counts as wrong.
    """
    outcomes: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for source, uid, correct in zip(data_sources, uids, acc, strict=True):
        outcomes[source][uid].append(bool(correct))
    metrics = {}
    for source, problems in outcomes.items():
        n_least = min(len(samples) for samples in problems.values())
        for k in powers_of_two(n_least):
            values = [pass_at_k(len(samples), sum(samples), k) for samples in problems.values()]
            metrics[f"val-core/{source}/acc/pass@{k}"] = float(np.mean(values))
    return metrics
