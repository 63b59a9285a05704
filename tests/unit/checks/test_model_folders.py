"""Models in folders of their own, on the hub, and the space that their checkpoints take."""

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from huggingface_hub import constants
from omegaconf import OmegaConf
from safetensors.numpy import save_file

from dsdr_verl.checks import model
from dsdr_verl.trainer import checkpoints

from .configs import ACTOR, MODEL, assert_one, problems

PARAMETERS = 500_024


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 1024}))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    save_file({"a": np.zeros((500, 1000), np.float16), "b": np.zeros(24, np.float16)}, folder / "model.safetensors")
    return folder


def with_folder(config, folder, **changes) -> list[str]:
    return problems(config, {f"{MODEL}.path": str(folder), **changes})


def test_a_whole_folder(cpu_config, folder):
    assert with_folder(cpu_config, folder) == []
    os.chdir(folder.parent)
    assert with_folder(cpu_config, "model") == []


def test_spellings_that_verl_does_not_take(cpu_config, folder):
    assert_one(with_folder(cpu_config, f"{folder}/"), "a / at the end", f"write '{folder}'")
    assert_one(with_folder(cpu_config, "~/model"), "model.path is '~/model'", f"write '{folder}'")  # HOME is its parent


@pytest.mark.parametrize(
    ("missing", "parts"),
    [
        ("config.json", ("without config.json", "give one")),
        ("tokenizer.json", ("without a tokenizer", "set actor_rollout_ref.model.tokenizer_path")),
        ("tokenizer_config.json", ("no chat template", "set actor_rollout_ref.model.custom_chat_template")),
        ("model.safetensors", ("without *.safetensors weights", "give one")),
    ],
)
def test_a_folder_that_lacks_something(cpu_config, folder, missing, parts):
    (folder / missing).unlink()
    assert_one(with_folder(cpu_config, folder), f"model.path is '{folder}'", *parts)


def test_a_model_that_is_too_short(cpu_config, folder):
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 64}))
    assert_one(with_folder(cpu_config, folder), "64 positions", "lower the data.max_*_length")


def test_a_model_with_code_of_its_own(cpu_config, folder):
    def found(kind: str, **changes) -> list[str]:
        (folder / "config.json").write_text(json.dumps({"model_type": kind, "auto_map": {"AutoModel": "evil.Model"}}))
        return with_folder(cpu_config, folder, **changes)

    assert_one(found("evil"), f"model.path is '{folder}'", "set actor_rollout_ref.model.trust_remote_code=true")
    assert found("evil", **{f"{MODEL}.trust_remote_code": True}) == [], "where it is asked for"
    assert found("llama") == [], "transformers has that code itself"


def test_no_config_of_ours_trusts_code_from_elsewhere(cpu_config, gpu_config):
    def trusted(node, path=""):
        for key, value in node.items():
            if isinstance(value, dict):
                yield from trusted(value, f"{path}{key}.")
            elif key == "trust_remote_code":
                yield f"{path}{key}", value

    for config in (cpu_config, gpu_config):
        values = dict(trusted(OmegaConf.to_container(config)))
        assert f"{MODEL}.trust_remote_code" in values and "data.trust_remote_code" in values
        # null is verl's for a part that it no longer reads
        assert not any(values.values()), values


def test_an_encoder_that_may_run_code(cpu_config, tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    key = "scoring.embedding.model"
    assert_one(
        problems(cpu_config, {key: str(tmp_path)}), f"{key} is '{tmp_path}'", "is a pickle", "safe_serialization"
    )
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert problems(cpu_config, {key: str(tmp_path)}) == []


def test_offline(cpu_config, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    name = {f"{MODEL}.path": "some-org/some-model"}
    assert_one(problems(cpu_config, name), "model.path is 'some-org/some-model'", "HF_HUB_OFFLINE", "is set; unset it")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda name, file: f"/cache/{file}")
    assert problems(cpu_config, name) == []


def test_the_weights_are_counted(folder):
    def counted(dtype: str) -> int | None:
        config = {"model": {"path": str(folder)}, "actor": {"fsdp_config": {"model_dtype": dtype}}}
        return model.weight_bytes(OmegaConf.create({"actor_rollout_ref": config}))

    assert counted("fp32") == 4 * PARAMETERS
    assert counted("bf16") == 2 * PARAMETERS
    (folder / "model.safetensors").write_bytes(b"\xff" * 64)
    assert counted("fp32") is None


def test_checkpoints_that_do_not_fit(cpu_config, folder, monkeypatch):
    one = 3 * 4 * PARAMETERS  # weights and Adam's two moments
    saves = {"trainer.save_freq": 5, "trainer.total_training_steps": 20, "trainer.max_actor_ckpt_to_keep": None}

    def found(room: float, **changes) -> list[str]:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=room * one))
        return with_folder(cpu_config, folder, **saves | changes)

    assert found(4) == []
    assert_one(found(3.9), "trainer.default_local_dir", "set trainer.max_actor_ckpt_to_keep=1, or free some space")
    assert found(2, **{"trainer.max_actor_ckpt_to_keep": 1}) == []
    assert found(1.9, **{"trainer.max_actor_ckpt_to_keep": 1}) != []
    assert found(0, **{"trainer.save_freq": -1}) == []
    assert found(1.4, **{f"{ACTOR}.checkpoint.save_contents": ["model"]}) == []
    Path(cpu_config.trainer.default_local_dir, "global_step_5").mkdir(parents=True)
    assert found(3) == []


def test_checkpoints_that_are_there_take_no_further_room_but_if_they_are_left_aside(cpu_config, folder, monkeypatch):
    one = 3 * 4 * PARAMETERS
    root = Path(cpu_config.trainer.default_local_dir)
    saves = {"trainer.save_freq": 5, "trainer.total_training_steps": 20, "trainer.max_actor_ckpt_to_keep": 2}
    for step in (5, 10):
        (root / f"global_step_{step}").mkdir(parents=True)

    def found(room: float, **changes) -> list[str]:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=room * one))
        return with_folder(cpu_config, folder, **saves | changes)

    assert found(1) == [] and found(0.9) != [], "a third while two are kept"
    assert found(1.9, **{"checkpoints.keep_best": True}) != []
    assert (
        found(2.9, **{"trainer.resume_mode": "disable"}) != [] and found(3, **{"trainer.resume_mode": "disable"}) == []
    )
    (root / "global_step_5" / "actor").mkdir()
    early = {"trainer.resume_mode": "resume_path", "trainer.resume_from_path": str(root / "global_step_5")}
    assert found(2, **early) == [] and found(1.9, **early) != []
    checkpoints.unseal(root / "global_step_10")
    assert found(1.9) != [], "it was never finished"
    (root / "global_step_10" / "part").write_bytes(bytes(one // 2))
    assert found(1.9) == [], "and its room will be had"
