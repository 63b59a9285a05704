"""Runs on the CPU that cannot fit into memory are told so before Ray starts."""

import pytest

from dsdr_verl.checks import config_problems, machine

from .configs import ACTOR, MODEL, ROLLOUT, assert_one, composed, problems
from .test_model_folders import folder  # noqa: F401 - a fixture

GIB = machine.GIB
CACHE = f"{ROLLOUT}.engine_kwargs.vllm.kv_cache_memory_bytes"


@pytest.fixture
def found(cpu_config, monkeypatch):
    def check(gib: float, weights: float | None = 1.0, **changes) -> list[str]:
        """With so much memory available, and weights of so many GiB in the training dtype."""
        monkeypatch.setattr(machine, "available_memory", lambda: (int(gib * GIB), 64 * GIB, "of the machine"))
        monkeypatch.setattr(machine, "weight_bytes", lambda config: weights and int(weights * GIB))
        return problems(cpu_config, {CACHE: GIB, **changes})

    return check


def test_what_a_run_takes_at_least(found):
    """The rest of the stack 5, weights, gradients and moments 4, vLLM's weights and cache 2."""
    assert found(11.01) == []
    parts = "at least 11.0 GiB (4.0 for the trainer, 2.0 for 1 of vLLM, 5 else)"
    fix = f"choose a smaller {MODEL}.path, lower {CACHE} or trainer.n_gpus_per_node"
    assert_one(found(10.9), "trainer.device is 'cpu' with 10.9 GiB", parts, fix)


def test_a_reference_and_more_engines_take_more(found):
    for switch in (f"{ACTOR}.use_kl_loss", "algorithm.use_kl_in_reward"):
        assert found(12.01, **{switch: True}) == [] and found(11.9, **{switch: True})
    two = {"trainer.n_gpus_per_node": 2}
    assert found(13.01, **two) == [] and "2 of vLLM" in found(12.9, **two)[0]
    together = two | {f"{ROLLOUT}.tensor_model_parallel_size": 2}
    assert found(12.01, **together) == [] and found(11.9, **together)
    assert found(10.51, **{f"{ROLLOUT}.dtype": "bfloat16"}) == []


def test_weights_that_are_not_here_yet_count_nothing(found):
    assert found(6.01, weights=None) == [] and found(5.9, weights=None)


def test_elsewhere_it_is_not_for_this_machine_to_say(found, gpu_config, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert found(1) == []
    assert config_problems(gpu_config) == []
    monkeypatch.setenv("RAY_ADDRESS", "local")
    assert found(1)


def test_the_profiles_pass_on_the_smallest_machines_that_are_meant(monkeypatch):
    """SmolLM2's weights are 0.5 GiB in float32; the demo took 13.7 GiB where it was measured."""
    for profile, weights, gib in (("tiny", 0.004, 7), ("demo", 0.503, 14)):
        monkeypatch.setattr(machine, "available_memory", lambda gib=gib: (gib * GIB, gib * GIB, "of the machine"))
        monkeypatch.setattr(machine, "weight_bytes", lambda config, weights=weights: int(weights * GIB))
        assert list(machine.memory(composed("+algorithm=dsdr", "hardware=cpu", f"profile={profile}"))) == []


def test_the_weights_are_those_of_the_folder(cpu_config, folder, monkeypatch):  # noqa: F811
    """500,024 parameters in float32, five copies of them."""
    needed = (
        machine.STACK + 5 * 4 * 500_024 + cpu_config.actor_rollout_ref.rollout.engine_kwargs.vllm.kv_cache_memory_bytes
    )
    for available, fits in ((needed, True), (needed - 1, False)):
        monkeypatch.setattr(machine, "available_memory", lambda available=available: (available, available, "here"))
        assert (problems(cpu_config, {f"{MODEL}.path": str(folder)}) == []) == fits
