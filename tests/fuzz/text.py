"""The part that takes no processes: answers, formulas and their ids, each timed."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress

from dsdr_verl.scoring.answers import extract_answers, unwrap
from dsdr_verl.scoring.countdown import judge
from dsdr_verl.scoring.equality import compare, spell
from dsdr_verl.scoring.formulas import extract_formulas, formula_ids
from tests.fuzz.generate import Item

SLOW_SECONDS = 0.1  # a response may take this long,
SLOW_PER_CHARACTER = 5e-6  # and this much a character
NOTIONS = ("surface", "normalized")
MAX_ANSWER = 4096


def problems(item: Item) -> Iterator[str]:
    """What is wrong with the functions of text on this item, one line each."""
    for name, call in calls(item.response, item.truth):
        start = time.thread_time()
        try:
            call()
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            yield f"{name}: {type(error).__name__} in {where.name}: {error!s:.200}"
        seconds = time.thread_time() - start
        if seconds > _allowed(item):  # once more: the collector's work is counted too
            with suppress(Exception):
                start = time.thread_time()
                call()
            seconds = min(seconds, time.thread_time() - start)
        if seconds > _allowed(item):
            yield f"{name}: {seconds:.2f} s for {len(item.response):,} + {len(item.truth):,} characters"


def _allowed(item: Item) -> float:
    return SLOW_SECONDS + SLOW_PER_CHARACTER * len(item.response + item.truth)


def calls(response: str, truth: str) -> list[tuple[str, Callable[[], object]]]:
    """Each function of the text, by name; those whose promise can be checked check it."""
    return [
        ("extract_answers", lambda: extract_answers(response)),
        ("extract_answers, boxed only", lambda: extract_answers(response, require_boxed=True)),
        ("extract_answers, strict", lambda: extract_answers(response, strict=True)),
        ("countdown", lambda: judge(response, "countdown:24:3,4,6,2", strict=True)),
        ("unwrap", lambda: unwrap(response)),
        ("spell", lambda: _spelled(response)),
        ("compare", lambda: _compared(response, truth)),
        *((f"extract_formulas, {notion}", lambda notion=notion: _formulas(response, notion)) for notion in NOTIONS),
    ]


def _spelled(response: str) -> None:
    assert len(spell(response)) <= 16 * len(response) + 16, "grew"


def _compared(response: str, truth: str) -> None:
    answers = extract_answers(response, strict=True) or [response]
    for answer in (text[:MAX_ANSWER] for text in answers[:10]):
        assert compare(answer, answer) is True, "an answer is not itself"
        same = compare(answer, truth[:MAX_ANSWER])
        assert isinstance(same, bool) or all(len(pair) == 2 for pair in same)


def _formulas(response: str, notion: str) -> None:
    found = extract_formulas(response, notion)
    assert len(set(found)) == len(found) and all(found), "repeated or empty formulas"
    assert len(formula_ids(found)) == len(found)
    assert all(-(2**63) <= i < 2**63 for i in formula_ids(found[:100])), "an id beyond int64"
