"""Where a weight sync meets: names with the run in them.

verl names the socket after the Ray job, which is the same in every Ray that a run has started for itself: two such runs
on one machine would load each other's weights. Its shared memory could not be told as a run's once its owner is killed.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from uuid import uuid4

RUN = "DSDR_RUN"  # in the environment of all processes of a run
_PREFIX = "rl-colocate-zmq-"
_SEGMENT = "verl_weights_"


def of_this_run(handle: str) -> str:
    """verl's `ipc:///tmp/rl-colocate-zmq-<job>-….sock` with the run's name in it; as it is when the run has none."""
    run = os.environ.get(RUN)
    return handle.replace(_PREFIX, f"{_PREFIX}{run}-") if run else handle


def segment_of_this_run() -> str:
    """A new name for shared memory."""
    return f"{_SEGMENT}{os.environ.get(RUN, '')}_{uuid4().hex}"


def remove_left_by(run: str) -> None:
    """Remove such sockets, and such shared memory, that are there."""
    for path in (*Path("/tmp").glob(f"{_PREFIX}{run}-*"), *Path("/dev/shm").glob(f"{_SEGMENT}{run}_*")):
        with contextlib.suppress(OSError):  # another has removed it, or it is another user's
            path.unlink()
