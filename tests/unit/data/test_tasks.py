"""Rows are deterministic, disjoint between splits, right, and what verl reads."""

import math

import pytest
from omegaconf import OmegaConf

from dsdr_verl.data import schema, tasks

NAMES = [name for name, task in tasks.TASKS.items() if isinstance(task, tasks.Task)]


def _questions(rows):
    return [row["extra_info"]["question"] for row in rows]


@pytest.mark.parametrize("name", NAMES)
def test_deterministic_and_seeded(name):
    size = tasks.TASKS[name].val_size
    rows = tasks.make_arithmetic("train", size, seed=1, task=name)
    assert rows == tasks.make_arithmetic("train", size, seed=1, task=name)
    assert _questions(rows) != _questions(tasks.make_arithmetic("train", size, seed=2, task=name))


@pytest.mark.parametrize("name", NAMES)
def test_splits_share_no_problem(name):
    task = tasks.TASKS[name]

    def keys(split, size, seed):
        rows = task.problems(split, size, seed)
        assert len(set(rows)) == size
        return {(p.kind, tuple(p.operands if p.kind == "difference" else sorted(p.operands))) for p in rows}

    for seed in range(3):
        assert not keys("train", task.train_size, seed) & keys("val", task.val_size, 0)


@pytest.mark.parametrize("name", NAMES)
def test_no_example_is_asked(name):
    for row in tasks.make_arithmetic("train", tasks.TASKS[name].train_size, task=name):
        *examples, question = (m["content"] for m in row["prompt"] if m["role"] == "user")
        assert question.replace(" ", "") not in {text.replace(" ", "") for text in examples}


@pytest.mark.parametrize("name", NAMES)
def test_ground_truths_are_right(name):
    for index, row in enumerate(tasks.make_arithmetic("train", tasks.TASKS[name].train_size, task=name)):
        question = row["prompt"][-1]["content"]
        assert set(question) <= set("0123456789+-* ")
        assert row["reward_model"] == {"style": "rule", "ground_truth": str(eval(question))}
        assert row["extra_info"]["index"] == index and row["extra_info"]["split"] == "train"
        assert int(row["reward_model"]["ground_truth"]) >= 0


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="ask for fewer"):
        tasks.make_arithmetic("val", 10_000)
    with pytest.raises(ValueError, match="choose one of train, val"):
        tasks.make_arithmetic("test", 1)
    with pytest.raises(ValueError, match="choose one of arithmetic, tiny_arithmetic"):
        tasks.prepare("algebra")


@pytest.mark.parametrize("name", [*NAMES, "countdown_3"])
def test_prepare_once(name, tmp_path):
    train, val = tasks.prepare(name, tmp_path)
    stamps = [path.stat().st_mtime_ns for path in (train, val)]
    assert tasks.prepare(name, tmp_path) == (train, val)
    assert stamps == [path.stat().st_mtime_ns for path in (train, val)]
    assert schema.problems(train, "data.train_files") == schema.problems(val, "data.val_files") == []


def test_round_trip_through_verl(tmp_path, tokenizer, monkeypatch):
    datasets = pytest.importorskip("datasets")
    from verl.utils.dataset.rl_dataset import RLHFDataset, collate_fn

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    rows = tasks.make_arithmetic("train", 20, task="tiny_arithmetic")
    path = tasks.write_parquet(rows, tmp_path / "deep" / "rows.parquet")
    assert [p.name for p in path.parent.iterdir()] == ["rows.parquet"]
    config = OmegaConf.create(
        {"max_prompt_length": 16, "filter_overlong_prompts_workers": None, "cache_dir": str(tmp_path / "verl")}
    )
    dataset = RLHFDataset(str(path), tokenizer, config)
    assert len(dataset) == 20  # none longer than 16 tokens
    batch = collate_fn([dataset[i] for i in range(20)])
    for i, row in enumerate(rows):
        assert batch["raw_prompt"][i] == row["prompt"] and batch["reward_model"][i] == row["reward_model"]
        assert batch["index"][i] == i and batch["data_source"][i] == "dsdr/tiny_arithmetic"


def test_problem_arithmetic():
    assert tasks.Problem("product", (3, 4, 5)).answer == math.prod((3, 4, 5))
    assert tasks.Problem("difference", (9, 4, 1)).answer == 4
    assert tasks.Problem("sum", (9, 4, 1)).text("{}{}{}") == "9+4+1"
    assert tasks.Problem("sum", (3, 4)).split == tasks.Problem("sum", (4, 3)).split
