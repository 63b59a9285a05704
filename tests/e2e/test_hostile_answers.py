"""Answers meant to hang a verifier, crash it, fill its memory or run code in it: `tests/corpus/hostile.jsonl`."""

import asyncio
import time
from contextlib import closing

import psutil
import pytest

from dsdr_verl.scoring.options import VerifierOptions
from dsdr_verl.scoring.verifier import Verdict, Verifier
from tests.corpus import load

pytestmark = pytest.mark.e2e
LIMIT = 1.0  # seconds; an easy answer must come within it on a machine that has other work


def test_each_costs_its_own_limit_at_most(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    with closing(Verifier(VerifierOptions(timeout=LIMIT, memory_mb=512))) as verifier:

        async def run():
            await verifier.start()
            for row in load("hostile"):
                start = time.monotonic()
                verdict = await verifier.verify(row["response"] * row.get("repeat", 1), row["truth"])
                assert time.monotonic() - start < LIMIT + 3, row["name"]
                assert verdict is not Verdict.correct, row["name"]
                assert await verifier.verify(r"\boxed{1+x}", "x+1") is Verdict.correct, row["name"]

        asyncio.run(run())
        assert verifier.counts["timeout"] > 10
    assert {process.pid for process in psutil.Process().children(recursive=True)} <= before
    assert not list(tmp_path.iterdir())
