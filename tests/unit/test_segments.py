"""Whose shared memory is: that of processes of their own, as a killed one's."""

import os
import subprocess
import sys
from uuid import uuid4

import pytest

from dsdr_verl.platform.sockets import RUN
from dsdr_verl.trainer import segments
from dsdr_verl.trainer.sentries import Sentry

SEGMENT = """
from multiprocessing import resource_tracker, shared_memory
resource_tracker.register = lambda *_: None
held = shared_memory.SharedMemory(name={name!r}, create=True, size=64)
"""
SEMAPHORE = """
from _multiprocessing import SemLock
held = SemLock(1, 1, 1, "/" + {name!r}.removeprefix("sem."), False)
"""
REMOVED = """
import os
held = open("/dev/shm/" + {name!r}, "w+b")
held.write(b"x"), held.flush()
import mmap
held = mmap.mmap(held.fileno(), 1)
os.unlink("/dev/shm/" + {name!r})
"""


def holder(code: str, name: str, env: dict[str, str] | None = None) -> subprocess.Popen:
    code = code.format(name=name) + "print(flush=True); import time; time.sleep(99)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=env)
    process.stdout.readline()
    return process


@pytest.mark.parametrize(("code", "prefix"), [(SEGMENT, "dsdr_test_"), (SEMAPHORE, "sem.dsdr_test_")])
def test_what_is_open_stays_and_what_a_killed_process_has_left_goes(code, prefix):
    name = prefix + uuid4().hex[:8]
    process = holder(code, name)
    try:
        assert segments.open_in([process.pid]) == {name} and not segments.open_in([os.getpid()]) & {name}
        segments.remove({name})
        assert (segments.SHARED_MEMORY / name).exists()
        process.kill(), process.wait()
        assert segments.open_in([process.pid]) == set(), "it has gone"
        assert name in segments.all_names()
        segments.remove({name})
        assert name not in segments.all_names()
        segments.remove({name})
    finally:
        process.kill()
        (segments.SHARED_MEMORY / name).unlink(missing_ok=True)


def test_another_node_keeps_nothing_of_a_run(monkeypatch):
    """Of a process that was killed after the last look but one, and of one that lives."""
    name, run = f"dsdr_test_{uuid4().hex[:8]}", uuid4().hex[:8]
    monkeypatch.setenv(RUN, run)
    killed, lives = holder(SEGMENT, f"{name}_a"), holder(SEGMENT, f"{name}_b")
    other = holder(SEGMENT, f"{name}_c", {**os.environ, RUN: "another"})
    monkeypatch.setenv(RUN, "")
    try:
        sentry = Sentry(run)
        sentry.look()
        weights = segments.SHARED_MEMORY / f"verl_weights_{run}_1"
        weights.touch()  # by one that was killed before the next look
        killed.kill(), killed.wait()
        sentry.end()
        assert lives.wait(10) < 0 and other.poll() is None and not weights.exists()
        assert {each for each in segments.all_names() if each.startswith(name)} == {f"{name}_c"}
    finally:
        for process in (killed, lives, other):
            process.kill()
        for path in segments.SHARED_MEMORY.glob(f"{name}_*"):
            path.unlink()


def test_what_was_removed_is_nobodys():
    process = holder(REMOVED, f"dsdr_test_{uuid4().hex[:8]}")
    assert segments.open_in([process.pid]) == set()
    process.kill()


def test_a_name_does_not_leave_the_folder(tmp_path):
    (tmp_path / "victim").touch()
    segments.remove({str(tmp_path / "victim"), f"../..{tmp_path}/victim", ""})
    assert (tmp_path / "victim").exists()
