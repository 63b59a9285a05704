r"""The set S(o) of mathematical expressions in a response (Eqs. 7-8), in time linear in its length.

Formulas are what stands in `$…$`, `$$…$$`, `\(…\)`, `\[…\]` and the environments of mathematics, row by row; and, in
the prose between, plain-text equations as small models write them ("7 + 8 = 15", "x = 2y + 1"). See docs/formulas.md.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator
from hashlib import blake2b

from dsdr_verl.scoring.normalize import LIST, normalize, outside_brackets, split_outside
from dsdr_verl.scoring.plain_equations import ADJACENT, HAS_RELATION, plain_equations

_NOTIONS: dict[str, Callable[[str], str]] = {"surface": str.strip, "normalized": normalize}


def extract_formulas(text: str, notion: str = "normalized") -> list[str]:
    """The distinct formulas of `text` in order of first appearance.

    Args:
        text: a response of any length.
        notion: when two formulas are the same: "surface" (equal text) or "normalized" (equal after `normalize`).
    """
    spelling = _NOTIONS[notion]
    formulas = map(spelling, dict.fromkeys(_formulas(text)))
    return list(dict.fromkeys(formula for formula in formulas if formula))


def formula_ids(formulas: list[str]) -> list[int]:
    """A signed 64-bit id per formula, the same in every process and on every machine."""
    # A lone surrogate has no UTF-8, and the text may hold one.
    digests = (blake2b(f.encode("utf-8", "surrogatepass"), digest_size=8).digest() for f in formulas)
    return [int.from_bytes(digest, "little", signed=True) for digest in digests]


_ROW = outside_brackets(r"\\\\(?:\[[^\]\n]{0,16}\])?")
# What lays formulas out, and what is itself part of one.
_LAYOUTS = "equation|align|alignat|aligned|alignedat|flalign|gather|gathered|multline|eqnarray|split|math|displaymath"
_OBJECTS = "d?cases|array|[pbBvV]?matrix"
_DELIMITER = re.compile(
    r"\\\\(?=\[ ?-?[\d.]{1,8} ?[a-z]{2}\])|\\\\(?![\[\]()])|\\[${}]|\$\$?|[{}]|\\[\[\]()]"
    rf"|\\(?:begin|end)\{{(?:{_LAYOUTS}|{_OBJECTS})\*?\}}|\n[ \t]*\n"
)
_LAYOUT_MARK = re.compile(rf"\\(?:begin\{{(?:alignat|alignedat)\*?\}}\{{\d*\}}|(?:begin|end)\{{(?:{_LAYOUTS})\*?\}})")
_CLOSERS = {"$$": "$$", r"\(": r"\)", r"\[": r"\]"}
_BLANK_LINE = re.compile(r"\n[ \t]*\n")
_AMOUNT = re.compile(r"\s?\d[\d.,]{0,16}\s[A-Za-z]{2}")


def _formulas(text: str) -> Iterator[str]:
    before, position = "", 0
    for start, end, formula in _spans(text):
        yield from plain_equations(before + text[position:start] + ADJACENT)
        yield from _rows(formula)
        before, position = ADJACENT, end
    yield from plain_equations(before + text[position:])


def _spans(text: str) -> Iterator[tuple[int, int, str]]:
    """(start, end, content) of every delimited formula, left to right.

    An opener is prose if its like comes again before its closer, so that one stray costs no later formula; a `$` is
    also prose if its partner, in the same braces, is in another paragraph or sits where only currency puts it.
    """
    where: defaultdict[str | int, list[int]] = defaultdict(list)  # a token's places; of `$`, by depth of braces
    tokens, depth = [], 0
    for m in _DELIMITER.finditer(text):
        token = m[0]
        if token in "{}":
            depth = max(0, depth + (1 if token == "{" else -1))
            continue
        where["\n" if token[0] == "\n" else token].append(m.start())
        if token[0] == "$":
            where[depth].append(m.start())
        tokens.append((token, m.start(), depth))

    def first(token: str | int, start: int) -> int:
        places = where[token]
        i = bisect_left(places, start)
        return places[i] if i < len(places) else len(text)

    position = 0
    for token, start, depth in tokens:
        if token == "$$" and start + 1 == position:  # its first half has closed a formula
            token, start = "$", position
        if start < position:
            continue
        begin = start + len(token)
        if token == "$":
            closer, end = "$", first(depth, begin)
            valid = end < first("\n", begin) and _is_maths(text, begin, end)
        elif closer := _closer(token):
            end = first(closer, begin)
            stray = _BLANK_LINE.search(text[begin:end].strip()) if token == "$$" else first(token, begin) < end
            valid = end < len(text) and not stray
        else:
            continue
        if valid:
            position = end + len(closer)
            yield start, position, text[start:position] if token.startswith(r"\begin") else text[begin:end]


def _closer(token: str) -> str | None:
    return token.replace("begin", "end") if token.startswith(r"\begin") else _CLOSERS.get(token)


def _is_maths(text: str, start: int, end: int) -> bool:
    """False for what stands between two dollar signs of "$5 and $6" or "$5 more (or 10$)"."""
    if start == end or text[end + 1 : end + 2].isdigit() or _AMOUNT.match(text, start, end):
        return False
    return text[start].isspace() == text[end - 1].isspace()


_CONTINUED = re.compile(r"[\s&]*(?:([=<>+]|\\(?:le|ge|ne|lt|gt|approx|times|cdot))|-)")


def _rows(formula: str) -> Iterator[str]:
    """The formulas of a display: a row each, where a row that starts with a relation continues the one before, and a
    list of equations, "x=1, y=2", is its equations."""
    rows: list[list[str]] = []
    for row in split_outside(_LAYOUT_MARK.sub("", formula), _ROW):
        sign = _CONTINUED.match(row)
        if rows and sign and (sign[1] or not HAS_RELATION.search(row)):
            rows[-1].append(row)
        else:
            rows.append([row])
    for parts in rows:
        row = "".join(parts)
        items = [item for item in split_outside(row, LIST) if item.strip()]
        yield from items if len(items) > 1 and all(map(HAS_RELATION.search, items)) else [row]
