"""News from the trainer, wherever in the cluster it runs, to the console of whoever started it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ray
from ray.util.queue import Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

_ACTOR = "dsdr_events"


def open_events() -> Queue:
    """Called by the entry, before the task runner starts."""
    return Queue(actor_options={"name": _ACTOR, "num_cpus": 0, "scheduling_strategy": beside_this_process()})


def beside_this_process() -> NodeAffinitySchedulingStrategy:
    """The driver's node: what runs there is lost with the driver only."""
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


class Events:
    """The trainer's end. Silent when nobody listens, as under verl's own entry; never a reason for a run to fail."""

    def __init__(self, queue_actor):
        self._actor = queue_actor

    @classmethod
    def connect(cls) -> Events:
        try:
            return cls(ray.get_actor(_ACTOR))
        except ValueError:
            return cls(None)

    def send(self, kind: str, **content: Any) -> None:
        if self._actor is not None:
            self._actor.put_nowait.remote({"kind": kind, **content})


def drain(events: Queue, on_event: Callable[[dict], None]) -> None:
    """Hand over all that has arrived, in order."""
    while size := events.qsize():
        for event in events.get_nowait_batch(size):
            on_event(event)
