"""A search for texts that take more than linear time: short pieces repeated, at one length and at four times that."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import NamedTuple

from tests.fuzz.generate import token
from tests.fuzz.text import calls

LENGTH = 5_000
LINEAR = 4.0
SUSPICIOUS = 2.0 * LINEAR
NOTICEABLE = 0.02  # seconds; what is below drowns in noise


class Growth(NamedTuple):
    function: str
    prefix: str
    piece: str
    suffix: str
    seconds: tuple[float, float, float]  # at LENGTH, 4 times that, and 16 times unless it takes too long


def growth(random: Random) -> list[Growth]:
    """The functions that slow down on one random piece."""
    prefix, suffix = (random.choice(["", token(random), token(random) + token(random)]) for _ in range(2))
    piece = "".join(token(random) for _ in range(random.choice([1, 1, 2, 2, 3, 5])))

    def text(length: int) -> str:
        return prefix + piece * (length // len(piece) + 1) + suffix

    found = []
    for (name, small), (_, large) in zip(calls(text(LENGTH), "7"), calls(text(4 * LENGTH), "7"), strict=True):
        short, long = seconds(small), seconds(large)
        if long > NOTICEABLE and min(seconds(large), long) > SUSPICIOUS * max(seconds(small), short):
            longest = seconds(dict(calls(text(16 * LENGTH), "7"))[name]) if long < 1 else float("nan")
            found.append(Growth(name, prefix, piece, suffix, (short, long, longest)))
    return found


def seconds(call: Callable[[], object]) -> float:
    start = time.thread_time()
    with suppress(Exception):
        call()
    return time.thread_time() - start
