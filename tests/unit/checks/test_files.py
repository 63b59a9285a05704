"""The user's own files of problems."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from .configs import ACTOR, assert_one, problems

SMALL = {"data.train_batch_size": 1, f"{ACTOR}.ppo_mini_batch_size": 1}
BIG = {"data.train_batch_size": 64, f"{ACTOR}.ppo_mini_batch_size": 64}


def row(index: int) -> dict:
    return {
        "data_source": "test",
        "prompt": [{"role": "user", "content": f"{index} + 1 ="}],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": str(index + 1)},
        "extra_info": {"index": index},
    }


@pytest.fixture
def files(tmp_path):
    rows = [row(index) for index in range(20)]
    parquet, jsonl = tmp_path / "train.parquet", tmp_path / "val.jsonl"
    pq.write_table(pa.Table.from_pylist(rows), parquet)
    jsonl.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"data.task": None, "data.train_files": str(parquet), "data.val_files": [str(jsonl)]}


def test_good_files(cpu_config, files):
    assert problems(cpu_config, files) == []
    remote = {"data.train_files": "hdfs://somewhere/train.parquet"}
    assert problems(cpu_config, {**files, **remote}) == []


@pytest.mark.parametrize("lacking", ["prompt", "reward_model"])
@pytest.mark.parametrize("key", ["data.train_files", "data.val_files"])
def test_a_row_that_lacks_something(cpu_config, files, key, lacking, tmp_path):
    bad = tmp_path / "bad.jsonl"
    bad.write_text(json.dumps({name: value for name, value in row(1).items() if name != lacking}) + "\n")
    found = problems(cpu_config, {**files, **SMALL, key: str(bad)})
    assert_one(found, f"{key}: {bad}", f"`{lacking}`")


def test_a_file_that_is_damaged(cpu_config, files, tmp_path):
    (tmp_path / "train.parquet").write_bytes(b"PAR1 and nothing else")
    assert_one(problems(cpu_config, files), f"data.train_files: {tmp_path / 'train.parquet'}", "it is damaged")


def test_another_prompt_key(cpu_config, files):
    assert any("question" in problem for problem in problems(cpu_config, {**files, "data.prompt_key": "question"}))


def test_fewer_rows_than_a_batch(cpu_config, files):
    assert_one(problems(cpu_config, {**files, **BIG}), "data.train_batch_size is 64", "20 rows", "at most 20")
    assert problems(cpu_config, {**files, **BIG, "data.train_files": [files["data.train_files"]] * 4}) == []
    jsonl = {"data.train_files": files["data.val_files"]}
    assert_one(problems(cpu_config, {**files, **BIG, **jsonl}), "data.train_batch_size is 64", "20 rows")
    few = problems(cpu_config, {**files, "data.train_max_samples": 4})
    assert_one(few, "data.train_batch_size is 8", "4 rows", "at most 4")
    task = problems(cpu_config, {"data.train_batch_size": 1000, f"{ACTOR}.ppo_mini_batch_size": 1000})
    assert_one(task, "data.train_batch_size is 1000", "data.task=arithmetic has", "set it to at most")
