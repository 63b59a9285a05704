"""A port of a head node that listens on its own loopback, made to answer on ours."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence

from dsdr_verl.cluster.backends import ClusterError

TIMEOUT_S = 20.0
KEEP_LOOKING = (
    "-o",
    "ServerAliveInterval=5",
    "-o",
    "ServerAliveCountMax=4",
)  # else a dead host is waited for for hours


@contextlib.contextmanager
def ssh_tunnel(target: str, port: int, options: Sequence[str] = ()) -> Iterator[str]:
    """Yields the URL of `port` on `target` (user@host, or an alias of ~/.ssh/config) while ssh forwards it.

    Raises:
        ClusterError: ssh ended, or nothing answered within `TIMEOUT_S`; the message has ssh's own words.
    """
    local = free_port()
    forward = f"127.0.0.1:{local}:127.0.0.1:{port}"
    command = ["ssh", "-N", *KEEP_LOOKING, "-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes", *options]
    command += ["-L", forward, target]
    with forwarding(command, local, f"port {port} of {target}") as url:
        yield url


@contextlib.contextmanager
def forwarding(command: Sequence[str], port: int, what: str) -> Iterator[str]:
    """Yields the URL of a local port that `command` listens on for as long as it runs; ends it afterwards.

    Raises:
        ClusterError: as for `ssh_tunnel`.
    """
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=errors, stderr=subprocess.STDOUT)
        try:
            deadline = time.monotonic() + TIMEOUT_S
            while not answers(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    errors.seek(0)
                    said = errors.read().decode(errors="replace").strip() or "no answer"
                    raise ClusterError(f"{what} cannot be reached by `{command[0]}`: {said}")
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
