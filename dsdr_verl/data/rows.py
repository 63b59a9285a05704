"""The rows that verl reads, and the split that a problem belongs to, the same for every task that is made here."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol

Row = dict[str, Any]
Messages = list[dict[str, str]]
ABILITY = "math"
SPLITS = ("train", "val")
_VAL_SHARE = 5  # one problem in five is kept for validation


class Problem(Protocol):
    """What a row needs of a problem."""

    @property
    def kind(self) -> str: ...

    @property
    def truth(self) -> str:
        """What the verifier is given."""

    def text(self) -> str: ...


def split_of(key: str) -> str:
    """The split of the problems with this key, whatever the size or seed."""
    return SPLITS[hashlib.sha256(key.encode()).digest()[0] % _VAL_SHARE == 0]


def seeded(task: str, split: str, seed: int) -> random.Random:
    """The source of a split's random choices.

    Raises:
        ValueError: there is no such split.
    """
    if split not in SPLITS:
        raise ValueError(f"there is no split {split!r}: choose one of {', '.join(SPLITS)}")
    return random.Random(f"{task} {split} {seed}")


def write_rows(task: str, split: str, problems: Sequence[Problem], ask: Callable[[Any], Messages]) -> list[Row]:
    """Write the problems as verl reads them."""
    return [
        {
            "data_source": f"dsdr/{task}",
            "prompt": ask(problem),
            "ability": ABILITY,
            "reward_model": {"style": "rule", "ground_truth": problem.truth},
            "extra_info": {"split": split, "index": index, "kind": problem.kind, "question": problem.text()},
        }
        for index, problem in enumerate(problems)
    ]
