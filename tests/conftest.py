import os
from unittest import mock

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
    with mock.patch.dict(os.environ):
        yield
