"""`python -m dsdr_verl.main_ppo +algorithm=dsdr`: check, prepare, train, sum up."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import traceback
from pathlib import Path

import hydra
from omegaconf import DictConfig, OmegaConf, open_dict

import dsdr_verl.conf  # noqa: F401 - registers the resolvers that the config tree uses
from dsdr_verl.alone import Taken, alone_in
from dsdr_verl.ray_address import joins_cluster, prepare_ray
from dsdr_verl.signals import terminated_is_interrupted

CONFIG = "config.yaml"  # of a run folder


@hydra.main(config_path="pkg://dsdr_verl.conf", config_name="dsdr_trainer", version_base=None)
def main(config: DictConfig) -> None:
    from dsdr_verl.checks import config_problems
    from dsdr_verl.trainer.launch import export_environment

    export_environment(config)
    if problems := config_problems(config):
        print(f"{len(problems)} problem(s) in the configuration; nothing was started:", file=sys.stderr)
        for problem in problems:
            print(f"  - {problem}", file=sys.stderr)
        sys.exit(2)

    with open_dict(config):
        config.run_dir = str(Path(config.run_dir).absolute())
    OmegaConf.resolve(config)
    run_dir = Path(config.run_dir)
    taken = f"run_dir: another process trains in {run_dir}; wait for it, end it, or give another run_dir"
    try:
        with alone_in(run_dir, taken):
            train(config, run_dir)
    except Taken as error:
        print(f"nothing was started: {error}", file=sys.stderr)
        sys.exit(2)


def train(config: DictConfig, run_dir: Path) -> None:
    """All that is to be done once the config is sound; ends the process."""
    import ray

    from dsdr_verl.cluster.muster import MusterFailed
    from dsdr_verl.console import RunConsole, divert_output, last_errors
    from dsdr_verl.trainer.launch import run, start_ray
    from dsdr_verl.trainer.resuming import NoCheckpoint, changes, choose
    from dsdr_verl.trainer.traces import Traces
    from dsdr_verl.trainer.watchdog import RunFailed

    traces = Traces.begin()  # an error here is for the terminal
    log_path = run_dir / "train.log"
    print(f"run folder {run_dir}\nfull log   {log_path}")
    console = RunConsole(divert_output(log_path), run_dir)
    start = time.monotonic()
    terminated_is_interrupted()
    code = 0

    def fail(why: str) -> None:
        console.say(f"the run has failed: {why}")
        for line in last_errors(log_path):
            console.say(f"  in the log: {line}")
        console.say(f"the full log: {log_path}")

    def give_up(why: str) -> None:
        try:
            fail(why)
            traces.remove(logs=run_dir / "ray")
        finally:  # whatever became of them, this process hangs; what is left goes with it
            os._exit(1)

    try:
        with console:
            model = config.actor_rollout_ref.model.path
            asked = config.copy()
            if resumed := choose(config, console.say):
                for change in changes(resumed.parent.parent / CONFIG, asked):
                    console.say(f"changed    {change}")
            OmegaConf.save(asked, run_dir / CONFIG)
            prepare(config, console)
            console.say(f"ray        {start_ray(config, traces)}")
            terminated_is_interrupted()
            if joins_cluster():
                muster_nodes(config, model, console.say)
            run(config, traces.run, console.on_event, console.say, give_up)
    except MusterFailed as failure:
        console.say(f"nothing was started: {failure}")
        code = 3
    except NoCheckpoint as failure:
        console.say(f"nothing was started: {failure}")
        code = 2
    except RunFailed as failure:
        fail(str(failure))
        code = 1
    except KeyboardInterrupt:
        console.say(f"stopped; the same command resumes from the last checkpoint\nthe full log: {log_path}")
        code = 130
    except Exception as error:
        with contextlib.suppress(OSError):  # the log's disk may be what is full
            traceback.print_exc()
        fail(f"{type(error).__name__}: {error}")
        code = 1
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # from here on it ends by itself
        ray_has_gone = traces.remove(ray.shutdown, logs=run_dir / "ray" if code == 1 else None)
    if not code:
        summarise(console, run_dir, time.monotonic() - start)
    if not ray_has_gone:  # a thread that waits for it would keep this process
        os._exit(code)
    sys.exit(code)


def muster_nodes(config: DictConfig, model: str, say) -> None:
    """Wait for the nodes of the cluster that was joined, and see that they are alike and can have the model."""
    from dsdr_verl.cluster.muster import muster

    trainer = config.trainer
    muster(trainer.nnodes, trainer.n_gpus_per_node, model, Path(config.run_dir), config.cluster.wait_seconds, say)
    say(f"nodes      {trainer.nnodes} with {trainer.n_gpus_per_node} GPUs each, all with the same code and packages")


def prepare(config: DictConfig, console) -> None:
    """Put the model and the data where verl expects paths; both are made once and kept in the cache folder."""
    from dsdr_verl.data import models, tasks

    with open_dict(config):
        model = config.actor_rollout_ref.model
        model.path = str(models.prepare(model.path))
        if config.data.get("task"):
            train_path, val_path = tasks.prepare(config.data.task)
            config.data.train_files, config.data.val_files = str(train_path), str(val_path)
    console.say(f"model      {model.path}\ntrain data {config.data.train_files}\nval data   {config.data.val_files}")


def summarise(console, run_dir: Path, seconds: float) -> None:
    from dsdr_verl.evaluation.curves import plot_curves

    console.summary()
    picture = plot_curves(console.log.rows(), run_dir / "curves.png")
    console.say(
        f"took {seconds / 60:.1f} min\n"
        f"curves      {picture}\n"
        f"metrics     {console.log.path}\n"
        f"checkpoints {run_dir / 'checkpoints'} (the same command resumes from the last one)\n"
        f"tensorboard {run_dir / 'tensorboard'}\n"
        f"full log    {run_dir / 'train.log'}"
    )


if __name__ == "__main__":
    if {"-m", "--multirun"} & set(sys.argv[1:]):  # Hydra would run all of them in this process
        print("Ray and vLLM start once a process: for several runs use python -m dsdr_verl.sweep", file=sys.stderr)
        sys.exit(2)
    if not joins_cluster():
        prepare_ray()  # before Hydra imports verl, which imports Ray
    main()
