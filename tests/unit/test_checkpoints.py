"""Which checkpoint a run resumes from, and which are kept."""

import io
import os

import pytest
import torch
from omegaconf import OmegaConf

from dsdr_verl.trainer import checkpoints
from dsdr_verl.trainer.checkpoints import flaw, outdated, rows_of, seal, set_aside, steps_in
from dsdr_verl.trainer.resuming import NoCheckpoint, changes, choose

_saved = io.BytesIO()
torch.save({"weight": torch.rand(1000)}, _saved)
MODEL = _saved.getvalue()


def written(root, number: int, **rows):
    """Files as verl leaves them; sealed if `rows` are given."""
    folder = root / f"global_step_{number}"
    (folder / "actor" / "huggingface").mkdir(parents=True)
    (folder / "actor" / "model_world_size_1_rank_0.pt").write_bytes(MODEL)
    (folder / "actor" / "huggingface" / "config.json").write_text("{}")
    torch.save({"at": number}, folder / "data.pt")
    if rows:
        seal(folder, [{"step": number, "kind": kind, "metrics": metrics} for kind, metrics in rows.items()])
    return folder


def scored(pass_at_1: float) -> dict:
    return {"val-core/a/acc/pass@1": pass_at_1, "val-core/b/acc/pass@1": pass_at_1, "val-core/a/acc/pass@8": 0.9}


@pytest.fixture
def choice(tmp_path):
    def make(trusted: bool = False, **trainer):
        trainer = {
            "default_local_dir": str(tmp_path), "resume_mode": "auto", "resume_from_path": None, "nnodes": 1,
            "n_gpus_per_node": 1, **trainer,
        }  # fmt: skip
        config = OmegaConf.create({"trainer": trainer, "checkpoints": {"trusted": trusted}})
        OmegaConf.set_struct(config, True)
        said = []
        choose(config, said.append)
        return config.trainer, said

    return make


def test_the_newest_is_resumed(tmp_path, choice):
    for step in (2, 10, 4):
        written(tmp_path, step, step={"a": float(step)})
    (tmp_path / "global_step_x").mkdir()
    assert [path.name for path in steps_in(tmp_path)] == ["global_step_2", "global_step_4", "global_step_10"]
    trainer, said = choice()
    assert trainer.resume_mode == "resume_path" and trainer.resume_from_path == str(tmp_path / "global_step_10")
    assert not said and rows_of(tmp_path / "global_step_10") == [{"step": 10, "kind": "step", "metrics": {"a": 10.0}}]


def test_nothing_to_resume_from(choice):
    trainer, said = choice()
    assert trainer.resume_mode == "disable" and trainer.resume_from_path is None and not said


def cut(path):
    path.write_bytes(path.read_bytes()[:-7])


def flip(path):
    """One bit, as a disk would."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda path: path.unlink(), "actor/model_world_size_1_rank_0.pt is missing"),
        (cut, f"has {len(MODEL) - 7} of {len(MODEL)} bytes"),
        (flip, "is not what was written"),
        (lambda path: (path.parents[1] / "complete.json").write_text('{"files": '), "complete.json cannot be read"),
        (
            lambda path: (path.parents[1] / "complete.json").write_text('{"files": {"a": {"bytes": 1}}}'),
            "cannot be read",
        ),
        (lambda path: (path.parents[1] / "complete.json").write_text("[]"), "complete.json cannot be read"),
        (lambda path: (path.parents[1] / "complete.json").write_bytes(b"\xff"), "complete.json cannot be read"),
        (lambda path: (path.parents[1] / "complete.json").unlink(), "it was not finished"),
    ],
)
def test_a_damaged_checkpoint_is_named_and_passed_over(tmp_path, choice, damage, says):
    written(tmp_path, 2, step={})
    damage(written(tmp_path, 4, step={}) / "actor" / "model_world_size_1_rank_0.pt")
    trainer, (line,) = choice()
    assert trainer.resume_from_path == str(tmp_path / "global_step_2")
    assert line.startswith(f"passed over {tmp_path}/global_step_4: ") and says in line


def test_only_unfinished_ones_begin_anew_and_damaged_ones_ask(tmp_path, choice):
    folder = written(tmp_path, 2)
    trainer, said = choice()
    assert trainer.resume_mode == "disable" and len(said) == 1
    seal(folder, [])
    flip(folder / "data.pt")
    with pytest.raises(NoCheckpoint, match=r"data.pt is not what was written(.|\n)*resume_mode=disable"):
        choice()
    assert choice(resume_mode="disable")[0].resume_mode == "disable"


def test_a_path_of_the_user_is_looked_at_too(tmp_path, choice):
    folder = written(tmp_path, 2, step={})
    assert choice(resume_mode="resume_path", resume_from_path=str(folder))[0].resume_from_path == str(folder)
    cut(folder / "data.pt")
    with pytest.raises(NoCheckpoint, match=r"trainer.resume_from_path is .*data.pt has \d+ of \d+ bytes"):
        choice(resume_mode="resume_path", resume_from_path=str(folder))


def test_rows_are_numbers_or_none_at_all(tmp_path):
    folder = tmp_path / "global_step_2"
    folder.mkdir()
    seal(folder, [{"step": 2, "kind": "step", "metrics": {"a": float("nan"), "b": float("-inf"), "c": 1}}])
    (row,) = rows_of(folder)
    assert str(row["metrics"]) == "{'a': nan, 'b': -inf, 'c': 1.0}"
    for rows in ('[{"step": 2}]', '[{"step": 2, "kind": "step", "metrics": {"a": "x"}}]', '["x"]'):
        (folder / "complete.json").write_text(f'{{"files": {{}}, "rows": {rows}}}')
        assert rows_of(folder) == [] and "cannot be read" in flaw(folder).what


@pytest.mark.parametrize(("tracker", "whole"), [("4", True), ("2", False), ("", False), ("x", False), (None, False)])
def test_a_checkpoint_of_stock_verl_is_whole_if_its_tracker_names_it(tmp_path, tracker, whole):
    folder = written(tmp_path, 4)
    if tracker is not None:
        (tmp_path / checkpoints.TRACKER).write_text(tracker)
    assert (flaw(folder) is None) == whole


def test_the_tracker_does_not_finish_a_checkpoint_of_ours(tmp_path):
    """verl writes it before the checkpoint is sealed."""
    folder = tmp_path / "global_step_4"
    checkpoints.unseal(folder)
    (tmp_path / checkpoints.TRACKER).write_text("4")
    assert flaw(folder).unfinished and rows_of(folder) == []


def test_files_that_came_later_do_no_harm(tmp_path):
    folder = written(tmp_path, 4, step={})
    (folder / "merged").mkdir()
    (folder / "merged" / "model.safetensors").write_text("by an evaluation")
    assert flaw(folder) is None


def test_what_is_kept(tmp_path):
    best = [written(tmp_path, step, step={}, validation=scored(p)) for step, p in ((2, 0.2), (4, 0.5), (6, 0.3))][1]
    written(tmp_path, 8, step={})  # no validation at this step

    def gone(*options):
        return [path.name for path in outdated(tmp_path, *options)]

    assert gone(None, False) == [] and gone(4, False) == []
    assert gone(1, False) == ["global_step_2", "global_step_4", "global_step_6"]
    assert gone(1, True) == ["global_step_2", "global_step_6"] and gone(2, True) == ["global_step_2"]
    checkpoints.remove([best])
    assert not best.exists() and gone(1, True) == ["global_step_2"]


def test_a_removal_that_is_cut_short_leaves_nothing_that_looks_whole(tmp_path, monkeypatch):
    folder = written(tmp_path, 4, step={})
    monkeypatch.setattr(checkpoints.shutil, "rmtree", lambda *args, **kwargs: None)
    checkpoints.remove([folder])
    assert flaw(folder).unfinished


def test_a_folder_that_was_killed_while_it_was_unsealed(tmp_path, choice):
    (written(tmp_path, 4, step={}) / "complete.json").write_text("")
    assert choice()[0].resume_mode == "disable", "it was never finished, so the run begins anew"
    written(tmp_path, 2, step={}, validation=scored(0.5))
    written(tmp_path, 6, step={})
    assert [path.name for path in outdated(tmp_path, 1, True)] == ["global_step_4"]


def test_what_is_sealed_outlasts_a_loss_of_power(tmp_path, monkeypatch):
    synced = set()

    def fsync(descriptor):
        synced.add(path := os.readlink(f"/proc/self/fd/{descriptor}"))
        if os.path.isdir(path):
            raise OSError(22, "Invalid argument")  # not all file systems can

    monkeypatch.setattr(os, "fsync", fsync)
    folder = written(tmp_path, 2, step={})
    inside = {str(path) for path in folder.rglob("*")} - {str(folder / "complete.json")}
    assert synced == inside | {str(folder / ".complete.json.part"), str(folder), str(tmp_path)}
    assert flaw(folder) is None


def test_a_seal_that_is_cut_short_is_none(tmp_path, monkeypatch):
    folder = written(tmp_path, 4)

    def killed(*paths):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        seal(folder, [])
    assert flaw(folder).unfinished and rows_of(folder) == []
    monkeypatch.undo()
    seal(folder, [])
    assert flaw(folder) is None


class Attack:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("sealed", [True, False], ids=["sealed", "of-stock-verl"])
@pytest.mark.parametrize("mode", ["auto", "resume_path"])
def test_a_checkpoint_that_would_run_code_ends_it(tmp_path, choice, sealed, mode):
    """And is not passed over: whoever wrote it could have written the others."""
    written(tmp_path, 2, step={})
    folder, mark = written(tmp_path, 4), tmp_path / "made"
    torch.save(Attack(mark), folder / "actor" / "model_world_size_1_rank_0.pt")
    if sealed:
        seal(folder, [])
    else:
        (tmp_path / checkpoints.TRACKER).write_text("4")
    options = {"resume_mode": mode, "resume_from_path": str(folder)}
    with pytest.raises(
        NoCheckpoint, match=r"global_step_4 .*actor/model_.* would call 'posix.system'(.|\n)*trusted=true"
    ):
        choice(**options)
    assert choice(trusted=True, **options)[0].resume_from_path == str(folder)
    assert choice(resume_mode="disable")[0].resume_mode == "disable"
    assert not mark.exists()


def test_a_checkpoint_with_a_link_that_leads_out_ends_it(tmp_path, choice):
    folder = written(tmp_path, 4, step={})
    (folder / "critic").symlink_to("/etc")
    with pytest.raises(NoCheckpoint, match=r"critic is a link to '/etc', out of the folder"):
        choice()


@pytest.mark.parametrize("mode", ["auto", "resume_path"])
def test_another_number_of_ranks_is_named_before_anything_starts(tmp_path, choice, mode):
    written(tmp_path, 2, step={})
    folder = written(tmp_path, 4, step={})
    options = {"resume_mode": mode, "resume_from_path": str(folder)}
    with pytest.raises(
        NoCheckpoint, match=r"global_step_4 is of 1 rank\(s\), and trainer.nnodes × .* is 8: (.|\n)*merge"
    ):
        choice(nnodes=2, n_gpus_per_node=4, **options)
    (folder / "actor" / "model_world_size_1_rank_0.pt").rename(folder / "actor" / "weights.pt")  # not FSDP's
    seal(folder, [])
    assert choice(nnodes=2, n_gpus_per_node=4, **options)[0].resume_from_path == str(folder)


def test_changed_settings_are_told(tmp_path):
    before = tmp_path / "config.yaml"
    old = {"data": {"seed": 1, "files": ["a", "b"], "gone": "${oc.env:SECRET}"}, "trainer": {"resume_mode": "auto"}}
    before.write_text(OmegaConf.to_yaml(OmegaConf.create(old)))
    now = {"data": {"seed": 2, "files": ["a", "b"]}, "trainer": {"resume_mode": "disable"}, "new": {"a": None}}
    told = ["data.seed: 1 → 2", "data.gone: '${oc.env:SECRET}' → unset", "new.a: unset → null"]
    assert changes(before, OmegaConf.create(now)) == told
    long = {"data": old["data"] | {"files": ["a" * 100, "b"]}}
    before.write_text(OmegaConf.to_yaml(OmegaConf.create(old | {"data": old["data"] | {"files": ["a" * 100, "c"]}})))
    (line,) = changes(before, OmegaConf.create(old | long))
    assert line.startswith("data.files: ['aaa") and len(line) < 200, "told, though they begin alike"
    before.write_text(OmegaConf.to_yaml(OmegaConf.create(old)))
    same = OmegaConf.create(old | {"trainer": {"resume_mode": "disable"}})
    assert changes(before, same) == []


def test_a_checkpoint_may_be_named_by_one_word(tmp_path, monkeypatch):
    folder = written(tmp_path, 4, step={})
    monkeypatch.chdir(tmp_path)
    trainer = {"resume_mode": "resume_path", "resume_from_path": "global_step_4", "nnodes": 1, "n_gpus_per_node": 1}
    assert choose(OmegaConf.create({"trainer": trainer}), print) == folder


@pytest.mark.parametrize("text", [None, "a: [", "- 1", "a: !!python/object/apply:os.getcwd []", "", "1"])
def test_settings_that_cannot_be_read_are_not_told(tmp_path, text):
    if text is not None:
        (tmp_path / "config.yaml").write_text(text)
    found = changes(tmp_path / "config.yaml", OmegaConf.create({"a": 1}))
    assert found == (["a: unset → 1"] if text == "" else [])


def names(root) -> list[str]:
    return sorted(path.name for path in root.glob("*global_step_*"))


def test_what_was_never_finished_takes_no_place_among_those_that_are_kept(tmp_path):
    for step in (2, 4):
        written(tmp_path, step, step={})
    checkpoints.unseal(tmp_path / "global_step_6")
    written(tmp_path, 8, step={})
    assert [path.name for path in outdated(tmp_path, 2, False)] == ["global_step_2", "global_step_6"]
    assert [path.name for path in outdated(tmp_path, 9, False)] == ["global_step_6"]


def test_what_stock_verl_wrote_is_kept_until_there_are_enough_of_ours(tmp_path):
    written(tmp_path, 2)
    for step in (4, 6):
        written(tmp_path, step, step={})
    assert outdated(tmp_path, 3, False) == [] and outdated(tmp_path, 2, False) == [tmp_path / "global_step_2"]


def test_a_run_that_goes_back_leaves_the_other_way_aside(tmp_path, choice):
    for step in (2, 4, 6):
        written(tmp_path, step, step={"a": 1.0})
    checkpoints.unseal(tmp_path / "global_step_8")
    tracker = tmp_path / checkpoints.TRACKER
    tracker.write_text("6")
    resumed = tmp_path / "global_step_2"
    assert set_aside(tmp_path, 2, resumed) == [tmp_path / "left_global_step_4", tmp_path / "left_global_step_6"]
    assert names(tmp_path) == ["global_step_2", "left_global_step_4", "left_global_step_6"]
    assert flaw(tmp_path / "left_global_step_6") is None and tracker.read_text() == "2"
    assert choice()[0].resume_from_path == str(resumed), "and not what was left"

    written(tmp_path, 4, step={"a": 2.0})
    assert outdated(tmp_path, 1, False) == [resumed], "the newest stays, and what was left is not touched"
    assert set_aside(tmp_path, 2, resumed) == [tmp_path / "left2_global_step_4"], "nothing is written over"
    assert rows_of(tmp_path / "left_global_step_4")[0]["metrics"] == {"a": 1.0}
    # verl reads the step from the end of a name
    assert all(path.name.split("global_step_")[-1] in "246" for path in tmp_path.glob("left*"))


def test_a_run_that_goes_on_from_the_newest_leaves_nothing(tmp_path):
    for step in (2, 4):
        written(tmp_path, step, step={})
    (tmp_path / checkpoints.TRACKER).write_text("4")
    assert set_aside(tmp_path, 4, tmp_path / "global_step_4") == []
    assert names(tmp_path) == ["global_step_2", "global_step_4"]
    assert (tmp_path / checkpoints.TRACKER).read_text() == "4"


def test_a_run_that_starts_anew_leaves_all(tmp_path):
    for step in (2, 4):
        written(tmp_path, step, step={})
    flip(tmp_path / "global_step_4" / "data.pt")
    written(tmp_path, 6)  # by stock verl, so perhaps whole
    (tmp_path / checkpoints.TRACKER).write_text("6")
    assert len(set_aside(tmp_path, 0, None)) == 3
    assert steps_in(tmp_path) == [] and not (tmp_path / checkpoints.TRACKER).exists()
    assert set_aside(tmp_path, 0, None) == []


def test_a_run_that_goes_on_from_another_runs_checkpoint(tmp_path):
    for step in (2, 4, 6):
        written(tmp_path, step, step={})
    (tmp_path / checkpoints.TRACKER).write_text("6")
    set_aside(tmp_path, 4, written(tmp_path / "other", 4, step={}))
    assert names(tmp_path) == ["global_step_2", "left_global_step_4", "left_global_step_6"]
    assert not (tmp_path / checkpoints.TRACKER).exists(), "there is no checkpoint here that was resumed"


def test_a_link_to_the_run_folder_is_the_run_folder(tmp_path):
    root = tmp_path / "real"
    written(root, 2, step={})
    (tmp_path / "link").symlink_to(root)
    assert set_aside(tmp_path / "link", 2, root / "global_step_2") == []


def test_the_space_of_a_folder_that_is_not_there(tmp_path, monkeypatch):
    assert checkpoints.room(tmp_path / "a" / "b").endswith(" MiB free")

    def broken(path):
        raise OSError("Input/output error")

    monkeypatch.setattr(checkpoints.shutil, "disk_usage", broken)
    assert checkpoints.room(tmp_path) == "free space unknown (Input/output error)"


def test_an_exported_config_names_no_attention_of_ours(tmp_path):
    config = written(tmp_path, 2) / "actor" / "huggingface" / "config.json"
    config.write_text('{"attn_implementation": "dsdr_packed", "vocab_size": 128}')
    checkpoints.make_portable(tmp_path / "global_step_2")
    assert config.read_text() == '{\n  "vocab_size": 128\n}'
