"""`python -m dsdr_verl.evaluate` on the tiny model, with vLLM, Ray and the scoring service."""

import json
import os
import signal
import time

import pandas as pd
import pytest

from dsdr_verl.evaluate import compare
from dsdr_verl.evaluate.store import RolloutStore
from tests.e2e.runs import Run, Started

pytestmark = pytest.mark.e2e

PROBLEMS, N = 24, 4
TINY = ("model=tiny", "task=tiny_arithmetic", "sampling=untempered", f"n={N}", f"limit={PROBLEMS}", "max_tokens=24")
# one problem at a time, each saved at once: a run to be ended in its middle
SLOW = ("engine.capacity.max_num_seqs=1", "save_seconds=0")
TEXT = ["response", "seed", "tokens", "truncated", "verdict", "acc", "answer"]


def evaluate(folder, *overrides: str) -> Started:
    return Started(folder, *TINY, f"output={folder}", *overrides, entry="dsdr_verl.evaluate")


def rollouts(folder) -> pd.DataFrame:
    store = RolloutStore(folder / "rollouts", "", 0)
    frame = store.read(list(store.samples()), 1000).set_index(["problem", "sample"]).sort_index()
    assert frame.index.is_unique, "no sample is drawn twice"
    return frame


def wait_for_shards(started: Started, more: int) -> None:
    before = len(list((started.folder / "rollouts").glob("*.parquet")))
    deadline = time.monotonic() + 600
    while len(list((started.folder / "rollouts").glob("*.parquet"))) < before + more:
        assert started.process.poll() is None, started.output.read_text()
        assert time.monotonic() < deadline, started.output.read_text()
        time.sleep(0.05)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Run:
    """An evaluation from start to end, by two engines."""
    finished = evaluate(tmp_path_factory.mktemp("whole"), "engine.replicas=2").wait()
    assert finished.returncode == 0, finished.output
    assert not finished.leftovers, finished.leftovers
    return finished


def test_what_it_prints_and_leaves(whole):
    assert f"Avg@{N} = pass@1" in whole.output and "dsdr/tiny_arithmetic" in whole.output
    assert "Traceback" not in whole.output and "WARNING" not in whole.output, "noise belongs to the log"
    frame = rollouts(whole.folder)
    assert len(frame) == PROBLEMS * N and frame["seed"].is_unique
    assert 0 < frame["acc"].mean() < 1 and frame["response"].nunique() > PROBLEMS
    assert frame["tokens"].between(1, 24).all() and (frame["tokens"][frame["truncated"]] == 24).all()

    table = pd.read_parquet(whole.folder / "problems.parquet")
    assert len(table) == PROBLEMS and table["n"].eq(N).all()
    (source,) = json.loads((whole.folder / "summary.json").read_text())["sources"].values()
    assert source["pass@1"]["estimate"] == pytest.approx(frame["acc"].mean())
    assert source["pass@1"]["low"] < source["pass@1"]["estimate"] <= source["pass@4"]["estimate"]
    assert source["semantic"]["estimate"] > 0


def test_killed_twice_and_resumed_it_is_the_same(whole, tmp_path):
    """Killed outright, then its engine, then a resume with another batch: the samples are those of a whole run."""
    killed = evaluate(tmp_path, *SLOW)
    wait_for_shards(killed, 2)
    killed.process.send_signal(signal.SIGKILL)
    assert not killed.wait(60, to_leave=60).leftovers
    after_first = set(rollouts(tmp_path).index)
    assert 0 < len(after_first) < PROBLEMS * N

    broken = evaluate(tmp_path, *SLOW)
    wait_for_shards(broken, 1)
    engine = next(p for p in broken.processes() if "EngineCore" in " ".join(p.cmdline()) + p.name())
    engine.kill()
    ended = broken.wait(120)
    assert ended.returncode == 1 and "the evaluation has failed" in ended.output, ended.output
    assert "the same command goes on from here" in ended.output and not ended.leftovers
    after_second = set(rollouts(tmp_path).index)
    assert after_first < after_second < set(rollouts(whole.folder).index)

    resumed = evaluate(tmp_path).wait()
    assert resumed.returncode == 0, resumed.output
    assert f"samples    {PROBLEMS * N}, of which {len(after_second)} are there" in resumed.output
    pd.testing.assert_frame_equal(rollouts(tmp_path)[TEXT], rollouts(whole.folder)[TEXT])
    a, b = (pd.read_parquet(folder / "problems.parquet") for folder in (tmp_path, whole.folder))
    pd.testing.assert_frame_equal(a, b, rtol=1e-5)


def test_another_setting_is_refused_before_anything_starts(whole):
    before = {path: path.stat().st_mtime_ns for path in whole.folder.rglob("*") if path.name != "console.txt"}
    ended = evaluate(whole.folder, "sampling.temperature=0.5", "max_tokens=25").wait(60)
    assert ended.returncode == 2
    assert "sampling.temperature was 1.0 and is 0.5" in ended.output and "max_tokens was 24 and is 25" in ended.output
    after = {path: path.stat().st_mtime_ns for path in whole.folder.rglob("*") if path.name != "console.txt"}
    assert {p.name for p in before if before[p] != after.get(p)} <= {".lock"}


def test_two_seeds_more_samples_and_stopping(whole, tmp_path, capsys):
    """Ctrl-C keeps what is finished; n may be raised; two seeds differ in their samples and not by the test."""
    other = tmp_path / "other"
    started = evaluate(other, "seed=1", "n=2", *SLOW)
    wait_for_shards(started, 1)
    os.kill(started.process.pid, signal.SIGINT)
    ended = started.wait(60)
    assert ended.returncode == 130 and "the same command goes on from here" in ended.output, ended.output
    assert not ended.leftovers
    first = rollouts(other)
    assert 0 < len(first) < 2 * PROBLEMS

    raised = evaluate(other, "seed=1").wait()
    assert raised.returncode == 0, raised.output
    frame = rollouts(other)
    assert len(frame) == PROBLEMS * N
    pd.testing.assert_frame_equal(frame.loc[first.index, TEXT], first[TEXT])
    assert (frame["response"] != rollouts(whole.folder)["response"]).mean() > 0.5

    assert compare.main([str(whole.folder), str(other)]) == 0
    assert "seed is 0 in the baseline and 1 in the candidate" in capsys.readouterr().out
    rows = compare.paired(*map(compare.read_evaluation, (whole.folder, other)))
    assert min(row.adjusted_p for row in rows if row.quantity.startswith("pass@")) > 1e-3


def test_other_scoring_scores_anew_and_samples_nothing(whole):
    before = rollouts(whole.folder)
    strict = evaluate(whole.folder, "scoring.verifier.require_boxed=true").wait()
    assert strict.returncode == 0, strict.output
    assert "scoring anew" in strict.output and "sampling:" not in strict.output
    after = rollouts(whole.folder)
    assert (after["response"] == before["response"]).all()
    boxed = after["response"].str.contains(r"\boxed", regex=False)
    assert (after["verdict"][~boxed] == "no_answer").all() and (before["verdict"][~boxed] != "no_answer").any()
    assert after["acc"].sum() < before["acc"].sum()
    assert not strict.leftovers
