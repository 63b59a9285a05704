"""From rollouts to numbers: a row a problem, and means over problems with intervals."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from dsdr_verl.algorithm.diversity import semantic_diversity
from dsdr_verl.evaluate.problems import Problem
from dsdr_verl.evaluation.estimators import avg_at_n, distinct_modes_at_ks, label_shares, majority_at_ks, pass_at_ks
from dsdr_verl.evaluation.intervals import mean_intervals
from dsdr_verl.scoring.closed_forms import read_closed_form
from dsdr_verl.scoring.countdown import read_truth
from dsdr_verl.scoring.equality import spell
from dsdr_verl.scoring.modes import MAX_NUMBERS, modes
from dsdr_verl.scoring.numbers import read_number
from dsdr_verl.scoring.verdict import Verdict

TEXT = ("problem", "source", "question", "ground_truth")  # columns of a problem that are no numbers
SHARES = ("truncated", "semantic", "formula", "modes_share")
_LONGEST_ANSWER = 4096  # characters of an answer that is read as a number


@dataclass(frozen=True)
class Bounds:
    """What a quantity can be, for its interval."""

    least: float
    most: float


def per_problem(rollouts: pd.DataFrame, problems: Sequence[Problem], ks: Sequence[int]) -> pd.DataFrame:
    """A row a problem that has samples, in the order of `problems`.

    Args:
        rollouts: rows of `store.SCHEMA`, by problem.
        ks: ascending; at most the samples of the problem that has fewest.

    Returns:
        Columns `TEXT`; `n`, `correct`, the numbers of samples; `pass@k`, `maj@k` for each k; `truncated`, a share;
        `tokens`, a mean; `verdict/<name>`, shares; `semantic` and `formula`, the diversity of correct solutions, NaN
        with less than two; and for Countdown `modes@k`, `modes`, those found, `modes_known`, those there are,
        and `modes_share`.
    """
    groups = {key: rows for key, rows in rollouts.groupby("problem", sort=False)}
    problems = [problem for problem in problems if problem.key in groups]
    groups = {problem.key: groups[problem.key] for problem in problems}
    correct = [rows["acc"].to_numpy() > 0 for rows in groups.values()]
    shares = label_shares([rows["verdict"].tolist() for rows in groups.values()])
    columns = {
        "problem": list(groups),
        "source": [problem.source for problem in problems],
        "question": [problem.question for problem in problems],
        "ground_truth": [problem.truth for problem in problems],
        "n": [len(row) for row in correct],
        "correct": [int(row.sum()) for row in correct],
        **_at("pass", ks, pass_at_ks(correct, ks)),
        **_at("maj", ks, majority_at_ks(correct, [_votes(rows) for rows in groups.values()], ks)),
        "truncated": avg_at_n([rows["truncated"].tolist() for rows in groups.values()]),
        "tokens": [rows["tokens"].mean() for rows in groups.values()],
        **{f"verdict/{verdict.value}": shares.get(verdict.value, np.zeros(len(groups))) for verdict in Verdict},
        "semantic": [semantic_of(rows["embedding"][row]) for rows, row in zip(groups.values(), correct, strict=True)],
        "formula": [formula_of(rows["formula_ids"][row]) for rows, row in zip(groups.values(), correct, strict=True)],
    }
    return pd.DataFrame(columns | _modes(problems, list(groups.values()), correct, ks))


def summarise(table: pd.DataFrame, rollouts: pd.DataFrame, max_tokens: int, level: float) -> dict[str, Any]:
    """Means over the problems of each source, each with its interval as of `intervals.Estimate`.

    Args:
        table: of `per_problem`.
        rollouts: what it was made of, for the quantiles of lengths.
        max_tokens: of a response.
        level: of confidence.

    Returns:
        For each source `problems`, `samples`, and {name: {estimate, low, high, level, n_problems}} for the columns of
        numbers; and `token_quantiles` over all samples.
    """
    summary = {}
    for source, rows in table.groupby("source", sort=False):
        tokens = rollouts.loc[rollouts["problem"].isin(rows["problem"]), "tokens"]
        summary[source] = {
            "problems": len(rows),
            "samples": int(rows["n"].sum()),
            **{name: _estimate(rows[name], bounds, level) for name, bounds in bounds_of(rows, max_tokens).items()},
            "token_quantiles": {f"{q:g}": float(tokens.quantile(q)) for q in (0.05, 0.5, 0.95, 1)},
        }
    return summary


def bounds_of(table: pd.DataFrame, max_tokens: int) -> dict[str, Bounds]:
    """The quantities of a table and what each can be."""
    bounds = {}
    for name in table.columns:
        kind, _, k = name.partition("@")
        if kind in ("pass", "maj") or name in SHARES or name.startswith("verdict/"):
            bounds[name] = Bounds(0, 1)
        elif kind == "modes" and k and table[name].notna().any():
            bounds[name] = Bounds(0, float(k))
        elif name == "tokens":
            bounds[name] = Bounds(0, max_tokens)
    return bounds


def _estimate(values: pd.Series, bounds: Bounds, level: float) -> dict[str, float] | None:
    values = values.dropna().to_numpy(float)
    if not len(values):
        return None
    return asdict(mean_intervals(values[:, None], bounds=(bounds.least, bounds.most), level=level)[0])


def semantic_of(embeddings: Sequence[np.ndarray]) -> float:
    """D_emb (Eq. 6) of two correct solutions of a problem, averaged over all pairs; NaN without a pair.

    So it does not depend on how many are correct, and two models can be compared.
    """
    if len(embeddings) < 2:
        return float("nan")
    embedding_BD = torch.from_numpy(np.stack(list(embeddings)).astype(np.float32))
    one_group_B = torch.zeros(len(embedding_BD), dtype=torch.long)
    all_B = torch.ones_like(one_group_B, dtype=torch.bool)
    return float(semantic_diversity(embedding_BD, one_group_B, all_B, all_B, "correct").double().mean())


def formula_of(formula_ids: Sequence[np.ndarray]) -> float:
    """D_eq (Eqs. 7-8) of two correct solutions of a problem, averaged over all pairs; NaN without a pair.

    Of a formula that h of m solutions have, 1 − (h−1)/(m−1) of the other solutions lack it. In groups of more than two
    Eq. 8 falls as solutions are added, and a model would seem less diverse for being right more often.
    """
    m = len(formula_ids)
    if m < 2:
        return float("nan")
    kinds, holders = np.unique(np.concatenate(list(formula_ids)), return_counts=True)
    lacking = 1 - (holders - 1) / (m - 1)
    per_solution = [lacking[np.searchsorted(kinds, ids)].mean() if len(ids) else 0.0 for ids in formula_ids]
    return float(np.mean(per_solution))


def vote_of(answer: str | None) -> Hashable | None:
    """What an answer that is not correct votes for: its exact value where it is a number, else its spelling."""
    if answer is None or len(answer) > _LONGEST_ANSWER:
        return answer
    try:
        spelled = spell(answer)
        if (number := read_number(spelled)) is not None:
            return number.value / 100 if number.is_percent else number.value
        return read_closed_form(spelled) or spelled
    except Exception:  # ours, not the answer's: then it votes as it is written
        return answer


def _votes(rows: pd.DataFrame) -> list[Hashable | None]:
    """All correct answers are one, for the verifier has found each equal to the truth; of Countdown its mode."""
    return [
        ("correct", mode) if acc > 0 else vote_of(answer)
        for acc, answer, mode in zip(rows["acc"], rows["answer"], rows["mode"], strict=True)
    ]


def _modes(
    problems: Sequence[Problem], groups: list[pd.DataFrame], correct: list[np.ndarray], ks: Sequence[int]
) -> dict[str, np.ndarray]:
    counted = [problem.truth.startswith("countdown:") for problem in problems]
    if not any(counted):
        return {}
    names = (*(f"modes@{k}" for k in ks), "modes", "modes_known", "modes_share")
    columns = {name: np.full(len(problems), np.nan) for name in names}
    for p in np.flatnonzero(counted):
        found = groups[p]["mode"].tolist()
        for k, value in zip(ks, distinct_modes_at_ks([correct[p]], [found], ks)[0], strict=True):
            columns[f"modes@{k}"][p] = value
        columns["modes"][p] = len({mode for mode, right in zip(found, correct[p], strict=True) if right})
        target, numbers = read_truth(problems[p].truth)
        if len(numbers) <= MAX_NUMBERS:
            columns["modes_known"][p] = len(modes(numbers, target))
    columns["modes_share"] = columns["modes"] / columns["modes_known"]
    return columns


def _at(name: str, ks: Sequence[int], values_PK: np.ndarray) -> dict[str, np.ndarray]:
    return {f"{name}@{k}": values_PK[:, column] for column, k in enumerate(ks)}
