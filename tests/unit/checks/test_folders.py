"""Where a run writes, and what it resumes from."""

import pytest

from .configs import assert_one, problems


def test_a_checkpoint_to_resume_from(cpu_config, tmp_path):
    step = tmp_path / "global_step_7"
    changes = {"trainer.resume_mode": "resume_path", "trainer.resume_from_path": str(step)}
    step.mkdir()
    assert_one(problems(cpu_config, changes), f"trainer.resume_from_path is '{step}'", "with actor in it")
    (step / "actor").mkdir()
    assert problems(cpu_config, changes) == []


@pytest.mark.parametrize("key", ["run_dir", "trainer.default_local_dir"])
def test_a_folder_that_is_read_only(cpu_config, monkeypatch, tmp_path, key):
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path / "shut")  # root may write anywhere
    (tmp_path / "shut").mkdir()
    found = problems(cpu_config, {key: str(tmp_path / "shut" / "new" / "run")})
    assert_one(found, f"{key} is ", f"{tmp_path / 'shut'} is no folder to write to", "set it to another")


def test_asynchronous_checkpoints_are_refused(cpu_config):
    key = "actor_rollout_ref.actor.checkpoint.async_save"
    assert_one(problems(cpu_config, {key: True}), f"{key} is true", "set it to false")
