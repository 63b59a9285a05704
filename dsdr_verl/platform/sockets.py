"""Where a weight sync meets. verl names the socket after the Ray job, which is the same in every Ray that a run has
started for itself: two such runs on one machine would load each other's weights.
"""

from __future__ import annotations

import os
from pathlib import Path

RUN = "DSDR_RUN"  # in the environment of all processes of a run
_PREFIX = "rl-colocate-zmq-"


def of_this_run(handle: str) -> str:
    """verl's `ipc:///tmp/rl-colocate-zmq-<job>-….sock` with the run's name in it; as it is when the run has none."""
    run = os.environ.get(RUN)
    return handle.replace(_PREFIX, f"{_PREFIX}{run}-") if run else handle


def sockets_of(run: str) -> list[Path]:
    """Files of such sockets that are there."""
    return list(Path("/tmp").glob(f"{_PREFIX}{run}-*"))
