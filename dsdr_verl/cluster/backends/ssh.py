"""`ssh`: hosts that are there already, through Ray's cluster launcher and its provider for such hosts.

The launcher logs in on the head; the head logs in on the others, and keeps doing so when one of them comes back.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import yaml

from dsdr_verl.cluster.backends import NODE_ENVIRONMENT, ClusterError, ray_start, run_tool, write_files
from dsdr_verl.cluster.inventory import Inventory
from dsdr_verl.cluster.token import MODE, PATH, token_file, use_token
from dsdr_verl.cluster.tunnel import ssh_tunnel

CONFIG = "ray.yaml"
CHECKOUT = Path(__file__).resolve().parents[3]
NOT_COPIED = (".git", ".venv", "outputs", "__pycache__", ".pytest_cache", ".hypothesis", ".ruff_cache")


def files(inventory: Inventory) -> dict[str, str]:
    head, *others = inventory.hosts
    token = f"~/.ray/dsdr-{inventory.name}.token"
    environment = NODE_ENVIRONMENT | {MODE: "token", PATH: token.replace("~", "$HOME")}
    in_checkout = f"cd {inventory.workdir} && PATH=$PWD/.venv/bin:$PATH"
    started = " ".join([in_checkout, *(f"{name}={value}" for name, value in environment.items())])
    auth = {"ssh_user": inventory.ssh.user}
    if inventory.ssh.key:
        auth["ssh_private_key"] = str(Path(inventory.ssh.key).expanduser())
    config = {
        "cluster_name": inventory.name,
        "provider": {"type": "local", "head_ip": head, "worker_ips": others},
        "auth": auth,
        "file_mounts": {token: str(inventory.folder / "token")},
        "head_start_ray_commands": [
            f"{in_checkout} ray stop",
            f"{started} {_command(ray_start(inventory, head=head))} --autoscaling-config=~/ray_bootstrap_config.yaml",
        ],
        "worker_start_ray_commands": [
            f"{in_checkout} ray stop",
            f"{started} {_command(ray_start(inventory, address='$RAY_HEAD_IP'))}",
        ],
    }
    if inventory.ssh.sync:
        config["file_mounts"][inventory.workdir] = str(CHECKOUT)
        config["rsync_exclude"] = list(NOT_COPIED)
        config["setup_commands"] = [f"{in_checkout} make setup HARDWARE={inventory.hardware}"]
    return {CONFIG: yaml.safe_dump(config, sort_keys=False, width=1000)}


def up(inventory: Inventory) -> None:
    token_file(inventory)
    write_files(inventory, files(inventory))
    _ray(inventory, "up", "--no-config-cache")


def down(inventory: Inventory) -> None:
    """`ray down`, and then `ray stop` on every host by itself: the launcher takes a host that it cannot stop for
    stopped, and gives up without the head. The head goes first, as it would start the others again.

    Raises:
        ClusterError: a host cannot be reached; the others are stopped.
    """
    with contextlib.suppress(ClusterError):
        _ray(inventory, "down")
    stop = f"cd {inventory.workdir} && .venv/bin/ray stop --force --grace-period 5"
    unreached = [host for host in inventory.hosts if _ssh(inventory, host, stop)]
    if unreached:
        raise ClusterError(f"Ray may still run on {', '.join(unreached)}: run there `{stop}`")


def dashboard(inventory: Inventory) -> AbstractContextManager[str]:
    use_token(inventory)
    return ssh_tunnel(_target(inventory, inventory.hosts[0]), inventory.ports.dashboard, _options(inventory))


def _target(inventory: Inventory, host: str) -> str:
    return f"{inventory.ssh.user}@{host}"


def _options(inventory: Inventory) -> list[str]:
    """As Ray's launcher has them: it asks nobody whether a host is who it was."""
    options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
    options += ["-o", "BatchMode=yes", "-o", "ConnectTimeout=10"]
    return [*options, "-i", str(Path(inventory.ssh.key).expanduser())] if inventory.ssh.key else options


def _ssh(inventory: Inventory, host: str, command: str) -> int:
    words = ["ssh", *_options(inventory), _target(inventory, host), command]
    return subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL).returncode


def _ray(inventory: Inventory, command: str, *options: str) -> None:
    ray = str(Path(sys.executable).with_name("ray"))
    # Ray 2.60's second autoscaler never gets a host of this provider to join
    environment = os.environ | {"RAY_UP_enable_autoscaler_v2": "0"}
    words = [ray, command, "--yes", *options, str(inventory.folder / CONFIG)]
    run_tool(words, "install dsdr-verl here: make setup", env=environment)


def _command(words: list[str]) -> str:
    return " ".join(word if "$" in word else shlex.quote(word) for word in words)
