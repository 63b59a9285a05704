"""Modes: the ways to reach a target that differ by more than order, brackets and signs, counted exactly.

Sums and products are read as Abelian groups. Two expressions are one mode if they turn into each other by commutativity
and associativity of + and ×, a − b = a + (−b), a / b = a · (1/b), −(a + b) = −a − b, 1/(ab) = (1/a)(1/b) and
(−a)b = −(ab). Nothing is distributed (2·(3+4) and 2·3+2·4 differ), nothing computed (2·1 and 2/1 differ).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import combinations
from typing import NamedTuple

from dsdr_verl.scoring.arithmetic import Postfix, combined, fold, read

OPERATORS = "+-*/"
MAX_NUMBERS = 5  # of `modes`: there are 27,142 expressions of five numbers


class Form(NamedTuple):
    """An expression up to its sign, in canonical order; one text a class."""

    text: str
    value: int | Fraction  # >= 0
    kind: str  # "number", "sum" or "product"
    parts: tuple[Signed, ...]  # of a sum, sign and term; of a product, exponent and factor; of a number none
    unsigned: bool  # its own negative by structure, as 3-3 is


Signed = tuple[int, Form]  # 1 or -1, of an unsigned form always 1


def mode_of(expression: str | Postfix) -> str:
    """The mode of an expression: its canonical text, which is itself an expression of that mode.

    Raises:
        ValueError: it is no arithmetic, or too long (`arithmetic.read`).
        ZeroDivisionError: it divides by zero.
    """
    postfix = read(expression) if isinstance(expression, str) else expression
    sign, form = fold(postfix, _number, _combine, _negated)
    return form.text if sign > 0 else f"-({form.text})"


def modes(numbers: Sequence[int], target: int, operators: str = OPERATORS) -> frozenset[str]:
    """The modes of all expressions that use each of `numbers` once and equal `target`, by exhaustive search.

    Values on the way may be fractions or negative. Signs in front of numbers and brackets add no modes: whatever is
    positive can be written without.

    Args:
        numbers: 1 to `MAX_NUMBERS` of them, each >= 1; equal ones are not told apart.
        target: >= 1.
        operators: those of `OPERATORS` that may be used.

    Raises:
        ValueError: arguments out of these ranges.
    """
    if target < 1:
        raise ValueError(f"target {target}: give one >= 1")
    return frozenset(form.text for form in _forms(_checked(numbers, operators), operators, target))


def mode_counts(numbers: Sequence[int], operators: str = OPERATORS) -> Counter[int]:
    """Every whole target >= 1 that the numbers reach, with how many modes; arguments and errors as of `modes`."""
    return Counter({target: len(found) for target, found in modes_by_target(numbers, operators).items()})


def modes_by_target(numbers: Sequence[int], operators: str = OPERATORS) -> dict[int, frozenset[str]]:
    """Every whole target >= 1 that the numbers reach, with its modes; arguments and errors as of `modes`."""
    found: defaultdict[int, set[str]] = defaultdict(set)
    for form in _forms(_checked(numbers, operators), operators):
        if form.value >= 1 and form.value.denominator == 1:
            found[int(form.value)].add(form.text)
    return {target: frozenset(texts) for target, texts in found.items()}


def _checked(numbers: Sequence[int], operators: str) -> tuple[int, ...]:
    if not 1 <= len(numbers) <= MAX_NUMBERS or min(numbers) < 1:
        raise ValueError(f"numbers {numbers}: give 1 to {MAX_NUMBERS} of them, each >= 1")
    if not set(operators) <= set(OPERATORS):
        raise ValueError(f"operators {operators!r}: choose among {OPERATORS!r}")
    return tuple(sorted(numbers))


def _forms(numbers: tuple[int, ...], operators: str, target: int | None = None) -> Iterator[Form]:
    """The forms, with repetitions, that use each of the sorted `numbers` once; all, or those that equal `target`."""
    if len(numbers) == 1 and target in (None, numbers[0]):
        yield _number(numbers[0])[1]
    for some, others in _splits(numbers):
        for x in _all_forms(some, operators):
            for y in _all_forms(others, operators):
                for symbol, left, right in _joined(x, y, operators):
                    if target is None or abs(combined(symbol, left.value, right.value)) == target:
                        yield _combine(symbol, (1, left), (1, right))[1]


@lru_cache(maxsize=512)  # problems share most of their parts; four numbers' forms take some 0.3 MB
def _all_forms(numbers: tuple[int, ...], operators: str) -> tuple[Form, ...]:
    return tuple({form.text: form for form in _forms(numbers, operators)}.values())


def _splits(numbers: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The ways to part the numbers in two, in either order but once."""
    for some in {part for size in range(1, len(numbers) // 2 + 1) for part in combinations(numbers, size)}:
        others = tuple((Counter(numbers) - Counter(some)).elements())
        if (len(some), some) <= (len(others), others):
            yield some, others


def _joined(x: Form, y: Form, operators: str) -> Iterator[tuple[str, Form, Form]]:
    """The operations on two forms that differ by more than order and sign."""
    for symbol in operators:
        if symbol != "/" or y.value:
            yield symbol, x, y
        if symbol == "/" and x.value:
            yield symbol, y, x


def _number(number: int) -> Signed:
    return 1, Form(str(number), number, "number", (), number == 0)


def _negated(signed: Signed) -> Signed:
    sign, form = signed
    return (1 if form.unsigned else -sign), form


def _combine(symbol: str, left: Signed, right: Signed) -> Signed:
    if symbol in "+-":
        return _sum([*_terms(left), *_terms(right if symbol == "+" else _negated(right))])
    exponent = 1 if symbol == "*" else -1
    factors = sorted([*_factors(1, left[1]), *_factors(exponent, right[1])], key=_order)
    return _product(left[0] * right[0], factors, combined(symbol, left[1].value, right[1].value))


def _sum(terms: list[Signed]) -> Signed:
    terms, opposite = sorted(terms, key=_order), sorted(map(_negated, terms), key=_order)
    value = sum(sign * form.value for sign, form in terms)
    unsigned, sign = terms == opposite, 1
    if value < 0 or (value == 0 and [*map(_order, opposite)] < [*map(_order, terms)]):
        terms, sign = opposite, -1
    text = "".join(f"{'+' if s > 0 else '-'}{form.text}" for s, form in terms).removeprefix("+")
    return sign, Form(text, abs(value), "sum", tuple(terms), unsigned)


def _product(sign: int, factors: list[Signed], value: int | Fraction) -> Signed:
    unsigned = any(form.unsigned for _, form in factors)
    text = "".join(
        f"{'*' if exponent > 0 else '/'}{f'({form.text})' if form.kind == 'sum' else form.text}"
        for exponent, form in factors
    ).removeprefix("*")
    return (1 if unsigned else sign), Form(text, value, "product", tuple(factors), unsigned)


def _terms(signed: Signed) -> Sequence[Signed]:
    sign, form = signed
    if form.kind != "sum":
        return [signed]
    return form.parts if sign > 0 else [_negated(term) for term in form.parts]


def _factors(exponent: int, form: Form) -> Sequence[tuple[int, Form]]:
    if form.kind != "product":
        return [(exponent, form)]
    return [(exponent * inner, factor) for inner, factor in form.parts]


def _order(part: Signed) -> tuple[bool, str]:
    """Pluses and numerators first, so that no text begins with a sign."""
    return part[0] < 0, part[1].text
