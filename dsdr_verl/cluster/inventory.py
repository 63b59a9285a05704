"""The inventory: one YAML file that describes a cluster, whatever brings it up (`recipe/cluster/` has examples)."""

from __future__ import annotations

import difflib
import os
import re
import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

Backend = Literal["local", "ssh", "slurm", "kuberay", "skypilot", "docker"]
ON_HOSTS = ("ssh", "docker")  # backends that are told their hosts; the others are told how many nodes
Count = Annotated[int, Field(ge=1)]
Port = Annotated[int, Field(ge=1, le=65535)]
# a word that a shell, YAML and a scheduler's directive all take as it is
Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@,+=-]*$")]
HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")
Folder = Annotated[str, StringConstraints(pattern=r"^(/|~/)[A-Za-z0-9._/+@-]+$")]


class InventoryError(ValueError):
    """The inventory cannot be used; the message has a line for each problem, with its key."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Ports(Section):
    gcs: Port = 6379
    dashboard: Port = 8265
    metrics: Port = 8080
    agent: Port = 52365  # each node's, through which jobs start; another Ray on the same machine may hold it


class SSH(Section):
    """`ssh`: who logs in. Ports, jump hosts and the like are `~/.ssh/config`'s."""

    user: Word = "root"
    key: str | None = None  # a private key's file; null leaves it to ssh
    sync: bool = True  # copy this checkout to `workdir` of every host and run `make setup` there


class Slurm(Section):
    """`slurm`: what `sbatch` is asked for."""

    partition: Word | None = None
    account: Word | None = None
    time: Annotated[str, StringConstraints(pattern=r"^[0-9:-]+$")] = "24:00:00"
    exclusive: bool = True  # whole nodes: all their cores and memory
    extra: list[Annotated[str, StringConstraints(pattern=r"^--[^\n'\"`$]+$")]] = []  # further #SBATCH lines


class KubeRay(Section):
    """`kuberay`: a RayCluster in the current context of kubectl."""

    namespace: Word = "default"
    image: Word = "dsdr-verl:cuda"
    memory: Word = "512Gi"  # of a node
    shared_memory: Word = "64Gi"
    volume_claim: Word | None = None  # a ReadWriteMany claim, mounted at /workspace on every node: data and runs


class SkyPilot(Section):
    """`skypilot`: what a node is to be."""

    accelerators: Word = "A100"  # of which every node has gpus_per_node
    infra: Word | None = None  # a cloud, region or Kubernetes context; null lets SkyPilot choose
    image: Word | None = None
    disk_gb: Count = 512


class Docker(Section):
    """`docker`: containers on hosts that run Docker, reached by DOCKER_HOST=ssh://."""

    image: Word = "dsdr-verl:cuda"
    shared_memory: Word = "64gb"
    workspace: Annotated[str, StringConstraints(pattern=r"^/[A-Za-z0-9._/+@-]+$")] | None = (
        None  # a folder that the hosts share, mounted at /workspace: data and runs; null: a volume of each host's own
    )


class Inventory(Section):
    """A cluster of like nodes.

    Raises:
        InventoryError: by `load`, for anything below that does not hold.
    """

    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,30}$")] = "dsdr"
    backend: Backend
    hardware: Literal["cpu", "gpu"] = "gpu"
    hosts: list[Word] = []  # ssh, docker: addresses, the head first
    nodes: Count | None = None  # the other backends: how many, the head included
    gpus_per_node: Count = 8  # logical ones with hardware: cpu
    cpus_per_node: Count | None = None  # null: what Ray finds
    workdir: Folder = "~/dsdr-verl"  # the checkout, at the same place on every node
    env: list[str] = []  # names of variables that jobs get from the environment of whoever submits them
    dashboard_host: Word = "127.0.0.1"  # 0.0.0.0 shows Ray's dashboard, and with it the cluster, to the network
    ports: Ports = Ports()
    ssh: SSH = SSH()
    slurm: Slurm = Slurm()
    kuberay: KubeRay = KubeRay()
    skypilot: SkyPilot = SkyPilot()
    docker: Docker = Docker()

    @model_validator(mode="after")
    def _consistent(self):
        if self.backend in ON_HOSTS:
            if not self.hosts:
                raise ValueError(f"hosts is empty; backend {self.backend} needs their addresses, the head first")
            if self.nodes not in (None, len(self.hosts)):
                raise ValueError(f"nodes is {self.nodes}, and there are {len(self.hosts)} hosts; leave nodes out")
            if odd := [host for host in self.hosts if not HOST.fullmatch(host)]:
                raise ValueError(
                    f"hosts has {', '.join(odd)}; give IPv4 addresses or names alone (who logs in is ssh.user, and "
                    "ports are for ~/.ssh/config)"
                )
            if twice := sorted({host for host in self.hosts if self.hosts.count(host) > 1}):
                raise ValueError(f"hosts has {', '.join(twice)} more than once")
        elif self.hosts:
            raise ValueError(f"hosts is of no use to backend {self.backend}; say how many with nodes")
        elif self.nodes is None:
            raise ValueError(f"nodes is missing; backend {self.backend} needs to know how many")
        for name in self.env:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise ValueError("env takes names of variables, never values; write WANDB_API_KEY and export its value")
        return self

    @property
    def size(self) -> int:
        """Nodes, the head included."""
        return self.nodes or len(self.hosts)

    @property
    def python(self) -> str:
        """How a job's shell gets at the interpreter that all nodes have."""
        if self.backend == "local":
            return f"cd {shlex.quote(os.getcwd())} && exec {shlex.quote(sys.executable)}"
        if self.backend in ("docker", "kuberay"):  # on the PATH of their images, which work where data and runs are
            return "cd /workspace && exec python"
        return f"cd {self.workdir} && exec .venv/bin/python"

    @property
    def folder(self) -> Path:
        """Where this machine keeps what it wrote for the cluster, and what it must remember to end it."""
        cache = Path(os.environ.get("DSDR_CACHE") or Path.home() / ".cache" / "dsdr_verl")
        return cache / "clusters" / self.name

    def secrets(self) -> dict[str, str]:
        """Variables that jobs get.

        Raises:
            InventoryError: one of `env` is not set here.
        """
        if missing := [name for name in self.env if not os.environ.get(name)]:
            raise InventoryError(
                f"env asks for {', '.join(missing)}, not set in this environment; export it, or take it out of env"
            )
        return {name: os.environ[name] for name in self.env}


def load(path: str | os.PathLike, backend: str | None = None) -> Inventory:
    """Read an inventory; `backend`, where given, wins over the file's.

    Raises:
        InventoryError: the file cannot be read, or does not describe a cluster.
    """
    path = Path(path)
    try:
        content = yaml.load(path.read_text(), _Unique)  # a SafeLoader
    except UnicodeDecodeError as error:
        raise InventoryError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise InventoryError(f"{path} cannot be read ({error.strerror}); say which with INVENTORY=file.yaml") from error
    except yaml.YAMLError as error:
        raise InventoryError(f"{path} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise InventoryError(f"{path} holds no mapping of keys; recipe/cluster/ has an example of each kind")
    if backend:
        content["backend"] = backend
    try:
        return Inventory.model_validate(content)
    except ValidationError as error:
        problems = "\n".join(f"  - {_problem(e)}" for e in error.errors())
        raise InventoryError(f"{path} does not describe a cluster:\n{problems}") from error


class _Unique(yaml.SafeLoader):
    """Where a key that comes twice is an error, and not the last one's."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key) for key, _ in node.value]
        if twice := sorted({str(key) for key in keys if keys.count(key) > 1}):
            raise yaml.YAMLError(f"{', '.join(twice)} comes more than once, line {node.start_mark.line + 1}")
        return super().construct_mapping(node, deep)


def _problem(error: dict) -> str:
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        section = Inventory.model_fields.get(str(error["loc"][0]))
        known = getattr(section.annotation if section else Inventory, "model_fields", Inventory.model_fields)
        close = difflib.get_close_matches(str(error["loc"][-1]), known, 1)
        return f"{key} is not known" + (f"; did you mean {close[0]}?" if close else f"; known are {', '.join(known)}")
    if error["type"] == "missing":
        return f"{key} is missing; set it"
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    quotes = "; put it in quotes" if error["type"] == "string_type" else ""
    return f"{key} is {error['input']!r}: {error['msg'][0].lower()}{error['msg'][1:]}{quotes}"
