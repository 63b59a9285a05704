"""The verifier against the labelled corpus: every label holds, no trick pays, and no honest answer is refused."""

from collections import Counter

import pytest

from dsdr_verl.scoring.options import VerifierOptions
from dsdr_verl.scoring.verifier import Verdict, Verifier
from tests.corpus import load

ANSWERS, UNSEEN, TRICKS, HONEST = load("answers"), load("unseen"), load("tricks"), load("honest")


def verdicts(rows: list[dict], **options) -> list[Verdict]:
    verifier = Verifier(VerifierOptions(**options))
    try:
        return verifier.verify_batch([(row["response"], row["truth"]) for row in rows])
    finally:
        verifier.close()


def test_corpus_is_well_formed():
    assert len(ANSWERS) >= 600
    assert len(TRICKS) >= 60
    assert len(HONEST) >= 40
    for rows in (ANSWERS, UNSEEN, TRICKS, HONEST):
        assert len({(row["response"], row["truth"]) for row in rows}) == len(rows)
    kinds = Counter(row["kind"] for row in ANSWERS)
    assert len(kinds) == 23
    assert min(kinds.values()) >= 20
    assert 0.4 < sum(row["correct"] for row in ANSWERS) / len(ANSWERS) < 0.55


@pytest.mark.timeout(600)
@pytest.mark.parametrize("rows", [ANSWERS, UNSEEN], ids=["answers", "unseen"])
def test_agrees_with_every_label_but_those_that_say_why_not(rows):
    found = verdicts(rows)
    disagrees = [(v is Verdict.correct) != row["correct"] for row, v in zip(rows, found, strict=True)]
    unexpected = [(row, v) for row, v, d in zip(rows, found, disagrees, strict=True) if d != ("ours" in row)]
    assert not unexpected
    assert sum(disagrees) <= 3


@pytest.mark.timeout(300)
def test_strict_credits_no_trick():
    found = verdicts(TRICKS, strict=True)
    assert [
        (row["trick"], row["response"][-200:], row["truth"])
        for row, verdict in zip(TRICKS, found, strict=True)
        if verdict is Verdict.correct
    ] == []


@pytest.mark.timeout(300)
def test_strict_credits_honest_answers():
    found = verdicts(HONEST, strict=True)
    assert [
        (row["response"], row["truth"], verdict.value)
        for row, verdict in zip(HONEST, found, strict=True)
        if verdict is not Verdict.correct
    ] == []
