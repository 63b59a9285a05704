"""What is left of a run and whose it is."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from dsdr_verl.platform.sockets import RUN
from dsdr_verl.trainer import processes
from dsdr_verl.trainer import traces as traces_of_runs
from dsdr_verl.trainer.traces import Traces
from tests.e2e.processes import eventually, runs


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv(RUN, "")
    monkeypatch.setenv("SPT_NOENV", "")


def child(run: str, code: str = "import time; print(flush=True); time.sleep(100)") -> subprocess.Popen:
    process = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {RUN: run}, stdout=subprocess.PIPE)
    process.stdout.readline()
    return process


def test_nothing_is_left(tmp_path):
    traces = Traces.begin()
    session, logs = tmp_path / "ray" / "session_1", tmp_path / "logs"
    (session / "logs").mkdir(parents=True)
    (session / "logs" / "gcs_server.err").write_text("why")
    (session.parent / "session_latest").symlink_to(session)
    traces.note(session=str(session))
    meeting = Path(f"/tmp/rl-colocate-zmq-{traces.run}-1.sock"), Path(f"/dev/shm/verl_weights_{traces.run}_1")
    for path in meeting:
        path.touch()
    stopped, other = child(traces.run), child("another")
    stopped.send_signal(signal.SIGSTOP)
    assert runs(traces.janitor.pid) and traces.remove(logs=logs) and not runs(traces.janitor.pid)
    assert stopped.wait(10) == -signal.SIGKILL and other.poll() is None
    other.kill()
    assert not any(path.exists() for path in meeting)
    assert not list(tmp_path.glob("dsdr-run-*")) and not list(session.parent.iterdir())
    assert (logs / "gcs_server.err").read_text() == "why"


@pytest.mark.parametrize("came_up", [True, False])
def test_the_session_of_a_ray_goes_whether_it_came_up_or_not(tmp_path, monkeypatch, came_up):
    older, other, mine = (tmp_path / f"session_{n}" for n in (f"1_{os.getpid()}", "2_1", f"3_{os.getpid()}"))
    older.mkdir()
    os.utime(older, (1, 1))
    traces = Traces.begin()
    node = SimpleNamespace(get_session_dir_path=lambda: str(mine))
    monkeypatch.setattr("ray._private.worker._global_node", node)
    with contextlib.suppress(ConnectionError), traces.of_ray(str(tmp_path)):
        other.mkdir()
        mine.mkdir()
        if not came_up:
            raise ConnectionError
    if came_up:
        assert json.loads((traces.folder / "run.json").read_text())["session"] == str(mine)
    traces.remove()
    assert {path.name for path in tmp_path.glob("session_*")} == {older.name, other.name}


def test_a_cluster_that_is_joined_is_not_ours_to_remove(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    traces = Traces.begin()
    with traces.of_ray():
        pass
    assert traces.session is None
    traces.remove()


HOLD = """
from multiprocessing import resource_tracker, shared_memory
resource_tracker.register = lambda *_: None
held = shared_memory.SharedMemory(name={name!r}, create={create}, size=64)
print(flush=True)
import time; time.sleep(99)
"""


@pytest.mark.parametrize("killed", [True, False])
def test_memory_of_the_run_goes_and_that_of_others_stays(killed, monkeypatch):
    monkeypatch.setattr(traces_of_runs, "LOOK_S", 0.1)
    traces = Traces.begin()
    names = {name: f"dsdr_test_{os.getpid()}_{name}" for name in ("mine", "shared", "others")}
    mine = child(traces.run, HOLD.format(name=names["mine"], create=True))
    both = child(traces.run, HOLD.format(name=names["shared"], create=True))
    user = child("another", HOLD.format(name=names["shared"], create=False))
    other = child("another", HOLD.format(name=names["others"], create=True))
    if killed:  # before the end, which does not see it any more
        eventually(lambda: names["mine"] in (traces.folder / "run.json").read_text())
        mine.kill(), mine.wait()
    traces.remove()
    there = {name for name, path in names.items() if Path(f"/dev/shm/{path}").exists()}
    for process in (mine, both, user, other):
        process.kill(), process.wait()
    for path in names.values():
        Path(f"/dev/shm/{path}").unlink(missing_ok=True)
    assert there == {"shared", "others"}


def test_a_note_forgets_what_has_gone():
    traces = Traces.begin()
    name = f"dsdr_test_{os.getpid()}_a_rather_long_name"
    mine = child(traces.run, HOLD.format(name=name, create=True))

    def noted() -> list[str]:
        traces.note()
        return json.loads((traces.folder / "run.json").read_text())["segments"]

    assert noted() == [name]
    mine.kill(), mine.wait()
    assert noted() == [name], "left by it"
    Path(f"/dev/shm/{name}").unlink()
    assert noted() == []
    traces.remove()


def ignores(pid: int, number: signal.Signals) -> bool:
    (mask,) = re.findall(r"^SigIgn:\s*(\w+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return bool(int(mask, 16) & 1 << (number - 1))


BEGIN = """
from dsdr_verl.trainer.traces import Traces
traces = Traces.begin()
print(traces.run, traces.janitor.pid, flush=True)
import time; time.sleep(99)
"""


@pytest.mark.parametrize("janitor", [True, False])
def test_what_a_killed_driver_has_left_goes(tmp_path, janitor):
    """With it, or with the next run if both are killed."""
    driver = subprocess.Popen(
        [sys.executable, "-c", BEGIN], stdout=subprocess.PIPE, text=True, env=os.environ | {"TMPDIR": str(tmp_path)}
    )
    run, pid = driver.stdout.readline().split()
    orphan = child(run)
    Traces.begin().remove()
    eventually(lambda: ignores(int(pid), signal.SIGTERM))
    os.kill(int(pid), signal.SIGTERM)
    time.sleep(1)
    assert driver.poll() is None and orphan.poll() is None and runs(int(pid)), "it lives"
    if not janitor:
        os.kill(int(pid), signal.SIGKILL)
    driver.kill()
    driver.wait()
    if not janitor:
        Traces.begin().remove()
    assert orphan.wait(20) == -signal.SIGKILL
    eventually(lambda: not list(tmp_path.glob("dsdr-run-*")) and not runs(int(pid)))


def test_what_is_being_removed_is_waited_for(tmp_path):
    """A run that is killed and started again must not share its folder with what is left of the first."""
    slow = BEGIN.replace(
        "import time; time.sleep(99)",
        """
import os, threading, time
from dsdr_verl.trainer import processes
traces.janitor.kill()
os.close(traces.lock)
end_all = processes.end_all
processes.end_all = lambda run: (print("removes", flush=True), time.sleep(1.5), end_all(run))
from dsdr_verl.trainer.traces import remove_abandoned
remove_abandoned(traces.folder / "run.json")
""",
    )
    other = subprocess.Popen(
        [sys.executable, "-c", slow], stdout=subprocess.PIPE, text=True, env=os.environ | {"TMPDIR": str(tmp_path)}
    )
    run = other.stdout.readline().split()[0]
    assert other.stdout.readline() == "removes\n"
    left = tmp_path / f"dsdr-run-{run}"
    assert left.exists()
    traces = Traces.begin()
    assert not left.exists()
    traces.remove()
    assert other.wait(20) == 0


@pytest.mark.parametrize(
    "note",
    ['{"run": "other", "segments": [], "session": "victim"}', "[]", '{"run": "x", "since": 0, "hm": 1}', "\udcff"],
)
def test_a_note_that_is_none(tmp_path, note):
    victim = tmp_path / "victim"
    victim.mkdir()
    folder = tmp_path / "dsdr-run-x"
    folder.mkdir()
    (folder / "run.json").write_bytes(
        note.replace("victim", json.dumps(str(victim))[1:-1]).encode(errors="surrogateescape")
    )
    Traces.begin().remove()
    assert victim.exists() and folder.exists()


def test_ray_that_does_not_go(monkeypatch):
    monkeypatch.setattr(traces_of_runs, "RAY_S", 0.2)
    assert not Traces.begin().remove(ray_shutdown=lambda: time.sleep(3))

    def fails():
        raise RuntimeError("no Ray")

    assert Traces.begin().remove(ray_shutdown=fails)


def test_titles_and_kinds():
    for line, title, kind in (
        ("ray::WorkerDict.actor_update", "ray::WorkerDict.actor_update", processes.Kind.ACTOR),
        ("ray::dsdr_scoring_0:ScoringActor.score", "ray::dsdr_scoring_0:ScoringActor.score", processes.Kind.REPLACED),
        ("/x/ray/core/src/ray/gcs/gcs_server --log_dir=/tmp", "gcs_server", processes.Kind.VITAL),
        ("/x/ray/core/src/ray/raylet/raylet --raylet_socket_name=/t", "raylet", processes.Kind.VITAL),
        ("/v/bin/python -u /x/ray/_private/log_monitor.py --session", "python log_monitor.py", processes.Kind.ASIDE),
        ("python default_worker.py --raylet-name=/s/raylet --x", "python default_worker.py", processes.Kind.ACTOR),
        ("VLLM::EngineCore", "VLLM::EngineCore", processes.Kind.VITAL),
        ("python -c import x; zygote.serve(5, 512)", "verifier", processes.Kind.REPLACED),
        ("python -m vllm.registry", "python vllm.registry", processes.Kind.ACTOR),
        ("tail -f x", "tail", processes.Kind.ACTOR),
    ):
        assert processes.title_of(f"{line} ") == title
        assert processes.kind_of(f"{line} ") == kind


def test_a_process_with_a_title_is_the_runs():
    """Ray's agents overwrote what marks them."""
    traces = Traces.begin()
    titled = child(
        traces.run, "import setproctitle, time; setproctitle.setproctitle('t'); print(flush=True); time.sleep(99)"
    )
    found = [(process.pid, process.title) for process in processes.of_run(traces.run)]
    traces.remove()
    assert found == [(titled.pid, "t")] and titled.wait(10) == -signal.SIGKILL
