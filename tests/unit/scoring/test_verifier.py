import asyncio
import subprocess
import sys
import time
from contextlib import closing

import pytest

from dsdr_verl.scoring.equality import compare
from dsdr_verl.scoring.options import VerifierOptions
from dsdr_verl.scoring.verifier import Verdict, Verifier

LIMIT = 3.0  # nothing but what hangs takes a tenth of it on a free machine
HOUR = "10^{10^{10}}"  # an answer that takes one

CORRECT, INCORRECT, NO_ANSWER, UNPARSABLE = Verdict.correct, Verdict.incorrect, Verdict.no_answer, Verdict.unparsable

TABLE = [
    # integers, decimals, fractions
    ("15", "15", CORRECT),
    ("7 + 8 = 15", "15", CORRECT),
    ("7 + 8 = 16", "15", INCORRECT),
    (r"\boxed{-3}", "-3", CORRECT),
    (r"\boxed{3}", "-3", INCORRECT),
    (r"\boxed{1,000}", "1000", CORRECT),
    (r"\boxed{12.0}", "12", CORRECT),
    (r"\boxed{0.5}", r"\frac{1}{2}", CORRECT),
    (r"\boxed{\frac{2}{4}}", "1/2", CORRECT),
    (r"\boxed{\dfrac12}", "0.5", CORRECT),
    (r"\boxed{0.33}", "1/3", INCORRECT),
    (r"\boxed{1\frac{1}{2}}", "3/2", CORRECT),
    (r"\boxed{3.14}", r"\pi", INCORRECT),
    (r"\boxed{2^{10}}", "1024", CORRECT),
    (r"\boxed{2**10}", "1024", CORRECT),
    (r"\boxed{3 \times 10^2}", "300", CORRECT),
    (r"\boxed{5!}", "120", CORRECT),
    # where the answer stands
    (r"$\boxed{\frac{\sqrt{3}}{2}}$", r"\frac{\sqrt{3}}{2}", CORRECT),
    (r"\boxed{1} or rather \boxed{2}", "2", CORRECT),
    (r"\boxed{1} or rather \boxed{2}", "1", INCORRECT),
    ("so\n#### 72", "72", CORRECT),
    ("The answer is 42 apples.", "42", CORRECT),
    ("The final answer is **42**", "42", CORRECT),
    ("Answer: $x = 5$", "5", CORRECT),
    (r"\boxed{18}", "Each costs 9.\n#### 18", CORRECT),
    (r"\boxed{18}", r"So we get $\boxed{18}$.", CORRECT),
    ("I cannot tell", "4", NO_ANSWER),
    ("", "4", NO_ANSWER),
    # units, percent, money
    (r"\boxed{12\text{ cm}}", "12", CORRECT),
    (r"\boxed{12 cm}", r"12\text{ cm}", CORRECT),
    (r"\boxed{90^\circ}", "90", CORRECT),
    (r"\boxed{50\%}", "50", CORRECT),
    (r"\boxed{50\%}", r"\frac{1}{2}", CORRECT),
    (r"\boxed{5\%}", "50", INCORRECT),
    (r"\boxed{\$18}", "18", CORRECT),
    (r"\boxed{18 dollars}", "$18", CORRECT),
    # sets, tuples, intervals, matrices
    (r"\boxed{\{2, 1\}}", r"\{1, 2\}", CORRECT),
    (r"\boxed{\{2, 3\}}", r"\{1, 2\}", INCORRECT),
    (r"\boxed{5, -5}", "-5, 5", CORRECT),
    (r"\boxed{\pm 5}", "5, -5", CORRECT),
    (r"\boxed{5}", "5, -5", INCORRECT),
    (r"\boxed{( 1 , 2 )}", "(1,2)", CORRECT),
    (r"\boxed{(2, 1)}", "(1,2)", INCORRECT),
    (r"\boxed{[1,2)}", "[1, 2)", CORRECT),
    (r"\boxed{[1,2]}", "[1, 2)", INCORRECT),
    (r"\boxed{x > 3}", r"(3, \infty)", CORRECT),
    (r"\boxed{(-\infty, 2) \cup (3, \infty)}", r"(-\infty,2)\cup(3,\infty)", CORRECT),
    (r"\boxed{\begin{pmatrix} 1 \\ 2 \end{pmatrix}}", r"\begin{pmatrix}1\\2\end{pmatrix}", CORRECT),
    (r"\boxed{\begin{pmatrix} 1 \\ 3 \end{pmatrix}}", r"\begin{pmatrix}1\\2\end{pmatrix}", INCORRECT),
    # expressions and equations
    (r"\boxed{x^2 + 2x + 1}", "(x+1)^2", CORRECT),
    (r"\boxed{x^2 + 2x + 2}", "(x+1)^2", INCORRECT),
    (r"\boxed{2\sqrt{3}}", r"\sqrt{12}", CORRECT),
    (r"\boxed{3 + 2x}", "2x+3", CORRECT),
    (r"\boxed{y = 2x + 1}", "2x + 1", CORRECT),
    (r"\boxed{y = 2x + 1}", "y - 2x = 1", CORRECT),
    (r"\boxed{\binom{5}{2}}", "10", CORRECT),
    (r"\boxed{\sin^2 x + \cos^2 x}", "1", CORRECT),
    (r"\boxed{y}", "x", INCORRECT),
    (r"\boxed{\frac{1}{0}}", "5", INCORRECT),
    # words and choices
    (r"\boxed{\text{no solution}}", "No solution", CORRECT),
    (r"\boxed{(B)}", "B", CORRECT),
    (r"\boxed{A}", "B", INCORRECT),
    (r"\boxed{act}", "cat", INCORRECT),
    (r"\boxed{\text{Yes}}", "yes", CORRECT),
    # no mathematics
    (r"\boxed{\frac{\frac{}}}", "5", UNPARSABLE),
    (r"\boxed{" + "1+" * 5000 + "1}", "5001", UNPARSABLE),
    (rf"\boxed{{{'(' * 20}1+x{')' * 20}}}", "x+1", CORRECT),
    (rf"\boxed{{{'(' * 40}1+x{')' * 40}}}", "x+1", UNPARSABLE),
    (rf"\boxed{{x{',x' * 100}}}", "x+1", INCORRECT),
    (rf"\boxed{{x{',x' * 200}}}", "x+1", UNPARSABLE),
    (r"\boxed{5}", " ", Verdict.error),
]

HOSTILE = {
    "tower": HOUR,
    "factorial": "100000000!",
    "stuck in C": "9" * 4000 + "^{99999}",
    "sum": r"\sum_{i=1}^{1000000000} i^i",
    "deep": "(" * 400 + "1" + ")" * 400,
    "many elements": r"\{" + ",".join(map(str, range(900))) + r"\}",
    "expansion": "(x+y+z)^{300}",
    "memory at once": r"\operatorname{eye}(100000)",
    "memory by and by": r"\operatorname{eye}(9000) + \operatorname{eye}(9000)^2",
    "nothing": r"\frac{",
    "nulls": "\0" * 100,
    "megabyte": "(" * 10**6,
}


@pytest.fixture(scope="module")
def verifier():
    with closing(Verifier(VerifierOptions(timeout=LIMIT))) as verifier:
        asyncio.run(verifier.start())
        yield verifier


def test_table(verifier):
    before = dict(verifier.counts)
    verdicts = verifier.verify_batch([(response, truth) for response, truth, _ in TABLE])
    wrong = [(*row[:2], verdict.value) for row, verdict in zip(TABLE, verdicts, strict=True) if verdict is not row[2]]
    assert not wrong
    counted = sum(verifier.counts[v.value] - before.get(v.value, 0) for v in Verdict)
    assert counted == len(TABLE)


@pytest.mark.parametrize("sign", ["$", "\\$", "€"])
def test_many_currency_signs_are_no_currency(sign):
    """Found by fuzzing: each sign was one more call deep."""
    assert compare(f"{sign}5", "5") is True
    assert compare(sign * 3000, "5") is not True


def test_require_boxed():
    with closing(Verifier(VerifierOptions(require_boxed=True))) as verifier:
        assert verifier.verify_batch([("The answer is 5", "5"), (r"\boxed{5}", "5")]) == [NO_ANSWER, CORRECT]
        assert not verifier.sandbox.processes()  # neither took one


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_answers_cost_their_limit_and_nothing_else(verifier, name):
    assert verifier.verify_batch([(r"\boxed{1+x}", "x+1")]) == [CORRECT]
    start = time.monotonic()
    (verdict,) = verifier.verify_batch([(rf"\boxed{{{HOSTILE[name]}}}", "x+5")])
    assert time.monotonic() - start < LIMIT + 1.5
    assert verdict is not CORRECT
    assert verifier.verify_batch([(r"\boxed{1+x}", "x+1")]) == [CORRECT]


@pytest.mark.parametrize(
    "code",
    ["__import__('os').system('touch {}')", "open('{}', 'w')", "eval(\"open('{}','w')\")", "[].__class__.__base__"],
)
@pytest.mark.parametrize(
    "wrap",
    [r"\boxed{%s}", "%s", r"\boxed{1+%s}", r"\boxed{\text{%s}}", r"\boxed{\operatorname{%s}(1)}", "answer is %s"],
)
def test_injections_create_nothing(verifier, tmp_path, code, wrap):
    response = wrap % code.format(tmp_path / "X")
    assert verifier.verify_batch([(response, "97531")]) != [CORRECT]  # no number that the path may end in
    assert not list(tmp_path.iterdir())


def test_guards_behind_the_grammar():
    """Should math-verify ever hand text to sympy's evaluating parser, or that text run: in a process of its own."""
    code = """
import os, subprocess, socket, sympy
from dsdr_verl.scoring import worker
ours, theirs = socket.socketpair()
theirs.shutdown(socket.SHUT_WR)
worker.warm_up()
worker.serve(ours.detach(), 512)  # returns at once, as nobody asks
for attempt in (
    lambda: sympy.sympify("__import__('os').getcwd()"),
    lambda: sympy.sympify("exit()"),
    lambda: os.system("true"),
    lambda: subprocess.run(["true"]),
    lambda: open("/tmp/never", "w"),
    lambda: socket.socket().connect(("127.0.0.1", 9)),
    lambda: os.fork(),
    lambda: bytearray(2**30),
):
    try:
        attempt()
    except (PermissionError, ValueError, MemoryError, sympy.SympifyError) as error:
        print("refused")
assert worker.judge("1/2", "0.5") == "correct"
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert out.stdout.split() == ["refused"] * 8, out.stderr
