"""The config tree: every choice composes and passes verl's own validation."""

import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

ALGORITHMS = ("base", "grpo", "dapo", "dsdr", "dsdr_wo_gd", "dsdr_wo_gc", "dsdr_uniform", "diver_style")


def config(*overrides: str):
    with initialize_config_module("dsdr_verl.conf", version_base=None):
        return compose("dsdr_trainer", overrides=list(overrides))


@pytest.mark.parametrize("hardware", ["cpu", "gpu"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_verl_accepts_it(algorithm, hardware):
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import omega_conf_to_dataclass, validate_config

    c = config(f"+algorithm={algorithm}", f"hardware={hardware}")
    validate_config(c, use_reference_policy=need_reference_policy(c), use_critic=need_critic(c))
    assert not need_critic(c)
    actor, rollout = c.actor_rollout_ref.actor, c.actor_rollout_ref.rollout
    assert omega_conf_to_dataclass(actor).strategy == "fsdp2"
    assert omega_conf_to_dataclass(rollout).name == "vllm"
    assert c.trainer.device == {"cpu": "cpu", "gpu": "cuda"}[hardware]


def test_arms_differ_from_dsdr_in_what_they_ablate_only():
    def terms(algorithm):
        options = config(f"+algorithm={algorithm}").algorithm.dsdr
        return options.lambda_d, options.lambda_l, options.tau

    assert terms("dsdr") == (0.001, 0.001, 5.0), "the paper's values"
    assert terms("dsdr_wo_gd") == (0.0, 0.001, 0.0)
    assert terms("dsdr_wo_gc") == (0.001, 0.0, 5.0)
    assert terms("dsdr_uniform") == (0.001, 0.001, 0.0)
    assert terms("diver_style")[:2] == (0.1, 0.0) and config("+algorithm=diver_style").algorithm.dsdr.score == "formula"
    assert terms("grpo")[:2] == terms("dapo")[:2] == (0.0, 0.0)


def test_options_in_yaml_are_the_defaults_in_code():
    from dsdr_verl.algorithm.options import DSDROptions
    from dsdr_verl.scoring.options import ScoringOptions

    c = config("+algorithm=dsdr")
    assert DSDROptions.from_mapping(OmegaConf.to_container(c.algorithm.dsdr)) == DSDROptions()
    assert ScoringOptions.from_mapping(OmegaConf.to_container(c.scoring)) == ScoringOptions()


def test_one_seed_for_all_that_is_drawn():
    c = config("+algorithm=grpo", "seed=7")
    actor, rollout = c.actor_rollout_ref.actor, c.actor_rollout_ref.rollout
    assert (c.data.seed, rollout.seed, actor.data_loader_seed) == (7, 7, 7)


def test_the_study_fits_its_model_and_keeps_what_is_evaluated():
    c = config("+algorithm=dsdr", "profile=study")
    assert (c.actor_rollout_ref.model.path, c.data.task) == ("tiny_countdown", "tiny_countdown")
    assert c.data.max_prompt_length + c.data.max_response_length <= c.actor_rollout_ref.rollout.max_model_len
    assert "hf_model" in c.actor_rollout_ref.actor.checkpoint.save_contents
    assert c.trainer.total_training_steps % c.trainer.save_freq == 0, "the last step is saved"


def test_overrides_win_over_every_file():
    c = config("+algorithm=dsdr", "profile=tiny", "algorithm.dsdr.tau=1", "actor_rollout_ref.rollout.n=16")
    assert c.algorithm.dsdr.tau == 1 and c.actor_rollout_ref.rollout.n == 16


def test_hardware_is_what_the_machine_has(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert config("+algorithm=dsdr").trainer.device == "cpu"
    (tmp_path / "nvidia-smi").touch(mode=0o755)
    assert config("+algorithm=dsdr").trainer.device == "cuda"


def test_filter_that_keeps_solved_groups():
    sampler = config("+algorithm=dsdr", "+filter=all_wrong").trainer.v1.sampler
    assert sampler.sampler_kwargs.drop == "all_wrong" and sampler.custom_sampler.name == "GroupFilterBuffer"
    assert config("+algorithm=dapo").trainer.v1.sampler.sampler_kwargs.drop == "no_signal"
