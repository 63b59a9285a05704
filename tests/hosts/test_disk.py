"""A real file system that is full while a checkpoint is written."""

import os
import signal
import subprocess
import time

import pytest

from dsdr_verl.trainer.checkpoints import flaw, steps_in
from tests.e2e.runs import TINY, Started, log_tail

pytestmark = [pytest.mark.hosts, pytest.mark.skipif(os.geteuid() != 0, reason="a file system of its own needs root")]
SIZE = 64 * 2**20  # six checkpoints of the tiny model


@pytest.fixture
def disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", disk], check=True)
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def fill(disk, leave: int) -> None:
    """But for `leave` bytes. What the run removes in the meantime is taken too."""
    with open(disk / "filler", "ab") as file:
        while (free := os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize) > leave:
            os.posix_fallocate(file.fileno(), file.tell(), free - leave)
            file.seek(0, os.SEEK_END)


def test_a_disk_that_fills_up(disk, tmp_path):
    root = disk / "checkpoints"
    command = (
        *TINY, "+algorithm=dsdr", f"run_dir={tmp_path / 'run'}", f"trainer.default_local_dir={root}",
        "+ray_kwargs.ray_init.include_dashboard=false", "trainer.save_freq=1",
        "trainer.total_training_steps=500", "trainer.max_actor_ckpt_to_keep=1",
    )  # fmt: skip
    started = Started(tmp_path / "run", *command)
    started.wait_for("checkpoint of step 1 saved", timeout=6000)
    fill(disk, leave=2**20)
    filled = time.monotonic()
    ended = started.wait(120)
    assert ended.returncode == 1, f"{ended.output}\n{log_tail(ended.folder)}"
    assert ended.ended_at - filled < 60 and not ended.leftovers
    half = steps_in(root)[-1]
    assert f"could not be written: {half}, " in ended.output and " MiB free" in ended.output
    *_, whole = [folder for folder in steps_in(root) if flaw(folder) is None]
    assert flaw(half).unfinished and half != whole

    (disk / "filler").unlink()
    started = Started(tmp_path / "run", *command)
    step = int(whole.name.rpartition("_")[2])
    started.wait_for(f"resuming after step {step}", timeout=6000)
    started.wait_for(f"checkpoint of step {step + 1} saved", timeout=600)
    started.process.send_signal(signal.SIGINT)
    assert started.wait(60).returncode == 130 and flaw(root / f"global_step_{step + 1}") is None
