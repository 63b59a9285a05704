"""Modes against brute force over all trees, told apart by their values at other numbers, and under the laws."""

from fractions import Fraction
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsdr_verl.scoring.arithmetic import read, value
from dsdr_verl.scoring.modes import mode_counts, mode_of, modes

GENERIC = (1_000_003, 30_011, 907, 2_000_029)  # no two expressions coincide here by accident


def trees(places):
    """Every binary tree over all `places`, in every order."""
    if len(places) == 1:
        yield places[0]
    for mask in range(1, 2 ** len(places) - 1):
        left = [place for i, place in enumerate(places) if mask >> i & 1]
        right = [place for i, place in enumerate(places) if not mask >> i & 1]
        for x in trees(left):
            for y in trees(right):
                for symbol in "+-*/":
                    yield symbol, x, y


def worked_out(tree, numbers):
    """The value, None if there is none."""
    if isinstance(tree, int):
        return Fraction(numbers[tree])
    x, y = worked_out(tree[1], numbers), worked_out(tree[2], numbers)
    if x is None or y is None or (tree[0] == "/" and y == 0):
        return None
    return {"+": x + y, "-": x - y, "*": x * y, "/": x / y if y else None}[tree[0]]


def written(tree, numbers):
    if isinstance(tree, int):
        return str(numbers[tree])
    return f"({written(tree[1], numbers)}{tree[0]}{written(tree[2], numbers)})"


def function(tree, numbers):
    """What the expression is as a function of its numbers, equal ones exchangeable."""
    orders = [p for p in permutations(range(len(numbers))) if [numbers[i] for i in p] == list(numbers)]
    return tuple(sorted(worked_out(tree, [GENERIC[i] for i in order]) for order in orders))


@pytest.mark.parametrize("numbers", [(2, 3), (3, 3), (2, 3, 5), (1, 2, 3), (4, 4, 2), (3, 3, 3), (6, 1, 1)])
def test_all_targets_against_brute_force(numbers):
    by_target = {}
    for tree in trees(range(len(numbers))):
        target = worked_out(tree, numbers)
        if target is not None and target > 0 and target.denominator == 1:
            by_target.setdefault(int(target), {}).setdefault(function(tree, numbers), set()).add(
                mode_of(written(tree, numbers))
            )
    for target in range(1, max(by_target) + 2):
        classes = by_target.get(target, {})
        assert all(len(found) == 1 for found in classes.values())  # one function, one mode
        found = [mode for (mode,) in classes.values()]
        assert len(found) == len(set(found))  # and the other way round
        assert modes(numbers, target) == set(found)
        assert mode_counts(numbers)[target] == len(found)


@pytest.mark.parametrize(
    ("numbers", "target"),
    [((3, 4, 6, 2), 24), ((3, 3, 8, 8), 24), ((1, 5, 5, 5), 24), ((2, 2, 4, 4), 8), ((7, 7, 1, 1), 7)],
)
def test_four_numbers_against_brute_force(numbers, target):
    classes = {}
    for tree in trees(range(4)):
        if worked_out(tree, numbers) == target:
            classes.setdefault(function(tree, numbers), set()).add(mode_of(written(tree, numbers)))
    found = [mode for (mode,) in classes.values()]
    assert len(found) == len(set(found)) and modes(numbers, target) == set(found)


def test_as_many_as_oeis_counts():
    """Inequivalent expressions of n operands, OEIS A140606: 1, 6, 68, 1170."""
    for n, expected in enumerate((1, 6, 68, 1170), start=1):
        assert len({mode_of(written(tree, GENERIC)) for tree in trees(range(n))}) == expected


def test_modes_are_expressions_of_their_mode():
    for mode in modes((2, 3, 4, 5, 6), 30):
        assert mode_of(mode) == mode and value(read(mode)) == 30
        assert sorted(item for item in read(mode) if isinstance(item, int)) == [2, 3, 4, 5, 6]


SAME = [
    ("3+4*2", "2*4+3"),
    ("(1+2)+3", "1+(3+2)"),
    ("5-(3-7)", "5+7-3"),
    ("(3-7)*(2-8)", "(7-3)*(8-2)"),
    ("9-(2-5)*4", "9+(5-2)*4"),
    ("6/(2/3)", "6*3/2"),
    ("6/2/3", "6/(2*3)"),
    ("-(3-7)", "7-3"),
    ("-3+7", "7-3"),
    (r"\frac{3 \times 4}{2}", "4/2*3"),
    ("5+(3-3)*4", "5-(3-3)*4"),
    ("5+(3-3)*(2-4)", "5+(3-3)*(4-2)"),
    ("1+(5-3-2)*4", "1-(2+3-5)*4"),
]
DIFFERENT = [
    ("3+4*2", "(3+4)*2"),
    ("2*(3+4)", "2*3+2*4"),
    ("2*1", "2/1"),
    ("2+2", "2*2"),
    ("3-7", "7-3"),
    ("1+11", "11+11"),
    ("3-3+5", "5*3/3"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_same(one, other):
    assert mode_of(one) == mode_of(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_different(one, other):
    assert mode_of(one) != mode_of(other)


TREES = st.recursive(
    st.integers(1, 9),
    lambda inner: st.tuples(st.sampled_from("+-*/"), inner, inner) | st.tuples(st.just("~"), inner),
    max_leaves=7,
)


def _text(tree):
    if isinstance(tree, int):
        return str(tree)
    return f"(-{_text(tree[1])})" if tree[0] == "~" else f"({_text(tree[1])}{tree[0]}{_text(tree[2])})"


def _rewritten(tree, pick):
    """An equal expression by one law at every node; `pick(n)` chooses below n."""
    if isinstance(tree, int):
        return tree
    symbol, *inner = tree
    inner = [_rewritten(part, pick) for part in inner]
    if symbol == "~":
        (x,) = inner
        if isinstance(x, tuple) and pick(2):
            if x[0] == "~":
                return x[1]
            if x[0] == "-":
                return "-", x[2], x[1]
            return (x[0], ("~", x[1]), ("~", x[2]) if x[0] == "+" else x[2])
        return "~", x
    x, y = inner
    if symbol in "-/":
        back = {"-": "+", "/": "*"}[symbol]
        if isinstance(y, tuple) and y[0] in (symbol, back) and pick(2):  # a-(b-c) = (a-b)+c, a-(b+c) = (a-b)-c
            return (back if y[0] == symbol else symbol), (symbol, x, y[1]), y[2]
        return ("+", ("~", y), x) if symbol == "-" and pick(2) else (symbol, x, y)
    if isinstance(x, tuple) and x[0] == symbol and pick(2):
        return symbol, x[1], (symbol, y, x[2])
    if symbol == "*" and isinstance(y, tuple) and y[0] == "/" and pick(2):
        return "/", ("*", x, y[1]), y[2]
    return symbol, y, x


@given(TREES, st.randoms(use_true_random=False))
def test_the_laws_keep_the_mode(tree, random):
    other = tree
    for _ in range(4):
        other = _rewritten(other, random.randrange)
    try:
        mode = mode_of(_text(tree))
    except ZeroDivisionError:
        return
    assert mode_of(_text(other)) == mode
    assert mode_of(mode) == mode
    assert value(read(mode)) == value(read(_text(tree))) == value(read(_text(other)))


def test_operators():
    assert modes((2, 3, 4), 9, "+") == {"2+3+4"}
    assert modes((2, 3, 4), 3, "+-") == {"2+4-3"}
    assert modes((8,), 8) == {"8"} and modes((8,), 9) == frozenset()


def test_zero_divisor():
    with pytest.raises(ZeroDivisionError):
        mode_of("5/(3-3)")
    assert modes((5, 3, 3), 5) >= {"3+5-3", "3*5/3"}


@pytest.mark.parametrize("arguments", [([], 1), ([1] * 6, 1), ([1, 0], 1), ([1, 2], 0), ([1, 2], 3, "^")])
def test_bad_arguments(arguments):
    with pytest.raises(ValueError, match=r"give 1 to 5 of them|give one >= 1|choose among"):
        modes(*arguments)
