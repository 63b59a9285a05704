"""`local`: a head and more Ray nodes as separate processes of this machine, to try a cluster out on a laptop."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from dsdr_verl.cluster.backends import NODE_ENVIRONMENT, ClusterError, ray_start, write_files
from dsdr_verl.cluster.inventory import Inventory
from dsdr_verl.cluster.token import make_token, use_token
from dsdr_verl.cluster.tunnel import answers, free_port
from dsdr_verl.ray_address import ALONE

ADDRESS = "127.0.0.1"
COMMANDS = "commands.json"
JOINED = "Ray runtime started"  # in a node's log
START_S = 60.0
STOP_S = 20.0
STARTS = 3  # of a node that ends on its way up: Ray picks ports a while before it opens them, and may find one taken


def files(inventory: Inventory) -> dict[str, str]:
    return {COMMANDS: json.dumps(_commands(inventory), indent=2)}


def _commands(inventory: Inventory) -> dict[str, list[str]]:
    head = [*ray_start(inventory, head=ADDRESS), f"--temp-dir={_temp_dir(inventory)}", "--block"]
    return {"head": head, "worker": [*ray_start(inventory, address=ADDRESS), "--block"]}


def up(inventory: Inventory) -> None:
    """Starts what does not run of head and nodes. `ray start --block` ends its node with itself."""
    running, written = _running(inventory), inventory.folder / COMMANDS
    if 0 in running and written.read_text() != files(inventory)[COMMANDS]:
        raise ClusterError(f"{inventory.name} runs with another inventory; make cluster-down first")
    write_files(inventory, files(inventory))
    make_token(inventory)
    use_token(inventory)
    commands, environment = _commands(inventory), os.environ | NODE_ENVIRONMENT
    environment.pop(ALONE, None)  # set for runs on this machine, and Ray lets no node join then
    if 0 not in running:
        for key, port in inventory.ports:
            if answers(port):
                raise ClusterError(f"ports.{key} is {port}, where something listens; stop it, or choose another port")
        _end(running)  # nodes of a head that has gone
        running = {}
        _start(inventory, running, 0, commands["head"], environment)
        _wait_for(inventory, running[0], inventory.ports.gcs)
        _wait_for(inventory, running[0], inventory.ports.dashboard)
    for _ in range(STARTS):
        missing = set(range(1, inventory.size)) - set(running)
        agents = {node: free_port() for node in missing}  # the head's is taken on this machine
        for node, port in agents.items():  # of two values, Ray heeds the last
            command = [*commands["worker"], f"--dashboard-agent-listen-port={port}"]
            _start(inventory, running, node, command, environment)
        _settle(inventory, running, agents)
        running = _running(inventory)
    if missing := sorted(set(range(1, inventory.size)) - set(running)):
        raise ClusterError(f"node {missing[0]} ends on its way up; see {_log(inventory, missing[0])}")


def down(inventory: Inventory) -> None:
    _end(_running(inventory))
    with contextlib.suppress(OSError):  # where `ray.init` looks for a Ray to join
        current = Path(tempfile.gettempdir()) / "ray" / "ray_current_cluster"
        if current.read_text().strip() == f"{ADDRESS}:{inventory.ports.gcs}":
            current.unlink()
    (inventory.folder / "processes.json").unlink(missing_ok=True)


@contextlib.contextmanager
def dashboard(inventory: Inventory) -> Iterator[str]:
    use_token(inventory)
    if not answers(inventory.ports.dashboard):
        raise ClusterError(f"no cluster answers at port {inventory.ports.dashboard} of this machine; make cluster-up")
    yield f"http://{ADDRESS}:{inventory.ports.dashboard}"


def _temp_dir(inventory: Inventory) -> Path:
    """Short, as Ray's sockets are in it, and its own, so that another Ray of this machine is left alone."""
    return Path(tempfile.gettempdir()) / f"ray-{inventory.name}"


def _log(inventory: Inventory, node: int) -> Path:
    return inventory.folder / f"node-{node}.log"


def _start(
    inventory: Inventory, running: dict[int, psutil.Process], node: int, command: list[str], environment: dict[str, str]
) -> None:
    """Adds it to `running`, and to what `down` ends."""
    program = str(Path(sys.executable).with_name(command[0]))
    with open(_log(inventory, node), "wb") as output:
        started = subprocess.Popen(
            [program, *command[1:]], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True, env=environment,
        )  # fmt: skip
    running[node] = psutil.Process(started.pid)
    state = {number: (process.pid, process.create_time()) for number, process in running.items()}
    (inventory.folder / "processes.json").write_text(json.dumps(state))


def _wait_for(inventory: Inventory, head: psutil.Process, port: int) -> None:
    deadline = time.monotonic() + START_S
    while not answers(port):
        if not _alive(head) or time.monotonic() > deadline:
            raise ClusterError(f"the head has not opened port {port}; see {_log(inventory, 0)}")
        time.sleep(0.2)


def _settle(inventory: Inventory, running: dict[int, psutil.Process], agents: dict[int, int]) -> None:
    """Returns when each node has ended, or has joined and its agent listens; or after a while."""
    deadline = time.monotonic() + START_S
    for node, port in agents.items():
        while _alive(running[node]) and time.monotonic() < deadline:
            if JOINED in _log(inventory, node).read_text() and answers(port):
                break
            time.sleep(0.2)


def _running(inventory: Inventory) -> dict[int, psutil.Process]:
    """Nodes that were started and still run, by number. A process id that went to somebody else is not ours."""
    path, found = inventory.folder / "processes.json", {}
    state = json.loads(path.read_text()) if path.exists() else {}
    for node, (pid, created) in state.items():
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            if process.create_time() == created and _alive(process):
                found[int(node)] = process
    return found


def _alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _end(nodes: dict[int, psutil.Process]) -> None:
    """Nodes and all their descendants, the head last; those that do not listen are killed."""
    for node in sorted(nodes, reverse=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            family = [nodes[node], *nodes[node].children(recursive=True)]
            nodes[node].terminate()
            for process in psutil.wait_procs(family, timeout=STOP_S)[1]:
                process.kill()
