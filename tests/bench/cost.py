"""What it takes to hide scoring behind generation, from the parts measured in the same run."""

from __future__ import annotations

import time
from random import Random
from statistics import median

from dsdr_verl.scoring.formulas import extract_formulas, formula_ids
from tests.bench.problems import problems
from tests.bench.report import say, table

ROLLOUTS, TOKENS, CHARACTERS, WINDOWS = 256 * 8, 4096, 14_000, 16
GENERATION = (60, 120, 300)


def section(verify: float, window: float, rounds: int) -> list[str]:
    """verify: seconds an item; window: seconds a window of the embedder."""
    megabyte = formula_seconds(rounds)
    formulas = megabyte * CHARACTERS / 1e6
    lines = [
        "### Cores that hide scoring behind generation",
        "",
        f"For {ROLLOUTS:,} rollouts of {TOKENS:,} tokens, which is about {CHARACTERS:,} characters or {WINDOWS} "
        f"windows each: cores = {ROLLOUTS:,} x (v + f + n x e) / generation seconds, with v = {verify * 1e3:.2f} ms to "
        f"verify an item (MATH-500, groups of 8), f = {formulas * 1e3:.1f} ms for its formulas ({megabyte:.2f} s a "
        f"megabyte), e = {window * 1e3:.0f} ms a full window, and n = {WINDOWS} windows with `long: chunk`, 1 with "
        "`truncate`. Every part is from this machine, in this run, on one core; the rollouts' ends are taken to be "
        "spread over the generation.",
    ]
    headings = ["generation", "verifier + formulas", "with `truncate`", "with `chunk`"]
    parts = [verify + formulas, verify + formulas + window, verify + formulas + WINDOWS * window]
    rows = [[f"{g} s", *(f"{ROLLOUTS * part / g:.1f} cores" for part in parts)] for g in GENERATION]
    note = (
        "Embedding is nearly all of it, and is what a GPU would take over (`scoring.embedding.device`); its share of a "
        "GPU has not been measured, as no GPU was at hand."
    )
    return [*lines, *table(headings, rows), note, ""]


def formula_seconds(rounds: int) -> float:
    """Per megabyte, on worked solutions joined to the length of a long rollout."""
    pool = [problem.solution for problem in problems("MATH-500")]
    random = Random(0)
    texts = []
    for _ in range(20):
        text = ""
        while len(text) < CHARACTERS:
            text += random.choice(pool) + "\n\n"
        texts.append(text[:CHARACTERS])
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        for text in texts:
            formula_ids(extract_formulas(text))
        seconds.append(time.perf_counter() - start)
    per_megabyte = median(seconds) / (len(texts) * CHARACTERS / 1e6)
    say(f"formulas: {per_megabyte:.2f} s a megabyte")
    return per_megabyte
