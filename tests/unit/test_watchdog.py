"""What stops, goes or never ends, and what is done about it. With processes of the test's own; the real stack is in
tests/e2e/test_chaos.py."""

import os
import signal
import subprocess
import sys
import threading
import time
from itertools import chain, repeat
from unittest.mock import Mock

import pytest

from dsdr_verl.trainer import processes, sentries, watchdog
from dsdr_verl.trainer.processes import Findings, Kind, Process, Watch
from dsdr_verl.trainer.watchdog import RunFailed, Watchdog


class Machine:
    """Processes by hand, and a clock."""

    def __init__(self, monkeypatch):
        self.now, self.processes, self.ended = 0.0, [], []
        monkeypatch.setattr(processes, "of_run", lambda run: iter(self.processes))
        monkeypatch.setattr(processes, "end", self.ended.extend)
        monkeypatch.setattr(processes.time, "monotonic", lambda: self.now)
        self.watch = Watch("run")

    def has(self, *states: tuple[str, Kind, bool]) -> None:
        self.processes = [Process(pid, 1.0, title, kind, stopped) for pid, (title, kind, stopped) in enumerate(states)]

    def after(self, seconds: float) -> Findings:
        self.now += seconds
        return self.watch.look()


@pytest.fixture
def machine(monkeypatch):
    return Machine(monkeypatch)


def test_a_process_that_stands_still(machine):
    machine.has(("ray::WorkerDict.update", Kind.ACTOR, True))
    assert not machine.after(0).faults
    assert not machine.after(Watch.STOPPED_S - 1).faults, "a slow one"
    assert machine.after(2).faults == ["ray::WorkerDict.update (pid 0) has been stopped (SIGSTOP) for 21 s"]


def test_one_that_goes_on_is_forgotten(machine):
    for stopped in (True, False, True):
        machine.has(("ray::WorkerDict", Kind.ACTOR, stopped))
        assert not machine.after(Watch.STOPPED_S - 1).faults


def test_what_can_be_replaced_is(machine):
    machine.has(("ray::ScoringActor.score", Kind.REPLACED, True), ("dashboard", Kind.ASIDE, True))
    machine.after(0)
    found = machine.after(Watch.REPLACED_S)
    assert not found.faults and [process.pid for process in machine.ended] == [0]
    assert "ray::ScoringActor.score (pid 0) had stopped" in found.replaced[0]


def test_only_what_nobody_else_would_miss_is_missed(machine):
    machine.has(("ray::IDLE", Kind.REPLACED, False), ("ray::X", Kind.ACTOR, False), ("raylet", Kind.VITAL, False))
    machine.after(0)
    machine.has()
    assert not machine.after(1).faults and not machine.after(Watch.GONE_S - 1).faults
    assert machine.after(1).faults == ["raylet (pid 2) has gone"]


def test_an_id_that_is_used_again_is_another_process(machine):
    machine.processes = [Process(7, 1.0, "VLLM::Worker", Kind.VITAL, False)]
    machine.after(0)
    machine.processes = [Process(7, 2.0, "VLLM::Worker", Kind.VITAL, False)]
    machine.after(1)
    assert machine.after(Watch.GONE_S).faults == ["VLLM::Worker (pid 7) has gone"]


def test_a_process_without_memory_is_told_after_a_while(machine):
    machine.processes = [
        Process(pid, 1.0, title, kind, False, full=True)
        for pid, (title, kind) in enumerate(
            (("raylet", Kind.VITAL), ("ray::TaskRunnerV1", Kind.ACTOR), ("verifier", Kind.REPLACED), ("x", Kind.ASIDE))
        )
    ]
    assert not machine.after(0).full and not machine.after(Watch.FULL_S - 1).full
    assert machine.after(1).full == ["raylet (pid 0)", "ray::TaskRunnerV1 (pid 1)"] and not machine.after(1).faults
    freed, machine.processes = machine.processes, []
    machine.after(1)
    machine.processes = freed
    assert not machine.after(1).full, "it had some for a while"


class Nodes:
    """Of a cluster whose second node goes once it has been looked at `alive_for` times."""

    def __init__(self, alive_for: int):
        self.looks, self.alive_for = 0, alive_for

    def __call__(self) -> list[dict]:
        self.looks += 1
        gone = self.looks > self.alive_for
        second = {"NodeID": "b", "Alive": not gone, "NodeManagerAddress": "10.0.0.2", "DeathReasonMessage": "silent"}
        return [{"NodeID": "a", "Alive": True, "NodeManagerAddress": "10.0.0.1"}, second]


class Sentries:
    def __init__(self, run):
        self.found, self.ended = Findings(), False

    def look(self):
        return self.found

    def end(self):
        self.ended = True


@pytest.fixture
def make(monkeypatch):
    def watch(nodes=lambda: [], minutes=None, give_up=None, say=print, looks=None) -> Watchdog:
        monkeypatch.setattr(watchdog.ray, "nodes", nodes)
        context = type("Context", (), {"get_job_id": lambda self: "1"})
        monkeypatch.setattr(watchdog.ray, "get_runtime_context", context)
        monkeypatch.setattr(watchdog, "Sentries", Sentries)
        look = Mock(side_effect=chain(looks or [], repeat(Findings())))
        monkeypatch.setattr(watchdog, "Watch", lambda run: Mock(look=look))
        monkeypatch.setattr(Watchdog, "LOOK_S", 0.01)
        monkeypatch.setattr(Watchdog, "RAY_S", 0.0)
        monkeypatch.setattr(Watchdog, "HANG_S", 0.1)
        monkeypatch.setattr(Watchdog, "_dead_actors", lambda self: [])
        return Watchdog("run", say, give_up, minutes)

    return watch


def fails(watch: Watchdog, seconds: float = 5.0) -> str:
    deadline = time.monotonic() + seconds
    with pytest.raises(RunFailed) as failure:
        while time.monotonic() < deadline:
            watch.check()
            time.sleep(0.01)
    return str(failure.value)


def test_a_lost_node_is_named(monkeypatch, make):
    monkeypatch.setattr(watchdog.time, "sleep", lambda seconds: None)
    watch = make(Nodes(alive_for=3))
    assert watch.lost_node() is None
    assert watch.lost_node(wait=True) == "node 10.0.0.2 has left the cluster in start-up: silent"


def test_nodes_that_were_never_there_are_not_missed(make):
    watch = make(Nodes(alive_for=0))
    began = time.monotonic()
    assert watch.lost_node(wait=True) is None, "one node was there at the start, so there is nothing to wait for"
    assert time.monotonic() - began < 5


def test_a_fault_is_told_with_its_stage(make):
    said = []
    looks = [Findings(replaced=["the scorer had stopped"]), Findings(faults=["raylet has gone"])]
    watch = make(looks=looks, say=said.append)
    watch.entered("update", 7)
    with watch:
        assert fails(watch) == "raylet has gone, in update of step 7"
    assert said == ["the scorer had stopped"]


@pytest.mark.parametrize("error", [OSError(24, "Too many open files"), MemoryError()])
def test_a_look_that_fails_is_not_the_last(make, error):
    with make(looks=[error, Findings(faults=["raylet has gone"])]) as watch:
        assert fails(watch) == "raylet has gone, in start-up"


def test_a_driver_that_hangs_is_given_up(make):
    given_up = threading.Event()
    with make(looks=[Findings(faults=["gcs_server has gone"])], give_up=lambda why: given_up.set()):
        assert given_up.wait(5)


@pytest.mark.parametrize("of", ["this machine", "another node"])
def test_a_process_without_memory_ends_a_run_that_stands_still(monkeypatch, make, of):
    found = Findings(full=["ray::TaskRunnerV1 (pid 5)"])
    watch = make(looks=[found] * 500 if of == "this machine" else None)
    if of == "another node":
        watch._sentries.found = found
    monkeypatch.setattr(Watchdog, "QUIET_S", 1.0)
    with watch:
        for step in range(15):
            watch.entered("generation", step)
            watch.check()
            time.sleep(0.1)
        said = fails(watch)
    assert said.startswith("ray::TaskRunnerV1 (pid 5) is at the limit of its address space (`ulimit -v`)")
    assert said.endswith("in generation of step 14")


def test_a_stage_without_end(make):
    watch = make(minutes=0.002)
    watch.entered("validation", 4)
    with watch:
        assert "nothing has come in validation of step 4 for 0 min (health.stage_minutes is 0.002)" in fails(watch)
    with make(minutes=None) as endless:
        time.sleep(0.2)
        endless.check()


def test_what_sentries_find(make):
    watch = make()
    watch._sentries.found = Findings(faults=["VLLM::Worker (pid 5) has gone on node 10.0.0.2"])
    assert fails(watch) == "VLLM::Worker (pid 5) has gone on node 10.0.0.2, in start-up"
    with pytest.raises(RunFailed), watch:
        watch.check()
    assert watch._sentries.ended


def test_a_node_that_cannot_be_looked_at(monkeypatch):
    """One failed look is forgiven, however long ago it was asked for."""
    clock, answers = Mock(), Mock()
    monkeypatch.setattr(sentries.time, "monotonic", clock)
    monkeypatch.setattr(sentries.ray, "wait", lambda refs, timeout: (refs, []))
    monkeypatch.setattr(sentries.ray, "get", answers)
    watched = sentries.Sentries.__new__(sentries.Sentries)
    watched._of, watched._asked = {"10.0.0.2": Mock()}, {}

    def look(now: float, answer: Findings | Exception | None) -> list[str]:
        clock.return_value, answers.side_effect = now, [answer]
        return watched.look().faults

    failed = sentries.ray.exceptions.RayError("no file descriptor")
    assert look(0, None) == look(90, failed) == look(95, Findings()) == look(100, None) == []
    assert look(105, failed) == look(120, failed) == []
    assert look(150, failed) == ["node 10.0.0.2 has not answered for 45 s: RayError: no file descriptor"]


def test_the_end_of_a_scoring_actor_is_its_clients_affair(monkeypatch):
    def died(name):
        cause = Mock(actor_died_error_context=Mock(reason=watchdog.ActorDiedErrorContext.WORKER_DIED))
        return {"ActorID": name, "ActorClassName": name, "Pid": 5, "DeathCause": cause}

    watch = Watchdog.__new__(Watchdog)
    watch._job = "01000000"
    found = {name: died(name) for name in ("ScoringActor", "WorkerDict")}
    monkeypatch.setattr(watchdog.ray._private.state, "actors", lambda **_: found)
    assert [actor["ActorClassName"] for actor in watch._dead_actors()] == ["WorkerDict"]


def test_a_dead_actor_has_some_seconds(monkeypatch, make):
    watch = make()
    context = type("C", (), {"actor_died_error_context": type("D", (), {"error_message": "killed by signal 9"})})
    dead = {"ActorID": "a", "ActorClassName": "WorkerDict", "Pid": 5, "DeathCause": context}
    monkeypatch.setattr(Watchdog, "_dead_actors", lambda self: [dead])
    monkeypatch.setattr(Watchdog, "GRACE_S", 0.3)
    watch.check()
    assert fails(watch) == "WorkerDict (pid 5) died in start-up: killed by signal 9"


def test_a_real_process_is_stopped_and_found(monkeypatch):
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(99)"], env=os.environ | {"DSDR_RUN": "r"}
    )
    try:
        process.send_signal(signal.SIGSTOP)
        while not [p for p in processes.of_run("r") if p.stopped]:
            time.sleep(0.05)
        monkeypatch.setattr(Watch, "STOPPED_S", 0.1)
        watch = Watch("r")
        watch.look()
        time.sleep(0.2)
        assert f"(pid {process.pid}) has been stopped" in watch.look().faults[0]
        assert not processes.end_all("r") and process.wait(5) == -signal.SIGKILL
    finally:
        process.kill()


@pytest.mark.parametrize(("limit", "full"), [("50000000", False), ("unlimited", False), ("$(size)", True)])
def test_a_real_process_at_its_limit(limit, full):
    size = "size() { grep VmSize /proc/$$/status | tr -dc 0-9; }"
    process = subprocess.Popen(
        ["bash", "-c", f"{size}; ulimit -v {limit}; echo; read"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | {"DSDR_RUN": "r"},
    )  # fmt: skip
    try:
        process.stdout.readline()
        assert [p.full for p in processes.of_run("r")] == [full]
    finally:
        process.kill()
        process.communicate()
