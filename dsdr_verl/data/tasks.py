"""The tasks by name, and their files: arithmetic for the demo model and for the tiny model, and countdown's levels."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from dsdr_verl.data.cache import cache_root, fingerprint, materialise
from dsdr_verl.data.countdown import COUNTDOWN_3, COUNTDOWN_4, TINY_COUNTDOWN, CountdownTask
from dsdr_verl.data.rows import Messages, Row, seeded, split_of, write_rows


@dataclass(frozen=True)
class Problem:
    """An arithmetic problem: ``kind`` is a key of :data:`SYMBOLS`."""

    kind: str
    operands: tuple[int, ...]

    @property
    def answer(self) -> int:
        """The right value."""
        first, *rest = self.operands
        if self.kind == "product":
            return math.prod(self.operands)
        return first - sum(rest) if self.kind == "difference" else sum(self.operands)

    @property
    def truth(self) -> str:
        """The right value as text."""
        return str(self.answer)

    @property
    def split(self) -> str:
        """The split it belongs to, whatever the size or seed; ``3 + 4`` goes wherever ``4 + 3`` goes."""
        operands = self.operands if self.kind == "difference" else sorted(self.operands)
        return split_of(f"{self.kind} {list(operands)}")

    def text(self, template: str = "{} {} {}") -> str:
        """Write it down: ``3 + 4``; the template places operand, symbol, operand."""
        text = str(self.operands[0])
        for operand in self.operands[1:]:
            text = template.format(text, SYMBOLS[self.kind], operand)
        return text


SYMBOLS = {"sum": "+", "difference": "-", "product": "*"}


def pool(kind: str, *ranges: range, keep: Callable[..., bool] = lambda *operands: True) -> list[Problem]:
    """List every problem of a kind with its operands in the given ranges and ``keep(*operands)`` true."""
    return [Problem(kind, operands) for operands in product(*ranges) if keep(*operands)]


@dataclass(frozen=True)
class Task:
    """A mix of problems and the way to ask them; ``shares[i]`` of the rows come from ``pools[i]``."""

    name: str
    pools: tuple[tuple[Problem, ...], ...]
    shares: tuple[float, ...]
    ask: Callable[[Problem], Messages]
    train_size: int
    val_size: int

    def problems(self, split: str, size: int, seed: int = 0) -> list[Problem]:
        """Draw ``size`` distinct problems of a split in a fixed random order."""
        rng = seeded(self.name, split, seed)
        drawn: list[Problem] = []
        for index, (problems, share) in enumerate(zip(self.pools, self.shares, strict=True)):
            left = [problem for problem in problems if problem.split == split]
            count = size - len(drawn) if index == len(self.pools) - 1 else round(size * share)
            if count > len(left):
                raise ValueError(
                    f"task {self.name!r}, split {split!r}: size {size} needs {count} problems like "
                    f"{problems[0].text()!r}, and there are {len(left)}: ask for fewer"
                )
            drawn += rng.sample(left, count)
        rng.shuffle(drawn)
        return drawn

    def rows(self, split: str, size: int, seed: int = 0) -> list[Row]:
        """Write the problems as verl reads them."""
        return write_rows(self.name, split, self.problems(split, size, seed), self.ask)


def _bare(problem: Problem) -> Messages:
    """Ask the tiny model, which was trained on exactly this: ``27+35``."""
    return [{"role": "user", "content": problem.text("{}{}{}")}]


def _with_example(problem: Problem) -> Messages:
    """Ask the demo model after one worked example; the short system message replaces the template's long one."""
    example = Problem(problem.kind, (3, 4))
    solution = f"{Problem(problem.kind, (4, 3)).text()} = {example.answer}. So {example.text()} = {example.answer}."
    return [
        {"role": "system", "content": "Maths"},
        {"role": "user", "content": example.text()},
        {"role": "assistant", "content": solution},
        {"role": "user", "content": problem.text()},
    ]


def _is_no_example(*operands: int) -> bool:
    return sorted(operands) != [3, 4]


_DIGIT, _TWO = range(1, 10), range(10, 60)
TINY_ARITHMETIC = Task(
    name="tiny_arithmetic",
    pools=(
        tuple(pool("sum", _TWO, _TWO)),
        tuple(pool("sum", _DIGIT, _DIGIT, _DIGIT)),
        tuple(pool("difference", range(5, 60), range(1, 40), keep=lambda a, b: a > b)),
        tuple(pool("product", range(2, 13), range(2, 13))),
    ),
    shares=(0.35, 0.35, 0.2, 0.1),
    ask=_bare,
    train_size=512,
    val_size=64,
)
# SmolLM2-135M-Instruct on 32 training problems x 8 samples at temperature 1, at most 32 tokens: 0.40 right (greedily
# 0.62), 0.91 of the groups mixed, 6.8 distinct responses of 8, prompts of 53-55 tokens, responses of 18, 0.90 ended.
ARITHMETIC = Task(
    name="arithmetic",
    pools=(
        tuple(pool("sum", range(2, 16), range(2, 16), keep=_is_no_example)),
        tuple(pool("product", range(2, 10), range(2, 10), keep=_is_no_example)),
    ),
    shares=(0.75, 0.25),
    ask=_with_example,
    train_size=128,
    val_size=32,
)
TASKS: dict[str, Task | CountdownTask] = {
    task.name: task for task in (ARITHMETIC, TINY_ARITHMETIC, COUNTDOWN_3, COUNTDOWN_4, TINY_COUNTDOWN)
}


def make_arithmetic(split: str, size: int, seed: int = 0, task: str = ARITHMETIC.name) -> list[Row]:
    """Make rows for the demo model, or of another task of :data:`TASKS`: ``"tiny_arithmetic"`` is the tiny model's.

    The same arguments give the same rows; no problem is in both splits, nor twice in one.
    """
    return _find(task).rows(split, size, seed)


def write_parquet(rows: list[Row], path: str | os.PathLike) -> Path:
    """Write rows to a parquet file, which appears whole or not at all."""
    import pyarrow
    import pyarrow.parquet

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), scratch)
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
    return path


def prepare(task: str, cache_dir: str | os.PathLike | None = None) -> tuple[Path, Path]:
    """Write a task's training and validation files, the first time; return their paths."""
    found = _find(task)
    splits = {"train": found.rows("train", found.train_size), "val": found.rows("val", found.val_size)}

    def build(folder: Path) -> None:
        for split, rows in splits.items():
            write_parquet(rows, folder / f"{split}.parquet")

    folder = materialise(cache_root(cache_dir) / "tasks" / task, fingerprint(splits), build)
    return folder / "train.parquet", folder / "val.parquet"


def _find(task: str) -> Task | CountdownTask:
    if task not in TASKS:
        raise ValueError(f"there is no task {task!r}: choose one of {', '.join(TASKS)}")
    return TASKS[task]
