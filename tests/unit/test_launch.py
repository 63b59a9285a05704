import socket
import time

import pytest
from omegaconf import OmegaConf

from dsdr_verl.ray_address import silence
from dsdr_verl.trainer import launch
from dsdr_verl.trainer.traces import Traces
from dsdr_verl.trainer.watchdog import RunFailed


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
    with pytest.raises(RunFailed, match="RAY_ADDRESS: no Ray answers at 127"):
        launch.start_ray(config, Traces("run", tmp_path))
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
    (tmp_path / "wandb_id").write_text("")  # as a full disk leaves it
    assert launch.wandb_id(tmp_path, resumes=True)
