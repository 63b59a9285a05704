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
    ("answers", "actors"),
    [
        (["scored"], 1),
        ([OUT_OF_REACH, OUT_OF_REACH, "scored"], 1),
        ([DIED, OUT_OF_REACH, NO_MEMORY, "scored"], 3),
        ([DIED, DIED, NO_MEMORY, DIED], 4),
        ([OUT_OF_REACH] * 4, 1),
    ],
)
def test_a_dead_actor_is_replaced_and_one_out_of_reach_asked_again(monkeypatch, answers, actors):
    given, made, killed = iter(answers), [], []

    async def ask(*_):
        if isinstance(answer := next(given), Exception):
            raise answer
        return answer

    def make(self, i):
        made.append(Mock(score=Mock(remote=ask)))
        return made[-1]

    monkeypatch.setattr(ScoringClient, "_actor", make)
    monkeypatch.setattr(service.ray, "kill", killed.append)
    scored = ScoringClient.connect(ScoringOptions()).score("15", "15")
    if answers[-1] == "scored":
        assert asyncio.run(scored) == "scored" and killed == made[:-1]
    else:
        with pytest.raises(RayActorError, match="one scoring actor after the other"):
            asyncio.run(scored)
    assert len(made) == actors
