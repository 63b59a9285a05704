r"""Plain arithmetic, read by a grammar of its own and worked out exactly. No text is ever evaluated.

Whole numbers, + - * /, parentheses and signs; also spelled × · ÷ − or `\times`, `\cdot`, `\div`, `\frac{}{}`.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import TypeVar

from dsdr_verl.scoring.latex import tidy

T = TypeVar("T")
Postfix = list[int | str]  # numbers, binary "+-*/", and NEGATION

MAX_LENGTH = 512  # characters
MAX_DIGITS = 12  # of a number
MAX_DEPTH = 64  # parentheses and fractions open at once
NEGATION = "~"

_SPELLINGS = {r"\times": "*", r"\cdot": "*", r"\div": "/", "⋅": "*", "∙": "*", "∗": "*"}
_TOKEN = re.compile(r"\s*([0-9]+|[-+*/()⋅∙∗]|\\(?:times|cdot|div)(?![A-Za-z])|\\frac ?\{|\} ?\{|\})\s*")
_OPEN, _OVER, _UNDER = "(", r"\frac{", "}{"  # what stands open
_BINDS = {"+": 1, "-": 1, "*": 2, "/": 2, NEGATION: 3}


def read(text: str) -> Postfix:
    """The expression in postfix order, by Dijkstra's shunting-yard: linear in the text, without recursion.

    Raises:
        ValueError: it is none, or is beyond `MAX_LENGTH`, `MAX_DIGITS` or `MAX_DEPTH`.
    """
    if len(text) > MAX_LENGTH:
        raise ValueError(f"longer than {MAX_LENGTH} characters")
    postfix: Postfix = []
    waiting: list[str] = []  # operators, and what stands open
    depth, wants_operand = 0, True

    def close(opened: str) -> None:
        while waiting and waiting[-1] in _BINDS:
            postfix.append(waiting.pop())
        if wants_operand or not waiting or waiting.pop() != opened:
            raise ValueError("brackets that do not match")

    for token in _tokens(tidy(text)):
        if token in (_OPEN, _OVER):
            if not wants_operand or (depth := depth + 1) > MAX_DEPTH:
                raise ValueError(f"no operator before a bracket, or more than {MAX_DEPTH} open")
            waiting.append(token)
        elif token == ")":
            close(_OPEN)
            depth -= 1
        elif token == _UNDER:
            close(_OVER)
            waiting.append(_UNDER)
            wants_operand = True
        elif token == "}":
            close(_UNDER)
            postfix.append("/")
            depth -= 1
        elif token in _BINDS:
            if wants_operand:
                if token != "-":
                    raise ValueError(f"{token} without a left side")
                waiting.append(NEGATION)
            else:
                while waiting and _BINDS.get(waiting[-1], 0) >= _BINDS[token]:
                    postfix.append(waiting.pop())
                waiting.append(token)
                wants_operand = True
        elif not wants_operand or len(token) > MAX_DIGITS:
            raise ValueError(f"two numbers in a row, or one of more than {MAX_DIGITS} digits")
        else:
            postfix.append(int(token))
            wants_operand = False
    while waiting and waiting[-1] in _BINDS:
        postfix.append(waiting.pop())
    if wants_operand or waiting:
        raise ValueError("ends too soon")
    return postfix


def _tokens(text: str) -> Iterable[str]:
    position = 0
    while position < len(text):
        if not (found := _TOKEN.match(text, position)):
            raise ValueError(f"no arithmetic: {text[position : position + 20]!r}")
        position = found.end()
        token = found[1].replace(" ", "")
        yield _SPELLINGS.get(token, token)


def fold(
    postfix: Postfix, number: Callable[[int], T], combine: Callable[[str, T, T], T], negate: Callable[[T], T]
) -> T:
    """What an expression comes to when its numbers, operations and signs mean what is given."""
    stack: list[T] = []
    for item in postfix:
        if isinstance(item, int):
            stack.append(number(item))
        elif item == NEGATION:
            stack.append(negate(stack.pop()))
        else:
            right, left = stack.pop(), stack.pop()
            stack.append(combine(item, left, right))
    return stack.pop()


def value(postfix: Postfix) -> int | Fraction | None:
    """The exact value; None if a division by zero has none. `MAX_LENGTH` bounds its size, to some 1,700 bits."""
    try:
        return fold(postfix, int, combined, operator.neg)
    except ZeroDivisionError:
        return None


def combined(symbol: str, left: int | Fraction, right: int | Fraction) -> int | Fraction:
    """The value of one operation; of two whole numbers a whole one if it can be, as those are the faster.

    Raises:
        ZeroDivisionError: there is none.
    """
    if symbol == "+":
        return left + right
    if symbol == "-":
        return left - right
    if symbol == "*":
        return left * right
    ratio = Fraction(left, right)
    return ratio.numerator if ratio.denominator == 1 else ratio
