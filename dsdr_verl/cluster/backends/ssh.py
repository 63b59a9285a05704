"""`ssh`: hosts that are there already, through Ray's cluster launcher and its provider for such hosts.

The launcher logs in on the head; the head logs in on the others, and keeps doing so when one of them comes back.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import yaml

from dsdr_verl.cluster.backends import NODE_ENVIRONMENT, ClusterError, ray_start, run_tool, write_files
from dsdr_verl.cluster.head import ENDED, jobs
from dsdr_verl.cluster.inventory import Inventory
from dsdr_verl.cluster.token import MODE, PATH, make_token, token_path, use_token
from dsdr_verl.cluster.tunnel import KEEP_LOOKING, ssh_tunnel

CONFIG = "ray.yaml"
CHECKOUT = Path(__file__).resolve().parents[3]
NOT_COPIED = (".git", ".venv", "outputs", "__pycache__", ".pytest_cache", ".hypothesis", ".ruff_cache")


def files(inventory: Inventory) -> dict[str, str]:
    return {CONFIG: _yaml(_config(inventory))}


def _config(inventory: Inventory) -> dict:
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
        "file_mounts": {token: str(token_path(inventory))},
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
    return config


def _yaml(config: dict) -> str:
    return yaml.safe_dump(config, sort_keys=False, width=1000)


def up(inventory: Inventory) -> None:
    """Starts Ray anew on every host.

    Raises:
        ClusterError: the head cannot be reached; a job runs, which this would kill; Ray's launcher failed.
    """
    make_token(inventory)
    _reach(inventory)
    running = []
    with contextlib.suppress(ClusterError), dashboard(inventory) as url:
        running = [job.submission_id for job in jobs(url) if job.status not in ENDED]
    if running:
        raise ClusterError(
            f"{', '.join(running)} runs, and this would end it: make stop, or wait; make logs follows it"
        )
    config = _config(inventory)
    # else the launcher takes a host that was made anew for one that it has set up already
    config["setup_commands"] = [*config.get("setup_commands", []), f"true {time.time_ns()}"]
    write_files(inventory, {CONFIG: _yaml(config)})
    _ray(inventory, "up", "--no-config-cache")


def down(inventory: Inventory) -> None:
    """`ray down`, and then `ray stop` on every host by itself: the launcher takes a host that it cannot stop for
    stopped, and gives up without the head. The head goes first, as it would start the others again.

    Raises:
        ClusterError: a host cannot be reached; the others are stopped.
    """
    write_files(inventory, files(inventory))
    with contextlib.suppress(ClusterError):
        _ray(inventory, "down")
    stop = f"cd {inventory.workdir} && .venv/bin/ray stop --force --grace-period 5"
    if problems := _on_all(inventory, stop):
        said = "\n".join(f"  - {host}: {why}" for host, why in problems.items())
        raise ClusterError(f"Ray may still run on these hosts; run there `{stop}`:\n{said}")


def dashboard(inventory: Inventory) -> AbstractContextManager[str]:
    use_token(inventory)
    return ssh_tunnel(_target(inventory, inventory.hosts[0]), inventory.ports.dashboard, _options(inventory))


def _target(inventory: Inventory, host: str) -> str:
    return f"{inventory.ssh.user}@{host}"


def _options(inventory: Inventory) -> list[str]:
    """As Ray's launcher has them: it asks nobody whether a host is who it was."""
    options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
    options += [*KEEP_LOOKING, "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"]
    if not inventory.ssh.key:
        return options
    key = Path(inventory.ssh.key).expanduser()
    if not key.is_file():
        raise ClusterError(f"ssh.key is {inventory.ssh.key}, which is no file here")
    return [*options, "-i", str(key)]


def _reach(inventory: Inventory) -> None:
    """Asked before the launcher, which tries for a quarter of an hour, whatever the answer."""
    for host, why in _on_all(inventory, "true").items():
        problem = f"{_target(inventory, host)} cannot be reached by ssh: {why}; see to its sshd, ssh.user and ssh.key"
        if host == inventory.hosts[0]:
            raise ClusterError(problem)
        print(problem, flush=True)


def _on_all(inventory: Inventory, command: str) -> dict[str, str]:
    """What ssh or `command` said, by host where it failed."""
    options = _options(inventory)

    def on(host: str) -> str:
        words = ["ssh", *options, _target(inventory, host), command]
        done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        said = done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}"
        return said if done.returncode else ""

    with ThreadPoolExecutor(max_workers=32) as pool:
        said = dict(zip(inventory.hosts, pool.map(on, inventory.hosts), strict=True))
    return {host: why for host, why in said.items() if why}


def _ray(inventory: Inventory, command: str, *options: str) -> None:
    ray = str(Path(sys.executable).with_name("ray"))
    # Ray 2.60's second autoscaler never gets a host of this provider to join
    environment = os.environ | {"RAY_UP_enable_autoscaler_v2": "0"}
    words = [ray, command, "--yes", *options, str(inventory.folder / CONFIG)]
    run_tool(words, "install dsdr-verl here: make setup", env=environment)


def _command(words: list[str]) -> str:
    return " ".join(word if "$" in word else shlex.quote(word) for word in words)
