"""Ways to bring nodes up. Each is a module with four functions, and nothing else about it is known elsewhere:

* `files(inventory)`: what the backend's own tool is given, as file name → text. Pure: no secrets, nothing started.
* `up(inventory)`: write those to `inventory.folder` and start the nodes; returns once the head is up or soon will be.
  Repeating it repairs what has gone.
* `down(inventory)`: end them, and leave no process behind.
* `dashboard(inventory)`: a context manager that yields a URL where Ray's dashboard, and so its job API, answers.
"""

from __future__ import annotations

import importlib
import shutil
import subprocess
from collections.abc import Sequence
from types import ModuleType

from dsdr_verl.cluster.inventory import Inventory
from dsdr_verl.ray_address import FEWER_TASKS

# Of every `ray start`. A node that vanishes without a word is dead to Ray after some 30 s, where its own settings
# take over a minute; and one that is ended does not wait half a minute for Ray Serve, which nobody uses here.
NODE_ENVIRONMENT = {
    "RAY_health_check_period_ms": "3000",
    "RAY_health_check_timeout_ms": "5000",
    "RAY_health_check_failure_threshold": "4",
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
    **FEWER_TASKS,
}


class ClusterError(RuntimeError):
    """A cluster could not be brought up, reached or ended; the message says what to do."""


def backend_of(inventory: Inventory) -> ModuleType:
    return importlib.import_module(f"{__name__}.{inventory.backend}")


def write_files(inventory: Inventory, files: dict[str, str]) -> None:
    inventory.folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (inventory.folder / name).write_text(text)


def run_tool(command: Sequence[str], install: str, **kwargs) -> subprocess.CompletedProcess:
    """Run the tool of a backend, its output shown unless `kwargs` (of `subprocess.run`) say otherwise.

    Raises:
        ClusterError: it is not installed (`install` says how to get it), or it failed.
    """
    tool = shutil.which(command[0])
    if tool is None:
        raise ClusterError(f"{command[0]} is not on the PATH; {install}")
    done = subprocess.run([tool, *command[1:]], **kwargs)
    if done.returncode:
        raise ClusterError(f"`{' '.join(command)}` ended with exit code {done.returncode}; its output is above")
    return done


def ray_start(inventory: Inventory, *, head: str | None = None, address: str | None = None) -> list[str]:
    """The `ray start` command of the head, known to the others by the address `head`, or of a node that joins the head
    at `address`. Words that a shell may expand, such as $RAY_HEAD_IP, are left as they are."""
    ports = inventory.ports
    command = ["ray", "start", "--disable-usage-stats", f"--dashboard-agent-listen-port={ports.agent}"]
    command.append(f"--num-gpus={inventory.gpus_per_node}")
    if inventory.cpus_per_node:
        command.append(f"--num-cpus={inventory.cpus_per_node}")
    if head is None:
        return [*command, f"--address={address}:{ports.gcs}"]
    return [
        *command, "--head", f"--node-ip-address={head}", f"--port={ports.gcs}",
        f"--dashboard-host={inventory.dashboard_host}", f"--dashboard-port={ports.dashboard}",
        f"--metrics-export-port={ports.metrics}",
    ]  # fmt: skip
