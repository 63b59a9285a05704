import socket
import time

import pytest
from omegaconf import OmegaConf

from dsdr_verl.ray_address import silence
from dsdr_verl.trainer import launch


def test_an_address_where_nobody_answers_is_told_at_once(monkeypatch, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free.getsockname()[1]}")
    config = OmegaConf.create(
        {
            "run_dir": str(tmp_path),
            "trainer": {"resume_mode": "auto"},
            "ray_kwargs": {"ray_init": {"num_cpus": 1}},
        }
    )
    began = time.monotonic()
    with pytest.raises(launch.RunFailed, match="RAY_ADDRESS: no Ray answers at 127"):
        launch.start_ray(config)
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("address", ["http://127.0.0.1:8265", "head", "head:gcs"])
def test_what_is_no_address(address):
    assert "no address of a Ray" in silence(address)


def test_somebody_who_answers():
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert silence(f"127.0.0.1:{server.getsockname()[1]}") is None
    assert silence("auto") is None


def test_one_run_of_wandb_for_one_run_folder(tmp_path):
    first = launch.wandb_id(tmp_path, resumes=False)
    assert launch.wandb_id(tmp_path, resumes=True) == first
    assert launch.wandb_id(tmp_path, resumes=False) != first


class Nodes:
    """Of a cluster whose second node goes once it has been looked at `alive_for` times."""

    def __init__(self, alive_for: int):
        self.looks, self.alive_for = 0, alive_for

    def __call__(self) -> list[dict]:
        self.looks += 1
        gone = self.looks > self.alive_for
        second = {"NodeID": "b", "Alive": not gone, "NodeManagerAddress": "10.0.0.2", "DeathReasonMessage": "silent"}
        return [{"NodeID": "a", "Alive": True, "NodeManagerAddress": "10.0.0.1"}, second]


def watchdog(monkeypatch, nodes: Nodes) -> launch.Watchdog:
    monkeypatch.setattr(launch.ray, "nodes", nodes)
    monkeypatch.setattr(launch.time, "sleep", lambda seconds: None)
    context = type("Context", (), {"get_job_id": lambda self: "1"})
    monkeypatch.setattr(launch.ray, "get_runtime_context", context)
    return launch.Watchdog()


def test_a_lost_node_is_named(monkeypatch):
    watch = watchdog(monkeypatch, Nodes(alive_for=3))
    assert watch.lost_node() is None
    assert watch.lost_node(wait=True) == "node 10.0.0.2 has left the cluster: silent"


def test_nodes_that_were_never_there_are_not_missed(monkeypatch):
    watch = watchdog(monkeypatch, Nodes(alive_for=0))
    began = time.monotonic()
    assert watch.lost_node(wait=True) is None, "one node was there at the start, so there is nothing to wait for"
    assert time.monotonic() - began < 5
