"""Spellings of LaTeX that mean the same, brought to one. Every function is linear in its text."""

from __future__ import annotations

import re
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
}
_COMMAND = re.compile(r"\\([A-Za-z]+|.)|~", re.DOTALL)
_NULL_DELIMITER = re.compile(r"\\(?:left|right)\s?\.")
_CHARACTERS = str.maketrans(
    {"−": "-", "–": "-", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "×": r"\times ", "·": r"\cdot ", "÷": r"\div "}
    | {"π": r"\pi ", "∞": r"\infty ", "，": ",", "（": "(", "）": ")"}
)
_SHORT_FRACTION = re.compile(r"\\frac ?(\d) ?(\d)")
_IDLE_SPACE = re.compile(r" (?:(?<=[A-Za-z] )(?![A-Za-z])|(?<=\d )(?!\d)|(?<![A-Za-z\d] ))")
_BRACE = re.compile(r"\\(?:boxed|fbox) {0,8}\{|\\\\(?!boxed|fbox)|\\[{}]|[{}]")


def tidy(text: str) -> str:
    r"""`text` without sizing commands and idle space, with `\dfrac`, `\leq`, `−` and the like under one name each.

    A space is kept only where it parts two letters (`\pi r`, `x y`) or two digits (`1 1/2`).
    """
    text = _NULL_DELIMITER.sub("", text.translate(_CHARACTERS)).replace("{,}", ",")
    text = _COMMAND.sub(lambda m: _REPLACED.get(m[1], m[0]) if m[1] else " ", text)
    text = _SHORT_FRACTION.sub(r"\\frac{\1}{\2}", " ".join(text.split()))
    return _IDLE_SPACE.sub("", text)


def last_box(text: str) -> str | None:
    r"""The content of the last closed `\boxed{}` or `\fbox{}` that holds something; of nested ones the innermost."""
    stack: list[tuple[bool, int]] = []
    found = (-1, -1)
    for m in _BRACE.finditer(text):
        token = m[0]
        if token == "}":
            if stack:
                is_box, start = stack.pop()
                if is_box and start > found[0] and not text[start : m.start()].isspace() and start < m.start():
                    found = (start, m.start())
        elif token[-1] == "{" and token != r"\{":
            stack.append((len(token) > 1, m.end()))
    return text[found[0] : found[1]].strip() if found[1] > 0 else None
