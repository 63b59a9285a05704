"""The processes of a run on one machine: whose they are is in their environment, what they are in their title."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

import psutil

from dsdr_verl.platform.sockets import RUN

SPARE = 16 * 2**20  # bytes of address space, too few for what a trainer asks for


class Kind(Enum):
    """What it means that a process stops, as by SIGSTOP, or goes."""

    VITAL = "either ends the run, and nobody else would tell"
    ACTOR = "a stop ends the run; of its death Ray tells"
    REPLACED = "it is ended when it stops, and another takes its place"
    ASIDE = "nobody waits for it"


# The first that is found in the command line. Ray writes titles such as `ray::WorkerDict.update_actor`.
_KINDS = (
    (re.compile(r"zygote\.serve|ScoringActor|^ray::IDLE"), Kind.REPLACED),
    (re.compile(r"^VLLM::|^\S*/(gcs_server|raylet) |^ray::(RuntimeEnv|Dashboard)Agent"), Kind.VITAL),
    (re.compile(r"ray-dashboard|/dashboard\.py |/log_monitor\.py |/monitor\.py |forkserver"), Kind.ASIDE),
)


@dataclass(frozen=True)
class Process:
    """A live process, as it was when it was looked at."""

    pid: int
    started: float  # seconds since the epoch: with `pid`, who it is
    title: str
    kind: Kind
    stopped: bool
    full: bool = False  # has all the address space that it may have, or nearly so

    def __str__(self) -> str:
        return f"{self.title} (pid {self.pid})"


def of_run(run: str) -> Iterator[Process]:
    """All that live on this machine and have `run` in their environment, but for this one."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError), process.oneshot():
            state = process.status()
            if process.pid == os.getpid() or state == psutil.STATUS_ZOMBIE or process.environ().get(RUN) != run:
                continue
            line = " ".join(process.cmdline()).strip() + " "
            stopped = state == psutil.STATUS_STOPPED  # a debugger's stop is another state
            limit, size = process.rlimit(psutil.RLIMIT_AS)[0], process.memory_info().vms
            full = limit != psutil.RLIM_INFINITY and size + SPARE > limit
            yield Process(process.pid, process.create_time(), title_of(line), kind_of(line), stopped, full)


def kind_of(line: str) -> Kind:
    return next((kind for pattern, kind in _KINDS if pattern.search(line)), Kind.ACTOR)


def title_of(line: str) -> str:
    """A name for a command line: the title that a process gave itself, or its program and what that runs."""
    if "::" in (first := line.split(" ")[0]) or first.startswith("ray-"):
        return first
    if "zygote.serve" in line:
        return "verifier"
    program, *words = line.split()
    named = next((word for word in words if not word.startswith("-")), "")
    parts = [os.path.basename(program), *([os.path.basename(named)] if program.rpartition("/")[2] != named else [])]
    return " ".join(parts) if "python" in parts[0] else parts[0]


def end(processes: list[Process]) -> None:
    """SIGKILL, which a stopped one obeys too."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            found = psutil.Process(process.pid)
            if found.create_time() == process.started:
                found.kill()


def end_all(run: str, seconds: float = 10.0) -> list[Process]:
    """End every process of `run` on this machine; returns those that were left after `seconds`."""
    deadline = time.monotonic() + seconds
    while left := list(of_run(run)):
        if time.monotonic() > deadline:
            return left
        end(left)
        time.sleep(0.1)
    return []


@dataclass
class Findings:
    """Of one look at the processes of a machine."""

    faults: list[str] = field(default_factory=list)  # each of them ends the run
    full: list[str] = field(default_factory=list)  # processes; they end it if nothing comes any more
    replaced: list[str] = field(default_factory=list)


class Watch:
    """Looks again and again at the processes of a run on this machine.

    Args:
        run: as in their environment.
    """

    STOPPED_S = 20.0  # a stop that is shorter is a slow process
    REPLACED_S = 10.0
    GONE_S = 12.0  # in which the trainer can say more of it
    FULL_S = 20.0  # in which it can raise a MemoryError, and an actor that raises one can end

    def __init__(self, run: str):
        self._run = run
        self._vital: dict[tuple[int, float], Process] = {}
        self._since: dict[tuple[int, float], float] = {}  # of a stop, or of going
        self._full_since: dict[tuple[int, float], float] = {}

    def gone(self) -> list[Process]:
        """Vital ones that are missing at this moment."""
        present = {(process.pid, process.started) for process in of_run(self._run)}
        return [process for key, process in self._vital.items() if key not in present]

    def look(self) -> Findings:
        """Ends those that are stopped and will be replaced, and tells of all others."""
        now, found = time.monotonic(), Findings()
        present = {(process.pid, process.started): process for process in of_run(self._run)}
        gone = {key: process for key, process in self._vital.items() if key not in present}
        stopped = {key: process for key, process in present.items() if process.stopped and process.kind != Kind.ASIDE}
        self._since = {key: self._since.get(key, now) for key in (*gone, *stopped)}
        for key, process in gone.items():
            if now - self._since[key] >= self.GONE_S:
                found.faults.append(f"{process} has gone")
        for key, process in stopped.items():
            seconds = now - self._since[key]
            if process.kind == Kind.REPLACED and seconds >= self.REPLACED_S:
                end([process])
                found.replaced.append(
                    f"{process} had stopped for {seconds:.0f} s and was ended; another takes its place"
                )
            elif process.kind != Kind.REPLACED and seconds >= self.STOPPED_S:
                found.faults.append(f"{process} has been stopped (SIGSTOP) for {seconds:.0f} s")
        full = [key for key, process in present.items() if process.full and process.kind in (Kind.VITAL, Kind.ACTOR)]
        self._full_since = {key: self._full_since.get(key, now) for key in full}
        found.full += [str(present[key]) for key, since in self._full_since.items() if now - since >= self.FULL_S]
        vital = {key: process for key, process in present.items() if process.kind == Kind.VITAL}
        self._vital = self._vital | vital  # not in place: `gone` is called from another thread
        return found
