import subprocess
import sys
import time

import pytest

from dsdr_verl.scoring.formulas import extract_formulas, formula_ids
from dsdr_verl.scoring.normalize import normalize

MATRIX = r"A=\begin{pmatrix}1\\2\end{pmatrix}"
HALF = r"3=\frac{1}{2}x"
ROOT = r"4=\sqrt{16}"


@pytest.mark.parametrize(
    ("text", "formulas"),
    [
        (r"We have $x^{2} = 4$ and \(y\). $$a+b$$ \[ c. \]", ["4=x^2", "y", "a+b", "c"]),
        (r"\begin{align*} x &= 1 \\ y &= 2 \nonumber \end{align*}", ["1=x", "2=y"]),
        (r"\begin{equation} z \end{equation} \begin{gather}p\\[2pt]q\end{gather}", ["z", "p", "q"]),
        (r"\[ \begin{aligned} a &= b \\ &= c \end{aligned} \]", ["a=b=c"]),
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
        # environments
        (r"\begin{eqnarray} a &=& b \\ &=& c \end{eqnarray}", ["a=b=c"]),
        (r"\begin{multline*} a + b \\ + c = 5 \end{multline*}", ["5=a+b+c"]),
        (r"\begin{alignat}{2} x &= 1 \\ -2y &= 2 \end{alignat}", ["1=x", "-2y=2"]),
        (r"\begin{math}x\end{math}, \begin{displaymath}y\end{displaymath}", ["x", "y"]),
        (r"$$\begin{align*}x&=1\end{align*}$$ prose, y = 2. $$z$$", ["1=x", "2=y", "z"]),
        (r"\begin{align} A &= \begin{pmatrix}1\\2\end{pmatrix} \\ b &= 2 \end{align}", [MATRIX, "2=b"]),
        (r"\[ y = \begin{cases} 1 & x>0 \\ 2 & x<0 \end{cases} \]", [r"y=\begin{cases}1&x>0\\2&x<0\end{cases}"]),
        (r"so \begin{cases}x=1\\y=2\end{cases}", [r"\begin{cases}x=1\\y=2\end{cases}"]),
        (r"\[x = 3, \quad y = 4\] and $x=5; y=6$", ["3=x", "4=y", "5=x", "6=y"]),
        ("$(x,y)=(1,2)$ $a,b>0$ $x=1,200$", ["(1,2)=(x,y)", "a,b>0", "1,200=x"]),
        ("$$\n\nx = 1\n\n$$", ["1=x"]),
        ("$$ x = 1\n\nstray\n\n$$ y = 2 $$", ["1=x", "2=y"]),
        (r"\\(x\\) and \\[y\\]", ["x", "y"]),
        (r"\[a \\[2pt] b\]", ["a", "b"]),
        (r"\[ a \text{ if \(b\)} \] $x \text{ if $y$} + z$", [r"a if\(b\)", "x if$y$+z"]),
        (r"\[ stray \( y \) \[ x \]", ["y", "x"]),
        ("costs $5 more (about 10$) than $x$", ["x"]),
        # words and signs
        ("20% of 50 = 10", ["10=20%*50"]),
        ("1/2 of 50 = 25, 5 times 3 = 15, 5 divided by 2 = 2.5", ["1/2*50=25", "15=5*3", "2.5=5/2"]),
        ("half of 50 = 25; 1 hour = 60 minutes; the sum of 3 and 4 = 7", []),
        ("7 plus 8 equals 15", ["15=7+8"]),
        ("5 m + 3 m = 8 m, 2 x = 6", ["5m+3m=8m", "2x=6"]),
        ("x (x+1) = 6, 2 (3 + 4) = 14", ["6=x(x+1)", "14=2(3+4)"]),
        ("when x = 2 y = 5", ["2=x", "5=y"]),
        ("AB = 5 and y = mx + b", ["5=AB", "mx+b=y"]),
        ("a:b = 2:3. Total : 5 + 3 = 8", ["a:b=2:3", "5+3=8"]),
        ("Step 2: 3x + 5 = 11", ["11=3x+5"]),
        ("1. x = 3\n2) y = 4\n- z = 5\n* w = 6\n(a) v = 7", ["3=x", "4=y", "5=z", "6=w", "7=v"]),
        ("**x = 3**, **2y** = 6, **Step 1:** z = 3, `w = 2`", ["3=x", "2y=6", "3=z", "2=w"]),
        ("2**3 = 8 and 2 ** 3 = 8", ["2^3=8"]),
        ("x = 3 -> y = 4 => z = 5", ["3=x", "4=y", "5=z"]),
        ("<b>x = 3</b> <answer>3 + 4 = 7</answer>", ["3=x", "3+4=7"]),
        ("x<-3, x += 1, x == 3, x != 3, 5!=120", ["x<-3", "3=x", r"x\ne3", "120=5!"]),
        ("P(A and B) = 0.5, x = f(a and b)", []),
        ("x = 3 (since y = 4), z = 5 (w = 6)", ["3=x", "4=y", "5=z", "6=w"]),
        ("(x, y) = (3, 4) and S = {1, 2, 3}", ["(3,4)=(x,y)", "S={1,2,3}"]),
        ("f'(x) = 2x; John's x = 3", ["2x=f'(x)", "3=x"]),
        ("2 sin x = 1, y = 2 sqrt(3)", [r"1=2\sin x", r"2\sqrt{3}=y"]),
        (r"2 \pi r = 6, \frac{1}{2} x = 3, y = 5 \text{ cm} \implies z = 4", [r"2\pi r=6", HALF, "5=y", "4=z"]),
        ("$x$ + y = 7 but $z$ = 5 = 2 + 3", ["x", "z", "2+3=5"]),
        ("x² + 1 = 5, √16 = 4, 5 – 3 = 2, 90° + x = 180°", ["5=x^2+1", ROOT, "2=5-3", r"180^\circ=90^\circ+x"]),
        (r"𝑥＝3, €5 + €6 = €11, \$1 + \$2 = \$3", ["3=x", "11=5+6", "1+2=3"]),
        (".5 + .5 = 1", [".5+.5=1"]),
        ("P(X = 3) = 10/32, but f(2) (so a = 1)", ["10/32=P(X=3)", "1=a"]),
        ("if i % 2 == 0: x = 1", ["1=x"]),
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
        ("3×4", r"3\cdot 4"),
        (r"\sum_{i=1}^n i = 5", r"5 = \sum_{i=1}^{n} i"),
        (r"\frac ab", r"\frac{a}{b}"),
        (r"\frac{1}2", r"\frac12"),
        (r"\sqrt2", r"\sqrt{2}"),
        ("90°", r"90^{\circ}"),
        ("sin θ", r"\sin \theta"),
        (r"x\hspace{1cm}=3\tag{1}", "x=3"),
        (r"x \lt 3", "x<3"),
        ("sin(x) = sqrt(2)", r"\sqrt{2} = \sin(x)"),
        (r"f(x)=[0,1)", "[0,1)=f(x)"),
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
        ("x=1,y=2", "x=2,y=1"),
        ("x^{2}3", "x^{23}"),
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


def test_lone_surrogates_have_ids():
    assert len(formula_ids(extract_formulas("$\ud800$ and x\ud800 = 3"))) == 1


UNITS = [
    *[
        "$",
        "$$",
        "\\[",
        "\\]",
        "\\(",
        "\\)",
        "(",
        ")",
        "{",
        "}",
        "[",
        "$x$",
        "$ x ",
        "$1$",
        "$1 a",
        "$x{",
        "$$x",
        "$$\n\n",
    ],
    *["\\(x\\)", "\\[x\n\n", "\\(\\[", "$\\(", "\\begin{align}", "\\end{align}", "\\begin{cases}\\end{cases}"],
    *[
        "$\\begin{aligned}x\\\\",
        "\\begin",
        "\\",
        "\\\\",
        "\\\\[",
        "\\\\[2pt]",
        "1",
        "1,",
        "1.",
        "=",
        "1=",
        "1+",
        "<",
        ">",
        "->",
    ],
    *[
        "*",
        "** ",
        "a**",
        "_",
        "!",
        "'",
        ":",
        "a=b ",
        "a=b\n",
        "x = 1 y = 2 ",
        "w",
        "words = ",
        "\n",
        "\n ",
        " ",
        "\t",
        "é=",
    ],
    *[
        "²",
        "√",
        "θ",
        "𝑥",
        "1 of 2 = ",
        "5 percent ",
        "\n- x = 1",
        "1. ",
        "(1=",
        "(a,1=",
        "f(x)=",
        "{=",
        "=(",
        "</a>",
        "<a",
    ],
]
INSIDE = [
    "\\frac",
    "\\sqrt(",
    "\\boxed{",
    "\\left(",
    "\\tag{",
    "x_{",
    "&=",
    "\\\\ &= b",
    "\\\\",
    "x=1,",
    "x=",
    "{,}",
    "(",
    "{",
    ")",
    "~",
]
SHAPES = {
    **{unit: (unit, "%s") for unit in UNITS},
    **{
        f"in plain text {unit}": (unit, "1=%s=1")
        for unit in ("1+", "(", ")", "√", "x ", "x x = ", "\\frac{", "*", "-", ".")
    },
    **{f"in a display {unit}": (unit, r"\[%s=1\]") for unit in INSIDE},
}


def shape(name, size):
    unit, around = SHAPES[name]
    return around % (unit * (size // len(unit)))


def seconds(text, notion="normalized"):
    start = time.process_time()
    extract_formulas(text, notion)
    return time.process_time() - start


@pytest.mark.parametrize("name", SHAPES, ids=ascii)
def test_twice_the_text_takes_about_twice_the_time(name):
    half, whole = shape(name, 30_000), shape(name, 60_000)
    assert any(seconds(whole) < 3 * seconds(half) + 0.01 for _ in range(4))


@pytest.mark.parametrize(("notion", "size"), [("surface", 500_000), ("normalized", 1_000_000)])
def test_megabytes_of_everything(notion, size):
    def everything(size):
        return "\n\n".join(shape(name, size // len(SHAPES)) for name in SHAPES)

    one, two = everything(size), everything(2 * size)
    assert any(seconds(two, notion) < min(3 * seconds(one, notion), 10) for _ in range(3))


@pytest.mark.parametrize(
    "name", ["$", "\\[", "\\(", "$$x", "\\begin{align}", "(", "{", "\\", "w", "1", "=", " ", "\n", "\n ", "*"]
)
def test_a_megabyte_of_one_thing(name):
    half, whole = shape(name, 5 * 10**5), shape(name, 10**6)
    assert any(seconds(whole) < min(3 * seconds(half) + 0.01, 20) for _ in range(4))
