"""`slurm`: one batch job that holds the nodes and runs Ray on them until it is cancelled."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import time
from collections.abc import Iterator

from dsdr_verl.cluster.backends import ClusterError, run_tool, write_files
from dsdr_verl.cluster.batch_script import batch_script
from dsdr_verl.cluster.inventory import Inventory
from dsdr_verl.cluster.ranked import wait_for_head
from dsdr_verl.cluster.tunnel import ssh_tunnel

SCRIPT, JOB = "cluster.sbatch", "slurm_job"
ENDED = ("", "COMPLETING")
POLL_S = 1.0
ANSWER_S = 180.0  # for Ray to import and start from a shared file system
STOP_S = 120.0
TAIL = 30  # lines of a failed job's log


def files(inventory: Inventory) -> dict[str, str]:
    return {SCRIPT: batch_script(inventory, log=f"{inventory.folder}/slurm-%j.log")}


def up(inventory: Inventory) -> None:
    """Submits the job unless it is queued or runs, and returns when its head answers. A job ends as a whole when Ray
    ends on one of its nodes, so there is nothing else to repair."""
    write_files(inventory, files(inventory))
    said = None
    if _job(inventory)[1] in ENDED:
        submitted = _output("sbatch", "--parsable", str(inventory.folder / SCRIPT))
        (inventory.folder / JOB).write_text(submitted.strip().split(";")[0])
    while (now := _job(inventory))[1] not in ("RUNNING", *ENDED):
        if now != said:
            print("Slurm job {} is {}: {}".format(*now), flush=True)
        said = now
        time.sleep(POLL_S)
    wait_for_head(dashboard, inventory, lambda: _check(inventory), ANSWER_S)


def down(inventory: Inventory) -> None:
    job, state, *_ = _job(inventory)
    if state:
        _output("scancel", job)
    deadline = time.monotonic() + STOP_S
    while _job(inventory)[1]:
        if time.monotonic() > deadline:
            raise ClusterError(f"Slurm job {job} has not ended after {STOP_S:.0f} s; see `squeue --jobs={job}`")
        time.sleep(POLL_S)
    (inventory.folder / JOB).unlink(missing_ok=True)


@contextlib.contextmanager
def dashboard(inventory: Inventory) -> Iterator[str]:
    """By ssh to the head, which sites allow where one's own job runs; without ssh if the head is this machine."""
    job, state, reason, node = _job(inventory)
    if not job:
        raise ClusterError(f"no Slurm job of {inventory.name}; make cluster-up")
    _check(inventory)
    if state != "RUNNING":
        raise ClusterError(f"Slurm job {job} is {state}: {reason}; wait, or make cluster-up, which waits")
    shown = _output("scontrol", "show", "node", node)
    address, host = (re.search(rf"{key}=(\S+)", shown).group(1) for key in ("NodeAddr", "NodeHostName"))
    if host == socket.gethostname().split(".")[0]:
        yield f"http://127.0.0.1:{inventory.ports.dashboard}"
    else:
        with ssh_tunnel(address, inventory.ports.dashboard) as url:
            yield url


def _job(inventory: Inventory) -> tuple[str, str, str, str]:
    """Its id, state, reason and first node; only an id once it has ended, and not even that if there was none."""
    path = inventory.folder / JOB
    job = path.read_text() if path.exists() else ""
    for line in _output("squeue", "--me", "--noheader", "--format=%i|%T|%r|%B").splitlines():
        if line.split("|")[0] == job:
            return tuple(line.split("|"))
    return job, "", "", ""


def _check(inventory: Inventory) -> None:
    """Raises if the job has ended, with what it said last."""
    job, state, *_ = _job(inventory)
    if state not in ENDED:
        return
    log = inventory.folder / f"slurm-{job}.log"
    lines = log.read_text(errors="replace").splitlines()[-TAIL:] if log.exists() else ["(not there)"]
    what = f"Slurm job {job} has ended; the last lines of {log}:"
    raise ClusterError("\n".join([what, *lines, "make cluster-up submits another"]))


def _output(*command: str) -> str:
    return run_tool(command, "run this on a login node", stdout=subprocess.PIPE, text=True).stdout
