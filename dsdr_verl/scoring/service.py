"""The scoring service: scorers behind named Ray actors, and the client that trainers and reward workers share."""

from __future__ import annotations

import asyncio
import contextlib
import os
from itertools import count
from typing import Any

import ray
import torch
from ray.actor import ActorHandle
from ray.exceptions import ActorUnavailableError, GetTimeoutError, OutOfMemoryError, RayActorError
from ray.util.metrics import Counter, Gauge, Histogram

from dsdr_verl.scoring.options import ScoringOptions
from dsdr_verl.scoring.scorer import RolloutScore, Scorer

__all__ = ["RolloutScore", "Scorer", "ScoringActor", "ScoringClient"]

NAME = "dsdr_scoring_{}"
DEATHS = 4  # of one actor after the other, that one call outlives but for the last
PATIENCE_S = 60  # with one that is out of reach; Ray takes some 40 s to find that a node is lost
CONCURRENCY = 10_000  # items that an actor holds at once
BUCKETS = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0]  # seconds


class ScoringActor(Scorer):
    """A `Scorer` with a process to itself, and its figures among Ray's metrics (docs/metrics.md)."""

    def __init__(self, options: ScoringOptions):
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        torch.set_num_threads(options.embedding.threads)
        super().__init__(options)
        self._verdicts = Counter("dsdr_scoring_verdicts", "Rollouts scored, by verdict.", ("verdict",))
        self._latency = Histogram("dsdr_scoring_seconds", "Seconds a rollout spent in each part.", BUCKETS, ("part",))
        self._queue = Gauge("dsdr_scoring_in_flight", "Rollouts in each part now.", ("part",))
        self._replaced = Gauge("dsdr_scoring_workers_replaced", "Verifier workers killed or found dead so far.")

    async def score(self, response: str, ground_truth: str) -> RolloutScore:
        self._queue.set(self._scoring + 1, {"part": "scoring"})  # one that hangs is seen while it does
        score = await super().score(response, ground_truth)
        self._verdicts.inc(tags={"verdict": score.verdict})
        self._took("all", score.seconds)
        stats = await self.stats()
        for part in ("scoring", "verifying", "embedding"):
            self._queue.set(stats[part], {"part": part})
        self._replaced.set(stats["workers_replaced"])
        return score

    def _took(self, part: str, seconds: float) -> None:
        super()._took(part, seconds)
        self._latency.observe(seconds, {"part": part})


class ScoringClient:
    """Sends each response to one of the service's actors. Scores do not depend on which."""

    def __init__(self, options: ScoringOptions):
        self.options = options
        self._actors = [self._actor(i) for i in range(options.actors)]
        self._turn = count()

    @classmethod
    def connect(cls, options: ScoringOptions) -> ScoringClient:
        """Creates the actors `dsdr_scoring_{i}` in the current Ray namespace, or joins those that are there.

        Returns at once; `ready` waits. The actors end with the process that created them, with `close`, or with Ray.
        """
        return cls(options)

    async def ready(self) -> None:
        """Returns when every actor has its model loaded and its verifier answering.

        Raises:
            RayActorError: an actor could not start; the message ends with its own error.
            RuntimeError: a verifier's processes do not come up.
        """
        await self._ask_all("ready")

    async def score(self, response: str, ground_truth: str) -> RolloutScore:
        """See `Scorer.score`. An actor that dies is replaced, and the new one asked; the result is the same.

        Raises:
            RayActorError: one actor after the other died under this call; with other responses they may not.
            Exception: whatever the encoder raised.
        """
        return await self._ask(next(self._turn) % len(self._actors), "score", response, ground_truth)

    async def stats(self) -> dict[str, float]:
        """`Scorer.stats`, summed over the actors."""
        stats = await self._ask_all("stats")
        return {key: sum(s[key] for s in stats) for key in stats[0]}

    def close(self) -> None:
        """Ends the actors and their child processes, for every client. Call it once, from the process that connected
        first."""
        for i in range(len(self._actors)):
            with contextlib.suppress(ValueError):  # there is none
                actor = ray.get_actor(NAME.format(i))  # another client may have replaced the one we know
                with contextlib.suppress(RayActorError, GetTimeoutError):
                    ray.get(actor.close.remote(), timeout=10)
                ray.kill(actor)

    async def _ask_all(self, method: str) -> list[Any]:
        return await asyncio.gather(*(self._ask(i, method) for i in range(len(self._actors))))

    async def _ask(self, i: int, method: str, *args: Any) -> Any:
        deaths, pauses = 0, 0
        while True:
            actor = self._actors[i]
            try:
                return await getattr(actor, method).remote(*args)
            except ActorUnavailableError:  # Ray does not know yet whether it is dead
                pauses += 1
                if pauses > PATIENCE_S:
                    raise
                await asyncio.sleep(1)
            except (RayActorError, OutOfMemoryError) as error:
                deaths += 1
                ray.kill(actor)  # or its name would give the dead one once more
                if getattr(error, "actor_init_failed", False):  # so would the next
                    raise
                if deaths == DEATHS:
                    raise RayActorError(error_msg=f"one scoring actor after the other has died. {error}") from error
                if self._actors[i] is actor:  # nobody replaced it meanwhile
                    self._actors[i] = self._actor(i)

    def _actor(self, i: int) -> ActorHandle:
        return (
            ray.remote(ScoringActor)
            .options(
                name=NAME.format(i),
                get_if_exists=True,
                num_cpus=self.options.num_cpus,
                num_gpus=self.options.num_gpus,
                max_restarts=0,  # Ray's have no end if each is killed while it starts
                max_concurrency=CONCURRENCY,
                scheduling_strategy="SPREAD",
            )
            .remote(self.options)
        )
