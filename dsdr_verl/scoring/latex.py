"""Spellings of LaTeX that mean the same, brought to one. Every function is linear in its text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import accumulate

MAX_OUTER_BOX = 512  # characters

_REPLACED = {
    **dict.fromkeys(["left", "right", "big", "Big", "bigg", "Bigg", "bigl", "bigr", "Bigl", "Bigr", "biggl"], ""),
    **dict.fromkeys(["biggr", "Biggl", "Biggr", "middle", "displaystyle", "textstyle", "limits", "nolimits"], ""),
    **dict.fromkeys(["dfrac", "tfrac", "cfrac"], r"\frac"),
    **dict.fromkeys(["quad", "qquad", "thinspace", "enspace"], " "),
    **dict.fromkeys([",", ";", ":", ">", " ", "\n"], " "),
    "!": "",
    "leq": r"\le",
    "geq": r"\ge",
    "neq": r"\ne",
    "lbrace": r"\{",
    "rbrace": r"\}",
    "langle": "(",
    "rangle": ")",
    "varnothing": r"\emptyset",
}
_COMMAND = re.compile(r"\\([A-Za-z]+|.)|~", re.DOTALL)
_NULL_DELIMITER = re.compile(r"\\(?:left|right)\s?\.")
_CHARACTERS = str.maketrans(
    {"−": "-", "–": "-", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "×": r"\times ", "·": r"\cdot ", "÷": r"\div "}
    | {"π": r"\pi ", "∞": r"\infty ", "，": ",", "（": "(", "）": ")", "⁄": "/", "±": r"\pm ", "°": r"^\circ "}
    | {"∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "∅": r"\emptyset ", "⟨": "(", "⟩": ")"}
    | {
        character: f"\\frac{{{over}}}{{{under}}}"
        for character, over, under in zip("½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞", "112131234151357", "233445555668888", strict=True)
    }
)
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿˣ", "0123456789-+nx")
_SUPERSCRIPT = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿˣ]+")
_ROOT = re.compile(r"√(?: ?(\d+|[A-Za-z])| ?\(([^()√]*)\))")
_ROW_SKIP = re.compile(r"(\\\\) ?\[ ?-?[\d.]{1,8} ?[a-z]{2}\]")
_SHORT_FRACTION = re.compile(r"\\frac ?(\d) ?(\d)")
_BRACKET = re.compile(r"[(){}\[\]]")
_IDLE_SPACE = re.compile(r" (?:(?<=[A-Za-z] )(?![A-Za-z])|(?<=\d )(?!\d)|(?<![A-Za-z\d] ))")


def tidy(text: str) -> str:
    r"""`text` without sizing commands and idle space, with `\dfrac`, `\leq`, `−` and the like under one name each.

    A space is kept only where it parts two letters (`\pi r`, `x y`) or two digits (`1 1/2`).
    """
    text = _SUPERSCRIPT.sub(lambda m: f"^{{{m[0].translate(_SUPERSCRIPTS)}}}", text)
    text = _ROOT.sub(lambda m: f"\\sqrt{{{m[1] or m[2]}}}", text)
    text = _ROW_SKIP.sub(r"\1", text)
    text = _NULL_DELIMITER.sub("", text.translate(_CHARACTERS)).replace("{,}", ",")
    text = _COMMAND.sub(lambda m: _REPLACED.get(m[1], m[0]) if m[1] else " ", text)
    text = _SHORT_FRACTION.sub(r"\\frac{\1}{\2}", " ".join(text.split()))
    return _IDLE_SPACE.sub("", text)


def nesting(text: str) -> int:
    """How deep brackets of any kind stand in each other, closed or not."""
    return max(accumulate(1 if bracket in "({[" else -1 for bracket in _BRACKET.findall(text)), default=0)


def last_box(text: str) -> str | None:
    r"""The content of the last closed `\boxed{}` or `\fbox{}` that holds something; of nested ones the innermost."""
    start, end = max(_boxes(text), default=(0, 0))
    return text[start:end].strip() or None


def boxes(text: str) -> list[str]:
    r"""The contents of all closed `\boxed{}` and `\fbox{}` that hold something, as they close.

    A box around others is left out if it is long, as it would cost its length once for each level.
    """
    found, inside = [], -1
    for start, end in _boxes(text):
        if inside < start or end - start <= MAX_OUTER_BOX:
            found.append(text[start:end].strip())
        inside = start
    return found


def has_open_box(text: str) -> bool:
    r"""Whether a `\boxed{` is never closed."""
    return text.count(r"\boxed{") > sum(1 for _ in _groups(text, _BOX))


def _boxes(text: str) -> Iterator[tuple[int, int]]:
    return ((start, end) for _, start, end in _groups(text, _BOX) if _INK.search(text, start, end))


def without_wrappers(text: str) -> str:
    r"""`text` with the contents of `\boxed{}`, `\text{}` and their like in the place of these."""
    kept, position = [], 0
    for start, end in sorted(cut for a, b, c in _groups(text, _WRAPPER) for cut in ((a, b), (c, c + 1))):
        kept.append(text[position:start])
        position = end
    return "".join([*kept, text[position:]])


_INK = re.compile(r"\S")


def _braces(commands: str) -> re.Pattern[str]:
    return re.compile(rf"\\(?:{commands}) {{0,8}}\{{|\\\\(?!{commands})|\\[{{}}]|[{{}}]")


_BOX = _braces("boxed|fbox")
_WRAPPER = _braces("boxed|fbox|text|textbf|textit|textrm|mathrm|mathbf|mbox")


def _groups(text: str, braces: re.Pattern[str]) -> Iterator[tuple[int, int, int]]:
    """(command's start, content's start, content's end) of every closed group of these commands, as they close."""
    stack: list[tuple[int, int]] = []
    for m in braces.finditer(text):
        token = m[0]
        if token == "}":
            if stack:
                start, content = stack.pop()
                if start < content - 1:
                    yield start, content, m.start()
        elif token[-1] == "{" and token != r"\{":
            stack.append((m.start(), m.end()))
