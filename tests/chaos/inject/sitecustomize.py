"""On PYTHONPATH of a run: strikes at stages of steps, DSDR_TEST_FAULTS="fault/kind/stage/step ...", once each.

The stages are methods of the trainer, and what they call: where the process is, not what a log says. What was struck is
written to DSDR_TEST_STRUCK, a line each.
"""

import gc
import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from importlib.abc import MetaPathFinder
from importlib.util import find_spec
from itertools import count

TRAINER = "dsdr_verl.trainer.dsdr_trainer"
STAGES = {
    "generation": (TRAINER, "DSDRTrainer", "on_sample_begin"),
    "scoring": ("dsdr_verl.trainer.reward_manager", "DSDRRewardManager", "run_single"),
    "log_prob": (TRAINER, "DSDRTrainer", "_compute_old_log_prob"),
    "advantage": (TRAINER, "DSDRTrainer", "_compute_advantage"),
    "update": (TRAINER, "DSDRTrainer", "_update_actor"),
    "weight_sync": (TRAINER, "DSDRTrainer", "on_step_end"),
    "validation": (TRAINER, "DSDRTrainer", "_validate"),
    "checkpoint": (TRAINER, "DSDRTrainer", "_write_checkpoint"),
    "seal": ("dsdr_verl.trainer.checkpoints", None, "seal"),
    "removal": ("dsdr_verl.trainer.checkpoints", None, "remove"),
    "start": (TRAINER, "DSDRTrainer", "on_init_end"),  # of step 0: the ranks have their weights, nothing is trained yet
}
KINDS = {
    "all": ".",
    "driver": r"-m dsdr_verl\.main_ppo",
    "task_runner": r"^ray::\S*TaskRunner",
    "trainer_rank": r"^ray::\S*WorkerDict",
    "vllm_server": r"^ray::\S*vLLMHttpServer",
    "vllm_engine": r"^VLLM::EngineCore",
    "vllm_worker": r"^VLLM::Worker",
    "scoring_actor": r"^ray::\S*ScoringActor",
    "verifier": r"zygote\.serve",
    "queue_unit": r"^ray::\S*SimpleStorageUnit",
    "queue_controller": r"^ray::\S*TransferQueueController",
    "agent_worker": r"^ray::\S*(AgentLoop|Seeded)Worker",
    "reward_worker": r"^ray::\S*RewardLoopWorker",
    "events": r"^ray::\S*_QueueActor",
    "raylet": r"^\S*/raylet ",
    "gcs_server": r"^\S*/gcs_server ",
    "runtime_env_agent": "^ray::RuntimeEnvAgent",
    "dashboard_agent": "^ray::DashboardAgent",
}
SLOW_S = 8
_armed: dict[str, list] = {}


def strike(fault: str, kind: str, step: int, stage: str) -> None:
    import psutil

    what = {"fault": fault, "kind": kind, "stage": stage, "step": step}
    if any(what.items() <= row.items() for row in struck()):
        return  # this process stands in for one that was killed by it
    over = max((row["at"] + SLOW_S for row in struck() if row["fault"] == "slow"), default=0)
    time.sleep(max(0, over - time.time()))  # else the same process stands still for twice as long
    mark, found = os.environ["DSDR_TEST_RUN"], []
    for process in psutil.process_iter():
        try:
            alive = process.environ().get("DSDR_TEST_RUN") == mark and process.status() != psutil.STATUS_ZOMBIE
            if alive and re.search(KINDS[kind], " ".join(process.cmdline()) + " "):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    if kind != "all":
        found = sorted(found, key=lambda process: process.create_time())[:1]
    with open(os.environ["DSDR_TEST_STRUCK"], "a") as file:
        pids = [process.pid for process in found]
        file.write(json.dumps(what | {"pids": pids, "at": time.time()}) + "\n")
    if fault == "disk":
        fill()
    for process in sorted(found, key=lambda process: process.pid == os.getpid()):  # this one last
        try:
            FAULTS[fault](process)
        except psutil.NoSuchProcess:
            continue


def slow(process) -> None:
    script = f"sleep {SLOW_S}; kill -CONT {process.pid}"
    subprocess.Popen(["sh", "-c", script], env={"PATH": os.environ["PATH"]}, start_new_session=True)
    process.send_signal(signal.SIGSTOP)


def starve(process) -> None:
    import psutil

    size = process.memory_info().vms
    process.rlimit(psutil.RLIMIT_AS, (size, size))


def fill() -> None:
    """The file system of the run folder, to the last byte."""
    block = b"\0" * 2**20
    with open(os.environ["DSDR_TEST_FILL"], "ab", buffering=0) as file:
        while block:
            try:
                while file.write(block):
                    pass
            except OSError:
                block = block[: len(block) // 2]


FAULTS = {
    "kill": lambda process: process.send_signal(signal.SIGKILL),
    "stop": lambda process: process.send_signal(signal.SIGSTOP),
    "slow": slow,
    "memory": starve,
    "disk": lambda process: None,
}


def steps_of(args: tuple) -> list[int]:
    """Of what a stage is called with: the trainer, a rollout, or folders of checkpoints."""
    if hasattr(args[0], "global_steps"):
        return [args[0].global_steps]
    if len(args) > 1 and hasattr(args[1], "non_tensor_batch"):
        heads = [str(uid).partition("-")[0] for uid in args[1].non_tensor_batch["uid"]]
        return [int(head) for head in heads if head.isdecimal()]  # a validation's are hashes
    return list(map(int, re.findall(r"global_step_(\d+)", str(args[0]))))


def struck() -> list[dict]:
    try:
        with open(os.environ["DSDR_TEST_STRUCK"]) as file:
            return list(map(json.loads, file))
    except FileNotFoundError:
        return []


def arm_all(module, targets: dict) -> None:
    for where, faults in targets.items():
        arm(module, where, faults)


def arm(module, target: tuple, faults: list) -> None:
    _, owner, name = target
    holder = getattr(module, owner) if owner else module
    whole = getattr(holder, name)

    def until_then(*args, **kwargs):
        for item in [item for item in faults if item[2] in steps_of(args)]:
            faults.remove(item)
            strike(*item)
        return whole(*args, **kwargs)

    setattr(holder, name, until_then)


def ask_always(module) -> None:
    """Strings and plain numbers decide most answers of a tiny run; here a verifier's process says it after them."""
    decide, numbers = module.compare, count()

    def compare(answer, truth):
        same = decide(answer, truth)
        if not isinstance(same, bool):
            return same
        number = next(numbers)  # none twice: what has been asked is remembered
        return [(str(number), str(number if same else number + 1))]

    module.compare = compare


class _Changed(MetaPathFinder):
    """Changes a module when it has been loaded."""

    def __init__(self, name: str, change):
        self.name, self.change = name, change

    def find_spec(self, name, path=None, target=None):
        if name != self.name:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        execute = spec.loader.exec_module

        def exec_and_change(module):
            execute(module)
            self.change(module)

        spec.loader.exec_module = exec_and_change
        return spec


if "DSDR_TEST_FAULTS" in os.environ:
    gc.set_threshold(100_000)  # such a run is imports for the most part, and they take a fifth less
    for _word in os.environ["DSDR_TEST_FAULTS"].split():
        _fault, _kind, _stage, _step = _word.split("/")
        _where = STAGES[_stage]
        _armed.setdefault(_where[0], {}).setdefault(_where, []).append((_fault, _kind, int(_step), _stage))
    for _module, _targets in _armed.items():
        sys.meta_path.insert(0, _Changed(_module, partial(arm_all, targets=_targets)))
    sys.meta_path.insert(0, _Changed("dsdr_verl.scoring.verifier", ask_always))
