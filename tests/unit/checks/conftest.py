from types import SimpleNamespace

import pytest
from huggingface_hub import constants

from dsdr_verl.checks import machine, model

from .configs import composed


@pytest.fixture(scope="session")
def cpu_config():
    return composed("+algorithm=dsdr", "hardware=cpu")


@pytest.fixture(scope="session")
def gpu_config():
    return composed("+algorithm=dsdr", "hardware=gpu")


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch, tmp_path):
    """Every package, memory enough, nothing in the caches, and no cluster."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DSDR_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(machine, "available_memory", lambda: (24 * machine.GIB, 24 * machine.GIB, "of the machine"))
    for module in (machine, model):
        monkeypatch.setattr(module, "find_spec", lambda name: SimpleNamespace(name=name))
