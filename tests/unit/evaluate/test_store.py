"""Shards: what is on disk after what, and which samples are still to be drawn."""

import pyarrow.parquet as pq
import pytest

from dsdr_verl.evaluate.sampling import encodable, missing
from dsdr_verl.evaluate.store import SCHEMA, RolloutStore
from tests.unit.evaluate.conftest import problem, rollout

A, B = problem(1), problem(2)


def store(folder, mark="m", save_seconds=1e9):
    return RolloutStore(folder / "rollouts", mark, save_seconds)


def test_rows_come_back_as_they_were(tmp_path):
    hostile = encodable("half a pair \ud83d, \x00, \u202e and \U0001f600")
    rows = [
        rollout(A, 0, response=hostile, answer="7", acc=1.0, formula_ids=[-(2**63), 5], embedding=[0.5, -0.25]),
        rollout(A, 1, truncated=True),
    ]
    first = store(tmp_path)
    first.add(rows)
    first.save()
    assert pq.read_table(next((tmp_path / "rollouts").glob("*"))).to_pylist() == rows
    frame = first.read([A.key], 2)
    assert frame["answer"].tolist() == ["7", None] and frame["mode"].tolist() == [None, None]
    assert frame["response"][0] == hostile


def test_saved_by_time_and_at_the_end(tmp_path):
    waits, at_once = store(tmp_path / "a"), store(tmp_path / "b", save_seconds=0)
    for each in (waits, at_once):
        each.add([rollout(A, 0)])
    assert waits.samples() == {} and at_once.samples() == {A.key: {0}}
    waits.save()
    waits.save()
    assert waits.samples() == {A.key: {0}} and len(waits.shards()) == 1, "nothing is written twice"


def test_a_resumed_store_adds_shards(tmp_path):
    for number in range(3):
        again = store(tmp_path)
        again.add([rollout(A, number)])
        again.save()
    assert [path.name for path in again.shards()] == ["00000.parquet", "00001.parquet", "00002.parquet"]
    assert again.samples() == {A.key: {0, 1, 2}}


def test_what_is_missing():
    there = {A.key: {0, 1, 3}, B.key: {0, 1}}
    assert missing([A, B], 2, there) == {}
    assert missing([A, B], 4, there) == {A.key: (2,), B.key: (2, 3)}
    assert missing([A, problem(1, source="other")], 1, there) == {"other/id1": (0,)}


def test_read_is_in_the_order_of_the_problems_and_no_more_than_n(tmp_path):
    mixed = store(tmp_path)
    mixed.add([rollout(B, 1), rollout(A, 2), rollout(B, 0), rollout(A, 0), rollout(A, 1), rollout(problem(9), 0)])
    mixed.save()
    frame = mixed.read([A.key, B.key], 2)
    assert list(zip(frame["problem"], frame["sample"], strict=True)) == [(p.key, i) for p in (A, B) for i in (0, 1)]


def test_a_write_that_was_cut_short_leaves_no_shard(tmp_path):
    whole = store(tmp_path)
    (whole.folder / ".00000.parquet.part").write_bytes(b"PAR1")
    assert whole.shards() == [] and whole.samples() == {}


def test_a_broken_shard_is_named(tmp_path):
    broken = store(tmp_path)
    (broken.folder / "00000.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ValueError, match=r"00000.parquet is broken .* delete it"):
        broken.samples()


def test_scores_of_other_options_are_stale(tmp_path):
    old = store(tmp_path, "old")
    old.add([rollout(A, 0)])
    old.save()
    assert list(old.stale()) == []
    new = store(tmp_path, "new")
    ((path, rows),) = new.stale()
    new.write(path, [row | {"acc": 1.0} for row in rows])
    assert list(new.stale()) == [] and new.read([A.key], 1)["acc"].tolist() == [1.0]
    assert pq.read_schema(path).remove_metadata() == SCHEMA
