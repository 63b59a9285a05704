"""What an actor tells Ray's metrics, and when."""

import asyncio
from unittest.mock import Mock, call

from dsdr_verl.scoring.scorer import Scorer
from dsdr_verl.scoring.service import ScoringActor


def test_a_score_that_hangs_is_seen_while_it_does(monkeypatch):
    actor = ScoringActor.__new__(ScoringActor)
    actor._queue, actor._scoring = Mock(), 2

    async def hangs(self, response, ground_truth):
        await asyncio.Event().wait()

    monkeypatch.setattr(Scorer, "score", hangs)

    async def ask():
        asked = asyncio.create_task(actor.score("15", "15"))
        await asyncio.sleep(0)
        assert actor._queue.set.mock_calls == [call(3, {"part": "scoring"})]
        asked.cancel()

    asyncio.run(ask())
