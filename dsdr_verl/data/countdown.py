"""Countdown problems: reach a target with given numbers, in at least so many ways. Levels of difficulty by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dsdr_verl.data.rows import Messages, Row, seeded, split_of, write_rows
from dsdr_verl.scoring.countdown import write_truth
from dsdr_verl.scoring.modes import OPERATORS, mode_counts

SMALLEST = 2  # times 1 and over 1 would pass for two ways
_MISSES = 1000  # draws in a row without a new problem, after which there are none left


@dataclass(frozen=True)
class Countdown:
    """A target, and the numbers to reach it with in the order in which they are asked."""

    target: int
    numbers: tuple[int, ...]

    kind = "countdown"

    @property
    def truth(self) -> str:
        """The ground truth that the verifier reads."""
        return write_truth(self.target, self.numbers)

    def text(self) -> str:
        """Write it down: ``24 from 3, 4, 6, 2``."""
        return f"{self.target} from {', '.join(map(str, self.numbers))}"


def _ask(problem: Countdown) -> Messages:
    numbers = ", ".join(map(str, problem.numbers))
    return [
        {
            "role": "user",
            "content": f"Use each of the numbers {numbers} exactly once, with + - * / and parentheses, to make "
            rf"{problem.target}. Think step by step, and put the expression in \boxed{{}}.",
        }
    ]


def _ask_briefly(problem: Countdown) -> Messages:
    """Ask the tiny model, which was trained on exactly this: ``24:3,4,6,2``."""
    return [{"role": "user", "content": f"{problem.target}:{','.join(map(str, problem.numbers))}"}]


@dataclass(frozen=True)
class CountdownTask:
    """A level: so many numbers, drawn evenly up to so much, and a target that they reach in enough ways."""

    name: str
    numbers: int  # how many; at most modes.MAX_NUMBERS
    largest_number: int
    largest_target: int
    least_modes: int  # that a problem has with these operators
    train_size: int
    val_size: int
    operators: str = OPERATORS  # that suffice; others may be used
    ask: Callable[[Countdown], Messages] = _ask

    def problems(self, split: str, size: int, seed: int = 0) -> list[Countdown]:
        """Draw ``size`` distinct problems of a split: no two have the same target and numbers, in whatever order.

        Raises:
            ValueError: there is no such split, or there are not so many problems.
        """
        rng = seeded(self.name, split, seed)
        drawn: list[Countdown] = []
        seen: set[tuple[int, ...]] = set()
        misses = 0
        while len(drawn) < size:
            if misses == _MISSES:
                raise ValueError(
                    f"task {self.name!r}, split {split!r}: size {size} needs more problems than the {len(drawn)} that "
                    "were found: ask for fewer"
                )
            misses += 1
            numbers = tuple(rng.randint(SMALLEST, self.largest_number) for _ in range(self.numbers))
            if in_split(numbers, split) and (targets := self._targets(numbers, seen)):
                drawn.append(Countdown(rng.choice(targets), numbers))
                seen.add((drawn[-1].target, *sorted(numbers)))
                misses = 0
        return drawn

    def _targets(self, numbers: tuple[int, ...], seen: set[tuple[int, ...]]) -> list[int]:
        return [
            target
            for target, count in sorted(mode_counts(numbers, self.operators).items())
            if count >= self.least_modes and target <= self.largest_target and (target, *sorted(numbers)) not in seen
        ]

    def rows(self, split: str, size: int, seed: int = 0) -> list[Row]:
        """Write the problems as verl reads them."""
        return write_rows(self.name, split, self.problems(split, size, seed), self.ask)


def in_split(numbers: Sequence[int], split: str) -> bool:
    """Whether the problems with these numbers, in whatever order, are in the split."""
    return split_of(f"countdown {sorted(numbers)}") == split


COUNTDOWN_3 = CountdownTask(
    name="countdown_3",
    numbers=3,
    largest_number=20,
    largest_target=100,
    least_modes=2,
    train_size=512,
    val_size=64,
)
COUNTDOWN_4 = CountdownTask(
    name="countdown_4",
    numbers=4,
    largest_number=13,
    largest_target=50,
    least_modes=5,
    train_size=512,
    val_size=64,
    operators="+-*",
)
TINY_COUNTDOWN = CountdownTask(
    name="tiny_countdown",
    numbers=4,
    largest_number=8,
    largest_target=40,
    least_modes=4,
    train_size=512,
    val_size=64,
    operators="+-*",
    ask=_ask_briefly,
)
