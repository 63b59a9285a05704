"""Ends a run that would hang: a process that has gone or stands still, a lost node, a stage without end.

What only /proc knows is looked at in a thread, as calls of Ray may wait for a daemon that has gone. The trainer and Ray
notice most deaths of actors themselves; they get some seconds to report with the better message.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

import ray
from ray.core.generated.common_pb2 import ActorDiedErrorContext

from dsdr_verl.scoring.service import ScoringActor
from dsdr_verl.trainer.processes import Findings, Watch
from dsdr_verl.trainer.sentries import Sentries
from dsdr_verl.trainer.stages import START

# Ends of an actor that somebody wanted.
INTENDED = (ActorDiedErrorContext.OUT_OF_SCOPE, ActorDiedErrorContext.REF_DELETED, ActorDiedErrorContext.RAY_KILL)


class RunFailed(RuntimeError):
    """The run has ended early; the message says why in one paragraph."""


class Watchdog:
    """
    Args:
        run: as in the environment of its processes.
        say: a line for the user.
        give_up: ends this process with a message; called from a thread, when this process' own call of Ray hangs.
        stage_minutes: the longest that a stage may take; None for no limit.
    """

    LOOK_S = 3.0
    RAY_S = 5.0  # between two looks by way of Ray
    GRACE_S = 20.0
    NODE_S = 40.0  # what Ray takes to call a node dead, with the health checks of dsdr_verl.cluster
    QUIET_S = 30.0  # of a stage, when a process has no memory left to end it
    HANG_S = 15.0  # in which the main thread has to take up what the other has found

    def __init__(
        self,
        run: str,
        say: Callable[[str], None],
        give_up: Callable[[str], None],
        stage_minutes: float | None,
    ):
        self._say, self._give_up, self._stage_minutes = say, give_up, stage_minutes
        self._stage, self._step, self._entered = START, 0, time.monotonic()
        self._fault: str | None = None
        self._taken, self._over = threading.Event(), threading.Event()
        self._next = time.monotonic() + self.RAY_S
        self._dead: dict[str, float] = {}
        self._job = ray.get_runtime_context().get_job_id()
        self._nodes = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        self._watch = Watch(run)
        self._sentries = Sentries(run)

    def __enter__(self) -> Watchdog:
        threading.Thread(target=self._look, daemon=True, name="watchdog").start()
        return self

    def __exit__(self, kind, *exception) -> None:
        self._over.set()
        if kind is not None:
            with contextlib.suppress(ray.exceptions.RayError):
                self._sentries.end()

    def entered(self, stage: str, step: int) -> None:
        """The trainer is in `stage` of `step` from now on."""
        self._stage, self._step, self._entered = stage, step, time.monotonic()

    @property
    def where(self) -> str:
        return f"in {self._stage} of step {self._step}" if self._step else f"in {self._stage}"

    def diagnosis(self, error: str) -> str:
        """What to say of an error of the trainer: what has gone, and where it was."""
        if lost := self.lost_node(wait=True):
            return lost
        actors = [f"{actor['ActorClassName']} (pid {actor['Pid']})" for actor in self._dead_actors()]
        gone = [*map(str, self._watch.gone()), *actors]
        return f"{' and '.join(gone) + ' went ' if gone else ''}{self.where}: {error}"

    def check(self) -> None:
        """Raises:
        RunFailed: the run cannot go on.
        """
        if self._fault:
            self._taken.set()
            raise RunFailed(self._fault)
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + self.RAY_S
        if lost := self.lost_node():
            raise RunFailed(lost)
        for actor in self._dead_actors():
            if now - self._dead.setdefault(actor["ActorID"], now) >= self.GRACE_S:
                cause = actor["DeathCause"].actor_died_error_context.error_message or "no reason given"
                raise RunFailed(f"{actor['ActorClassName']} (pid {actor['Pid']}) died {self.where}: {cause}")
        found = self._sentries.look()
        for line in found.replaced:
            self._say(line)
        if faults := found.faults + self._stuck(found.full):
            raise RunFailed(f"{'; '.join(faults)}, {self.where}")

    def lost_node(self, wait: bool = False) -> str | None:
        """What to say of a node that was there at the start and has gone; None if all are there.

        Args:
            wait: something has broken, so give Ray the time to find out, on a cluster of several nodes.
        """
        deadline = time.monotonic() + (self.NODE_S if wait and len(self._nodes) > 1 else 0)
        while True:
            for node in ray.nodes():
                if not node["Alive"] and node["NodeID"] in self._nodes:
                    reason = node.get("DeathReasonMessage") or "no reason given"
                    return f"node {node['NodeManagerAddress']} has left the cluster {self.where}: {reason}"
            if time.monotonic() >= deadline:
                return None
            time.sleep(0.5)

    def _dead_actors(self) -> list[dict]:
        # not by the state API: without a dashboard that waits for one, half a minute a call
        found = ray._private.state.actors(job_id=ray.JobID.from_hex(self._job), actor_state_name="DEAD").values()
        return [
            actor
            for actor in found
            if actor["DeathCause"].actor_died_error_context.reason not in INTENDED
            and actor["ActorClassName"] != ScoringActor.__name__  # its clients replace it, or tell
        ]

    def _look(self) -> None:
        while not self._over.wait(self.LOOK_S):
            try:
                found = self._watch.look()
            except (OSError, MemoryError):  # no file descriptor, or no memory, at this moment
                found = Findings()
            for line in found.replaced:
                self._say(line)
            faults = [f"{fault}, {self.where}" for fault in found.faults + self._stuck(found.full)] or self._endless()
            if faults:
                self._fault = "; ".join(faults)
                self._taken.wait(self.HANG_S)
                if not (self._taken.is_set() or self._over.is_set()):
                    self._give_up(self._fault)
                return

    def _stuck(self, full: list[str]) -> list[str]:
        """Ray loses an answer that its receiver has no memory to take up, and whoever awaits it waits for ever."""
        seconds = time.monotonic() - self._entered
        if not full or seconds < self.QUIET_S:
            return []
        return [
            f"{' and '.join(full)} is at the limit of its address space (`ulimit -v`), and nothing has come "
            f"for {seconds:.0f} s"
        ]

    def _endless(self) -> list[str]:
        minutes = (time.monotonic() - self._entered) / 60
        if self._stage_minutes is None or minutes < self._stage_minutes:
            return []
        return [
            f"nothing has come {self.where} for {minutes:.0f} min (health.stage_minutes is {self._stage_minutes:g})"
        ]
