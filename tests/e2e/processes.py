"""Waiting for processes to come and go."""

import contextlib
import time
from collections.abc import Callable

import psutil


def runs(process: psutil.Process | int) -> bool:
    """Whether a process (or the one of that id) runs; a zombie does not, and an orphan is nobody's child."""
    try:
        process = psutil.Process(process) if isinstance(process, int) else process
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def started_with(name: str, value: str) -> list[psutil.Process]:
    """All that run with that in their environment, which children inherit, and Ray's daemons too."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(name) == value and runs(process):
                found.append(process)
    return found


def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
