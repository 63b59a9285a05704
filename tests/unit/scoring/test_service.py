"""What an actor tells Ray's metrics, and when."""

import asyncio
from unittest.mock import Mock, call

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, OutOfMemoryError, RayActorError

from dsdr_verl.scoring import service
from dsdr_verl.scoring.options import ScoringOptions
from dsdr_verl.scoring.scorer import Scorer
from dsdr_verl.scoring.service import ScoringActor, ScoringClient


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


DIED, NO_MEMORY, OUT_OF_REACH = ActorDiedError(), OutOfMemoryError("full"), ActorUnavailableError("lost", None)


@pytest.mark.parametrize(
    ("answers", "actors", "error"),
    [
        (["scored"], 1, None),
        ([OUT_OF_REACH] * 20 + ["scored"], 1, None),
        ([DIED, *[OUT_OF_REACH] * 20, NO_MEMORY, DIED, "scored"], 4, None),
        ([DIED, DIED, NO_MEMORY, DIED], 4, "one scoring actor after the other has died"),
        ([OUT_OF_REACH] * 61, 1, "is unavailable: lost"),
    ],
)
def test_a_dead_actor_is_replaced_and_one_out_of_reach_asked_again(monkeypatch, answers, actors, error):
    given, made, killed, slept = iter(answers), [], [], []

    async def ask(*_):
        if isinstance(answer := next(given), Exception):
            raise answer
        return answer

    async def sleep(seconds):
        slept.append(seconds)

    def make(self, i):
        made.append(Mock(score=Mock(remote=ask)))
        return made[-1]

    monkeypatch.setattr(ScoringClient, "_actor", make)
    monkeypatch.setattr(service.ray, "kill", killed.append)
    monkeypatch.setattr(service.asyncio, "sleep", sleep)
    scored = ScoringClient.connect(ScoringOptions()).score("15", "15")
    if error:
        with pytest.raises(RayActorError, match=error):
            asyncio.run(scored)
    else:
        assert asyncio.run(scored) == "scored" and killed == made[:-1]
    assert len(made) == actors and sum(slept) == min(answers.count(OUT_OF_REACH), service.PATIENCE_S)
