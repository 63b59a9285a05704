"""The parser against Python's own, on text that this test makes; and what is no arithmetic."""

import re
import time
from contextlib import suppress
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsdr_verl.scoring import arithmetic
from dsdr_verl.scoring.arithmetic import MAX_DEPTH, MAX_DIGITS, MAX_LENGTH, read, value


def _joined(parts):
    (left, left_latex), symbol, (right, right_latex), closed = parts
    python, latex = f"{left}{symbol}{right}", f"{left_latex} {LATEX[symbol]} {right_latex}"
    if closed == "frac":
        return f"(({left})/({right}))", rf"\dfrac{{{left_latex}}}{{{right_latex}}}"
    if closed == "brackets":
        return f"({python})", rf"\left({latex}\right)"
    return python, latex


LATEX = {"+": "+", "-": "−", "*": r"\times", "/": r"\div"}
NUMBERS = st.integers(0, 10**MAX_DIGITS - 1).map(lambda n: (str(n), str(n)))
EXPRESSIONS = st.recursive(
    NUMBERS | NUMBERS.map(lambda pair: (f"-{pair[0]}", f"-{pair[1]}")),
    lambda inner: (
        st.tuples(inner, st.sampled_from("+-*/"), inner, st.sampled_from(["", "brackets", "frac"])).map(_joined)
        | inner.map(lambda pair: (f"-({pair[0]})", f"-({pair[1]})"))
    ),
    max_leaves=12,
)


@given(EXPRESSIONS)
def test_value_is_pythons(expression):
    python, latex = expression
    try:
        expected = eval(re.sub(r"(\d+)", r"Fraction(\1)", python), {"Fraction": Fraction})
    except ZeroDivisionError:
        expected = None
    for text in (python, latex):
        if len(text) <= MAX_LENGTH:
            assert value(read(text)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3 · 4 − 2", 10),
        ("8 ÷ 4 × 2", 4),
        (r"\frac{1}{3}\cdot 6", 2),
        (r"\frac {1 + 2}{\frac{3}{4}} - 1", 3),
        (r"\tfrac12 * 4", 2),
        ("2 - -3", 5),
        ("--3", 3),
        ("6/2*3", 9),
        ("7-2-1", 4),
        ("1/(2-2)", None),
        ("007", 7),
    ],
)
def test_spellings(text, expected):
    assert value(read(text)) == expected


REFUSED = {
    "empty": "",
    "two numbers": "3 4",
    "no operator": "2(3+4)",
    "power": "2**3",
    "caret": "2^3",
    "tower": "9^{9^{9^9}}",
    "floor": "7//2",
    "plus sign": "+3",
    "open": "(3+4",
    "closed": "3+4)",
    "empty brackets": "()",
    "crossed": r"\frac{(1}{2)}",
    "half a fraction": r"\frac{1}",
    "braces": "{3+4}",
    "decimal": "2.5*4",
    "thousands": "1,000",
    "letters": "x+1",
    "factorial": "5!",
    "full-width digits": "３+４",
    "Arabic digits": "٣+٤",
    "superscript": "3²",
    "import": "__import__('os')",
    "lambda": "(lambda: 1)()",
    "null": "1\0+2",
    "digits": "9" * (MAX_DIGITS + 1),
    "deep": "(" * (MAX_DEPTH + 1) + "1" + ")" * (MAX_DEPTH + 1),
    "long": "1" + "+1" * MAX_LENGTH,
    "command": r"\timesx 3",
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    with pytest.raises(ValueError):
        read(REFUSED[name])


@given(st.text(max_size=60) | st.text(r"0123456789+-*/(){}=. \fractimesdv", max_size=60))
def test_any_text_is_read_or_refused(text):
    with suppress(ValueError):
        value(read(text))


def test_time_is_linear(monkeypatch):
    """Without the limits, which hide it: twice the text takes about twice the time."""
    monkeypatch.setattr(arithmetic, "MAX_LENGTH", 10**9)
    monkeypatch.setattr(arithmetic, "MAX_DEPTH", 10**9)
    for piece, rest in (("(", ""), ("-", "1"), ("1+", "1"), ("1-(", ""), (r"\frac{", ""), ("1*", "x")):

        def seconds(size, text=piece, end=rest):
            start = time.perf_counter()
            with suppress(ValueError):
                read(text * size + end)
            return time.perf_counter() - start

        assert min(seconds(20_000) for _ in range(3)) < 8 * min(seconds(5_000) for _ in range(3)) + 0.01
