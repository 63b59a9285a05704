"""Plain numbers, read exactly.

Every function is linear in its text.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

MAX_NUMBER = 128  # characters of what is read as a plain number


class Number(NamedTuple):
    value: Fraction
    is_decimal: bool = False
    is_percent: bool = False


_NUMBER = re.compile(r"(.*?)(?:\\(?:times|cdot)10\^(?:\{([-+]?\d{1,2})\}|(\d)))? ?([a-z]{5,8})?(%?)", re.ASCII)
_MAGNITUDES = {"": 1, "hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_INTEGER = r"(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+|\d+)"
_DECIMAL = re.compile(
    rf"({_INTEGER}?)(?:\.(\d*)(?:\\(?:overline|bar)\{{(\d+)\}})?)?(?:[eE]([-+]?\d{{1,2}}))?", re.ASCII
)
_FRACTION = re.compile(r"(?:(\d+) ?)??(?:\\frac\{([-+]?\d+)\}\{([-+]?\d+)\}|(?<!\d)(\d+)/(\d+))", re.ASCII)


def read_number(text: str) -> Number | None:
    r"""The value of a plain number as `spell` leaves it, None for all else.

    An integer, with thousands separators or not; a decimal, with exponent or repeating digits perhaps; `a/b`,
    `\frac{a}{b}`, a mixed number. Each may be times a power of ten, "million" or the like, and a percentage.
    """
    if len(text) > MAX_NUMBER or not (m := _NUMBER.fullmatch(text)):
        return None
    figure, power, digit, magnitude, percent = m.groups()
    sign = -1 if figure[:1] == "-" else 1
    value = _read_figure(figure.removeprefix("-").removeprefix("+"))
    if value is None or (magnitude or "") not in _MAGNITUDES:
        return None
    exponent = int(power or digit or 0)
    value *= sign * _MAGNITUDES[magnitude or ""] * Fraction(10) ** exponent
    return Number(value, "." in text or "e" in figure.lower() or exponent < 0, bool(percent))


def _read_figure(text: str) -> Fraction | None:
    if (m := _DECIMAL.fullmatch(text)) and (m[1] or m[2] or m[3]):
        whole, decimals, repeating, exponent = m.groups()
        decimals = decimals or ""
        value = Fraction(int(re.sub("[, ]", "", whole or "0") + decimals), 10 ** len(decimals))
        if repeating:
            value += Fraction(int(repeating), 10 ** len(decimals) * (10 ** len(repeating) - 1))
        return value * Fraction(10) ** int(exponent or 0)
    if m := _FRACTION.fullmatch(text):
        whole, *parts = m.groups()
        over, under = (int(part) for part in parts if part is not None)
        return int(whole or 0) + Fraction(over, under) if under else None
    return None


def same_number(answer: Number, truth: Number) -> bool:
    """Exact for integers and fractions. With a decimal on either side: equal when rounded to six places, as
    math-verify has it, and within 1e-4 of each other, so that small decimals keep their meaning. A percentage stands
    for its figure and for its value: 50% equals 50 and 1/2.
    """
    readings = {answer.value, answer.value / 100} if answer.is_percent and not truth.is_percent else {answer.value}
    targets = {truth.value, truth.value / 100} if truth.is_percent and not answer.is_percent else {truth.value}
    if readings & targets:
        return True
    if not (answer.is_decimal or truth.is_decimal):
        return False
    return any(round(a, 6) == round(t, 6) and abs(a - t) <= abs(t) / 10_000 for a in readings for t in targets)
