import os

import pytest
from huggingface_hub import constants

from dsdr_verl import ray_address

os.environ.setdefault("VERL_PLATFORM", "cpu")  # before any test imports verl, which settles its platform once a process


@pytest.fixture
def online(monkeypatch, tmp_path):
    """As on a cluster that has the hub: checks of this machine's own folders and cache are not what is tested."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def as_ray_was_before():
    """A command that a test calls in this process prepares Ray in it, and all that later tests start would inherit."""
    unset = {ray_address.ALONE, *ray_address.FEWER_TASKS} - set(os.environ)
    yield
    for name in unset:
        os.environ.pop(name, None)
