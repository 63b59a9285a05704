"""Scoring: what it does in a second, what hostile answers cost it, and what it takes from the trainer's time."""

from __future__ import annotations

import os

import psutil

from tests.bench import cost, embedding, hostile, reduction, verifying
from tests.bench.problems import source


def section(quick: bool) -> str:
    """What `python -m tests.bench scoring` measures, in Markdown."""
    os.environ.setdefault("VERL_PLATFORM", "cpu")
    rounds = 2 if quick else 5
    reductions = reduction.section(rounds)
    embeddings, window = embedding.section(rounds, 16 if quick else 128)
    ordinary, verify = verifying.section(rounds, 10 if quick else 80)
    hostiles = hostile.section(1 if quick else rounds, 30.0 if quick else 180.0)
    costs = cost.section(verify, window, rounds)
    cores, gib = psutil.cpu_count(), psutil.virtual_memory().total / 2**30
    head = [
        "## Scoring",
        "",
        f"Written by `python -m tests.bench scoring{' --quick' if quick else ''}` on {cores} cores and {gib:.0f} GiB, "
        f"without a GPU, on {source()}. Both sides of every ratio come from this one run and take turns.",
        "",
    ]
    return "\n".join([*head, *ordinary, *hostiles, *embeddings, *reductions, *costs])
