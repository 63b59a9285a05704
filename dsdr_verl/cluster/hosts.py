"""Hosts of an inventory against the nodes that Ray has."""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterable


def absent(hosts: Iterable[str], addresses: Collection[str]) -> list[str]:
    """Those of `hosts`, names or addresses, that are at none of `addresses`. A name that nobody knows is absent."""
    return [host for host in hosts if _address(host) not in addresses]


def _address(host: str) -> str:
    try:
        return socket.gethostbyname(host)
    except OSError:
        return host
