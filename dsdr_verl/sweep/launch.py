"""Runs of a sweep one by one, each in a process of its own, for Ray and vLLM cannot be started twice in one."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from dsdr_verl.alone import alone_in
from dsdr_verl.signals import terminated_is_interrupted
from dsdr_verl.sweep.grid import Job

RECORD = "sweep.json"  # in a run's folder: what was asked for, and how it ended
CONSOLE = "console.txt"  # what the run printed

FINISHED, FAILED, STOPPED, WAITING = "finished", "failed", "stopped", "not finished"


@dataclass(frozen=True)
class Outcome:
    """How a run stands, as in its record."""

    overrides: tuple[str, ...]
    state: str
    seconds: float = 0.0  # of all attempts
    cause: str = ""


def read_outcome(job: Job) -> Outcome:
    """The record of a run; a new one if it was never started.

    Raises:
        ValueError: the folder holds a run with other settings, or a record that is broken.
    """
    path = job.folder / RECORD
    try:
        record = json.loads(path.read_text())
        outcome = Outcome(**record | {"overrides": tuple(record["overrides"])})
    except FileNotFoundError:
        return Outcome(job.overrides, WAITING)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is broken ({error}): remove {job.folder}, or give another --folder") from error
    if outcome.overrides != job.overrides:
        differing = sorted(set(outcome.overrides) ^ set(job.overrides))
        raise ValueError(
            f"{job.folder} holds a run with other settings ({', '.join(differing)}): remove it, "
            "or give another --folder"
        )
    return outcome


def launch(job: Job, lock: int, command: Sequence[str] = (sys.executable, "-m", "dsdr_verl.main_ppo")) -> Outcome:
    """Run a job to its end, from its last checkpoint if there is one, and keep the record.

    Args:
        lock: a file that the run keeps open, as from `locked`.

    Raises:
        KeyboardInterrupt: after the run was told to stop, and has stopped.
    """
    outcome, started = read_outcome(job), time.monotonic()
    job.folder.mkdir(parents=True, exist_ok=True)
    _write(job, outcome)
    with open(job.folder / CONSOLE, "ab") as console:
        # in a session of its own, so that Ctrl-C reaches it once: from here
        process = subprocess.Popen(
            [*command, *job.overrides, f"run_dir='{job.folder.absolute()}'"],
            stdout=console, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True, pass_fds=[lock],
        )  # fmt: skip
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.terminate()
            process.wait()
            _write(job, replace(outcome, state=STOPPED, cause="", seconds=outcome.seconds + time.monotonic() - started))
            raise
    state, cause = (FINISHED, "") if code == 0 else (FAILED, _cause(job.folder / CONSOLE, code))
    outcome = replace(outcome, state=state, cause=cause, seconds=outcome.seconds + time.monotonic() - started)
    _write(job, outcome)
    return outcome


def launch_all(jobs: Sequence[Job], lock: int, say: Callable[[str], None], start: Callable = launch) -> bool:
    """Run what is not finished. A run that fails does not end the others.

    Returns:
        Whether all of them were tried: False after Ctrl-C, or SIGTERM.
    """
    previous = terminated_is_interrupted()
    try:
        for index, job in enumerate(jobs, 1):
            if read_outcome(job).state == FINISHED:
                continue
            say(f"[{index}/{len(jobs)}] {job.name}: {job.folder / CONSOLE}")
            outcome = start(job, lock)
            say(f"[{index}/{len(jobs)}] {job.name}: {outcome.state} {outcome.cause}".rstrip())
    except KeyboardInterrupt:
        return False
    finally:
        signal.signal(signal.SIGTERM, previous)
    return True


def locked(folder: Path) -> contextlib.AbstractContextManager[int]:
    """Hold the folder of a sweep, together with the runs that inherit the file: one of them at a time.

    Raises:
        Taken: another sweep has it, or a run that outlived its sweep.
    """
    return alone_in(
        folder,
        f"{folder} is in use by another sweep, or by a run that outlived it: wait for it or end it, or give another "
        "--folder",
    )


def _write(job: Job, outcome: Outcome) -> None:
    scratch = job.folder / f".{RECORD}"
    scratch.write_text(json.dumps(asdict(outcome), indent=1) + "\n")
    scratch.replace(job.folder / RECORD)


def _cause(console: Path, code: int) -> str:
    """What the run said last, of what is no path; or the code that it ended with."""
    lines = [line.strip() for line in console.read_text(errors="replace").splitlines() if line.strip()]
    said = [line for line in lines if line.startswith(("the run has failed:", "nothing was started:", "- "))]
    return (said or [*lines, f"exit code {code}"])[-1][:300]
