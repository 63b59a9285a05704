"""One run, and a look at all of its processes every ten seconds."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from tests.bench.report import say
from tests.e2e.runs import TINY, Started, log_tail
from tests.soak.roles import role_of
from tests.soak.series import SAMPLES

EVERY = 10.0  # seconds
START = 600.0  # seconds to the first step
END = "end.json"
MIB = 2**20
SHM = "/dev/shm"
# All that a long run does, and far more steps than there is time for.
OVERRIDES = (
    "+algorithm=dsdr", "+rollouts=seeded", "trainer.total_training_steps=1000000", "trainer.total_epochs=1000000",
    "trainer.test_freq=50", "trainer.save_freq=50", "trainer.max_actor_ckpt_to_keep=1",
    "+ray_kwargs.ray_init.include_dashboard=false",
)  # fmt: skip
TIMES = {"step": "timing_s/step", "validation": "timing_s/testing", "checkpoint": "timing_s/save_checkpoint"}


@dataclass(frozen=True)
class End:
    """How the run ended, and what was there that should not be."""

    stopped: bool  # by the soak; else it ended by itself
    returncode: int
    seconds: float  # from the signal on
    leftovers: list[str]

    @classmethod
    def read(cls, folder: Path) -> End | None:
        """None of a soak that was killed."""
        path = folder / END
        return cls(**json.loads(path.read_text())) if path.exists() else None

    def problems(self) -> list[str]:
        found = [f"left behind: {what}" for what in self.leftovers]
        if not self.stopped:
            found.append(f"the run ended by itself, with {self.returncode}")
        elif self.returncode != 130:  # as `dsdr_verl.main_ppo` answers to Ctrl-C
            found.append(f"the run was stopped, and ended with {self.returncode}, not 130")
        return found


def watch(folder: Path, seconds: float) -> End:
    """Train for `seconds` from the first step on, or until Ctrl-C or the run's own end, and stop the run."""
    run_dir = folder / "run"
    started = Started(run_dir, *TINY, *OVERRIDES, f"run_dir={run_dir}")
    say(f"started in {run_dir}")
    try:
        with open(folder / SAMPLES, "a") as out:
            for sample in samples(started, seconds):
                out.write(json.dumps(sample) + "\n")
                out.flush()
    except KeyboardInterrupt:
        say("interrupted")
    finally:
        stopped = started.process.poll() is None
        if stopped:
            started.process.send_signal(signal.SIGINT)
        stopped_at = time.monotonic()
    run = started.wait(timeout=120)
    if not stopped:
        say(f"the run has ended by itself:\n{run.output[-2000:]}\n{log_tail(run_dir)}")
    end = End(stopped, run.returncode, round(run.ended_at - stopped_at, 1), run.leftovers)
    (folder / END).write_text(json.dumps(asdict(end)))
    return end


def samples(started: Started, seconds: float):
    """Samples of a run until it ends, or `seconds` after its first step.

    Yields:
        {"seconds": since the start, "step": the last one, "times": seconds by kind of what was logged since the sample
        before, "processes": [{"role", "pid", "memory", "shared", "descriptors", "threads"}], "shm", "folder",
        "session"}, sizes in MiB.
    """
    start = time.monotonic()
    news, step, first, told = Tail(started.folder / "metrics.jsonl"), 0, None, start
    while started.process.poll() is None:
        now = time.monotonic()
        rows = [row for row in news.rows() if row["kind"] == "step"]
        step = rows[-1]["step"] if rows else step
        if rows and first is None:
            first = now
            say("first step")
        found = started.processes()
        sample = {
            "seconds": round(now - start, 2),
            "step": step,
            "times": {
                kind: values
                for kind, key in TIMES.items()
                if (values := [row["metrics"][key] for row in rows if key in row["metrics"]])
            },
            "processes": [look for process in found if (look := look_at(process))],
            "shm": shutil.disk_usage(SHM).used / MIB,
            "folder": size_of(started.folder, but=started.folder / "checkpoints"),
            "session": sum(size_of(folder) for folder in ray_folders(found)),
        }
        yield sample
        if now - told >= 60:
            told = now
            say(_line(sample))
        if first is None and now - start > START:
            say(f"no step after {START:.0f} s")
            return
        if first is not None and now - first >= seconds:
            return
        time.sleep(max(0.0, now + EVERY - time.monotonic()))


def look_at(process: psutil.Process) -> dict | None:
    """None of one that has gone."""
    try:
        with process.oneshot():
            command = process.cmdline()
            memory, shared = memory_of(process.pid)
            return {
                "role": role_of(command), "pid": process.pid, "memory": round(memory, 3), "shared": round(shared, 3),
                "descriptors": process.num_fds(), "threads": process.num_threads(),
            }  # fmt: skip
    except (psutil.Error, OSError):
        return None


def memory_of(pid: int) -> tuple[float, float]:
    """Of its own, swapped out or not, and its part of what is shared (plasma, tmpfs), in MiB.

    Pages of files count for neither, for they can be dropped. Pages that a fork shares with others count in part.
    """
    with open(f"/proc/{pid}/smaps_rollup") as file:
        next(file)
        kib = {name: int(value.split()[0]) for name, value in (line.split(":") for line in file)}
    return (kib["Pss_Anon"] + kib["SwapPss"]) / 1024, kib["Pss_Shmem"] / 1024


def ray_folders(processes: list[psutil.Process]) -> set[Path]:
    """Where the run's own Ray keeps its logs and sockets."""
    found = set()
    for process in processes:
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        found |= {Path(word.partition("=")[2]) for word in words if word.startswith("--session_dir=")}
    return found


def size_of(folder: Path, but: Path | None = None) -> float:
    """MiB of the files in a folder, without those in `but`."""
    total = 0
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if Path(parent, name) != but]
        for name in files:
            try:
                total += os.lstat(os.path.join(parent, name)).st_size
            except FileNotFoundError:
                continue
    return total / MIB


class Tail:
    """What was added to a file of JSON lines since the last look."""

    def __init__(self, path: Path):
        self.path, self._at = path, 0

    def rows(self) -> list[dict]:
        if not self.path.exists():
            return []
        with open(self.path, "rb") as file:
            file.seek(self._at)
            text = file.read()
        text = text[: text.rfind(b"\n") + 1]
        self._at += len(text)
        return [json.loads(line) for line in text.splitlines()]


def _line(sample: dict) -> str:
    def total(name: str) -> float:
        return sum(process[name] for process in sample["processes"])

    steps = sample["times"].get("step", [])
    pace = f", {sum(steps) / len(steps):.2f} s a step" if steps else ""
    return (
        f"step {sample['step']}: {len(sample['processes'])} processes, {total('memory'):.0f} MiB and "
        f"{total('shared'):.0f} MiB shared, {total('descriptors')} descriptors, {total('threads')} threads{pace}"
    )
