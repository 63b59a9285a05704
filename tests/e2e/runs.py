"""Runs of the real stack in a process of their own, as a user starts them."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from dsdr_verl.trainer import segments
from tests.e2e.processes import started_with

# Small enough for seconds a step; every run of the tests shares it.
TINY = (
    "profile=tiny", "hardware=cpu", "data.val_max_samples=4", "data.train_batch_size=4",
    "actor_rollout_ref.actor.ppo_mini_batch_size=4", "actor_rollout_ref.rollout.n=4", "trainer.test_freq=-1",
    "trainer.save_freq=-1", "trainer.val_before_train=false", "trainer.total_training_steps=2",
    "trainer.logger=[tensorboard]",
)  # fmt: skip


@dataclass
class Run:
    """A finished run: what it printed, and what it left in its folder."""

    returncode: int
    output: str
    folder: Path
    ended_at: float  # by time.monotonic
    leftovers: list[str]  # processes, shared memory and sessions of Ray

    def steps(self) -> list[dict]:
        return [row["metrics"] for row in self.rows("step")]

    def rows(self, kind: str) -> list[dict]:
        lines = (self.folder / "metrics.jsonl").read_text().splitlines()
        return [row for row in map(json.loads, lines) if row["kind"] == kind]


class Started:
    """A run that goes on; `wait` ends it. Its processes are told by an environment variable of their own.

    `within` is a command that runs the command after it.
    """

    def __init__(
        self, folder: Path, *overrides: str, entry: str = "dsdr_verl.main_ppo", env: dict | None = None, within=()
    ):
        self.folder, self.mark = folder, f"{folder}:{time.time_ns()}"
        self._before = abandoned()
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "DSDR_TEST_RUN": self.mark} | (env or {})
        environment.pop("RAY_ADDRESS", None)
        folder.mkdir(parents=True, exist_ok=True)
        self.output = folder / "console.txt"
        with open(self.output, "wb") as output:
            self.process = subprocess.Popen(
                [*within, sys.executable, "-m", entry, *overrides],
                stdout=output, stderr=subprocess.STDOUT, cwd=folder, env=environment, start_new_session=True,
            )  # fmt: skip

    def processes(self) -> list[psutil.Process]:
        """Every live process of the run, children of children and Ray's daemons included."""
        return started_with("DSDR_TEST_RUN", self.mark)

    def wait_for(self, text: str, timeout: float, file: str = "console.txt") -> None:
        deadline = time.monotonic() + timeout
        while text not in (self.folder / file).read_text(errors="replace"):
            assert self.process.poll() is None, f"the run ended before it printed {text!r}:\n{self.output.read_text()}"
            assert time.monotonic() < deadline, f"no {text!r} within {timeout} s:\n{self.output.read_text()}"
            time.sleep(0.3)

    def wait(self, timeout: float = 1200, to_leave: float = 15) -> Run:
        """Seconds: for the run, and for Ray's daemons after it."""
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
        except KeyboardInterrupt:
            os.killpg(self.process.pid, signal.SIGINT)
            raise
        ended_at = time.monotonic()
        deadline = time.monotonic() + to_leave
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.5)
        leftovers = [f"{process.pid} {' '.join(process.cmdline())[:120]}" for process in left if process.is_running()]
        for process in left:
            process.kill()
        leftovers += sorted(abandoned() - self._before)
        leftovers += map(str, Path("/tmp/ray").glob(f"session_2*_{self.process.pid}"))
        return Run(self.process.returncode, self.output.read_text(), self.folder, ended_at, leftovers)


def abandoned() -> set[str]:
    """Shared memory of this user's that no process has open, as that of another run would be."""
    files = {path.name for path in segments.SHARED_MEMORY.iterdir() if path.stat().st_uid == os.getuid()}
    return files - segments.open_in(path.name for path in Path("/proc").glob("[0-9]*"))


def run(folder: Path, *overrides: str, **kwargs) -> Run:
    """Train to the end with the tiny profile."""
    no_dashboard = "+ray_kwargs.ray_init.include_dashboard=false"  # seconds, which these runs have no use for
    finished = Started(folder, *TINY, f"run_dir={folder}", no_dashboard, *overrides, **kwargs).wait()
    assert finished.returncode == 0, f"{finished.output}\n{log_tail(folder)}"
    assert not finished.leftovers, finished.leftovers
    return finished


def log_tail(folder: Path, lines: int = 60) -> str:
    log = folder / "train.log"
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else ""
