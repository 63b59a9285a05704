r"""Countdown: reach a target with given numbers, each used once. Many solutions are right; `modes` counts them.

The ground truth `countdown:24:3,4,6,2` states the problem: the target, then the numbers, each to be used exactly once.
A right answer is an expression, or an equation with one: `3*4 + 6*2`, `3*4 + 6*2 = 24`.
"""

from __future__ import annotations

import contextlib
import re
from functools import lru_cache
from typing import NamedTuple

from dsdr_verl.scoring.answers import extract_answers, unwrap
from dsdr_verl.scoring.arithmetic import MAX_LENGTH, Postfix, read, value
from dsdr_verl.scoring.latex import tidy
from dsdr_verl.scoring.modes import mode_of
from dsdr_verl.scoring.verdict import Verdict

_TRUTH = re.compile(r"countdown:([1-9][0-9]{0,8}):([1-9][0-9]{0,8}(?:,[1-9][0-9]{0,8}){1,15})")
_RUN = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?|[-+*/()={} ]|\\(?:times|cdot|div|frac)(?![A-Za-z]))+")
_MARKS = re.compile(r"^\s*(?:[0-9]+[.)]|[-*•])\s+|\\[()]|\*\*")  # of lists, formulas, bold print


class Problem(NamedTuple):
    """What to reach, and with which numbers (sorted)."""

    target: int
    numbers: tuple[int, ...]


def write_truth(target: int, numbers: tuple[int, ...]) -> str:
    """The ground truth that states the problem."""
    return f"countdown:{target}:{','.join(map(str, numbers))}"


@lru_cache(maxsize=4096)  # a group has one truth
def read_truth(ground_truth: str) -> Problem:
    """The problem of a ground truth.

    Raises:
        ValueError: it states none.
    """
    if not (found := _TRUTH.fullmatch(ground_truth.strip())):
        raise ValueError(f"{ground_truth[:80]!r} states no countdown problem: write countdown:24:3,4,6,2")
    return Problem(int(found[1]), tuple(sorted(map(int, found[2].split(",")))))


def judge(response: str, ground_truth: str, require_boxed: bool = False, strict: bool = False) -> Verdict:
    """The verdict on a response; linear in it. `require_boxed` and `strict` as in `VerifierOptions`."""
    try:
        problem = read_truth(ground_truth)
    except ValueError:
        return Verdict.error
    answers = extract_answers(response, require_boxed, strict, guess=last_expression)
    if not answers:
        return Verdict.no_answer
    verdicts = (_judge_answer(answer, problem) for answer in answers)
    return next((verdict for verdict in verdicts if verdict is not Verdict.correct), Verdict.correct)


def mode_of_response(response: str, ground_truth: str, require_boxed: bool = False) -> str | None:
    """The mode of a response's answer (`modes.mode_of`); None if that is not correct.

    Raises:
        ValueError: the ground truth states no problem.
    """
    problem = read_truth(ground_truth)
    for answer in extract_answers(response, require_boxed, guess=last_expression):
        with contextlib.suppress(ValueError):
            if solution := _solution(answer, problem):
                return mode_of(solution)
    return None


def last_expression(tail: str) -> str | None:
    """The last expression, or equation with one, in text that marks no answer; None without."""
    for line in reversed(tail.splitlines()):
        for run in reversed(_RUN.findall(tidy(_MARKS.sub(" ", line)))):
            run = run.lstrip(" =)}").rstrip(" =({")
            with contextlib.suppress(ValueError):
                if any(len(side) > 1 for side in _sides(run)):
                    return run
    return None


def _judge_answer(answer: str, problem: Problem) -> Verdict:
    try:
        return Verdict.correct if _solution(answer, problem) else Verdict.incorrect
    except ValueError:
        return Verdict.unparsable


def _solution(answer: str, problem: Problem) -> Postfix | None:
    """The expression of a right answer, None for a wrong one; every side of an equation must equal the target.

    Raises:
        ValueError: the answer is no arithmetic, or too long.
    """
    sides = _sides(unwrap(answer))
    solution = next((side for side in sides if len(side) > 1), sides[0])
    numbers = tuple(sorted(item for item in solution if isinstance(item, int)))
    right = numbers == problem.numbers and all(value(side) == problem.target for side in sides)
    return solution if right else None


def _sides(equation: str) -> list[Postfix]:
    if len(equation) > MAX_LENGTH:
        raise ValueError(f"longer than {MAX_LENGTH} characters")
    return [read(side) for side in equation.split("=")]
