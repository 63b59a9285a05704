"""The correct solutions of each problem out of a file of rollouts, in the form in which the judge sees them."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from dsdr_verl.judge.prompt import inert
from dsdr_verl.rollout_files import GROUP, parse_rollouts
from dsdr_verl.scoring.verdict import Verdict
from dsdr_verl.scoring.verifier import Verifier

FEWEST = 2  # solutions, to differ from each other
_TEXT = ("question", "prompt", "input")  # columns that may hold the problem


@dataclass(frozen=True)
class Selection:
    """Which solutions the judge sees, and how much of each.

    Raises:
        ValueError: an option out of range.
    """

    max_solutions: int = 32  # of a problem; the paper's number
    max_chars: int = 6000  # of a solution; the middle of a longer one is left out
    seed: int = 0  # of their choice and order

    def __post_init__(self):
        if self.max_solutions < FEWEST or self.max_chars < 100:
            raise ValueError(f"--max-solutions must be at least {FEWEST}, and --max-chars at least 100")


@dataclass(frozen=True)
class Problem:
    """A problem, and those of its correct solutions that are judged, in the order in which they are shown."""

    name: str  # what the group column holds
    text: str | None
    n_rollouts: int
    n_correct: int
    n_cut: int  # of the solutions, too long to be shown whole
    solutions: list[str]


async def read_problems(frame: pd.DataFrame, group_by: str | None, selection: Selection) -> list[Problem]:
    """The problems of a table (`parse_rollouts` has its columns), by the column `verdict` or else by our verifier.

    Raises:
        ValueError: rows that cannot be read; lists every problem with its column, rows and fix.
    """
    rollouts = parse_rollouts(frame, group_by)
    verdicts = await _verdicts(frame, rollouts.responses, rollouts.truths)
    names = frame[group_by or next(name for name in GROUP if name in frame)].tolist()
    texts = frame[column].tolist() if (column := next((name for name in _TEXT if name in frame), None)) else None
    rows: dict[int, list[int]] = {}
    for row, group in enumerate(rollouts.group_B.tolist()):
        rows.setdefault(group, []).append(row)
    problems = []
    for members in rows.values():
        correct = [rollouts.responses[row] for row in members if verdicts[row] == Verdict.correct.value]
        chosen = choose(correct, selection)
        first = members[0]
        problems.append(
            Problem(
                name=_name(names[first]),
                text=inert(_question(texts[first]), selection.max_chars) if texts else None,
                n_rollouts=len(members),
                n_correct=len(correct),
                n_cut=sum(len(text) > selection.max_chars for text in chosen),
                solutions=[inert(text, selection.max_chars) for text in chosen],
            )
        )
    return problems


def choose(solutions: Sequence[str], selection: Selection) -> list[str]:
    """At most `max_solutions`, drawn and shuffled with the seed; the order in the file does not matter."""
    return random.Random(selection.seed).sample(sorted(solutions), min(len(solutions), selection.max_solutions))


async def _verdicts(frame: pd.DataFrame, responses: list[str], truths: list[str]) -> list[str]:
    if "verdict" in frame:
        verdicts = frame["verdict"].tolist()
        if wrong := {str(value) for value in verdicts} - {verdict.value for verdict in Verdict}:
            known = ", ".join(verdict.value for verdict in Verdict)
            raise ValueError(
                f"`verdict` holds {', '.join(sorted(wrong)[:3])}, none of {known}: correct it, or drop the column and "
                "our verifier decides"
            )
        return verdicts
    verifier = Verifier()
    try:
        await verifier.start()
        found = await asyncio.gather(*map(verifier.verify, responses, truths))
    finally:
        verifier.close()
    return [verdict.value for verdict in found]


def _name(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _question(value: Any) -> str:
    """A prompt as text, or the last message of the user."""
    if isinstance(value, list):
        users = [part.get("content") for part in value if isinstance(part, dict) and part.get("role") == "user"]
        value = users[-1] if users else ""
    return value if isinstance(value, str) else _name(value)
