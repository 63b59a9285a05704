"""From a checked config to a finished run: Ray, the task runner, and a watch over both."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import ray
from omegaconf import DictConfig, OmegaConf, open_dict
from ray.core.generated.common_pb2 import ActorDiedErrorContext

from dsdr_verl.platform.sockets import RUN
from dsdr_verl.ray_address import silence
from dsdr_verl.trainer.causes import describe
from dsdr_verl.trainer.events import beside_this_process, drain, open_events

# Ends of an actor that somebody wanted.
INTENDED = (ActorDiedErrorContext.OUT_OF_SCOPE, ActorDiedErrorContext.REF_DELETED, ActorDiedErrorContext.RAY_KILL)


class RunFailed(RuntimeError):
    """The run has ended early; the message says why in one paragraph."""


def export_environment(config: DictConfig) -> None:
    """Give this process what the Ray workers get, before verl is imported and reads it."""
    env = OmegaConf.select(config, "ray_kwargs.ray_init.runtime_env.env_vars") or {}
    for name, value in env.items():
        os.environ.setdefault(name, str(value))


def joins_cluster() -> bool:
    return os.environ.get("RAY_ADDRESS", "local") not in ("", "local")


def start_ray(config: DictConfig) -> str:
    """Join the cluster at RAY_ADDRESS, or start one on this machine; returns what to tell the user about it.

    Raises:
        RunFailed: nothing answers at RAY_ADDRESS, or it takes another token.
    """
    from verl.trainer.constants_ppo import get_ppo_ray_runtime_env

    run_dir = Path(config.run_dir)
    env = get_ppo_ray_runtime_env(config)
    env.setdefault("env_vars", {}).update(
        {
            "TRANSFER_QUEUE_ENABLE": "1",
            "TENSORBOARD_DIR": str(run_dir / "tensorboard"),
            "WANDB_DIR": str(run_dir),
            # without an account wandb would ask for a key and hang; `wandb sync` uploads an offline run later
            "WANDB_MODE": os.environ.get("WANDB_MODE") or ("online" if os.environ.get("WANDB_API_KEY") else "offline"),
            "WANDB_RUN_ID": os.environ.get("WANDB_RUN_ID")
            or wandb_id(run_dir, config.trainer.resume_mode != "disable"),
            "WANDB_RESUME": "allow",
            RUN: uuid4().hex[:8],
        }
    )
    kwargs = OmegaConf.to_container(config.ray_kwargs.ray_init, resolve=True)
    kwargs["runtime_env"] = OmegaConf.to_container(OmegaConf.merge(env, kwargs.get("runtime_env") or {}), resolve=True)
    variables = kwargs["runtime_env"]["env_vars"]  # of which Ray takes strings only: `…env_vars.OMP_NUM_THREADS=1`
    variables.update({name: str(value) for name, value in variables.items()})
    if joins_cluster():
        if problem := silence(os.environ["RAY_ADDRESS"]):
            raise RunFailed(f"RAY_ADDRESS: {problem}; start that cluster, or unset it")
        # a running cluster has said what it has
        for key in ("num_cpus", "num_gpus", "object_store_memory", "include_dashboard"):
            kwargs.pop(key, None)
    else:
        kwargs["address"] = kwargs.get("address") or "local"  # else Ray joins whatever was last started on this machine
    try:
        context = ray.init(**{key: value for key, value in kwargs.items() if value is not None})
    except ConnectionError as error:  # with a wrong token too
        raise RunFailed(
            f"{error}; a cluster that is closed by a token needs RAY_AUTH_MODE=token and that token here as well"
        ) from error
    where = f"joined {os.environ['RAY_ADDRESS']}" if joins_cluster() else "started on this machine"
    return f"{where}, dashboard " + (f"http://{context.dashboard_url}" if context.dashboard_url else "off")


def wandb_id(run_dir: Path, resumes: bool) -> str:
    """One run of wandb for all processes that go on with a run folder."""
    path = run_dir / "wandb_id"
    if not (resumes and path.exists()):
        path.write_text(uuid4().hex[:12])
    return path.read_text()


def run(config: DictConfig, on_event: Callable[[dict], None]) -> None:
    """Train to the end.

    Raises:
        RunFailed: the trainer raised, or an actor of this run died and the trainer did not notice.
    """
    from dsdr_verl.trainer.runner import DSDRTaskRunner

    events = open_events()
    with open_dict(config):
        config.transfer_queue.enable = True
    # here, so that data files need to be on this node only
    runner = DSDRTaskRunner.options(scheduling_strategy=beside_this_process()).remote()
    finished = runner.run.remote(config)
    watchdog = Watchdog()
    try:
        while not ray.wait([finished], timeout=0.5)[0]:
            drain(events, on_event)
            watchdog.check()
        ray.get(finished)
        drain(events, on_event)
    except ray.exceptions.RayError as error:
        drain(events, on_event)
        raise RunFailed(watchdog.lost_node(wait=True) or describe(error)) from error
    finally:
        ray.kill(runner)
        events.shutdown(force=True)


class Watchdog:
    """Notices a node that has gone, or an actor of this run that has died while the trainer waits for it for ever.

    The trainer itself notices most deaths of actors at once; it gets `GRACE_S` to report with the better message. Of a
    lost node it would only say which of its connections broke first.
    """

    INTERVAL_S = 5.0
    GRACE_S = 20.0
    NODE_S = 40.0  # what Ray takes to call a node dead, with the health checks of dsdr_verl.cluster

    def __init__(self):
        self._next = time.monotonic() + self.INTERVAL_S
        self._first_seen: dict[str, float] = {}
        self._job = ray.get_runtime_context().get_job_id()
        self._nodes = {node["NodeID"] for node in ray.nodes() if node["Alive"]}

    def check(self) -> None:
        """Raises:
        RunFailed: a node that was there at the start has gone, or an actor has been dead for longer than the grace.
        """
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + self.INTERVAL_S
        if lost := self.lost_node():
            raise RunFailed(lost)
        for actor in self._dead_actors():
            seen = self._first_seen.setdefault(actor["ActorID"], now)
            if now - seen >= self.GRACE_S:
                cause = actor["DeathCause"].actor_died_error_context.error_message or "no reason given"
                raise RunFailed(f"{actor['ActorClassName']} (pid {actor['Pid']}) died: {cause}")

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
                    return f"node {node['NodeManagerAddress']} has left the cluster: {reason}"
            if time.monotonic() >= deadline:
                return None
            time.sleep(0.5)

    def _dead_actors(self) -> list[dict]:
        # not by the state API: without a dashboard that waits for one, half a minute a call
        found = ray._private.state.actors(job_id=ray.JobID.from_hex(self._job), actor_state_name="DEAD").values()
        return [actor for actor in found if actor["DeathCause"].actor_died_error_context.reason not in INTENDED]
