import os

import pytest
from huggingface_hub import constants

os.environ.setdefault("VERL_PLATFORM", "cpu")  # before any test imports verl, which settles its platform once a process


@pytest.fixture
def online(monkeypatch, tmp_path):
    """As on a cluster that has the hub: checks of this machine's own folders and cache are not what is tested."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def environment():
    """What a command that a test calls in this process sets is not for all that later tests start."""
    before, pytests = dict(os.environ), {"PYTEST_CURRENT_TEST"}
    yield
    for name in os.environ.keys() - before.keys() - pytests:
        del os.environ[name]
    os.environ |= {name: before[name] for name in before.keys() - pytests}
