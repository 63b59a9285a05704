"""Countdown's verdicts, through the verifier that training, validation and `dsdr_verl.score` share."""

import time
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsdr_verl.scoring.countdown import judge, mode_of_response, read_truth, write_truth
from dsdr_verl.scoring.modes import modes
from dsdr_verl.scoring.options import VerifierOptions
from dsdr_verl.scoring.verifier import Verdict, Verifier

TRUTH = "countdown:24:3,4,6,2"
CORRECT, INCORRECT, NO_ANSWER, UNPARSABLE = Verdict.correct, Verdict.incorrect, Verdict.no_answer, Verdict.unparsable

TABLE = [
    # spellings
    (r"\boxed{3*4+6*2}", CORRECT),
    (r"\boxed{3 \times 4 + 6 \cdot 2}", CORRECT),
    (r"$$\boxed{(6 ÷ 2 + 3) × 4}$$", CORRECT),
    (r"\boxed{\left(\dfrac{6}{2}+3\right)\times 4 = 24}", CORRECT),
    (r"\boxed{24 = (6/2+3)*4}", CORRECT),
    (r"\boxed{$-(3-6/2-4)*...$}", UNPARSABLE),
    (r"\boxed{-(2-6)*(3-4)*24}", INCORRECT),
    (r"\boxed{(-2+6)*(4*3)/2}", INCORRECT),
    (r"\boxed{4*(-3+6)*2}", CORRECT),
    # where the answer stands
    ("Answer: (6/2+3)*4", CORRECT),
    ("The answer is **(6 / 2 + 3) * 4**.", CORRECT),
    ("The final answer is $(6/2+3)*4 = 24$, which works.", CORRECT),
    ("#### (6/2+3)*4", CORRECT),
    ("<answer>(6/2+3)*4</answer>", CORRECT),
    ("First 3*4 = 12.\nSo 3*4+6*2 = 24.", CORRECT),
    ("3*4+6*2 = 24, as I said. There are 2 ways.", CORRECT),
    (r"We get \(3\cdot4+6\times2\).", CORRECT),
    ("1. **3*4+6*2 = 24**", CORRECT),
    ("- 3*4+6*2 (= 24)", NO_ANSWER),
    (r"\boxed{5} or rather \boxed{3*4+6*2}", CORRECT),
    (r"\boxed{3*4+6*2} or rather \boxed{5}", INCORRECT),
    ("3*4+6*2 = 24\nFirst 3*4 = 12", INCORRECT),
    # numbers and targets
    (r"\boxed{24}", INCORRECT),
    (r"\boxed{24 = 24}", INCORRECT),
    (r"\boxed{3*4+12}", INCORRECT),
    (r"\boxed{6*4}", INCORRECT),
    (r"\boxed{3*4+6*2*2/2}", INCORRECT),
    (r"\boxed{3+4+6+2}", INCORRECT),
    (r"\boxed{3*4+6*2 = 25}", INCORRECT),
    (r"\boxed{3+4+6+2 = 24}", INCORRECT),
    (r"\boxed{34-6-2}", INCORRECT),
    (r"\boxed{3*4+6*2 = 12 + 12 = 24}", CORRECT),
    (r"\boxed{6/(2-2)+3*4}", INCORRECT),
    # no arithmetic
    ("I cannot tell", NO_ANSWER),
    ("", NO_ANSWER),
    ("It is 24", NO_ANSWER),
    (r"\boxed{}", NO_ANSWER),
    (r"\boxed{3*4+6*2 =}", UNPARSABLE),
    (r"\boxed{\text{none}}", UNPARSABLE),
    (r"\boxed{3*4, 6*2}", UNPARSABLE),
    (r"\boxed{3**4}", UNPARSABLE),
    (r"\boxed{__import__('os').system('true')}", UNPARSABLE),
    (r"\boxed{３*４+６*２}", UNPARSABLE),
    (r"\boxed{9^{9^{9^9}}}", UNPARSABLE),
    (rf"\boxed{{{'9' * 5000}}}", UNPARSABLE),
    (rf"\boxed{{{'(' * 100}3*4+6*2{')' * 100}}}", UNPARSABLE),
    (rf"\boxed{{3*4+6*2{'+0' * 500}}}", UNPARSABLE),
]


def test_table():
    with closing(Verifier()) as verifier:
        verdicts = verifier.verify_batch([(response, TRUTH) for response, _ in TABLE])
        assert verifier.counts["decided_early"] == len(TABLE)
        assert not verifier.sandbox.processes()  # none took one
    wrong = [
        (response, verdict.value)
        for (response, want), verdict in zip(TABLE, verdicts, strict=True)
        if verdict is not want
    ]
    assert not wrong


def test_options():
    boxed = r"\boxed{3*4+6*2}"
    for options, response, verdict in (
        (VerifierOptions(require_boxed=True), "Answer: 3*4+6*2", NO_ANSWER),
        (VerifierOptions(require_boxed=True), boxed, CORRECT),
        (VerifierOptions(strict=True), boxed, CORRECT),
        (VerifierOptions(strict=True), rf"\boxed{{3+4}}, then {boxed}", INCORRECT),
        (VerifierOptions(strict=True), rf"\boxed{{(6/2+3)*4}}, also {boxed}", CORRECT),
        (VerifierOptions(), rf"\boxed{{3+4}}, then {boxed}", CORRECT),
    ):
        with closing(Verifier(options)) as verifier:
            assert verifier.verify_batch([(response, TRUTH)]) == [verdict]


@pytest.mark.parametrize(
    "truth",
    [
        "countdown:",
        "countdown:24",
        "countdown:24:",
        "countdown:24:3",
        "countdown:0:3,4",
        "countdown:24:3,4,",
        "countdown:x:3,4",
    ],
)
def test_a_truth_without_meaning_is_an_error(truth):
    with closing(Verifier()) as verifier:
        assert verifier.verify_batch([(r"\boxed{3*4}", truth)]) == [Verdict.error]
    with pytest.raises(ValueError, match="write countdown:24:3,4,6,2"):
        mode_of_response(r"\boxed{3*4}", truth)


def test_other_truths_are_mathematics():
    with closing(Verifier()) as verifier:
        assert verifier.verify_batch([(r"\boxed{3:4}", "3:4"), (r"\boxed{24}", "24")]) == [CORRECT, CORRECT]


def test_truths_round_trip():
    assert read_truth(write_truth(24, (3, 4, 6, 2))) == (24, (2, 3, 4, 6))


def test_every_mode_is_correct_and_found_again():
    for mode in modes((3, 4, 6, 2), 24):
        for response in (rf"So \boxed{{{mode}}}", f"{mode} = 24", f"Answer: {mode}"):
            assert judge(response, TRUTH) is CORRECT
            assert mode_of_response(response, TRUTH) == mode


def test_no_mode_without_a_correct_answer():
    for response, verdict in TABLE:
        assert (mode_of_response(response, TRUTH) is None) == (verdict is not CORRECT)


HOSTILE = {
    "brackets": "(" * 10**6,
    "operators": "1+" * 500_000,
    "signs": "-" * 10**6,
    "boxes": r"\boxed{1+" * 100_000,
    "lines": "1+\n" * 300_000,
    "digits": "9" * 10**6,
    "equations": "1=" * 500_000,
    "fractions": r"\frac{1}{" * 100_000,
    "answers": "answer: 1+1=" * 20_000,
    "spaces": " " * 10**6 + "1+1",
    "nulls": "\0" * 10**6,
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("wrap", ["%s", r"\boxed{%s}", "Answer: %s"])
def test_hostile_responses_cost_little(name, wrap):
    start = time.process_time()
    assert judge(wrap % HOSTILE[name], TRUTH, strict=True) is not CORRECT
    assert judge(wrap % HOSTILE[name], TRUTH) is not CORRECT
    assert time.process_time() - start < 5  # seconds of this process, for up to a megabyte, twice


@given(st.text(max_size=80) | st.text("34 62+-*/()=.{}$\\boxedfrac\n", max_size=80))
def test_any_response_has_a_verdict(response):
    for text in (response, rf"\boxed{{{response}}}"):
        assert judge(text, TRUTH, strict=True) in Verdict
        assert (mode_of_response(text, TRUTH) is not None) == (judge(text, TRUTH) is CORRECT)
