"""From a checked config to a finished run: Ray, the task runner, and a watch over both."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import ray
from omegaconf import DictConfig, OmegaConf, open_dict

from dsdr_verl.platform.sockets import RUN
from dsdr_verl.ray_address import joins_cluster, silence
from dsdr_verl.trainer.causes import describe
from dsdr_verl.trainer.events import beside_this_process, drain, open_events
from dsdr_verl.trainer.traces import Traces
from dsdr_verl.trainer.watchdog import RunFailed, Watchdog


def export_environment(config: DictConfig) -> None:
    """Give this process what the Ray workers get, before verl is imported and reads it."""
    env = OmegaConf.select(config, "ray_kwargs.ray_init.runtime_env.env_vars") or {}
    for name, value in env.items():
        os.environ.setdefault(name, str(value))


def start_ray(config: DictConfig, traces: Traces) -> str:
    """Join the cluster at RAY_ADDRESS, or start one on this machine; returns what to tell the user about it.

    Args:
        traces: gets to know the session of a Ray that is started.

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
            RUN: traces.run,
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
        variables["VLLM_RPC_BASE_PATH"] = str(traces.folder)  # vLLM's sockets, which a killed one leaves
        kwargs["address"] = "local"  # else Ray joins whatever was last started on this machine
    try:
        with traces.of_ray(kwargs.get("_temp_dir")):
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
    if not (resumes and path.exists() and path.read_text()):  # a full disk leaves an empty one
        path.write_text(uuid4().hex[:12])
    return path.read_text()


def run(
    config: DictConfig,
    mark: str,
    on_event: Callable[[dict], None],
    say: Callable[[str], None],
    give_up: Callable[[str], None],
) -> None:
    """Train to the end.

    Args:
        mark: of the run's processes, in their environment.
        say, give_up: see `Watchdog`.

    Raises:
        RunFailed: the trainer raised, or something of this run died or stands still and the trainer did not notice.
    """
    from dsdr_verl.trainer.runner import DSDRTaskRunner

    events = open_events()
    with open_dict(config):
        config.transfer_queue.enable = True
    # here, so that data files need to be on this node only
    runner = DSDRTaskRunner.options(scheduling_strategy=beside_this_process()).remote()
    finished = runner.run.remote(config)
    with Watchdog(mark, say, give_up, config.health.stage_minutes) as watchdog:

        def take(event: dict) -> None:
            if event["kind"] == "stage":
                watchdog.entered(event["name"], event["step"])
            on_event(event)

        try:
            while not ray.wait([finished], timeout=0.5)[0]:
                drain(events, take)
                watchdog.check()
            ray.get(finished)
            drain(events, take)
        except ray.exceptions.RayError as error:
            with contextlib.suppress(ray.exceptions.RayError):  # the events' own actor may be what has died
                drain(events, take)
            raise RunFailed(watchdog.diagnosis(describe(error))) from error
