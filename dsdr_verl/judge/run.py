"""All problems through the judge, some at a time: what is answered is kept at once, what is not has a reason."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from dsdr_verl.judge.answers import Answers
from dsdr_verl.judge.endpoint import Endpoint, NoAnswer
from dsdr_verl.judge.problems import FEWEST, Problem
from dsdr_verl.judge.prompt import DIMENSIONS, PROMPT_VERSION, Messages, Scores, messages


class JudgeJob:
    """The questions about a list of problems, and their answers. What is done stays when `run` is interrupted."""

    def __init__(self, problems: Sequence[Problem], endpoint: Endpoint, answers: Answers, both_orders: bool = False):
        self.problems = problems
        self.endpoint = endpoint
        self.answers = answers
        self._keys: list[list[str]] = []  # of each problem's questions
        self._questions: dict[str, Messages] = {}
        self._found: dict[str, Scores | str] = {}  # a text is the reason why there is no answer
        for problem in problems:
            asked = [messages(problem.text, order) for order in _orders(problem, both_orders)]
            self._keys.append([endpoint.key_of(question) for question in asked])
            self._questions |= zip(self._keys[-1], asked, strict=True)
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
        return pd.DataFrame([self._row(*pair) for pair in zip(self.problems, self._keys, strict=True)], dtype=object)

    def _row(self, problem: Problem, keys: list[str]) -> dict[str, Any]:
        found = [self._found.get(key, "not asked") for key in keys]
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
            "orders": [list(scores.model_dump().values()) for scores in found] if status == "judged" else None,
            "n_rollouts": problem.n_rollouts,
            "n_correct": problem.n_correct,
            "n_solutions": len(problem.solutions),
            "n_cut": problem.n_cut,
            "model": self.endpoint.options.model,
            "prompt": PROMPT_VERSION,
        }


def _orders(problem: Problem, both: bool) -> list[list[str]]:
    if len(problem.solutions) < FEWEST:
        return []
    return [problem.solutions, problem.solutions[::-1]] if both else [problem.solutions]
