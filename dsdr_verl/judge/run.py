"""All problems through the judge, some at a time: what is answered is kept at once, what is not has a reason."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from dsdr_verl.judge.answers import Answers
from dsdr_verl.judge.controls import control_sets
from dsdr_verl.judge.endpoint import Endpoint, NoAnswer
from dsdr_verl.judge.problems import FEWEST, Problem
from dsdr_verl.judge.prompt import DIMENSIONS, PROMPT_VERSION, Messages, Scores, messages


class JudgeJob:
    """The questions about a list of problems, and their answers. What is done stays when `run` is interrupted.

    Args:
        problems: of any number of solutions; those with fewer than 2 are not asked about.
        endpoint: whom to ask.
        answers: where answers are kept.
        both_orders: ask again with the solutions reversed.
        controls: for so many problems, the questions of `control_sets` too.
    """

    def __init__(
        self,
        problems: Sequence[Problem],
        endpoint: Endpoint,
        answers: Answers,
        both_orders: bool = False,
        controls: int = 0,
    ):
        self.problems = problems
        self.endpoint = endpoint
        self.answers = answers
        self._questions: dict[str, Messages] = {}
        self._found: dict[str, Scores | str] = {}  # a text is the reason why there is no answer
        enough = [problem for problem in problems if len(problem.solutions) >= FEWEST]
        self._orders = {id(problem): self._add(problem.text, _orders(problem, both_orders)) for problem in enough}
        self._controls = {
            id(problem): self._add(problem.text, control_sets(problem.solutions)) for problem in enough[:controls]
        }
        for key in self._questions:
            if scores := answers.get(key):
                self._found[key] = scores
        self.n_kept = len(self._found)  # answers that were there before

    @property
    def n_questions(self) -> int:
        return len(self._questions)

    @property
    def n_answered(self) -> int:
        return sum(isinstance(found, Scores) for found in self._found.values())

    async def run(self, concurrency: int, advance: Callable[[], None]) -> None:
        """Asks what has no answer yet, `concurrency` questions at a time.

        Raises:
            Unusable: the endpoint answers nothing, at the start or any more.
        """
        open_questions = {key: asked for key, asked in self._questions.items() if key not in self._found}
        if not open_questions:
            return
        await self.endpoint.check()
        left = iter(open_questions.items())

        async def lane() -> None:
            for key, question in left:
                try:
                    self._found[key] = scores = await self.endpoint.ask(question)
                    self.answers.put(key, scores)
                except NoAnswer as reason:
                    self._found[key] = str(reason)
                advance()

        await asyncio.gather(*(lane() for _ in range(min(concurrency, len(open_questions)))))

    def table(self) -> pd.DataFrame:
        """A row a problem; see docs/judge.md."""
        return pd.DataFrame([self._row(problem) for problem in self.problems], dtype=object)

    def _add(self, text: str | None, sets: list[list[str]]) -> list[str]:
        """Questions about sets of solutions; returns their keys."""
        asked = [messages(text, solutions) for solutions in sets]
        keys = [self.endpoint.key_of(question) for question in asked]
        self._questions |= zip(keys, asked, strict=True)
        return keys

    def _row(self, problem: Problem) -> dict[str, Any]:
        keys = self._orders.get(id(problem), [])
        found = [self._found.get(key, "not asked") for key in keys]
        controls = [self._found.get(key) for key in self._controls.get(id(problem), [])]
        reasons = [reason for reason in found if isinstance(reason, str)]
        status = "too_few" if not keys else "missing" if reasons else "judged"
        means = {
            name: sum(getattr(scores, name) for scores in found) / len(found) if status == "judged" else None
            for name in DIMENSIONS
        }
        return {
            "problem": problem.name,
            "status": status,
            "reason": reasons[0] if reasons else None,
            **means,
            "orders": _numbers(found) if status == "judged" else None,
            "controls": _numbers(controls) if all(isinstance(x, Scores) for x in controls) and controls else None,
            "n_rollouts": problem.n_rollouts,
            "n_correct": problem.n_correct,
            "n_solutions": len(problem.solutions),
            "n_cut": problem.n_cut,
            "model": self.endpoint.options.model,
            "prompt": PROMPT_VERSION,
        }


def _orders(problem: Problem, both: bool) -> list[list[str]]:
    return [problem.solutions, problem.solutions[::-1]] if both else [problem.solutions]


def _numbers(answers: Sequence[Scores]) -> list[list[int]]:
    return [list(scores.model_dump().values()) for scores in answers]
