"""Whether two answers are the same, as far as strings, numbers and lists of numbers tell; the rest takes algebra.

Every function is linear in its text.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from dsdr_verl.scoring.answers import unwrap
from dsdr_verl.scoring.closed_forms import same_closed_form, same_list
from dsdr_verl.scoring.latex import tidy, without_wrappers
from dsdr_verl.scoring.numbers import read_number, same_number
from dsdr_verl.scoring.units import Unit, agree, read_unit, split_unit


def compare(answer: str, truth: str) -> bool | list[tuple[str, str]]:
    r"""Whether `answer` is `truth`; or, if that takes algebra, the (answer, truth) pairs that must all be equal.

    Read as a person would, and so that hedging earns nothing:
    - A unit in one of them is passed over, in both it must agree. `$`, `\text{}`, spacing, spelling do not count.
    - A truth in words is matched as words, whatever the case: algebra would take "cat" for c·a·t and so for "act".
    - A truth that is one capital letter is a choice: "(B)", "B. 12" and "Option B" are B, "A or B" is not.
    - Of a chain a = b = c, all sides must be right but a first that only names what is sought.
    - A number in a base is its digits, and the base if both have one.
    """
    a, t = _read(answer), _read(truth)
    if a.spelled == t.spelled:
        return True
    if not agree(a.unit, t.unit):
        return False
    answer, truth = _unnamed(a.value, t.value), _unnamed(t.value, a.value)
    if (decided := _as_choice(answer, truth)) is not None:
        return decided
    answer, truth = _OPTION.sub(r"\2", answer), _OPTION.sub(r"\2", truth)
    for decide in (_as_text, _as_numbers, _in_a_base, _as_words, _as_ratio, same_closed_form, same_list):
        if (decided := decide(answer, truth)) is not None:
            return decided
    return [(side, truth) for side in _sides(answer, truth)]


class Reading(NamedTuple):
    spelled: str
    value: str  # spelled too, without its unit
    unit: Unit | None


@lru_cache(maxsize=4096)  # a group has one truth, and often one answer
def _read(answer: str) -> Reading:
    spelled = spell(answer)
    value, unit = split_unit(_opened(answer))
    value = spell(value)
    if unit and ("percent", 1) in unit.known:
        value += "%"
    elif value.endswith("%"):
        unit = read_unit("%")
    return Reading(spelled, value, unit)


def _opened(answer: str) -> str:
    answer = unwrap(_HIDDEN.sub("", answer))
    inside = _ALL_TEXT.fullmatch(answer) or _IN_PARENTHESES.fullmatch(answer)
    return inside[1].removesuffix(r"\right").strip() if inside else answer


def _unnamed(answer: str, other: str) -> str:
    """5 for x=5, if the other names nothing."""
    name, _, value = answer.partition("=")
    return value if value and "=" not in value + other and _NAME.fullmatch(name) else answer


def spell(answer: str) -> str:
    r"""One spelling for what reads the same: no wrappers, idle space, `\text{}`; a row of answers parted by commas."""
    answer = without_wrappers(_opened(answer)).replace(r"\%", "%")
    if r"\begin" not in answer:
        answer = answer.replace(r"\\", ",")
    answer = _AND_FRACTION.sub(r"\1 ", answer)
    answer = _OR.sub(r"\\lor ", _AND.sub(",", answer))
    answer = _RATIO_TO.sub(r"\1:\2", tidy(answer)).rstrip(".,;:")
    if (start := _SET_OF.match(answer)) and answer.endswith(r"\}") and _INEQUALITY.search(answer):
        answer = answer[start.end() : -2]
    return _REVERSED.sub(r"\1", answer)


_ALL_TEXT = re.compile(r"\\(?:text|textbf|textrm|mathrm|mbox)\s?\{([^{}]*)\}")
_IN_PARENTHESES = re.compile(r"(?:\\left)?\(([^(),A-J\d]*\d[^(),]*)\)")
_HIDDEN = re.compile(r"\\(?:[hv]?phantom|textcolor|color|label|tag)\s?\{[^{}]*\}")
_OR = re.compile(r"(?<![A-Za-z\\]),? ?\bor\b(?= |\\|$|\d)|\\(?:lor|vee)(?![A-Za-z])")
_AND = re.compile(r",? \band\b(?= |\\|$|\d)|\\land(?![A-Za-z])")
_AND_FRACTION = re.compile(r"(\d) {0,4}\band\b {0,4}(?=\\[dt]?frac|\d+/\d)")
_RATIO_TO = re.compile(r"^(\d+) ?to ?(\d+)$")
_SET_OF = re.compile(r"^\\\{[A-Za-z](?:\\in\\mathbb\{?R\}?)?(?:\\mid ?|\||:)")
_INEQUALITY = re.compile(r"[<>]|\\(?:le|ge|ne)(?![A-Za-z])")
_REVERSED = re.compile(r"^(-?[\d.]+)=([A-Za-z])$")


def _as_text(answer: str, truth: str) -> bool | None:
    if answer == truth:
        return True
    if not answer or (_DENIES.search(answer) and not _DENIES.search(truth)) or _REMARK.search(answer):
        return False
    return None


_DENIES = re.compile(r"\\(?:ne|neq|not|neg|lnot)(?![A-Za-z])|≠|!=")
_REMARK = re.compile(r"%(?![,\])}\s]|$)")  # what follows is a comment to LaTeX


def _as_numbers(answer: str, truth: str) -> bool | None:
    a, t = read_number(answer), read_number(truth)
    return same_number(a, t) if a and t else None


def _in_a_base(answer: str, truth: str) -> bool | None:
    a, t = _BASED.fullmatch(answer), _BASED.fullmatch(truth)
    if a and t and (a[2] or t[2]):
        return a[1].upper() == t[1].upper() and (not a[2] or not t[2] or a[2] == t[2])
    return None


_BASED = re.compile(r"\(?(\d[\dA-Fa-f]*)\)?(?:_\{?(\d{1,2})\}?)?")


def _as_choice(answer: str, truth: str) -> bool | None:
    if option := _OPTION.fullmatch(truth):
        if other := _OPTION.fullmatch(answer):
            return None if other[1] == option[1] else False
        if not _CHOICE.fullmatch(answer):
            return None
        truth = option[1]
    if not (wanted := _CHOICE.fullmatch(truth)):
        return None
    if len(answer) == 1:
        return answer.upper() == wanted[1]
    chosen = _CHOSEN.fullmatch(answer)
    return chosen[1] == wanted[1] and not _OTHER_CHOICE.search(chosen[2] or "") if chosen else None


_CHOICE = re.compile(r"\(?([A-J])\)?")
_CHOSEN = re.compile(r"(?:[Oo]ption|[Cc]hoice|[Aa]nswer)? ?\(?([A-J])(?:[).:](.*)|)", re.DOTALL)
_OPTION = re.compile(r"^\(([A-J])\)(.+)", re.DOTALL)  # (C) 7
_OTHER_CHOICE = re.compile(r"\\lor|(?<![A-Za-z])[A-J](?![A-Za-z])")


def _as_words(answer: str, truth: str) -> bool | None:
    if _WORDS.fullmatch(truth) and _WORD.search(truth) and not _MATH_WORD.search(truth):
        return answer.casefold() == truth.casefold()
    return None


_WORD = re.compile(r"(?=[A-Za-z]{3})(?!(?:[a-z]+[A-Z]|[b-df-hj-np-tv-z]+\b))")  # but not mgh, xyz or nRT
_WORDS = re.compile(r"[A-Za-z][A-Za-z '\-]*")
_MATH_WORD = re.compile(r"sin|cos|tan|log|exp|sqrt|\b(?:ln|infty|infinity|pi)\b", re.IGNORECASE)


def _as_ratio(answer: str, truth: str) -> bool | None:
    return answer == truth if _RATIO.fullmatch(answer) and _RATIO.fullmatch(truth) else None


_RATIO = re.compile(r"[\d.]+(?::[\d.]+)+")


def _sides(answer: str, truth: str) -> list[str]:
    sides = answer.split("=")
    if "=" in truth or "," in answer or r"\lor" in answer or (len(sides) == 2 and _LETTER.search(sides[0])):
        return [answer]
    return sides[1:] if len(sides) > 2 and _NAME.fullmatch(sides[0]) else sides


_LETTER = re.compile(r"(?<![A-Za-z\\])[A-Za-z]")
_NAME = re.compile(r"\\?[A-Za-z]+(?:_(?:\{\w+\}|\w+))?(?:\([A-Za-z\d,]*\))?'?")
