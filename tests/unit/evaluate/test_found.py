"""What `model`, `task` and `files` name."""

import json
import os

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from dsdr_verl.data.tasks import TASKS, write_parquet
from dsdr_verl.evaluate.model import find_model
from dsdr_verl.evaluate.problems import files_of, read_problems


@pytest.fixture
def model_folder(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 512}))
    save_file({"w": np.zeros((4, 4), np.float32)}, folder / "model.safetensors")
    return folder


def test_a_mark_changes_with_the_weights_and_not_with_the_place(model_folder, tmp_path):
    found = find_model(str(model_folder))
    before = found.mark
    assert (found.label, found.positions) == ("model", 512)
    moved = model_folder.rename(tmp_path / "moved")
    assert find_model(str(moved)).mark == before
    (moved / "README.md").write_text("notes")
    assert find_model(str(moved)).mark == before
    save_file({"w": np.full((4, 4), 1e-3, np.float32)}, moved / "model.safetensors")
    assert find_model(str(moved)).mark != before


def test_a_change_anywhere_in_large_weights_shows(model_folder):
    weights = np.zeros(25 * 2**20, np.float32)  # 100 MiB, of which 64 are looked at
    save_file({"w": weights}, model_folder / "model.safetensors")
    before = find_model(str(model_folder)).mark
    save_file({"w": weights + np.float32(1e-6)}, model_folder / "model.safetensors")
    assert find_model(str(model_folder)).mark != before


def test_models_that_are_none(model_folder, tmp_path, monkeypatch):
    run = tmp_path / "run"
    for step in (5, 10):
        (run / "checkpoints" / f"global_step_{step}" / "actor").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"it is a run; name a checkpoint of it, such as .*global_step_10"):
        find_model(str(run))
    with pytest.raises(ValueError, match="without actor/model_world_size"):
        find_model(str(run / "checkpoints" / "global_step_5"))
    (model_folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="name one from save_pretrained"):
        find_model(str(model_folder))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="is no folder, and the hub did not give it"):
        find_model("nobody/nothing")


def test_a_task_has_its_validation_problems(tmp_path, monkeypatch):
    monkeypatch.setenv("DSDR_CACHE", str(tmp_path))
    problems = read_problems(files_of("countdown_3", None))
    assert len(problems.all) == problems.rows == TASKS["countdown_3"].val_size
    assert {p.source for p in problems.all} == {"dsdr/countdown_3"}
    assert len(read_problems(files_of("countdown_3", "train")).all) == TASKS["countdown_3"].train_size
    with pytest.raises(ValueError, match="split is 'test', and task=countdown_3 has train, val"):
        files_of("countdown_3", "test")


def row(question: str, truth: str = "1", **extra) -> dict:
    return {
        "data_source": "mine", "prompt": [{"role": "user", "content": f"{question}?"}], "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": truth}, "extra_info": {"question": question, **extra},
    }  # fmt: skip


def test_copies_count_once_and_ids_do_not_depend_on_the_file(tmp_path):
    rows = [row("a"), row("b"), row("a")]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    write_parquet(rows[1:], tmp_path / "y.parquet")
    first, second = read_problems([tmp_path / "x.jsonl"]), read_problems([tmp_path / "y.parquet"])
    assert (len(first.all), first.rows) == (2, 3)
    assert {p.id for p in first.all} == {p.id for p in second.all} and all(len(p.id) == 16 for p in first.all)
    assert first.mark != second.mark, "another order is another set"
    assert len(read_problems([tmp_path / "x.jsonl", tmp_path / "y.parquet"]).all) == 2
    assert [p.question for p in read_problems([tmp_path / "x.jsonl"], limit=1).all] == ["a"]


def test_an_id_of_the_file_is_kept(tmp_path):
    write_parquet([row("a", id="mine-1")], tmp_path / "x.parquet")
    assert read_problems([tmp_path / "x.parquet"]).all[0].key == "mine/mine-1"


def test_a_changed_truth_changes_the_mark(tmp_path):
    for name, truth in (("x", "1"), ("y", "2")):
        write_parquet([row("a", truth, id="i")], tmp_path / f"{name}.parquet")
    assert read_problems([tmp_path / "x.parquet"]).mark != read_problems([tmp_path / "y.parquet"]).mark


def test_broken_files_are_listed(tmp_path):
    (tmp_path / "x.jsonl").write_text(json.dumps({"prompt": "text", "data_source": "s"}) + "\n")
    with pytest.raises(ValueError) as refused:
        read_problems([tmp_path / "x.jsonl"])
    assert "`prompt` is a str" in str(refused.value) and "`reward_model` is missing" in str(refused.value)


class Attack:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def test_shards_that_would_run_code_are_not_merged(tmp_path):
    actor = tmp_path / "run" / "checkpoints" / "global_step_5" / "actor"
    actor.mkdir(parents=True)
    (actor / "fsdp_config.json").write_text('{"FSDP_version": 2, "world_size": 1}')
    torch.save(Attack(tmp_path / "made"), actor / "model_world_size_1_rank_0.pt")
    with pytest.raises(ValueError, match=r"actor/model_world_size_1_rank_0.pt would call 'posix.system'"):
        find_model(str(actor.parent))
    assert not (tmp_path / "made").exists() and not (actor.parent / "merged").exists()
