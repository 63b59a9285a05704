"""Tables, and targets in plain words."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

_began = time.monotonic()


def say(message: str) -> None:
    print(f"[{time.monotonic() - _began:6.0f} s] {message}", flush=True)


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """The first column to the left, numbers to the right."""
    rule = "|".join(["---"] + ["---:"] * (len(headings) - 1))
    return ["", f"| {' | '.join(headings)} |", f"|{rule}|", *(f"| {' | '.join(map(str, row))} |" for row in rows), ""]


def target(what: str, wanted: str, measured: str, reached: bool) -> list[str]:
    return ["", f"Target, {what}: {wanted}. Measured: {measured}. **{'Reached' if reached else 'Not reached'}.**", ""]


def code(text: str, most: int = 60) -> str:
    """`text` as one table cell."""
    text = text if len(text) <= most else text[: most - 1] + "…"
    return "`" + text.replace("|", "\\|").replace("`", "'").replace("\n", " ") + "`"
