"""The least of an item that still fails in the same way, where that takes no processes to see."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.fuzz import text
from tests.fuzz.generate import Item

SECONDS = 5.0


def shrunk(item: Item, problem: str) -> Item:
    """`item` with all that can go cut out of its texts; as it is, if the functions of text do not show its problem."""

    def fails(response: str, truth: str) -> bool:
        smaller = item._replace(response=response, truth=truth)
        return any(_kind(found) == _kind(problem) for found in text.problems(smaller))

    end = time.monotonic() + SECONDS
    if not fails(item.response, item.truth):
        return item
    truth = _shrunk(item.truth, lambda part: fails(item.response, part), end)
    return item._replace(response=_shrunk(item.response, lambda part: fails(part, truth), end), truth=truth)


def _kind(problem: str) -> str:
    """The function and the exception, without what the message says of this very text."""
    return ":".join(problem.split(":")[:2])


def _shrunk(text: str, fails: Callable[[str], bool], end: float) -> str:
    size = max(len(text) // 2, 1)
    while size:
        at = 0
        while at < len(text) and time.monotonic() < end:
            shorter = text[:at] + text[at + size :]
            if fails(shorter):
                text = shorter
            else:
                at += size
        size //= 2
    return text
