"""Case studies: distinct correct solutions of one problem side by side, as the runs found them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dsdr_verl.report.samples import Problems, Sample
from dsdr_verl.scoring.formulas import extract_formulas

CASES = 3  # problems shown
SOLUTIONS = 4  # of each problem and run
_CHARACTERS = 1200  # of a solution
_FORMULAS = 8  # of a solution


@dataclass(frozen=True)
class Solution:
    """A correct sample, and how many other correct ones have the same formulas."""

    text: str
    formulas: list[str]
    more_formulas: int
    copies: int  # itself included
    diversity: float | None
    weight: float | None


@dataclass(frozen=True)
class Found:
    """What one run made of a problem."""

    run: int  # its index
    samples: int
    correct: int
    distinct: int
    solutions: list[Solution]  # the heaviest first


@dataclass(frozen=True)
class Case:
    prompt: str
    truth: str
    found: list[Found]


def case_studies(runs: Sequence[Problems]) -> list[Case]:
    """The problems with the most distinct correct solutions over the runs; of equals those that come first.

    Two solutions are the same if their formulas are, or their texts where neither has one.
    """
    prompts = list(dict.fromkeys(key for problems in runs for key in problems))
    kinds = {key: [_kinds(problems.get(key, [])) for problems in runs] for key in prompts}
    # one way alone is no case of diversity
    worth = [key for key in prompts if max(map(len, kinds[key])) > 1]
    worth.sort(key=lambda key: -sum(map(len, kinds[key])))
    return [_case(key, runs, kinds[key]) for key in worth[:CASES]]


def _case(key: str, runs: Sequence[Problems], kinds: list[dict[tuple, list[Sample]]]) -> Case:
    first = next(problems[key][0] for problems in runs if key in problems)
    return Case(
        prompt=_cut(first.input.strip()),
        truth=_cut(str(first.gts)),
        found=[
            Found(
                run=index,
                samples=len(problems[key]),
                correct=sum(sample.correct for sample in problems[key]),
                distinct=len(kinds[index]),
                solutions=sorted(map(_solution, kinds[index].values()), key=lambda s: -(s.weight or 0))[:SOLUTIONS],
            )
            for index, problems in enumerate(runs)
            if key in problems
        ],
    )


def _kinds(samples: Sequence[Sample]) -> dict[tuple, list[Sample]]:
    kinds: dict[tuple, list[Sample]] = {}
    for sample in samples:
        if sample.correct:
            formulas = tuple(sorted(extract_formulas(sample.output)))
            kinds.setdefault(formulas or (None, sample.output.strip()), []).append(sample)
    return kinds


def _solution(samples: list[Sample]) -> Solution:
    heaviest = max(samples, key=lambda sample: sample.weight or 0)
    formulas = extract_formulas(heaviest.output, "surface")
    return Solution(
        text=_cut(heaviest.output.strip()),
        formulas=[_cut(formula, 120) for formula in formulas[:_FORMULAS]],
        more_formulas=max(0, len(formulas) - _FORMULAS),
        copies=len(samples),
        diversity=heaviest.diversity,
        weight=heaviest.weight,
    )


def _cut(text: str, longest: int = _CHARACTERS) -> str:
    text = "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
