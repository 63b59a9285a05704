"""Equations that a response writes as plain text, as small models do: "7 + 8 = 15", "x = 2y + 1"."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dsdr_verl.scoring.normalize import NAMED

ADJACENT = "\0"  # stands in prose for the formula next to it
HAS_RELATION = re.compile(r"[=<>≤≥≠≈＝]|\\(?:le|ge|ne|lt|gt|approx)|equals")
_CLEANED = (
    (re.compile(r"^[ \t]{0,16}(?:[-+*•]|\(?(?:\d{1,3}|[A-Za-z])[.)])[ \t]", re.MULTILINE), ";"),  # a list's marks
    (re.compile(r"(?<![^\s(])\*{2,3}(?=[^\s*])|(?<=[^\s*])\*{2,3}(?![^\s.,;:!?)])"), ""),  # bold
    (re.compile(r"(?<=\d) ?[xX] ?(?=\d)"), " * "),
    (re.compile(r"(?<=\d) ?percent\b"), "%"),
    (re.compile(r" out of (?=\d)"), "/"),
)
_TOKEN = re.compile(
    r"(?P<space>(?:[ \t$€£]|\\\$)+)"
    r"|(?P<operand>(?:\d+(?:[.,]\d+)*|(?<!\w)\.\d+)(?: ?%|°)?|[⁰¹²³⁴⁵⁶⁷⁸⁹½]+|\0)"
    r"|(?P<prime>['’′]{1,3}(?![^\W\d_]))"
    r"|(?P<other><<|>>|[-=]{1,3}>|<[-=]{1,3}>|</?[A-Za-z][A-Za-z0-9]{0,15}/?>|\\\\|['’][^\W\d_]{1,3})"
    r"|(?P<relation>(?<![\d)])!=|[<>]=|[=＝]+|[<>≤≥≠≈])"
    r"|(?P<operator>\*\*|[-+*/^_×·⋅÷−–!]|(?<=\S):(?=\S)|(?<= ):(?= ))"
    r"|(?P<command>\\[A-Za-z]+|√)"
    r"|(?P<word>[^\W\d_⁰¹²³⁴⁵⁶⁷⁸⁹½]+)"
    r"|(?P<open>[({\[])"
    r"|(?P<close>[)}\]])"
    r"|(?P<comma>,)"
    r"|(?P<cut>.)",
    re.DOTALL,
)
_SHORT_WORD = re.compile(
    "a[mnst]|b[ey]|do|eg|[gs]o|he|i[defnst]|m[ey]|no|o[fhknr]|t[ho]|u[ps]|vs|we|[nr]d|al", re.IGNORECASE
)
_OPERATORS = {"plus": "+", "minus": "-", "times": "*", "multiplied": "*", "divided": "/", "of": "*", "mod": r"\bmod "}
_COMMANDS = {
    **dict.fromkeys(["times", "cdot", "div", "pm", "ast", "bmod"], "operator"),
    **dict.fromkeys(["le", "ge", "ne", "leq", "geq", "neq", "lt", "gt", "approx"], "relation"),
    **dict.fromkeys(["text", "mbox", "quad", "qquad", "implies", "Rightarrow", "to", "rightarrow", "iff"], "other"),
    **dict.fromkeys(["therefore", "because", "item", "begin", "end", "newline", "hline", "tag", "label"], "other"),
}
_PAIRS = {")": "(", "}": "{", "]": "["}
_Token = tuple[str, str]


def plain_equations(prose: str) -> Iterator[str]:
    """Equations and inequalities written without delimiters, such as "3*4=12", without spaces and units."""
    if HAS_RELATION.search(prose):
        for pattern, replacement in _CLEANED:
            prose = pattern.sub(replacement, prose)
        for run in _runs(prose):
            for chain in _chains(run):
                yield from _complete(chain)


def _runs(prose: str) -> Iterator[list[_Token]]:
    """Runs of mathematical tokens: cut by prose, punctuation, a line's end, and two operands side by side."""
    run: list[_Token] = []
    related = False
    for kind, token, gap in _tokens(prose):
        last = run[-1][0] if run else ""
        if kind == "relation" and last == "letter" and related:  # "x = 5 y = 10"
            yield run[:-1]
            run, related = run[-1:], False
        elif kind == "other" or (run and _parted(run[-1], kind, gap)):
            yield run
            run, related = [], False
        if kind != "other":
            related = kind != "comma" and (related or kind == "relation")
            run.append((kind, token))
    yield run


def _tokens(prose: str) -> Iterator[tuple[str, str, str]]:
    """(kind, token, what stands before it: nothing, a space or words). Words after an operand are taken for units."""
    last, gap = "other", ""
    for m in _TOKEN.finditer(prose):
        kind, token = m.lastgroup, m[0]
        ended = last in ("operand", "letter", "close")
        if kind == "space":
            gap = gap or " "
            continue
        if kind == "word":
            kind, token = _word(token, ended, glued=not gap)
            if kind == "unit" or (token == "by" and last == "operator"):
                gap = "word"
                continue
        elif kind == "command":
            kind, token = _COMMANDS.get(token[1:], "function"), token + " "
        elif kind == "prime":
            kind = "operand" if ended and not gap else "other"
        elif kind == "cut" or (token == ":" and not ended):
            kind = "other"
        elif token == "!=":
            token = "≠"
        if kind == "operand" and ended and gap and len(token) == 1 and token.isalpha() and token not in "aAI":
            kind = "letter"  # as in "2 x"
        yield kind, token, gap
        last, gap = kind, ""


def _word(word: str, ended: bool, glued: bool) -> _Token:
    if word in NAMED:
        return "function", f"\\{word} "
    if word == "equals":
        return "relation", "="
    if ended and word in _OPERATORS:
        return "operator", _OPERATORS[word]
    if len(word) == 1 or (len(word) == 2 and (glued if ended else not _SHORT_WORD.fullmatch(word))):  # x, xy, 2xy
        return "operand", word
    return ("unit" if ended else "other"), word


def _parted(last: _Token, kind: str, gap: str) -> bool:
    """Whether a token of this kind, after this gap, starts something new."""
    if not gap or last[0] not in ("operand", "letter", "close", "function"):
        return False
    if gap == "word":
        return kind in ("operand", "letter", "open", "function")
    return (kind == "operand" and last[0] != "function") or (kind == "letter" and last[1] in ")]")


def _chains(run: list[_Token]) -> Iterator[list[tuple[list[_Token], str]]]:
    """The run as [(side, relation after it), …]: cut at brackets without a partner and around a bracketed equation."""
    chain: list[tuple[list[_Token], str]] = []
    side: list[_Token] = []
    opened: list[int] = []  # places in `side` of brackets to be closed
    for kind, token in run:
        if kind == "relation" and not (opened and opened[-1] and _is_letter(side[opened[-1] - 1])):  # P(X=3)
            if opened:
                start = max(i for i in range(opened[-1], len(side)) if side[i][0] in ("open", "comma"))
                yield [*chain, (side[: opened[0]], "")]
                chain, side, opened = [], side[start + 1 :], []
            chain.append((side, token))
            side = []
            continue
        if kind == "open":
            opened.append(len(side))
        elif (kind == "comma" and not opened) or (
            kind == "close" and (not opened or side[opened.pop()][1] != _PAIRS[token])
        ):
            yield [*chain, (side, "")]
            chain, side, opened = [], [], []
            continue
        side.append((kind, token))
    while side and side[-1][0] in ("operator", "open", "comma") and side[-1][1] != "!":
        if side.pop()[0] == "open":
            opened.pop()
    yield [*chain, ([] if opened else side, "")]


def _is_letter(token: _Token) -> bool:
    return len(token[1]) == 1 and token[1].isalpha()


def _complete(chain: list[tuple[list[_Token], str]]) -> Iterator[str]:
    """The stretches of at least two whole sides."""
    stretch: list[tuple[list[_Token], str]] = []
    for side, relation in [*chain, ([], "")]:
        if side and _is_whole(side):
            stretch.append((side, relation))
            continue
        if len(stretch) > 1 and not _is_conversion(stretch):
            tokens = [token for side, relation in stretch for token in (*(text for _, text in side), relation)]
            yield "".join(tokens[:-1])
        stretch = []


def _is_whole(side: list[_Token]) -> bool:
    (first, sign), (last, end) = side[0], side[-1]
    if (first == "operator" and sign not in "-−–") or (last == "operator" and end != "!"):
        return False
    return ("operand", ADJACENT) not in side


_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def _is_conversion(stretch: list[tuple[list[_Token], str]]) -> bool:
    """Whether the words left out made it true: "1 hour = 60 minutes", "half of 50 = 25"."""
    if any(len(side) > 1 or relation.strip("=＝") for side, relation in stretch[:-1]) or len(stretch[-1][0]) > 1:
        return False
    numbers = [side[0][1].replace(",", "") for side, _ in stretch]
    return all(map(_NUMBER.fullmatch, numbers)) and len(set(map(float, numbers))) > 1
