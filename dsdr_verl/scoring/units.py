"""The unit at the end of an answer: "12\\text{ cm}", "60 km/h", "$5", "3:45 p.m."."""

from __future__ import annotations

import re
from collections import Counter
from typing import NamedTuple

_NAMES = """
mm millimeter millimetre|cm centimeter centimetre|dm decimeter|m meter metre|km kilometer kilometre|in inch inche
ft foot feet|yd yard|mi mile|s sec second|min minute|h hr hour|day|week|month|year yr|ms millisecond
mg milligram|g gram|kg kilogram|lb pound|oz ounce|ton tonne|ml milliliter millilitre|l liter litre|gal gallon|quart qt
pint|cup|degree deg °|radian rad|celsius|fahrenheit|kelvin|dollar $ usd|cent ¢|euro €|gbp £|yuan|yen ¥|am|pm
n newton|j joule|w watt|kw kilowatt|v volt|hz hertz|acre|hectare|percent %|percentage
"""
_UNITS = {name: names.split()[0] for names in re.split(r"[|\n]+", _NAMES.strip()) for name in names.split()}
_RATES = {"mph": ("mi", "h"), "kph": ("km", "h"), "kmh": ("km", "h"), "mps": ("m", "s")}
_POWERS = {"square": 2, "sq": 2, "cubic": 3, "squared": 2, "cubed": 3}
_TOKEN = re.compile(r"[A-Za-z]+|[$€£¥¢%°/]|\^\{?-?\d\}?")

# What makes words after a number more than its unit.
_MORE = re.compile(
    r"\b(?:sin|cos|tan|log|ln|exp|sqrt|theta|alpha|beta|infinity|inf|and|or|not|mod|to|but|maybe|perhaps|either|than|"
    r"plus|minus|times|about|hundred|thousand|million|billion|trillion|dozen|one|two|three|four|five|six|seven|eight|"
    r"nine|ten|is|if|for|where|when|at|in the|all|any)\b",
    re.IGNORECASE,
)
_TEXT = r"\\(?:text|textrm|textit|textbf|mathrm|mbox|operatorname|rm)\s?\{([^{}()\[\]]*)\}"
_SPACE = r"(?:\s|~|\\[,;:! ]|\\quad(?![a-z]))*"
_EXPONENT = r"(?:\s?\^\s?(?:\{-?\d\}|-?\d))?"
_IN_TEXT = re.compile(rf"{_SPACE}{_TEXT}{_EXPONENT}(?:{_SPACE}(?:/|\\cdot){_SPACE}{_TEXT}{_EXPONENT})?{_SPACE}$")
_IN_WORDS = re.compile(rf"(?:(?<=[\d}}])(?=[A-Za-z]{{2}})|[\s~]+)([A-Za-z][A-Za-z./ ]*{_EXPONENT})\s*$")
_DEGREES = re.compile(r"\s?(?:°|\^\s?\{?\s?\\circ\s?\}?)\s?[CF]?$")
_ANGLE_OF = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-z])")
_CURRENCY = re.compile(r"^\\?([$€£¥])\s?(?=[\d.\\])")
_RAISED = str.maketrans({"²": "^2", "³": "^3"})
_LONGEST = 100  # characters
_ENDS_VALUE = re.compile(r"[\d})\]%]$")


class Unit(NamedTuple):
    """A product of powers of known units, and the other words; equal to another if either agrees."""

    known: frozenset[tuple[str, int]]
    words: frozenset[str]


def split_unit(answer: str) -> tuple[str, Unit | None]:
    """An answer without its unit, and that; the answer and None if it has none."""
    if m := _CURRENCY.match(answer):
        rest = answer[m.end() :]
        return (answer, None) if _CURRENCY.match(rest) else (split_unit(rest)[0], read_unit(m[1]))
    head, tail = answer[:-_LONGEST], answer[-_LONGEST:].translate(_RAISED)
    if _ANGLE_OF.search(answer):
        return answer, None
    if m := _DEGREES.search(tail):
        return head + tail[: m.start()].rstrip(), read_unit("°")
    if (m := _IN_TEXT.search(tail)) and not _MORE.search(m[0]):
        unit = read_unit(re.sub(_TEXT, r"\1", m[0]))
        value = head + tail[: m.start()].rstrip()
        return (value, unit) if value and (unit.known or _ENDS_VALUE.search(value)) else (answer, None)
    m = _IN_WORDS.search(tail)
    if m is None or not _ENDS_VALUE.search(tail[: m.start()]) or _MORE.search(m[0]):
        return answer, None
    unit, value = read_unit(m[0]), head + tail[: m.start()].rstrip()
    least = 2 if unit.known else 3
    if all(len(word) >= least for word in _WORD.findall(m[0])) or (unit.known and _FIGURE.fullmatch(value)):
        glued = m[0][0].isalpha()
        return (value, unit) if unit.known or not glued else (answer, None)
    return answer, None  # variables


_WORD = re.compile("[A-Za-z]+")
_FIGURE = re.compile(r"[-+]?[\d.,:]+")  # of letters after anything more, one may be a variable


def read_unit(phrase: str) -> Unit:
    known: Counter[str] = Counter()
    words, power, sign, last = set(), 1, 1, ""
    for token in _TOKEN.findall(re.sub(r"\b([ap])\.\s?m\b\.?", r"\1m", phrase, flags=re.IGNORECASE)):
        name = token if token in _UNITS else token.lower()
        name = name if name in _UNITS or name in _RATES else name.removesuffix("s")
        if token == "/" or name == "per":
            sign = -1
        elif token[0] == "^":
            known[last] *= int(token.strip("^{}"))
        elif token.lower() in _POWERS:
            power = _POWERS[token.lower()]
            if token.lower().endswith("d") and last:  # "meters squared"
                known[last] *= power
                power = 1
        elif name in _RATES:
            over, under = _RATES[name]
            known.update({over: 1, under: -1})
        elif name in _UNITS:
            last = _UNITS[name]
            known[last] += sign * power
            power = 1
        else:
            words.add(name)
    return Unit(frozenset((name, n) for name, n in known.items() if name and n), frozenset(words))


def agree(unit: Unit | None, other: Unit | None) -> bool:
    """Whether two units may be of one answer: one that is not given agrees with all."""
    if unit is None or other is None:
        return True
    if unit.known or other.known:
        return unit.known == other.known
    return bool(unit.words & other.words)
