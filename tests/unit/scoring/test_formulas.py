import subprocess
import sys
import time

import pytest

from dsdr_verl.scoring.formulas import extract_formulas, formula_ids, normalize


@pytest.mark.parametrize(
    ("text", "formulas"),
    [
        (r"We have $x^{2} = 4$ and \(y\). $$a+b$$ \[ c. \]", ["4=x^2", "y", "a+b", "c"]),
        (r"\begin{align*} x &= 1 \\ y &= 2 \nonumber \end{align*}", ["1=x", "2=y"]),
        (r"\begin{equation} z \end{equation} \begin{gather}p\\[2pt]q\end{gather}", ["z", "p", "q"]),
        (r"\[ \begin{aligned} a &= b \\ &= c \end{aligned} \]", ["a=b", "c"]),
        (r"\[ \begin{pmatrix} 1 \\ 2 \end{pmatrix} \]", [r"\begin{pmatrix}1\\2\end{pmatrix}"]),
        ("$x$ and $ x $ and $y$", ["x", "y"]),
        ("$a$$b$", ["a", "b"]),
        (r"\[ a \text{ if $b$} \]", ["a if$b$"]),
        # currency and strays
        ("It costs $5 and $6, so 5 + 6 = 11", ["11=5+6"]),
        ("$5 + 6 = $11", ["11=5+6"]),
        (r"costs \$5, and $x$", ["x"]),
        (r"a stray \[ and $x$", ["x"]),
        (r"a stray $ and \(x\)", ["x"]),
        ("$x\n\ny$", []),
        ("a $$ unclosed y = 3", ["3=y"]),
        # plain text
        ("7 + 8 = 15", ["15=7+8"]),
        ("3*4=12", ["12=3*4"]),
        ("12 x 3 = 36", ["12*3=36"]),
        ("So x = 2y + 1, and then y=3.", ["2y+1=x", "3=y"]),
        ("7 apples + 8 apples = 15 apples", ["15=7+8"]),
        ("1. x + 2 = 5", ["5=x+2"]),
        ("(so 3 + 4 = 7)", ["3+4=7"]),
        ("total = 5 + 3 = 8", ["5+3=8"]),
        ("x >= 3 and y < 2", [r"x\ge3", "y<2"]),
        ("5! = 120", ["120=5!"]),
        ("f(x) = 2x^2 + 3(x-1)", ["2x^2+3(x-1)=f(x)"]),
        (r"\frac{1}{2} = 0.5", [r"0.5=\frac{1}{2}"]),
        (r"7 + 8 = \boxed{15}", ["15=7+8"]),
        ("16 - 3 = <<16-3=13>>13", ["13=16-3"]),
        ("3 + 4 = 7\n7 + 4 = 11", ["3+4=7", "11=7+4"]),
        ("$1,200 - $300 = $900", ["1,200-300=900"]),
        ("hello = world", []),
        ("no maths, <b>bold</b> - well-known", []),
        ("", []),
    ],
)
def test_extract(text, formulas):
    assert extract_formulas(text) == formulas


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"\left( a \right)", "(a)"),
        (r"\dfrac12", r"\frac{1}{2}"),
        (r"2 \cdot 3", r"2 \times 3"),
        ("2*3", r"2\times 3"),
        (r"a\,b", "a b"),
        (r"\pi  r^2", r"\pi r^{2}"),
        ("x = y.", "y=x"),
        ("a = b = c", "c=a=b"),
        ("x <= 2", r"x \leq 2"),
        (r"\boxed{x = 3}", "3 = x"),
        (r"\boxed{15}", "15"),
    ],
)
def test_same_when_normalized(one, other):
    assert normalize(one) == normalize(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x", "X"),
        ("x<y", "y<x"),
        ("12", "1 2"),
        (r"\pi r", r"\pir"),
        ("a-b", "b-a"),
        (r"\sum_{i=1}^n i", r"\sum_{1=i}^n i"),
    ],
)
def test_different_when_normalized(one, other):
    assert normalize(one) != normalize(other)


def test_surface_keeps_the_spelling():
    text = r"$x = 1$ then $1 = x$ then $\dfrac12$"
    assert extract_formulas(text, "surface") == ["x = 1", "1 = x", r"\dfrac12"]
    assert extract_formulas(text) == ["1=x", r"\frac{1}{2}"]


def test_formulas_beyond_the_first_thousand_characters():
    assert extract_formulas("word " * 100_000 + "$x$") == ["x"]


def test_ids_are_stable_across_processes():
    formulas = extract_formulas("$x$ $y$ 1 + 1 = 2")
    code = f"from dsdr_verl.scoring.formulas import formula_ids; print(formula_ids({formulas!r}))"
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert there.strip() == str(formula_ids(formulas))
    assert len(set(formula_ids(formulas))) == 3
    assert all(-(2**63) <= i < 2**63 for i in formula_ids([str(n) for n in range(1000)]))


MEGABYTES = {
    name: (unit * (10**6 // len(unit)))
    for name, unit in {
        "dollars": "$",
        "display": "\\[",
        "inline": "\\(",
        "parentheses": "(",
        "sum": "1+",
        "equations": "1=",
        "align": "\\begin{align}",
        "spaced dollars": "$ x ",
        "equation lines": "1=1\n",
        "formulas": "\\(x\\)",
        "double dollars": "$$x",
        "backslashes": "\\",
        "paragraphs": "\n \n",
    }.items()
} | {
    "one sum": "1+" * 500_000 + "=1",
    "one formula": "$" + "x+1=" * 250_000 + "$",
    "one row each": "\\[" + "a\\\\" * 300_000 + "\\]",
    "open brackets": "=" + "(" * 10**6,
    "closed brackets": "=" + ")" * 10**6,
    "braces": "$" + "{" * 10**6 + "=$",
    "distinct": " ".join(f"${i}$" for i in range(120_000)),
}


@pytest.mark.parametrize("name", MEGABYTES)
def test_megabytes_take_linear_time(name):
    start = time.process_time()
    extract_formulas(MEGABYTES[name])
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    "grow",
    [
        lambda n: "1=" * n,
        lambda n: "1+" * n + "=1",
        lambda n: "=" + "(" * n,
        lambda n: "$ x " * n,
        lambda n: "$" + "x+1=" * n + "$",
        lambda n: "$" + r"\\boxed{" * n + "}" * n + "$",
    ],
)
def test_twice_the_text_takes_about_twice_the_time(grow):
    def seconds(text):
        start = time.process_time()
        extract_formulas(text)
        return time.process_time() - start

    half, whole = grow(30_000), grow(60_000)
    assert seconds(whole) < 4 * min(seconds(half) for _ in range(2)) + 0.1
