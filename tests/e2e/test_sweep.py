"""A sweep of real runs: stopped in one, it goes on from that one's checkpoint, and does not repeat what is finished."""

import json
import signal
import time

import pytest

from dsdr_verl.sweep.launch import RECORD
from tests.e2e.runs import TINY, Started

pytestmark = pytest.mark.e2e


@pytest.mark.timeout(5400)
def test_a_sweep_is_stopped_and_goes_on(tmp_path):
    folder = tmp_path / "runs"
    common = [
        *TINY,
        "trainer.save_freq=1",
        "trainer.val_before_train=true",
        "+ray_kwargs.ray_init.include_dashboard=false",
        "data.max_response_length=24",
    ]
    grids = [["+algorithm=dsdr", "seed=1", "trainer.total_training_steps=30"], ["+algorithm=base"]]
    sweep = {"folder": str(folder), "common": common, "grids": grids, "minutes": 1, "machine": "2 cores"}
    file = tmp_path / "sweep.yaml"
    file.write_text(json.dumps(sweep))

    started = Started(tmp_path / "first", str(file), entry="dsdr_verl.sweep")
    console = folder / "dsdr-seed1-total_training_steps30" / "console.txt"
    deadline = time.monotonic() + 1800
    try:
        while not console.exists() or "checkpoint of step 1 saved" not in console.read_text():
            assert started.process.poll() is None and time.monotonic() < deadline, started.output.read_text()
            time.sleep(0.3)
    finally:
        started.process.send_signal(signal.SIGTERM)
        first = started.wait(120)
    assert first.returncode == 130 and not first.leftovers, first.output
    assert "checkpoint of step 30" not in console.read_text(), "it was to be stopped on its way"
    assert json.loads(console.with_name(RECORD).read_text())["state"] == "stopped"
    assert not (folder / "base").exists()

    second = Started(tmp_path / "second", str(file), entry="dsdr_verl.sweep").wait(900)
    assert second.returncode == 0 and not second.leftovers, second.output
    assert "2 runs" in second.output and "0 of them finished" in second.output
    assert "resuming after step" in console.read_text()
    rows = [json.loads(line) for line in console.with_name("metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["kind"] == "step"] == [*range(1, 31)]
    (validation,) = [json.loads(line) for line in (folder / "base" / "metrics.jsonl").read_text().splitlines()]
    assert validation["kind"] == "validation" and validation["step"] == 0
