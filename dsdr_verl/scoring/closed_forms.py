r"""Numbers with roots or π in them, and lists of numbers: told apart exactly, without algebra.

They are what most answers are that are not plain numbers. What is not read here is None, and left to algebra.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from dsdr_verl.scoring.normalize import LIST, split_outside
from dsdr_verl.scoring.numbers import MAX_NUMBER, read_number, same_number

MOST_ITEMS = 16  # of a list

_ROOT = r"\\sqrt(?:\{\d+\}|\d)"
_PART = rf"\d*(?:{_ROOT})?(?:\\pi)?"
_FORM = re.compile(
    rf"(?P<sign>-?)(?:\\frac\{{(?P<inner>-?)(?P<over>{_PART})\}}\{{(?P<under>{_PART})\}}(?P<times>(?:{_ROOT})?(?:\\pi)?)"
    rf"|(?P<plain>{_PART})(?:/(?P<by>\d+))?)",
    re.ASCII,
)
_FACTORS = re.compile(r"(\d*)(?:\\sqrt(?:\{(\d+)\}|(\d)))?(\\pi)?", re.ASCII)
_INFINITE = {r"\infty": 1, r"+\infty": 1, r"-\infty": -1}


class ClosedForm(NamedTuple):
    """sign · √square · π^power. No two of them are equal, for π is no root of anything."""

    sign: int
    square: Fraction
    power: int


def read_closed_form(text: str) -> ClosedForm | None:
    r"""`3`, `-\frac{1}{2}`, `2\sqrt{3}`, `\frac{\sqrt{2}}{2}\pi`; None for decimals, percentages and all else."""
    if len(text) > MAX_NUMBER:
        return None
    if number := read_number(text):
        if number.is_decimal or number.is_percent:
            return None
        return _closed(number.value**2, 0, negative=number.value < 0)
    if not (m := _FORM.fullmatch(text)):
        return None
    if m["plain"] is not None:
        parts = [(m["plain"], 1), (m["by"] or "1", -1)]
    else:
        parts = [(m["over"], 1), (m["under"], -1), (m["times"] or "1", 1)]
    square, power = Fraction(1), 0
    for part, exponent in parts:
        digits, root, short_root, pi = _FACTORS.fullmatch(part).groups()
        factor = int(digits or 1) ** 2 * int(root or short_root or 1)
        if not part or (factor == 0 and exponent < 0):
            return None
        square *= Fraction(factor) ** exponent
        power += exponent if pi else 0
    return _closed(square, power, negative=bool(m["sign"]) != bool(m["inner"]))


def _closed(square: Fraction, power: int, negative: bool) -> ClosedForm:
    return ClosedForm(-1 if negative else 1, square, power) if square else ClosedForm(0, square, 0)


def same_closed_form(answer: str, truth: str) -> bool | None:
    """Whether two numbers are the same; None if one of them is not read here."""
    if answer in _INFINITE or truth in _INFINITE:
        known = _is_number(answer) and _is_number(truth)
        return _INFINITE.get(answer) == _INFINITE.get(truth) if known else None
    if (a := read_number(answer)) and (t := read_number(truth)):
        return same_number(a, t)
    if (x := read_closed_form(answer)) and (y := read_closed_form(truth)):
        return x == y
    return None


class Listed(NamedTuple):
    opening: str
    closing: str
    items: tuple[str, ...]


@lru_cache(maxsize=1024)
def _read_list(text: str) -> Listed | None:
    r"""A tuple or an interval, `(1,2]`; a set, `\{1,2\}`; or several answers, `1,2`. None for less than two items."""
    opening = text[0] if text[:1] in ("(", "[") else r"\{" if text.startswith(r"\{") else ""
    closing = "" if not opening else r"\}" if opening == r"\{" else text[-1]
    if opening and not (text.endswith(closing) and closing in (r"\}", ")", "]")):
        return None
    items = tuple(item.strip() for item in split_outside(text[len(opening) : len(text) - len(closing)], LIST))
    return Listed(opening, closing, items) if 2 <= len(items) <= MOST_ITEMS else None


def same_list(answer: str, truth: str) -> bool | None:
    """Whether two lists of numbers are the same; None unless both are that, in the same brackets.

    In order if in round or square brackets, else as sets. A number is not a list of different ones.
    """
    a, t = _read_list(answer), _read_list(truth)
    if not a or not t:
        listed, single = a or t, truth if a else answer
        return _is_no_list(single, listed) if listed else None
    if (a.opening, a.closing) != (t.opening, t.closing):
        return None
    if not all(map(_is_number, (*a.items, *t.items))):
        return None
    if a.opening in ("(", "["):
        same = list(map(same_closed_form, a.items, t.items))
        # None, for a decimal beside a root, leaves it open
        return False if len(a.items) != len(t.items) or False in same else None if None in same else True
    table = [[same_closed_form(x, y) for y in t.items] for x in a.items]
    if any(None in row for row in table):
        return None
    return all(map(any, table)) and all(map(any, zip(*table, strict=True)))


def _is_no_list(single: str, listed: Listed) -> bool | None:
    if not _is_number(single) or not all(map(_is_number, listed.items)):
        return None
    return False if False in [same_closed_form(single, item) for item in listed.items] else None


def _is_number(text: str) -> bool:
    return text in _INFINITE or read_number(text) is not None or read_closed_form(text) is not None
