"""The sentences that several checks share."""

import json
from collections.abc import Collection, Iterator
from difflib import get_close_matches
from typing import Any

Problems = Iterator[str]


def show(value: Any) -> str:
    """A value as it may stand in YAML."""
    return json.dumps(value) if value is None or isinstance(value, bool) else repr(value)


def not_among(key: str, value: Any, known: Collection[str]) -> Problems:
    if value not in known:
        close = get_close_matches(str(value), known, n=1)
        guess = f"did you mean {close[0]}? " if close else ""
        yield f"{key} is {show(value)}; {guess}Set it to one of {', '.join(known)}"


def less_than(key: str, value: int | None, least: int | None, what: str) -> Problems:
    if value and least and value < least:
        yield f"{key} is {value}, less than {what} ({least}); set it to at least {least}"


def not_dividing(key: str, value: int | None, total: int | None, what: str) -> Problems:
    if value and total and total % value:
        fit = max(divisor for divisor in range(1, min(value, total) + 1) if total % divisor == 0)
        yield f"{key} is {value}, which does not divide {what} ({total}); set it to a divisor, such as {fit}"
