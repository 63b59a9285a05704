"""Before a run on a cluster: wait for the nodes it asks for, and make sure that all of them would run the same thing.

Needs a Ray that is initialised, and nothing of verl.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from dsdr_verl.cluster.fingerprint import Fingerprint, fingerprint
from dsdr_verl.cluster.hosts import absent

POLL_S = 1.0
ANSWER_S = 180.0  # for a node's report; a first import from a network file system takes long


class MusterFailed(RuntimeError):
    """The cluster is not what the run needs; the message has a line for each node that falls short."""


@dataclass(frozen=True)
class Report:
    """What a node has to say for itself."""

    fingerprint: Fingerprint
    model: str  # the model's path or hub name there; empty if it has not got it
    sees_run: bool  # the run folder of the driver is there


def muster(
    nodes: int, gpus_per_node: int, model: str, run_dir: Path, timeout: float, say: Callable[[str], None]
) -> None:
    """Returns when `nodes` nodes with `gpus_per_node` free GPUs each are there, and all nodes of the cluster agree.

    Args:
        model: name or path, made ready on every node by `dsdr_verl.data.models.prepare`.
        run_dir: the run's folder on the driver.
        timeout: seconds to wait for the nodes.
        say: told what is waited for.

    Raises:
        MusterFailed: nodes or GPUs are missing after `timeout`; a node has other code, packages or no plug-in; a node
            has not got the model, or does not see the run folder.
    """
    wait_for_nodes(nodes, gpus_per_node, timeout, say)
    if problems := roll_call(model, run_dir):
        raise MusterFailed("the nodes of the cluster do not agree:\n" + "\n".join(f"  - {p}" for p in problems))


def wait_for_nodes(nodes: int, gpus_per_node: int, timeout: float, say: Callable[[str], None]) -> None:
    deadline, said = time.monotonic() + timeout, None
    while missing := _missing(nodes, gpus_per_node):
        if missing != said:
            said = missing
            say(f"waiting, {timeout:.0f} s at most (cluster.wait_seconds): {missing}")
        if time.monotonic() > deadline:
            raise MusterFailed(f"not there after {timeout:.0f} s: {missing}")
        time.sleep(POLL_S)


def roll_call(model: str, run_dir: Path) -> list[str]:
    """A sentence for each thing that a node lacks or has differently from this process."""
    run_dir.mkdir(parents=True, exist_ok=True)
    marker = run_dir / f".muster-{os.getpid()}"
    marker.touch()
    try:
        ours = report(model, str(marker))
        calls = {
            node["NodeManagerAddress"] + f" (node {node['NodeID'][:8]})": ray.remote(report)
            .options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
            .remote(model, str(marker))
            for node in _alive()
        }
        return [f"{name}: {problem}" for name, call in calls.items() for problem in _problems(ours, call, run_dir)]
    finally:
        marker.unlink(missing_ok=True)


def report(model: str, marker: str) -> Report:
    """Runs on a node."""
    from dsdr_verl.data import models

    try:
        path = str(models.prepare(model))  # a hub name comes back as it is: whoever loads it fetches it
    except FileNotFoundError:
        path = ""
    return Report(fingerprint(), path, Path(marker).exists())


def _problems(ours: Report, call: ray.ObjectRef, run_dir: Path) -> list[str]:
    try:
        theirs = ray.get(call, timeout=ANSWER_S)
    except GetTimeoutError:
        return [f"no answer within {ANSWER_S:.0f} s; see its /tmp/ray/session_latest/logs"]
    except (RayError, ImportError, OSError) as error:
        return [f"it cannot run a task of dsdr_verl ({_root(error)}); install the same checkout there: make cluster-up"]
    found = [f"{what}; bring it in step: make cluster-up" for what in ours.fingerprint.differences(theirs.fingerprint)]
    if theirs.model != ours.model:
        where = theirs.model or "nowhere"
        found.append(f"actor_rollout_ref.model.path is {ours.model} here and {where} there; use one path on all nodes")
    if not theirs.sees_run:
        found.append(
            f"run_dir is {run_dir}, which it does not see: a checkpoint has a part from every node; set run_dir to a "
            "folder on a file system that all nodes share"
        )
    return found


def _root(error: BaseException) -> str:
    cause = getattr(error, "cause", None) or error
    lines = str(cause).strip().splitlines()
    return f"{type(cause).__name__}: {lines[-1] if lines else ''}"


def _alive() -> list[dict]:
    return sorted((n for n in ray.nodes() if n["Alive"]), key=lambda n: (n["NodeManagerAddress"], n["NodeID"]))


def _missing(nodes: int, gpus_per_node: int) -> str:
    """What the cluster lacks, and where; empty if nothing."""
    alive = _alive()
    free = ray._private.state.available_resources_per_node()
    fit = [node for node in alive if free.get(node["NodeID"], {}).get("GPU", 0) >= gpus_per_node]
    if len(fit) >= nodes:
        return ""
    there = []
    for node in alive:
        total, left = node["Resources"].get("GPU", 0), free.get(node["NodeID"], {}).get("GPU", 0)
        busy = f", {total - left:g} of them in use" if left < total else ""
        there.append(f"{node['NodeManagerAddress']} has {total:g} GPUs{busy}")
    expected = [host for host in os.environ.get("DSDR_CLUSTER_HOSTS", "").split(",") if host]
    missing = absent(expected, {node["NodeManagerAddress"] for node in alive})
    text = f"trainer.nnodes={nodes} with trainer.n_gpus_per_node={gpus_per_node} free each, and {len(fit)} such nodes"
    return f"{text} ({'; '.join(there) or 'no node at all'})" + (f"; missing: {', '.join(missing)}" if missing else "")
