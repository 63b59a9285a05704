"""Where a process group's store listens, with torch's own rendezvous."""

import os
import socket
from datetime import timedelta

import psutil
import pytest
from torch.distributed.rendezvous import rendezvous

import dsdr_verl.plugin  # noqa: F401 - installs it


def listening(port: int) -> set[str]:
    found = psutil.Process(os.getpid()).net_connections("tcp")
    return {c.laddr.ip for c in found if c.status == psutil.CONN_LISTEN and c.laddr.port == port}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"])
def test_a_loopback_store_is_there_only(host):
    port = free_port()
    store, _, _ = next(rendezvous(f"tcp://{host}:{port}?rank=0&world_size=1", timeout=timedelta(seconds=5)))
    assert listening(port) == {host}
    store.set("a", "b")
    assert store.get("a") == b"b"


def test_a_second_store_of_a_process_shares_the_port():
    url = f"tcp://127.0.0.1:{free_port()}?rank=0&world_size=1"
    first, _, _ = next(rendezvous(url, timeout=timedelta(seconds=5)))
    second, _, _ = next(rendezvous(url, timeout=timedelta(seconds=5)))
    first.set("a", "b")
    assert second.get("a") == b"b"


def test_another_address_is_left_to_torch():
    port = free_port()
    store = next(rendezvous(f"tcp://localhost:{port}?rank=0&world_size=1", timeout=timedelta(seconds=5)))
    assert listening(port) - {"127.0.0.1"}, f"every interface, for other hosts are to reach it: {store}"
