"""One process at a time in a folder."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path


class Taken(ValueError):
    """Another process holds the folder."""


@contextlib.contextmanager
def alone_in(folder: Path, taken: str) -> Iterator[int]:
    """Hold the folder for this process, and for those that inherit the file whose descriptor it yields.

    Args:
        taken: what to say if another holds it.

    Raises:
        Taken: another does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Taken(taken) from None
        except OSError:  # a file system without locks
            pass
        yield file.fileno()
