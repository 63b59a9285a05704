r"""The set S(o) of mathematical expressions in a response (Eqs. 7-8), in time linear in its length.

Formulas are what stands in `$…$`, `$$…$$`, `\(…\)`, `\[…\]` and the environments equation, align and gather, row by
row; and, in the prose between, plain-text equations as small models write them ("7 + 8 = 15", "x = 2y + 1").
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from hashlib import blake2b

from dsdr_verl.scoring.latex import tidy, without_wrappers


def extract_formulas(text: str, notion: str = "normalized") -> list[str]:
    """The distinct formulas of `text` in order of first appearance.

    Args:
        text: a response of any length.
        notion: when two formulas are the same: "surface" (equal text) or "normalized" (equal after `normalize`).
    """
    canonical = _NOTIONS[notion]
    formulas = map(canonical, dict.fromkeys(_formulas(text)))
    return list(dict.fromkeys(formula for formula in formulas if formula))


def formula_ids(formulas: list[str]) -> list[int]:
    """A signed 64-bit id per formula, the same in every process and on every machine."""
    return [int.from_bytes(blake2b(f.encode(), digest_size=8).digest(), "little", signed=True) for f in formulas]


_MULTIPLICATION = re.compile(r"\\(?:times|cdot|ast)(?![A-Za-z])|\*\*?")
_LAYOUT = re.compile(r"&|\\(?:nonumber|notag)(?![A-Za-z])")
_SCRIPT = re.compile(r"([\^_])\{(\w)\}")
_IDLE_BRACES = re.compile(r"(?<![\w}\]^_])\{([\w.]+)\}")
_EQUALS = re.compile("(?<!:)=")
_COMPARISON = re.compile("[<>=]=")
_COMPARISONS = {"<=": r"\le ", ">=": r"\ge ", "==": "="}
_OTHER_RELATION = re.compile(r"[<>≈]|\\(?:le|ge|ne|approx|equiv|in|to|implies|Rightarrow|iff)(?![A-Za-z])|:=")


def normalize(formula: str) -> str:
    r"""`formula` with one spelling for what reads the same.

    On top of `latex.tidy`: one sign for multiplication, no `\boxed`, `\text` or alignment marks, no idle braces, no
    trailing punctuation, and the sides of an equality in alphabetical order, so that 7+8=15 is 15=7+8.
    """
    formula = _MULTIPLICATION.sub(lambda m: "^" if m[0] == "**" else "*", formula)
    formula = _COMPARISON.sub(lambda m: _COMPARISONS[m[0]], formula)
    formula = tidy(_LAYOUT.sub(" ", without_wrappers(formula))).rstrip(".,;:")
    formula = _IDLE_BRACES.sub(r"\1", _SCRIPT.sub(r"\1\2", formula))
    sides = _EQUALS.split(formula)
    if len(sides) > 1 and not _OTHER_RELATION.search(formula) and all(map(_balanced, sides)):
        formula = "=".join(sorted(filter(None, sides)))
    return formula


def _balanced(side: str) -> bool:
    r"""False for the halves of an equality inside an argument, as in \sum_{i=1}^{n}."""
    return all(side.count(a) == side.count(b) for a, b in ("{}", "()", "[]"))


_NOTIONS: dict[str, Callable[[str], str]] = {"surface": str.strip, "normalized": normalize}

_ENVIRONMENTS = "equation|align|gather"
_DELIMITER = re.compile(
    rf"\\\\(?![\[\](])|\\\$|\$\$?|\\[\[\]()]|\\(?:begin|end)\{{(?:{_ENVIRONMENTS})\*?\}}|\n[ \t]*\n"
)
_ROW = re.compile(r"\\\\(?:\[[^\]\n]{0,16}\])?")
_INNER_BEGIN = re.compile(r"\\begin\{(?!aligned|alignedat|split|gathered)")
_INNER_ENVIRONMENT = re.compile(r"\\(?:begin|end)\{(?:aligned|split|gathered)\}")


def _formulas(text: str) -> Iterator[str]:
    position = 0
    for start, end, formula in _spans(text):
        yield from _plain_equations(text[position:start])
        yield from _rows(formula)
        position = end
    yield from _plain_equations(text[position:])


def _rows(formula: str) -> Iterator[str]:
    if r"\\" not in formula or _INNER_BEGIN.search(formula):
        yield formula
    else:
        yield from _ROW.split(_INNER_ENVIRONMENT.sub("", formula))


def _closer(opener: str) -> str:
    return {"$": "$", "$$": "$$", r"\(": r"\)", r"\[": r"\]"}.get(opener) or opener.replace("begin", "end")


def _spans(text: str) -> Iterator[tuple[int, int, str]]:
    """(start, end, content) of every delimited formula, left to right.

    One pass. An opener without a closer to come is prose; an opener inside an open formula starts afresh, as the first
    was a stray; `$` is a dollar sign if its partner is not in the same paragraph, or sits where only currency puts it.
    """
    opener, start = "", 0
    last: dict[str, int] = {}
    for token in ("$$", r"\)", r"\]"):
        last[token] = text.rfind(token)
    for m in _DELIMITER.finditer(text):
        token = m[0]
        if opener and token == _closer(opener) and (token != "$" or _closes(text, start, m.start())):
            yield start - len(opener), m.end(), text[start : m.start()]
            opener = ""
        elif token[0] == "\n":
            opener = "" if opener == "$" else opener
        elif token in (r"\\", r"\$") or (opener not in ("", "$") and token in ("$", "$$")):
            continue
        elif opener == "$" and token == "$$" and _closes(text, start, m.start()):
            yield start - 1, m.start() + 1, text[start : m.start()]
            opener, start = "$", m.end()
        elif token == "$" or token in ("$$", r"\(", r"\[") or token.startswith(r"\begin"):
            closer = _closer(token)
            if closer not in last:
                last[closer] = text.rfind(closer) if closer != "$" else len(text)
            if last[closer] >= m.end():
                opener, start = token, m.end()


def _closes(text: str, start: int, end: int) -> bool:
    """Whether the `$` at `end` can close the one before `start`: "$5 and $6" is no formula, "$x$" and "$ x $" are."""
    spaced = text[start].isspace(), text[end - 1].isspace()
    return start < end and spaced[0] == spaced[1] and not text[end + 1 : end + 2].isdigit()


_TIMES = re.compile(r"(?<=\d) ?[xX] ?(?=\d)")
_HAS_RELATION = re.compile(r"[=<>≤≥≠≈]|\\(?:le|ge|ne|lt|gt|approx)")
_TOKEN = re.compile(
    r"(?P<space>[ \t$]+)"
    r"|(?P<operand>\d+(?:[.,]\d+)*%?|\\[A-Za-z]+)"
    r"|(?P<operator>\*\*|[-+*/^_×·÷−]|!(?!=))"
    r"|(?P<other><<|>>|=+>|[^\w \t$<>!=≤≥≠≈*+^×·÷−/({\[)}\]\\-]+)"
    r"|(?P<relation>[<>!]=|=+|[<>≤≥≠≈])"
    r"|(?P<word>[^\W\d_]+)"
    r"|(?P<open>[({\[])"
    r"|(?P<close>[)}\]])"
)
_FUNCTIONS = frozenset(["sqrt", "sin", "cos", "tan", "log", "ln", "exp", "pi", "mod"])
_COMMANDS = {
    **dict.fromkeys([r"\times", r"\cdot", r"\div", r"\pm", r"\ast"], "operator"),
    **dict.fromkeys([r"\le", r"\ge", r"\ne", r"\leq", r"\geq", r"\neq", r"\lt", r"\gt", r"\approx"], "relation"),
}
_PAIRS = {")": "(", "}": "{", "]": "["}


def _plain_equations(prose: str) -> Iterator[str]:
    """Equations and inequalities written without delimiters, such as "3*4=12", without spaces.

    A run of mathematical tokens is cut by prose, punctuation, a line's end, and two operands side by side; words
    between an operand and an operator are taken for units and skipped ("7 apples + 8 apples = 15 apples").
    """
    if not _HAS_RELATION.search(prose):
        return
    run: list[tuple[str, str]] = []
    spaced = worded = False  # what stands between the run's last token and the next
    for m in _TOKEN.finditer(_TIMES.sub(" * ", prose)):
        kind, token = m.lastgroup, m[0]
        if kind == "space":
            spaced = True
            continue
        if kind == "operand":
            kind = _COMMANDS.get(token, kind)
        elif kind == "word":
            glued = run and not spaced and run[-1][0] == "operand" and len(token) == 2  # 2xy
            if len(token) == 1 or glued or token in _FUNCTIONS:
                kind = "operand"
            elif run and run[-1][0] in ("operand", "close"):
                worded = True
                continue
            else:
                kind = "other"
        if kind in ("operand", "open") and run and run[-1][0] in ("operand", "close") and (worded or spaced):
            yield from _equation(run)
            run = []
        if kind == "other":
            yield from _equation(run)
            run = []
        else:
            run.append((kind, "≠" if token == "!=" else token))  # 5!=120 is left to mean the factorial
        spaced = worded = False
    yield from _equation(run)


def _equation(run: list[tuple[str, str]]) -> Iterator[str]:
    """The run's text if it relates two things, without what its surroundings cut off at either end."""
    relations = [i for i, (kind, _) in enumerate(run) if kind == "relation"]
    if not relations:
        return
    start, end = 0, len(run)
    if run[0][0] == "relation" or (run[0][0] == "operator" and run[0][1] not in "-−+"):
        start = relations[0] + 1
    while end > start and run[end - 1][0] in ("operator", "relation", "open") and run[end - 1][1] != "!":
        end -= 1
    kept = _without_strays(run[start:end])
    relations = [i for i, (kind, _) in enumerate(kept) if kind == "relation"]
    if relations and relations[0] > 0 and relations[-1] < len(kept) - 1:
        yield "".join(token for _, token in kept)


def _without_strays(run: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The run without brackets that have no partner in it."""
    open_at: list[int] = []
    stray: set[int] = set()
    for i, (kind, token) in enumerate(run):
        if kind == "open":
            open_at.append(i)
        elif kind == "close":
            if open_at and run[open_at[-1]][1] == _PAIRS[token]:
                open_at.pop()
            else:
                stray.add(i)
    stray.update(open_at)
    return [item for i, item in enumerate(run) if i not in stray] if stray else run
