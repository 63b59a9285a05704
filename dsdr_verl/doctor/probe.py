"""Run by `processes` in a process of its own, which stands for the driver of a run: its argument is hardware and a
folder for Ray. A JSON line for each kind of process, as soon as it has answered."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from multiprocessing.connection import Connection

from dsdr_verl.loaded import require_loaded
from dsdr_verl.ray_address import prepare_ray

# What vLLM's worker processes import by `worker_extension_cls`; verl comes with it.
EXTENSION = {"cpu": "dsdr_verl.platform.vllm_worker", "gpu": "verl.workers.rollout.vllm_rollout.utils"}

RAY_SECONDS = 120  # for a task that only imports verl, on a machine that is busy


def main() -> None:
    hardware, folder = sys.argv[1:]
    output = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what the stack prints is no answer
    answered = set()

    def answer(kind: str, found: dict[str, str]) -> None:
        answered.add(kind)
        print(json.dumps({"kind": kind, **found}), file=output)

    if hardware == "cpu":
        os.environ.setdefault("VERL_PLATFORM", "cpu")  # as a run does, and the processes below inherit it
    receiver, sender = multiprocessing.Pipe(duplex=False)
    # as vLLM starts its workers, so that nothing imported here is there already
    worker = multiprocessing.get_context("spawn").Process(target=vllm_worker, args=(hardware, sender))
    worker.start()
    sender.close()
    answer("driver", plugin_here())
    try:
        for kind, found in in_ray(folder):
            answer(kind, found)
    except Exception as error:
        fix = "mend what failed above, or set RAY_TMPDIR to a short path on a disk with space"
        for kind in {"Ray task", "Ray actor"} - answered:
            answer(kind, {"cause": f"Ray did not get that far: {_of(error)}", "fix": fix})
    try:
        answer("vLLM worker", receiver.recv())
    except EOFError:
        worker.join()
        cause = f"the process died as it imported vllm (exit code {worker.exitcode})"
        answer("vLLM worker", {"cause": cause, "fix": "see the lines on packages, cpu and gpus above"})


def in_ray(folder: str) -> Iterator[tuple[str, dict[str, str]]]:
    """(kind, answer) of a task and an actor of a Ray that is started in `folder` and stopped again."""
    prepare_ray()
    import ray

    ray.init(
        address="local", num_cpus=2, num_gpus=0, include_dashboard=False, object_store_memory=100 * 2**20,
        _temp_dir=folder, log_to_driver=False,
    )  # fmt: skip
    try:
        actor = ray.remote(num_cpus=1)(Actor).remote()
        asked = {
            "Ray task": ray.remote(num_cpus=1)(plugin_here).remote(),
            "Ray actor": actor.plugin_here.remote(),
        }
        for kind, reference in asked.items():
            yield kind, ray.get(reference, timeout=RAY_SECONDS)
    finally:
        ray.shutdown()


class Actor:
    def plugin_here(self) -> dict[str, str]:
        return plugin_here()


def vllm_worker(hardware: str, sender: Connection) -> None:
    try:
        importlib.import_module("vllm")
        # first the plug-in: without it verl does not find the CPU build of vLLM, and says something else
        found = plugin_here()
        if not found["cause"]:
            importlib.import_module(EXTENSION[hardware])
    except Exception as error:
        found = {"cause": f"vllm cannot be imported: {_of(error)}", "fix": "see the lines on packages above"}
    sender.send(found)


def plugin_here() -> dict[str, str]:
    """{"cause", "fix"} of the plug-in's absence from verl in this process; both empty if it is there.

    Importing `dsdr_verl.plugin` registers it, so whether verl has done so is asked first.
    """
    try:
        import verl  # noqa: F401
    except Exception as error:
        return {"cause": f"verl cannot be imported: {_of(error)}", "fix": "run make -B setup"}
    if "dsdr_verl.plugin" not in sys.modules:
        return _why_not()
    try:
        require_loaded()
    except RuntimeError as error:
        return {"cause": str(error), "fix": "run make -B setup"}
    return {"cause": "", "fix": ""}


def _why_not() -> dict[str, str]:
    """verl goes on in silence without a plug-in that it may not, cannot or did not find to load."""
    name = "VERL_USE_EXTERNAL_PLUGINS"
    if "dsdr" not in entry_points(group="verl.plugins").names:
        return {"cause": "no plug-in dsdr is installed in this environment", "fix": "run make -B setup"}
    try:
        importlib.import_module("dsdr_verl.plugin")
    except Exception as error:
        return {"cause": f"the plug-in cannot be imported: {_of(error)}", "fix": "run make -B setup"}
    return {"cause": f"verl was told not to load dsdr: {name}={os.environ.get(name)}", "fix": f"unset {name}"}


def _of(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
