import time
from fractions import Fraction

import pytest

from dsdr_verl.scoring.answers import decide, extract_answer, normalize_answer, read_number


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{\frac{1}{2}} it is", r"\frac{1}{2}"),
        (r"\boxed{1}, no, \boxed{2}", "2"),
        (r"\boxed{x = \boxed{5}}", "5"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"$$\boxed {7}$$", "7"),
        (r"\\boxed{7}", "7"),
        (r"\fbox{7}", "7"),
        (r"Put it in \boxed{}. \boxed{7}. And \boxed{ }.", "7"),
        (r"\boxed{3} and then \boxed{4", "3"),
        (r"The answer is $\boxed{4", None),
        ("work\n#### 72\nmore", "72"),
        (r"#### 72, or \boxed{71}", "71"),
        ("The final answer is **42**.", "42"),
        ("the answer is: $\\frac{3}{4}$, as wanted", r"\frac{3}{4}"),
        ("Answer: 12\nBye", "12"),
        ("Answer:\n12", "12"),
        ("The answer is 42 apples because I say so", "42 apples"),
        ("The answer is no solution.", "no solution"),
        ("The answer is found by adding, and equal to 42.", "42"),
        ("The answer is 3.14. Done in 2 steps", "3.14"),
        ("First answer is 3. The answer is 4.", "4"),
        ("15", "15"),
        ("7 + 8 = 15", "15"),
        ("**7 + 8 = 15.**", "15"),
        ("x = 2y + 1", "2y + 1"),
        ("(1, 2)", "(1, 2)"),
        ("So the number is $\\frac{3}{4}$.", r"\frac{3}{4}"),
        ("Thus \\[ x = \\frac{1}{2} \\]", r"\frac{1}{2}"),
        ("\\[\nx = 5\n\\]", "5"),
        ("So there are 3 boxes with 12 apples.", "12"),
        ("In all 9 + 6 = <<9+6=15>>15 liters out of the 24.", "15"),
        ("It pays $400 + $60 = $460 a week", "460"),
        ("It is -3.5 now", "-3.5"),
        ("As $x$ and $y$, 7 + 8 = 15", "15"),
        ("7 + 8 = 15 for all $x$", "15"),
        ("I do not know", None),
        ("", None),
    ],
)
def test_extract(text, answer):
    assert extract_answer(text) == answer


def test_require_boxed():
    assert extract_answer("The answer is 5", require_boxed=True) is None
    assert extract_answer(r"\boxed{5}", require_boxed=True) == "5"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12),
        ("-7", -7),
        ("007", 7),
        ("1,234", 1234),
        (r"1\,000", 1000),
        ("1{,}000", 1000),
        ("$18", 18),
        (r"\$1,000", 1000),
        ("3.50", Fraction(7, 2)),
        ("-.5", Fraction(-1, 2)),
        ("1e3", 1000),
        ("2.5e-1", Fraction(1, 4)),
        ("−3/4", Fraction(-3, 4)),
        (r"\dfrac{-3}{4}", Fraction(-3, 4)),
        (r"-\frac12", Fraction(-1, 2)),
        ("1 1/2", Fraction(3, 2)),
        (r"-1\frac{1}{2}", Fraction(-3, 2)),
        ("50%", 50),
        (r"50\%", 50),
        ("1,23", None),
        ("1/0", None),
        ("1e999", None),
        ("x", None),
        ("", None),
        ("1" * 200, None),
        ("1/2/3", None),
    ],
)
def test_read_number(text, value):
    number = read_number(normalize_answer(text))
    assert (number.value if number else None) == value


@pytest.mark.parametrize(
    ("answer", "truth", "decided"),
    [
        (r"$\left( 1 ,\, 2 \right)$.", "(1,2)", True),
        (r"\dfrac{a}{b}", r"\frac{a}{b}", True),
        (r"\text{ Yes}", "yes", True),
        ("**No Solution**", "no solution", True),
        ("act", "cat", False),
        ("0.5", "1/2", True),
        ("2/4", "1/2", True),
        ("0.333333", "1/3", True),
        ("0.33", "1/3", False),
        ("0.0000001", "0.0000002", False),
        ("50%", "1/2", True),
        ("50%", "50", True),
        ("0.5", "50%", True),
        ("5%", "50%", False),
        ("15", "16", False),
        ("18 dollars", "$18", True),
        (r"18\text{ miles per hour}", "18", True),
        ("5 million", "5", None),
        ("5 or", "5", None),
        ("3 apples", "x", None),
        ("15", "x", None),
        ("x", "15", None),
        ("sin x", r"\sin x", None),
        (r"\infty", "infinity", None),
    ],
)
def test_decide(answer, truth, decided):
    assert decide(normalize_answer(answer), normalize_answer(truth)) is decided


@pytest.mark.parametrize(
    "text",
    [
        "\\boxed{" * 140_000,
        "\\boxed{" * 70_000 + "}" * 70_000,
        "\\boxed{ }" * 110_000,
        "{" * 10**6,
        "\\" * 10**6,
        "answer is " * 100_000,
        "answer" + " " * 10**6,
        "1" * 10**6,
        "1,111" * 200_000,
        "$ " * 500_000,
        "\\(" * 500_000,
        "\n" * 10**6,
    ],
    ids=lambda text: repr(text[:12]),
)
def test_megabytes_take_linear_time(text):
    start = time.process_time()
    extract_answer(text)
    normalize_answer(text[:4096])
    assert time.process_time() - start < 2
