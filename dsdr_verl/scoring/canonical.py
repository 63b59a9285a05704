r"""The canonical form of a formula, for the notion `symbolic`. See docs/formulas.md.

For a process that can be killed: what is known to be costly is refused, but no such list is complete. latex2sympy's
grammar builds objects out of text and evaluates none of it as code.
"""

from __future__ import annotations

import re
from math import comb, gcd

from latex2sympy2_extended.latex2sympy2 import ConversionConfig
from sympy import (
    Add,
    Basic,
    Expr,
    Float,
    Integer,
    Mul,
    Pow,
    Rational,
    Symbol,
    cancel,
    expand,
    factorial,
    fraction,
    together,
)
from sympy.matrices.matrixbase import MatrixBase

from dsdr_verl.scoring.grammar import latex2sympy

MAX_LENGTH = 500  # characters of a formula
MAX_DEPTH = 12  # of brackets: each costs the grammar a multiple
MAX_TERMS = 100  # of an expanded expression
MAX_BITS = 4096  # of a power
MAX_EXPONENT = 1000  # of what is no variable

_RELATIONS = {"=": "=", r"\ne": "≠", "<": "<", r"\le": "≤", ">": "<", r"\ge": "≤", r"\approx": "≈", r"\in": "∈"}
_MIRRORED = (">", r"\ge")
_PARTS = re.compile(
    r"(?P<relation>[=<>]|\\(?:ne|le|ge|approx|in)(?![A-Za-z]))|(?P<comma>[,;])"
    r"|(?P<open>\\begin\{\w+\}|\\?[{(\[])|(?P<close>\\end\{\w+\}|\\?[})\]])|\\."
)
_COMMAND = re.compile(r"\\(?:begin|end)\{[pbvBV]?matrix\}|\\[A-Za-z]+")
_WORD = re.compile(r"[A-Za-z]{4,}")  # the grammar takes it for a product of letters
_UNREADABLE = re.compile(
    r"['\"&$#~?]|\\(?:angle|triangle|equiv|pmod|to|dots|ldots|cdots|operatorname|Rightarrow|mp)(?![A-Za-z])"
    r"|\\binom.*\d{4}"  # which the grammar computes
)
_SPELLINGS = (
    (re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])"), lambda m: m[0].replace(",", "")),
    (re.compile(r"(\d+(?:\.\d+)?)\\?%"), r"\\frac{\1}{100}"),
    (re.compile(r"\^\(([^(){}]*)\)"), r"^{\1}"),
    # The grammar adds an integer to what follows, as in 2\frac{1}{2}, and takes x(y+1) for a function of y+1.
    (re.compile(r"(?<=[\d)}])(?<!_\d)(?<!_\d\})\("), r"*("),
    (re.compile(r"(?<![A-Za-z\\])([a-eik-oq-z])\("), r"\1*("),
)
_NUMBER = re.compile(r"(?<![\d.])(?:\d+(?:\.\d+)?|\.\d+)")
_LITERAL = "literal"  # starts the name of a symbol that stands for a number


def canonical(formula: str) -> str | None:
    """A text that two formulas have in common if they say the same, up to cheap algebra.

    Args:
        formula: as `normalize.normalize` leaves it.

    Returns:
        None if it cannot be read or might take long: then the formula stands for itself.
    """
    if len(formula) > MAX_LENGTH or _UNREADABLE.search(formula) or _WORD.search(_COMMAND.sub(" ", formula)):
        return None
    for pattern, replacement in _SPELLINGS:
        formula = pattern.sub(replacement, formula)
    try:
        return ", ".join(sorted({_statement(*item) for item in _items(formula)}))
    except MemoryError:
        raise
    except Exception:  # the grammar's and sympy's own, RecursionError, ValueError for what is too large
        return None


def _items(formula: str) -> list[tuple[list[str], list[str]]]:
    """(sides, relations between them) of each item of a list such as x=1,y=2."""
    items: list[tuple[list[str], list[str]]] = []
    sides, relations = [], []
    position = depth = 0
    for m in _PARTS.finditer(formula):
        if m.lastgroup in ("open", "close"):
            depth += 1 if m.lastgroup == "open" else -1
            if depth > MAX_DEPTH:
                raise ValueError("a deep formula")
        elif m.lastgroup and depth == 0:
            sides.append(formula[position : m.start()])
            position = m.end()
            if m.lastgroup == "relation":
                relations.append(m[0])
            else:
                items.append((sides, relations))
                sides, relations = [], []
    return [*items, ([*sides, formula[position:]], relations)]


def _statement(sides: list[str], relations: list[str]) -> str:
    """A relation; of several equalities their sides, whatever the order; of other chains their links."""
    if len(sides) == 1:
        return _value(sides[0])
    if len(sides) > 2 and set(relations) == {"="}:
        return "=".join(sorted(set(map(_value, sides)))) + "="  # not a side alone, should all be alike
    links = (_link(*link) for link in zip(sides, relations, sides[1:], strict=False))
    return " & ".join(sorted(set(links)))


def _link(left: str, sign: str, right: str) -> str:
    """A relation between two sides as one of 0 to their difference, if that has variables; else as it is written."""
    if sign in _MIRRORED:
        left, right = right, left
    relation = _RELATIONS[sign]
    symmetric = relation in "=≠≈"
    if relation not in "≈∈" and isinstance(a := _parse(left), Expr) and isinstance(b := _parse(right), Expr):
        difference = _reduced(_evaluated(Add(b, Mul(-1, a, evaluate=False), evaluate=False)))
        if difference.free_symbols:
            return f"0{relation}{_scaled(difference, symmetric)}"
        pair = [_as_written(left), _as_written(right)]  # true or false whatever the variables: all would be alike
    else:
        pair = [_value(left), _value(right)]
    return relation.join(sorted(pair) if symmetric else pair)


def _value(text: str) -> str:
    """An expression with variables, reduced; numbers, sums of numbers and the like as they are written."""
    node = _parse(text)
    return _element(node) if node.free_symbols else _as_written(text)


def _element(node: Basic | MatrixBase) -> str:
    if isinstance(node, Expr) and not isinstance(node, MatrixBase):
        return str(_reduced(_evaluated(node)))
    return _built(node, [_element(part) for part in _parts(node)])


def _as_written(text: str) -> str:
    """The text up to the order of terms and factors, so that 7+8 is 8+7 and not 15."""
    return _written(_parse(_NUMBER.sub(lambda m: f"\\variable{{{_LITERAL}{_literal(m)}}}", text)))


def _literal(number: re.Match[str]) -> str:
    value = Rational(number[0])
    return f"{value.p}over{value.q}"


def _written(node: Basic | MatrixBase) -> str:
    if isinstance(node, Symbol):
        return node.name.removeprefix(_LITERAL).removesuffix("over1").replace("over", "/")
    if isinstance(node, Mul) and (fraction_ := _lowest_terms(node)):
        return fraction_
    nested = isinstance(node, Add | Mul)
    parts = [part for arg in _parts(node) for part in (arg.args if nested and arg.func is node.func else [arg])]
    return _built(node, [_written(part) for part in parts])


def _lowest_terms(node: Mul) -> str | None:
    """3/4 for the quotient of the numbers 3 and 4; None for 6/8, which is a calculation."""
    if len(node.args) == 2 and isinstance(under := node.args[1], Pow) and under.exp == -1:
        over, under = _written(node.args[0]), _written(under.base)
        if over.isdecimal() and under.isdecimal() and gcd(int(over), int(under)) == 1:
            return f"{over}/{under}"
    return None


def _parts(node: Basic | MatrixBase) -> list[Basic]:
    return list(node.flat()) if isinstance(node, MatrixBase) else list(node.args)


def _built(node: Basic | MatrixBase, parts: list[str]) -> str:
    if not parts:
        return str(node)
    name = f"Matrix{node.shape}" if isinstance(node, MatrixBase) else type(node).__name__
    unordered = name in ("Add", "Mul", "FiniteSet", "Union", "Intersection")
    return f"{name}({', '.join(sorted(parts) if unordered else parts)})"


def _parse(text: str) -> Basic | MatrixBase:
    config = ConversionConfig(interpret_contains_as_eq=False, lowercase_symbols=False)
    return latex2sympy(text, is_real=None, conversion_config=config, normalization_config=None)


def _evaluated(node: Basic) -> Basic:
    """`node`, which the grammar left unevaluated, evaluated from the leaves up as long as that is cheap."""
    if isinstance(node, Float):
        return Rational(str(node))
    if not node.args:
        return node
    args = [_evaluated(arg) for arg in node.args]
    if isinstance(node, Pow):
        _refuse_large_power(*args)
    if isinstance(node, factorial) and not (args[0].free_symbols or 0 <= args[0] <= MAX_EXPONENT):
        raise ValueError("a large factorial")
    return node.func(*args)


def _refuse_large_power(base: Expr, exponent: Expr) -> None:
    if not exponent.is_number or isinstance(base, Symbol):
        return
    if not exponent.is_Rational or abs(exponent) > MAX_EXPONENT or exponent.q > MAX_EXPONENT:
        raise ValueError("a large or irrational exponent")
    if base.is_Rational and max(abs(base.p), base.q).bit_length() * abs(exponent) > MAX_BITS:
        raise ValueError("a large power")


def _reduced(expression: Expr) -> Expr:
    """`expression` multiplied out, as one fraction in lowest terms if it has a denominator with variables."""
    over, under = fraction(together(expression))
    if _terms(expression) > MAX_TERMS or _terms(over) + _terms(under) > MAX_TERMS:
        raise ValueError("a large expression")
    return cancel(expression) if under.free_symbols else expand(expression)


def _terms(expression: Basic) -> int:
    """At most so many terms has the expression when multiplied out."""
    parts = [min(_terms(part), 10**6) for part in expression.args]
    if isinstance(expression, Add):
        return sum(parts)
    if isinstance(expression, Pow) and isinstance(expression.exp, Integer):
        power = min(abs(int(expression.exp)), 10**4)
        return comb(parts[0] + power - 1, power) if parts[0] > 1 else 1
    product = 1
    for part in parts:
        product = min(product * part, 10**6)
    return product


def _scaled(difference: Expr, signed: bool) -> str:
    """The numerator without its content, over the denominator; if `signed`, it and its negative are the same."""
    over, under = fraction(difference)
    over = expand(over).primitive()[1]
    spellings = [str(over), str(expand(-over))] if signed else [str(over)]
    return min(spellings) if under.is_number else f"({min(spellings)})/({under})"
