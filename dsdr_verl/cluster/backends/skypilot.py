"""`skypilot`: nodes of a cloud or of Kubernetes that SkyPilot gets, fills with this checkout, and gives back."""

from __future__ import annotations

import subprocess
from contextlib import AbstractContextManager
from pathlib import Path

import yaml

from dsdr_verl.cluster.backends import NODE_ENVIRONMENT, ClusterError, run_tool, write_files
from dsdr_verl.cluster.inventory import Inventory
from dsdr_verl.cluster.ranked import ray_by_rank, silence, wait_for_head
from dsdr_verl.cluster.tunnel import ssh_tunnel

TASK = "task.yaml"
CHECKOUT = Path(__file__).resolve().parents[3]
INSTALL = "pip install skypilot, with the extra of your cloud, in an environment of its own"
SETUP_S = 1800.0  # for `make setup` on fresh nodes
TAKEN = {6380, 8266, 52365}  # by the Ray that SkyPilot itself runs on the nodes
FAILED = (100, 103)  # what `sky logs --status` ends with if the job has failed or was cancelled


def files(inventory: Inventory) -> dict[str, str]:
    if taken := TAKEN & set(inventory.ports.model_dump().values()):
        raise ClusterError(f"ports has {min(taken)}, which SkyPilot's own Ray uses on every node; choose another")
    asked = inventory.skypilot
    resources = {"disk_size": asked.disk_gb}
    if inventory.hardware == "gpu":
        resources["accelerators"] = f"{asked.accelerators}:{inventory.gpus_per_node}"
    resources |= {"infra": asked.infra} if asked.infra else {}
    resources |= {"image_id": asked.image} if asked.image else {}
    in_checkout = f"cd {inventory.workdir}"
    task = {
        "name": inventory.name,
        "num_nodes": inventory.size,
        "resources": resources,
        # what .gitignore names stays here
        "file_mounts": {inventory.workdir: str(CHECKOUT)},
        # each node has a home of its own, so a token of one of them would lock the others out
        "envs": NODE_ENVIRONMENT | {"RAY_AUTH_MODE": "disabled"},
        "setup": f"{in_checkout} && make setup HARDWARE={inventory.hardware}\n",
        "run": (
            f"{in_checkout}\nexport PATH=$PWD/.venv/bin:$PATH\n"
            'HEAD=$(echo "$SKYPILOT_NODE_IPS" | head -n 1)\n'
            f"{ray_by_rank(inventory, 'SKYPILOT_NODE_RANK')}\n"
        ),
    }
    return {TASK: yaml.dump(task, Dumper=_Dumper, sort_keys=False, width=1000)}


def up(inventory: Inventory) -> None:
    """Launches, unless the head answers: SkyPilot ends all of a task when one node of it fails."""
    write_files(inventory, files(inventory))
    if silence(dashboard, inventory):
        task = str(inventory.folder / TASK)
        run_tool(["sky", "launch", "--yes", "--detach-run", "--cluster", inventory.name, task], INSTALL)
        wait_for_head(dashboard, inventory, lambda: _check(inventory), SETUP_S)


def down(inventory: Inventory) -> None:
    run_tool(["sky", "down", "--yes", inventory.name], INSTALL)


def dashboard(inventory: Inventory) -> AbstractContextManager[str]:
    """SkyPilot keeps an entry of the cluster's name in ~/.ssh/config."""
    return ssh_tunnel(inventory.name, inventory.ports.dashboard)


def _check(inventory: Inventory) -> None:
    status = subprocess.run(["sky", "logs", "--status", inventory.name], capture_output=True).returncode
    if status in FAILED:
        raise ClusterError(f"the task of {inventory.name} has failed; `sky logs {inventory.name}` shows how")


class _Dumper(yaml.SafeDumper):
    """Scripts as blocks."""


def _represent(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent)
