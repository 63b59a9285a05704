"""The store of a process group at a loopback address listens there only; torch itself would on every interface."""

from __future__ import annotations

import contextlib
import importlib
import ipaddress
import socket

from torch.distributed import TCPStore


def store(host_name: str, port: int, is_master: bool = False, **kwargs) -> TCPStore:
    """As `TCPStore`, which `torch.distributed.rendezvous` calls by this module-level name."""
    if is_master and _is_loopback(host_name):
        # A port that is taken may be another store's of this process, which TCPStore shares.
        with contextlib.suppress(OSError):
            kwargs["master_listen_fd"] = socket.create_server((host_name, port), backlog=1024).detach()
    return TCPStore(host_name=host_name, port=port, is_master=is_master, **kwargs)


def install() -> None:
    """For this process, from now on."""
    # the package has a function of the module's name
    importlib.import_module("torch.distributed.rendezvous").TCPStore = store


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.IPv4Address(host).is_loopback
    except ValueError:
        return False
