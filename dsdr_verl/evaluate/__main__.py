"""`python -m dsdr_verl.evaluate model=... task=...`: check, sample and score what is missing, sum up."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

import hydra
from omegaconf import DictConfig

import dsdr_verl.conf  # the resolvers of the config tree
import dsdr_verl.evaluate.settings  # noqa: F401 - the scoring options become a part of the config tree
from dsdr_verl.alone import alone_in
from dsdr_verl.ray_address import joins_cluster, prepare_ray
from dsdr_verl.signals import terminated_is_interrupted

if TYPE_CHECKING:
    from dsdr_verl.evaluate.run import Evaluation
    from dsdr_verl.evaluate.store import RolloutStore


@hydra.main(config_path="pkg://dsdr_verl.conf.evaluate", config_name="evaluate", version_base=None)
def main(config: DictConfig) -> None:
    from dsdr_verl.evaluate.run import open_folder, prepare
    from dsdr_verl.evaluate.settings import config_problems

    if problems := config_problems(config):
        print(f"{len(problems)} problem(s) in the configuration; nothing was started:", file=sys.stderr)
        for problem in problems:
            print(f"  - {problem}", file=sys.stderr)
        sys.exit(2)
    terminated_is_interrupted()
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        evaluation = prepare(config)
        folder = evaluation.folder
        with alone_in(folder, f"output: another evaluation is writing to {folder}; wait for it, or end it"):
            store, lacking = open_folder(evaluation)
            run(evaluation, store, lacking)
    except (ValueError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted before anything was sampled", file=sys.stderr)
        sys.exit(130)


def run(evaluation: Evaluation, store: RolloutStore, lacking: dict[str, tuple[int, ...]]) -> None:
    """Sample and score what is missing, then sum up; ends the process where that fails."""
    import ray

    from dsdr_verl.console import divert_output, last_errors
    from dsdr_verl.evaluate.run import complete, conclude, start_ray
    from dsdr_verl.trainer.causes import describe
    from dsdr_verl.trainer.traces import Traces

    traces = Traces.begin()  # an error here is for the terminal
    problems = evaluation.problems
    log = evaluation.folder / "evaluate.log"
    console = divert_output(log)

    def say(text: str) -> None:
        console.print(text, soft_wrap=True, markup=False)

    total = len(problems.all) * evaluation.config.n
    missing = sum(map(len, lacking.values()))
    say(f"model      {evaluation.model.folder}\nproblems   {len(problems.all)} of {problems.rows} rows")
    say(f"samples    {total}, of which {total - missing} are there\nfull log   {log}")
    start = time.monotonic()
    try:
        if missing or any(True for _ in store.stale()):
            say(f"ray        {start_ray(evaluation.config, traces)}")
            terminated_is_interrupted()  # ray.init has a handler of its own
            complete(evaluation, store, lacking, console)
        conclude(evaluation, store, console)
    except KeyboardInterrupt:
        say("stopped; the same command goes on from here")
        sys.exit(130)
    except ray.exceptions.RayError as error:
        say(f"the evaluation has failed: {describe(error)}")
        for line in last_errors(log):
            say(f"  in the log: {line}")
        say("what was finished is kept; the same command goes on from here")
        sys.exit(1)
    except ValueError as error:
        say(str(error))
        sys.exit(2)
    except Exception as error:
        say(f"the evaluation has failed: {type(error).__name__}: {error}\nthe full log: {log}")
        raise
    finally:
        traces.remove(ray.shutdown)
    say(f"took       {(time.monotonic() - start) / 60:.1f} min")


if __name__ == "__main__":
    if not joins_cluster():
        prepare_ray()  # before Ray is imported
    main()
