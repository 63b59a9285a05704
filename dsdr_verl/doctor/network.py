"""Ports of a Ray head, the cluster to join, and the hub that models come from."""

from __future__ import annotations

import os
import re
import threading
from collections import defaultdict
from collections.abc import Callable
from urllib.parse import urlsplit

import psutil
import requests

from dsdr_verl.doctor.findings import Asked, Findings, failed, ok, warning
from dsdr_verl.doctor.resources import ray_temporary
from dsdr_verl.ray_address import silence

SECONDS = 3.0
# port: (whether Ray starts without it, what happens then, where to say another). Seen with Ray 2.60, started with these
# ports as `make cluster-up` does. A run that starts a Ray of its own for this machine alone takes others.
PORTS = {
    6379: (False, "a Ray head cannot start here", "ports.gcs of the inventory, or ray start --port"),
    8265: (True, "a Ray head starts without its dashboard", "ports.dashboard of the inventory, or --dashboard-port"),
    10001: (True, "a Ray head starts without ray:// clients", "ray start --ray-client-server-port"),
    52365: (
        True,
        "a Ray head starts, and takes no jobs",
        "ports.agent of the inventory, or --dashboard-agent-listen-port",
    ),
    8080: (
        False,
        "no node of `make cluster-up` can start here",
        "ports.metrics of the inventory, or --metrics-export-port",
    ),
}
OF_RAY = re.compile(r"gcs_server|raylet|ray::|\bray[/.](dashboard|_private|util|autoscaler|core)\b")


def ports(asked: Asked) -> Findings:
    holders: dict[int, set[int | None]] = defaultdict(set)
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port in PORTS:
            holders[connection.laddr.port].add(connection.pid)
    for port, (starts, what, where) in PORTS.items():
        subject = f"port {port}"
        if port not in holders:
            yield ok(subject, "free")
            continue
        commands = [_command(pid) for pid in holders[port]]
        held = "held by " + ", ".join(text for text, _ in commands)
        fix = f"end that program, or take another port ({where})"
        if all(is_ray for _, is_ray in commands):
            yield ok(subject, f"{held}: a Ray runs here")
        elif starts or None in holders[port]:
            yield warning(subject, f"{held}: {what}", fix)
        else:
            yield failed(subject, f"{held}: {what}", fix)


def _command(pid: int | None) -> tuple[str, bool]:
    """What to call the process, and whether it is one of Ray's."""
    if pid is None:
        return "a process that this user may not see", False
    try:
        command = " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return f"process {pid}", False
    # no arguments: they may hold a password
    return f"process {pid} ({command.split(' ')[0].rpartition('/')[2]})", bool(OF_RAY.search(command))


def ray_address(asked: Asked) -> Findings:
    subject, address = "RAY_ADDRESS", os.environ.get("RAY_ADDRESS", "")
    fix = "start the cluster there (ray start --head), or unset RAY_ADDRESS to run on this machine alone"
    if address in ("", "local"):
        yield ok(subject, f"{address or 'not set'}: a run starts a Ray of its own")
        return
    if address == "auto":
        record = ray_temporary() / "ray" / "ray_current_cluster"
        if not record.is_file():
            yield failed(subject, "auto, and no Ray was started on this machine", fix)
            return
        address = record.read_text().strip()
    if problem := silence(address, SECONDS):
        yield failed(subject, problem, fix)
    else:
        yield ok(subject, f"{address} answers")


def hub(asked: Asked) -> Findings:
    """Proxies are those of the environment, as the hub's own client takes them."""
    subject, endpoint = "hub", os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    offline = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    if offline.upper() in ("1", "ON", "YES", "TRUE"):
        yield ok(subject, "off by HF_HUB_OFFLINE: models come from folders and the cache")
        return
    host = urlsplit(endpoint).hostname
    error = _within(lambda: requests.head(endpoint, timeout=SECONDS).raise_for_status())
    if error:
        fix = "give models and data as local paths and set HF_HUB_OFFLINE=1, or set HTTPS_PROXY or HF_ENDPOINT"
        yield warning(subject, f"{host} does not answer ({error})", fix)
    else:
        yield ok(subject, f"{host} answers")


def _within(call: Callable[[], object]) -> str | None:
    """The kind of error that `call` ends with in `SECONDS`; None if it succeeds. Looking up a name has no time limit of
    its own, hence the thread. Only the kind, as a message may hold a proxy's password."""
    ended: list[str | None] = []

    def attempt() -> None:
        try:
            call()
            ended.append(None)
        except Exception as error:
            ended.append(type(error).__name__)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(SECONDS)
    return ended[0] if ended else f"no answer within {SECONDS:.0f} s"
