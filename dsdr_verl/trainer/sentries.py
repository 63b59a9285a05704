"""The processes of a run on the other nodes of its cluster: an actor looks at them on each, and answers here."""

from __future__ import annotations

import time

import ray
from ray.actor import ActorHandle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from dsdr_verl.platform.sockets import remove_left_by
from dsdr_verl.trainer import processes, segments
from dsdr_verl.trainer.causes import describe
from dsdr_verl.trainer.processes import Findings, Watch

SILENCE_S = 40.0  # of a node, after which it is given up
END_S = 10.0


class Sentry:
    """On its node what the watchdog is on the driver's."""

    def __init__(self, run: str):
        self._run = run
        self._watch = Watch(run)
        self._segments: set[str] = set()

    def look(self) -> Findings:
        segments.update(self._segments, self._run)
        return self._watch.look()

    def end(self) -> None:
        """End what is left of the run there: Ray asks processes to go, and one that is stopped does not."""
        segments.update(self._segments, self._run)
        processes.end_all(self._run)
        segments.remove(self._segments)
        remove_left_by(self._run)


class Sentries:
    """One on every node that lives now but for this one."""

    def __init__(self, run: str):
        here = ray.get_runtime_context().get_node_id()
        self._of: dict[str, ActorHandle] = {}
        self._asked: dict[str, tuple[ray.ObjectRef, float, str]] = {}
        for node in ray.nodes():
            if node["Alive"] and node["NodeID"] != here:
                there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                options = {"num_cpus": 0, "max_restarts": -1, "scheduling_strategy": there}
                self._of[node["NodeManagerAddress"]] = ray.remote(Sentry).options(**options).remote(run)

    def look(self) -> Findings:
        """What they have found since the last look. Does not wait for any of them."""
        now, found = time.monotonic(), Findings()
        for address, sentry in self._of.items():
            ref, since, why = self._asked.pop(address, (None, now, ""))
            if ref is not None and ray.wait([ref], timeout=0)[0]:
                try:
                    there = ray.get(ref)
                except ray.exceptions.RayError as error:  # it is started again, or cannot look
                    ref, since, why = None, since if why else now, f": {describe(error)}"
                else:
                    found.faults += [f"{fault} on node {address}" for fault in there.faults]
                    found.full += [f"{process} on node {address}" for process in there.full]
                    found.replaced += [f"{line} (node {address})" for line in there.replaced]
                    continue
            self._asked[address] = (ref or sentry.look.remote(), since, why)
            if now - since > SILENCE_S:
                found.faults.append(f"node {address} has not answered for {now - since:.0f} s{why}")
        return found

    def end(self) -> None:
        """Wait a little for all of them to end what is left there."""
        if self._of:
            ray.wait([s.end.remote() for s in self._of.values()], num_returns=len(self._of), timeout=END_S)
