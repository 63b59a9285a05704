"""A run that cannot go on ends within a minute, says why, and leaves no process behind."""

import contextlib
import ipaddress
import time
from pathlib import Path

import psutil
import pytest

from dsdr_verl.trainer.checkpoints import flaw
from dsdr_verl.trainer.watchdog import Watchdog
from tests.e2e.runs import TINY, Run, Started, log_tail

pytestmark = pytest.mark.e2e
REPOSITORY = Path(__file__).resolve().parents[2]


def must_have_failed(finished: Run, since: float, *says: str) -> None:
    assert finished.returncode == 1, f"{finished.output}\n{log_tail(finished.folder)}"
    assert "the run has failed" in finished.output and "train.log" in finished.output
    assert all(text in finished.output for text in says), finished.output
    assert finished.ended_at - since < 60
    assert not finished.leftovers, finished.leftovers


def test_a_dead_worker(tmp_path):
    started = Started(tmp_path, *TINY, f"run_dir={tmp_path}", "+algorithm=dsdr", "trainer.total_training_steps=500")
    started.wait_for("step    1", timeout=900)
    assert not seen_from_outside(started), "services listen at loopback only"
    killed_at = time.monotonic()
    worker = next(p for p in started.processes() if " ".join(p.cmdline()).startswith("VLLM::Worker"))
    worker.kill()
    must_have_failed(started.wait(timeout=90), killed_at, f"VLLM::Worker (pid {worker.pid})", "of step ")


def test_a_scoring_actor_that_does_not_come_up(tmp_path):
    """One that is killed is replaced, and the run goes on; that does not go on for ever when each new one is killed."""
    started = Started(tmp_path, *TINY, f"run_dir={tmp_path}", "+algorithm=dsdr", "trainer.total_training_steps=5000")
    killed: set[int] = set()

    def kill_those_there() -> None:
        for process in started.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                if "ScoringActor" in " ".join(process.cmdline()):
                    process.kill()
                    killed.add(process.pid)

    started.wait_for("step    1", timeout=900)
    kill_those_there()
    time.sleep(Watchdog.GRACE_S + 2 * Watchdog.RAY_S)  # after which any other actor's death ends the run
    assert started.process.poll() is None and killed, log_tail(tmp_path)
    since = time.monotonic()
    while started.process.poll() is None and time.monotonic() < since + 90:
        kill_those_there()
        time.sleep(0.05)
    must_have_failed(started.wait(timeout=1), since, "one scoring actor after the other has died", "of step ")
    assert len(killed) > 3


def seen_from_outside(started: Started) -> list[str]:
    """Where other machines could reach the run."""
    found = []
    for process in started.processes():
        for connection in process.net_connections("inet"):
            address = ipaddress.ip_address(connection.laddr.ip)
            address = getattr(address, "ipv4_mapped", None) or address
            if connection.status == psutil.CONN_LISTEN and not address.is_loopback:
                found.append(f"{process.cmdline()} at {connection.laddr}")
    return found


def test_a_failed_weight_sync(tmp_path):
    """verl's sender would wait for ever."""
    started = Started(
        tmp_path, *TINY, f"run_dir={tmp_path}", "+algorithm=dsdr", "trainer.total_training_steps=500",
        "actor_rollout_ref.rollout.engine_kwargs.vllm.worker_extension_cls=tests.e2e.faulty_worker.FailingExtension",
        env={"PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    started.wait_for("ready", timeout=900)
    started.wait_for("no more weights", timeout=600, file="train.log")
    failed_at = time.monotonic()
    must_have_failed(started.wait(timeout=90), failed_at, "weight sync after step 1 failed", "says the test")


def test_numbers_that_are_none(tmp_path):
    """A learning rate that no weight survives, from the second step on: the run ends by itself, and keeps the last
    checkpoint that is good, not the one with the weights that gave no numbers."""
    started = Started(
        tmp_path, *TINY, f"run_dir={tmp_path}", "+algorithm=dsdr", "trainer.total_training_steps=500",
        "trainer.save_freq=1", "trainer.max_actor_ckpt_to_keep=1", "actor_rollout_ref.actor.optim.lr=1e30",
        "actor_rollout_ref.actor.optim.lr_warmup_steps=2",
    )  # fmt: skip
    started.wait_for("ALARM", timeout=900)
    ended = started.wait(timeout=600)
    must_have_failed(ended, ended.ended_at, "actor/entropy is nan (health.stop_on has not_finite)")
    first = min(int(row["step"]) for row in ended.rows("step") if row["metrics"]["health/not_finite"])
    (kept,) = (tmp_path / "checkpoints").glob("global_step_*")
    assert int(kept.name.rpartition("_")[2]) == first - 2 and flaw(kept) is None
    assert (tmp_path / "checkpoints" / f"left_global_step_{first - 1}").is_dir()
