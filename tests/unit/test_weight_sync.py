"""The sender of weights: where it meets the receiver, and that none of its waits is for ever."""

import asyncio
import subprocess
import sys
import time
from uuid import uuid4

import pytest
import ray
import torch

from dsdr_verl.platform import vllm_rollout
from dsdr_verl.platform.sockets import RUN, of_this_run, remove_left_by
from dsdr_verl.platform.vllm_rollout import WatchedSender
from dsdr_verl.trainer import segments
from tests.e2e.processes import eventually

HANDLE = "ipc:///tmp/rl-colocate-zmq-01000000-replica-0-rank-0.sock"


def test_runs_of_one_machine_do_not_meet(monkeypatch):
    handles = set()
    for run in ("one", "two"):
        monkeypatch.setenv(RUN, run)
        handles.add(of_this_run(HANDLE))
    assert len(handles) == 2 and all(handle.startswith("ipc:///tmp/rl-colocate-zmq-") for handle in handles)
    monkeypatch.delenv(RUN)  # verl's own entry
    assert of_this_run(HANDLE) == HANDLE


@pytest.fixture
def send(tmp_path, monkeypatch):
    monkeypatch.setenv("VERL_PLATFORM", "cpu")

    def to_nobody(call) -> None:
        sender = WatchedSender(f"ipc://{tmp_path}/socket", 1, call=call)
        asyncio.run(sender.async_send_weights(iter([("a", torch.zeros(2))])))

    before = segments.all_names()
    yield to_nobody
    assert segments.all_names() <= before


def test_the_memory_of_a_sender_is_told_as_the_runs(tmp_path, monkeypatch):
    run = uuid4().hex[:8]
    monkeypatch.setenv(RUN, run)
    monkeypatch.setenv("VERL_PLATFORM", "cpu")
    code = f"""
import asyncio, torch
from dsdr_verl.platform.vllm_rollout import WatchedSender
sender = WatchedSender("ipc://{tmp_path}/socket", 1, call=None)
asyncio.run(sender.async_send_weights(iter([("a", torch.zeros(2))])))
"""
    sender = subprocess.Popen([sys.executable, "-c", code])
    try:
        eventually(lambda: any(run in name for name in segments.all_names()), seconds=60)
        remove_left_by(run)  # while it lives: Python's tracker may come first after it
        assert not any(run in name for name in segments.all_names())
    finally:
        sender.kill(), sender.wait()


def test_a_receiver_that_never_comes(send, monkeypatch, tmp_path):
    monkeypatch.setattr(vllm_rollout, "SILENCE_S", 0.5)
    with pytest.raises(TimeoutError, match="done nothing"):
        send(None)
    assert not list(tmp_path.iterdir())


def test_a_receiver_that_has_failed(send, monkeypatch):
    """Its own words come at once, though it has never come to the socket."""

    def failed(call):
        raise OSError("no more weights")

    monkeypatch.setattr(ray, "wait", lambda calls, timeout: (calls, []))
    monkeypatch.setattr(ray, "get", failed)
    start = time.monotonic()
    with pytest.raises(OSError, match="no more weights"):
        send(object())
    assert time.monotonic() - start < vllm_rollout.SILENCE_S / 2


def test_a_receiver_that_returns_early(send, monkeypatch):
    monkeypatch.setattr(ray, "wait", lambda calls, timeout: (calls, []))
    monkeypatch.setattr(ray, "get", lambda call: None)
    with pytest.raises(RuntimeError, match="before it had all weights"):
        send(object())
