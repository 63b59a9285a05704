"""Where Ray is: on this machine alone unless a cluster is joined; whether one answers, before Ray is asked; and what a
Ray of ours keeps."""

from __future__ import annotations

import os
import socket

ALONE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # "0": a Ray of this machine alone

# A step of the tiny profile has a hundred tasks. Ray's GCS keeps the events of 100,000 for its dashboard, and the names
# of a million before them: hundreds of MiB, which come in the first thousands of steps. The dashboard lists 10,000.
FEWER_TASKS = {
    "RAY_task_events_max_num_task_in_gcs": "10000",
    "RAY_task_events_max_dropped_task_attempts_tracked_per_job_in_gcs": "10000",
}


def silence(address: str, seconds: float = 5.0) -> str | None:
    """Why no Ray can be reached at `address` ("auto", or host:port as for `ray start --address`); None if one can."""
    if address == "auto":
        return None
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if "/" in host or not port.isdigit():
        return f"{address!r} is no address of a Ray: that is host:port, as for `ray start --address`"
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=seconds).close()
    except OSError as error:
        return f"no Ray answers at {address} ({error.strerror or error})"
    return None


def prepare_ray() -> None:
    """To be called before `ray` is imported: a Ray that this process starts, and all that runs in it, listens at
    127.0.0.1 only, one that does can be found, and `FEWER_TASKS` are kept. Variables that are set stay as they are.

    By itself Ray takes the address that other machines see, and listens on every interface. The first variable is its
    own switch for systems whose firewall asks about that; set it to 1 to have Ray's own way.
    """
    os.environ |= {ALONE: "0"} | FEWER_TASKS | os.environ


def joins_cluster() -> bool:
    return os.environ.get("RAY_ADDRESS", "local") not in ("", "local")
