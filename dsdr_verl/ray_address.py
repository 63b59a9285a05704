"""Whether a Ray answers at an address, before Ray itself is asked: it would try for more than ten minutes."""

from __future__ import annotations

import socket


def silence(address: str, seconds: float = 5.0) -> str | None:
    """Why no Ray can be reached at `address` ("auto", or host:port as for `ray start --address`); None if one can."""
    if address == "auto":
        return None
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if "/" in host or not port.isdigit():
        return f"{address!r} is no address of a Ray: that is host:port, as for `ray start --address`"
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=seconds).close()
    except OSError as error:
        return f"no Ray answers at {address} ({error.strerror or error})"
    return None
