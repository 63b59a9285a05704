"""On PYTHONPATH of a run: kills all of it at a stage of a step, DSDR_TEST_KILL="stage step", as a power cut would.

The stages are methods of the trainer, and what they call: where the process is, not what a log says.
"""

import os
import re
import sys
from importlib.abc import MetaPathFinder

STAGES = {
    "generation": ("dsdr_verl.trainer.dsdr_trainer", "DSDRTrainer", "on_sample_begin"),
    "log_prob": ("dsdr_verl.trainer.dsdr_trainer", "DSDRTrainer", "_compute_old_log_prob"),
    "advantage": ("dsdr_verl.trainer.dsdr_trainer", "DSDRTrainer", "_compute_advantage"),
    "update": ("dsdr_verl.trainer.dsdr_trainer", "DSDRTrainer", "_update_actor"),
    "weight_sync": ("dsdr_verl.trainer.dsdr_trainer", "DSDRTrainer", "on_step_end"),
    "validation": ("dsdr_verl.trainer.dsdr_trainer", "DSDRTrainer", "_validate"),
    "seal": ("dsdr_verl.trainer.checkpoints", None, "seal"),
    "removal": ("dsdr_verl.trainer.checkpoints", None, "remove"),
}


def kill_all() -> None:
    import psutil

    mark, victims = os.environ["DSDR_TEST_RUN"], []
    for process in psutil.process_iter():
        try:
            if process.environ().get("DSDR_TEST_RUN") == mark and process.pid != os.getpid():
                victims.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    for victim in victims:
        try:
            victim.kill()
        except psutil.NoSuchProcess:
            continue
    os.kill(os.getpid(), 9)


def arm(module, owner: str | None, name: str, step: int) -> None:
    holder = getattr(module, owner) if owner else module
    whole = getattr(holder, name)

    def until_then(*args, **kwargs):
        steps = [args[0].global_steps] if owner else map(int, re.findall(r"global_step_(\d+)", str(args[0])))
        if step in steps:
            kill_all()
        return whole(*args, **kwargs)

    setattr(holder, name, until_then)


class _Armed(MetaPathFinder):
    """Arms the module when it has been loaded."""

    def __init__(self, stage: str, step: int):
        self.target, self.step = STAGES[stage], step

    def find_spec(self, name, path=None, target=None):
        if name != self.target[0]:
            return None
        sys.meta_path.remove(self)
        from importlib.util import find_spec

        spec = find_spec(name)
        execute = spec.loader.exec_module

        def exec_and_arm(module):
            execute(module)
            arm(module, self.target[1], self.target[2], self.step)

        spec.loader.exec_module = exec_and_arm
        return spec


if "DSDR_TEST_KILL" in os.environ:
    _stage, _step = os.environ["DSDR_TEST_KILL"].split()
    sys.meta_path.insert(0, _Armed(_stage, int(_step)))
