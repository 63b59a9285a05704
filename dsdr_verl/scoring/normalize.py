"""One spelling of a formula for what reads the same: the notion `normalized`. See docs/formulas.md."""

from __future__ import annotations

import re
import unicodedata

from dsdr_verl.scoring.latex import tidy, without_wrappers

_SYNONYMS = {
    **dict.fromkeys(["times", "cdot", "ast"], "*"),
    **dict.fromkeys(["leqslant", "leqq"], r"\le "),
    **dict.fromkeys(["geqslant", "geqq"], r"\ge "),
    **dict.fromkeys(["lvert", "rvert", "vert", "mid"], "|"),
    **dict.fromkeys(["implies", "Longrightarrow"], r"\Rightarrow "),
    **dict.fromkeys(["nonumber", "notag"], " "),
    "rightarrow": r"\to ",
    "iff": r"\Leftrightarrow ",
    "lt": "<",
    "gt": ">",
    "lbrack": "[",
    "rbrack": "]",
}
_SYNONYM = re.compile(rf"\\({'|'.join(_SYNONYMS)})(?![A-Za-z])")
_CHARACTERS = str.maketrans(
    {0xFEE0 + code: code for code in range(0x21, 0x7F)}  # full width
    | dict.fromkeys("×·⋅∙∗", "*")
    | {"≈": r"\approx ", "→": r"\to ", "⇒": r"\Rightarrow ", "\u200b": None, "′": "'", "’": "'"}
    | {
        letter: "\\" + (name.lower() if kind == "SMALL" else name.capitalize()).replace("amda", "ambda") + " "
        for letter in "αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΦΨΩ"
        for _, kind, _, name in [unicodedata.name(letter).split()]
    }
)
_STYLED = re.compile("[\U0001d400-\U0001d7ff]+")
NAMED = ("sqrt", "sin", "cos", "tan", "log", "ln", "exp", "pi", "gcd", "lcm")  # and often typed without backslash
_NAME = re.compile(rf"(?<![\\A-Za-z])(?:{'|'.join(NAMED)})(?![A-Za-z])")
_MARKS = re.compile(r"\\(?:tag|label|hspace|vspace|mspace)\*?\{[^{}]{0,64}\}")
_COMPARISON = re.compile(r"[<>=]=|(?<=\s)!=")
_COMPARISONS = {"<=": r"\le ", ">=": r"\ge ", "==": "=", "!=": r"\ne "}
_ARGUMENTS = (
    (re.compile(r"\\sqrt\(([^()]{0,256})\)"), r"\\sqrt{\1}"),
    (re.compile(r"\\sqrt ?(\d+|[A-Za-z])"), r"\\sqrt{\1}"),
    (re.compile(r"\\frac ?([0-9A-Za-z])(?=[{ 0-9A-Za-z\\])"), r"\\frac{\1}"),
    (re.compile(r"(\\frac\{[^{}]{0,256}\}) ?([0-9A-Za-z])"), r"\1{\2}"),
    (re.compile(r"([\^_])(\d{2,})"), r"\1{\2}"),  # x^10 is meant for x^{10}
    (re.compile(r"([\^_])\{(\w|\\circ) ?\}"), r"\1\2"),
    (re.compile(r"([\^_][A-Za-z]) "), r"\1"),
    (re.compile(r"(?<![\w}\]^_])\{([\w.]+)\}"), r"\1"),
)
_OTHER_RELATION = re.compile(
    r"[<>:]|\\(?:le|ge|ne|approx|sim|cong|equiv|in|to|Rightarrow|Leftarrow|Leftrightarrow|subset|mapsto)(?![A-Za-z])"
)


def normalize(formula: str) -> str:
    r"""`formula` with one spelling for what reads the same.

    On top of `latex.tidy`: one name for a symbol, however typed; no `\boxed`, `\text` or alignment marks, no idle
    braces, no trailing punctuation, and the sides of an equality in alphabetical order, so that 7+8=15 is 15=7+8.
    """
    formula = _STYLED.sub(lambda m: unicodedata.normalize("NFKC", m[0]), formula).translate(_CHARACTERS)
    formula = _COMPARISON.sub(lambda m: _COMPARISONS[m[0]], formula.replace("**", "^"))
    formula = _SYNONYM.sub(lambda m: _SYNONYMS[m[1]], _MARKS.sub(" ", without_wrappers(formula)))
    if "&" in formula:
        formula = " ".join(split_outside(formula, _ALIGNMENT) if r"\begin" in formula else formula.split("&"))
    formula = tidy(_NAME.sub(r"\\\g<0> ", formula))
    for pattern, replacement in _ARGUMENTS:
        formula = pattern.sub(replacement, formula)
    formula = formula.rstrip(" .,;:\\")
    if "=" in formula and not _OTHER_RELATION.search(formula) and len(split_outside(formula, LIST)) == 1:
        formula = "=".join(sorted(filter(None, split_outside(formula, _EQUALS))))
    return formula


def outside_brackets(separator: str) -> re.Pattern[str]:
    return re.compile(
        rf"(?P<cut>{separator})|(?P<open>\\begin\{{\w+\*?\}}|\\?[{{(\[])|(?P<close>\\end\{{\w+\*?\}}|\\?[}})\]])|\\."
    )


_EQUALS = outside_brackets("=")
_ALIGNMENT = outside_brackets("&")
LIST = outside_brackets(r";|,(?!\d{3}(?!\d))|\\q?quad(?![A-Za-z])")


def split_outside(formula: str, pattern: re.Pattern[str]) -> list[str]:
    """The parts of `formula` between separators that stand in no bracket, group or environment."""
    parts, position, depth = [], 0, 0
    for m in pattern.finditer(formula):
        if m.lastgroup == "open":
            depth += 1
        elif m.lastgroup == "close":
            depth = max(0, depth - 1)
        elif m.lastgroup == "cut" and depth == 0:
            parts.append(formula[position : m.start()])
            position = m.end()
    return [*parts, formula[position:]]
