"""`docker`: one container a host, by Docker Compose, which reaches each host's Docker over ssh."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import yaml

from dsdr_verl.cluster.backends import NODE_ENVIRONMENT, ClusterError, ray_start, run_tool, write_files
from dsdr_verl.cluster.inventory import Inventory
from dsdr_verl.cluster.token import MODE, TOKEN
from dsdr_verl.cluster.tunnel import ssh_tunnel

COMPOSE = "compose.yaml"
INSTALL = "install Docker's command line and its Compose plugin (no Docker daemon is needed on this machine)"
START_S = 600
FROM_HERE = (MODE, TOKEN)  # of whoever brings the cluster up; their values are in no file


def files(inventory: Inventory) -> dict[str, str]:
    if inventory.ssh.key:
        raise ClusterError("ssh.key is of no use to backend docker: name it as IdentityFile in ~/.ssh/config")
    head, asked = inventory.hosts[0], inventory.docker
    node = {
        "image": asked.image,
        # Ray and NCCL use many ports, some picked at random
        "network_mode": "host",
        "restart": "unless-stopped",
        "shm_size": asked.shared_memory,
        "ulimits": {"memlock": -1, "nofile": 65536},
        "environment": NODE_ENVIRONMENT | dict.fromkeys(FROM_HERE),
        "volumes": [f"{asked.workspace or 'workspace'}:/workspace", "cache:/home/dsdr/.cache"],
    }
    if inventory.hardware == "gpu":
        devices = [{"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}]
        node["deploy"] = {"resources": {"reservations": {"devices": devices}}}
    commands = {"head": ray_start(inventory, head=head), "worker": ray_start(inventory, address=head)}
    services = {
        name: node | {"profiles": [name], "command": [*command, "--block"]} for name, command in commands.items()
    }
    volumes = {"cache": None} if asked.workspace else {"cache": None, "workspace": None}
    compose = {"name": inventory.name, "services": services, "volumes": volumes}
    return {COMPOSE: yaml.dump(compose, Dumper=_Plain, sort_keys=False, width=1000)}


def up(inventory: Inventory) -> None:
    """The head, until the image's health check is content, then the others at once. Docker starts them again after a
    crash and after the host has booted; repeating this changes only what differs."""
    write_files(inventory, files(inventory))
    head, *others = inventory.hosts
    start = ["up", "--detach", "--remove-orphans"]
    _each(inventory, [head], "head", *start, "--wait", f"--wait-timeout={START_S}")
    _each(inventory, others, "worker", *start)


def down(inventory: Inventory) -> None:
    """Containers of all hosts; volumes stay."""
    write_files(inventory, files(inventory))
    _each(inventory, inventory.hosts, "*", "down", "--remove-orphans", "--timeout=30")


def dashboard(inventory: Inventory) -> AbstractContextManager[str]:
    return ssh_tunnel(f"{inventory.ssh.user}@{inventory.hosts[0]}", inventory.ports.dashboard)


def _each(inventory: Inventory, hosts: list[str], profile: str, *arguments: str) -> None:
    """Compose on some hosts, all at the same time.

    Raises:
        ClusterError: naming each host where it failed, after the others have been seen to.
    """
    command = ["docker", "compose", "--file", str(inventory.folder / COMPOSE), "--profile", profile, *arguments]
    environment = dict(os.environ)
    if TOKEN not in environment:  # a mode without a token, and no node would start
        environment.pop(MODE, None)

    def on(host: str) -> str | None:
        try:
            run_tool(command, INSTALL, env=environment | {"DOCKER_HOST": f"ssh://{inventory.ssh.user}@{host}"})
        except ClusterError as error:
            return f"{host}: {error}"
        return None

    with ThreadPoolExecutor(max_workers=len(hosts) or 1) as pool:
        if problems := [problem for problem in pool.map(on, hosts) if problem]:
            raise ClusterError("\n".join(problems))


class _Plain(yaml.SafeDumper):
    """Without anchors: both services show all they have."""

    def ignore_aliases(self, data) -> bool:
        return True
