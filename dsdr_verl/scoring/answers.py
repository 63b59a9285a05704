"""The final answer of a response, and the cheap part of equality: strings and plain numbers.

Every function is linear in the text. `extract_answer` looks at the whole of it for markers, and at its last
`TAIL` characters where it has to guess.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

from dsdr_verl.scoring.latex import boxes, last_box, tidy, without_wrappers

TAIL = 4096
MAX_NUMBER = 128  # characters of what is read as a plain number

_MARKER = re.compile(r"answer\s{0,4}(?:is|:|=)\s{0,4}:?", re.IGNORECASE)
# A `$` that is spaced on one side only, comes after an operator or before a digit is a dollar sign.
_MATH = re.compile(r"\$\$?((?!\s)[^$]*[^$\s+\-*/=]|\s[^$]*\s)\$(?!\d)|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_SENTENCE_END = re.compile(r"\n|\.(?=\s|$)|,? (?:because|since|as|which|so)\b")
_CLOSING = re.compile(r"[\s.,;:!*]{1,16}$")
_TELLING = re.compile(r"[\d=\\]")
_CALCULATION = re.compile(r"<<[^<>\n]{0,200}>>")  # GSM8K's annotations
_DANGLING = re.compile(r"(?:\s|\$|\\[)\]]){1,16}$")
_PROSE = re.compile(r"(?<!\\)(?<![A-Za-z])(?!sqrt|sin|cos|tan|log|exp)[A-Za-z]{3,}")
_NUMBER = re.compile(
    r"(?<![\w.])[-−]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:(?<=\d)\.\d+|(?<=\d)|\.\d+)(?:/\d+)?\s?\\?%?", re.ASCII
)
_WRAPPERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"), ("`", "`"))


def extract_answer(text: str, require_boxed: bool = False) -> str | None:
    r"""The final answer as the response wrote it, or None if there is none.

    The last closed `\boxed{}` wins, then what follows the last `####`, then the last "answer is" or "Answer:". Failing
    these, and unless `require_boxed`, the last line with mathematics is taken: its last formula, or the line if it
    holds no words, of either the right-hand side of the last "="; else the number after its last "=", else its last.
    """
    if (box := last_box(text)) or require_boxed:
        return box
    if (cut := text.rfind(r"\boxed{")) >= 0 and "}" not in text[cut:]:
        return None  # the response broke off in its answer
    if (start := text.rfind("####")) >= 0:
        return _clip(text[start + 4 : start + 4 + TAIL].strip().split("\n", 1)[0]) or None
    if last := deque(_MARKER.finditer(text), maxlen=1):
        said = _sentence(text[last[0].end() : last[0].end() + TAIL].strip())
        if said:
            return said
    return _last_value(text[-TAIL:])


def extract_answers(text: str, require_boxed: bool = False, strict: bool = False) -> list[str]:
    r"""The final answers of a response, distinct: `extract_answer`'s, or, if `strict`, all that it gives.

    Strict takes every closed `\boxed{}`, every `####` line and every "answer is" for a final answer, in whatever order;
    without any, what `extract_answer` finds. Empty if there is none, or no box where one is required.
    """
    last = extract_answer(text, require_boxed)
    if last is None:
        return []
    stated = list(dict.fromkeys(_stated(text))) if strict else []
    return stated or [last]


def _stated(text: str) -> Iterator[str]:
    yield from boxes(text)
    for start in (m.end() for m in re.finditer("####", text)):
        yield _clip(text[start : start + TAIL].strip().split("\n", 1)[0])
    for m in _MARKER.finditer(text):
        said = _sentence(text[m.end() : m.end() + TAIL].strip())
        if said and r"\boxed" not in said and (_TELLING.search(said) or len(said) == 1):
            yield said


def _clip(text: str) -> str:
    return text.strip().strip("*").strip()


def _sentence(text: str) -> str | None:
    """The answer at the head of `text`: its first formula if one opens the sentence, else up to the sentence's end."""
    text = text.lstrip("*: ")
    if (math := _MATH.search(text)) and not _PROSE.search(text[: math.start()]) and "\n" not in text[: math.start()]:
        return next(group for group in math.groups() if group).strip()
    said = _clip(_SENTENCE_END.split(text, maxsplit=1)[0])
    return _last_value(said) if _PROSE.match(said) and any(c.isdigit() for c in said) else said


def _last_value(tail: str) -> str | None:
    for line in reversed(_CALCULATION.sub("", tail).splitlines()):
        line = _CLOSING.sub("", line)
        found = list(_MATH.finditer(line))
        if found and "=" in line[found[-1].end() :]:
            found = []
        formulas = [next(group for group in m.groups() if group) for m in reversed(found)]
        for candidate in filter(_TELLING.search, (*formulas, line)):
            value = _DANGLING.sub("", candidate.rsplit("=", 1)[-1]).strip()
            if 0 < len(value) <= 200 and not _PROSE.search(value):
                return value
        sides = line.split("=")
        if len(sides) > 1 and (leading := _NUMBER.match(sides[-1].lstrip(" $"))):
            return leading[0].strip()
        if numbers := _NUMBER.findall(line):
            return numbers[-1].strip()
    return None


def unwrap(answer: str) -> str:
    """`answer` without the delimiters around it and a closing full stop."""
    answer = answer.strip()
    while True:
        inner = answer.rstrip(" .,;:")
        for left, right in _WRAPPERS:
            middle = inner[len(left) : -len(right)]
            if inner.startswith(left) and inner.endswith(right) and left not in middle and right not in middle:
                inner = middle.strip()
        if inner == answer:
            return answer
        answer = inner


def normalize_answer(answer: str) -> str:
    r"""`answer` without wrappers, idle space, `\text{}` and currency sign. Equal results are the same answer."""
    return tidy(without_wrappers(unwrap(answer))).replace(r"\%", "%").removeprefix(r"\$").removeprefix("$")


class Number(NamedTuple):
    value: Fraction
    is_decimal: bool = False
    is_percent: bool = False


_INTEGER = r"(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+|\d+)"
_DECIMAL = re.compile(rf"([-+]?)({_INTEGER}?)(\.\d+)?(?:[eE]([-+]?\d{{1,2}}))?(%?)", re.ASCII)
_FRACTION = re.compile(r"([-+]?)(?:(\d+) ?)??(?:\\frac\{([-+]?\d+)\}\{([-+]?\d+)\}|(?<!\d)(\d+)/(\d+))", re.ASCII)


def read_number(text: str) -> Number | None:
    r"""The value of a plain number as `normalize_answer` leaves it: an integer with or without thousands separators, a
    decimal with or without exponent, a percentage, `a/b` or `\frac{a}{b}`, or a mixed number. None for all else.
    """
    if len(text) > MAX_NUMBER:
        return None
    if m := _DECIMAL.fullmatch(text):
        sign, whole, decimals, exponent, percent = m.groups()
        if not whole and not decimals:
            return None
        value = Fraction(re.sub("[, ]", "", whole or "0") + (decimals or "")) * Fraction(10) ** int(exponent or 0)
        return Number(-value if sign == "-" else value, bool(decimals or exponent), bool(percent))
    if m := _FRACTION.fullmatch(text):
        sign, whole, *parts = m.groups()
        over, under = (int(part) for part in parts if part is not None)
        if under == 0:
            return None
        value = int(whole or 0) + Fraction(over, under)
        return Number(-value if sign == "-" else value)
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


# Words after a number, apart from those that change it.
_UNIT = re.compile(r"(?<=[\d}%])(?: ?(?!and|or|not|mod|hundred|thousand|million|billion|dozen|percent)[A-Za-z]{3,})+$")
_WORDS = re.compile(r"[A-Za-z][A-Za-z '\-]*")
_MATH_WORD = re.compile(r"sin|cos|tan|log|ln|exp|sqrt|inf|pi", re.IGNORECASE)


def decide(answer: str, truth: str) -> bool | None:
    """Whether `answer` is `truth`, if strings and plain numbers can tell; None if it takes algebra.

    Both come from `normalize_answer`. A unit spelled out in the answer and not in the truth is passed over. A truth in
    words ("no solution") is matched as words, whatever the case: algebra would take "cat" for c·a·t and call it equal
    to "act".
    """
    if answer == truth:
        return True
    if t := read_number(truth):
        unit = _UNIT.search(answer)
        if a := read_number(answer[: unit.start()] if unit else answer):
            return same_number(a, t)
    if _WORDS.fullmatch(truth) and re.search("[A-Za-z]{3}", truth) and not _MATH_WORD.search(truth):
        return answer.casefold() == truth.casefold()
    return None
