"""Shared memory by name, in /dev/shm: who has it open, and what nobody has any more.

A process that ends in order removes its own; one that is killed leaves it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from dsdr_verl.trainer import processes

SHARED_MEMORY = Path("/dev/shm")


def open_in(pids: Iterable[str | int]) -> set[str]:
    """Names of the segments and semaphores that processes have mapped.

    Told by inode: a process maps a semaphore under a name that is gone a moment later.
    """
    device = os.stat(SHARED_MEMORY).st_dev
    mark = f"{os.major(device):02x}:{os.minor(device):02x}"
    inodes: set[str] = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{pid}/maps").read_text(errors="replace").splitlines()
            inodes |= {words[4] for words in (line.split(maxsplit=5) for line in lines) if words[3] == mark}
    return {entry.name for entry in os.scandir(SHARED_MEMORY) if str(entry.inode()) in inodes}


def all_names() -> set[str]:
    return set(os.listdir(SHARED_MEMORY))


def update(names: set[str], run: str) -> None:
    """Add to `names` what the processes of `run` have open, and drop what is not there any more."""
    names |= open_in(process.pid for process in processes.of_run(run))
    names &= all_names()  # in place, as threads share it


def remove(names: set[str]) -> None:
    """Those of `names` that no process on this machine has open."""
    for name in names - open_in(path.name for path in Path("/proc").glob("[0-9]*")):
        with contextlib.suppress(OSError):
            (SHARED_MEMORY / os.path.basename(name)).unlink()
