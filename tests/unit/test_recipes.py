"""Every recipe × arm × number of nodes composes, passes verl's own validation and our checks, and fits; in what they
are the paper's (arXiv 2602.19895v1, section 7 of its setting)."""

import copy

import pytest
from hydra import compose, initialize_config_module
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf

from dsdr_verl.planning.batches import batches
from dsdr_verl.planning.estimate import estimate
from dsdr_verl.planning.problems import LATER, check_problems
from dsdr_verl.planning.recipes import arms, composed, recipes
from dsdr_verl.planning.stages import GPUS

ACTOR, ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"


pytestmark = pytest.mark.usefixtures("online")


@pytest.fixture(scope="session")
def configs():
    return {(recipe, arm): composed(recipe, arm) for recipe in recipes() for arm in arms()}


def test_the_three_models_and_the_arms_are_there():
    assert recipes() == ["qwen25_math_1_5b", "qwen3_1_7b", "qwen3_4b"]
    assert arms() == ["base", "dapo", "diver_style", "dsdr", "dsdr_uniform", "dsdr_wo_gc", "dsdr_wo_gd", "grpo"]


@pytest.mark.parametrize("nodes", [1, 2, 3, 4])
@pytest.mark.parametrize("arm", arms())
@pytest.mark.parametrize("recipe", recipes())
def test_it_validates_and_fits(configs, recipe, arm, nodes):
    config, actor = configs[recipe, arm], configs[recipe, arm].actor_rollout_ref.actor
    paper = config.trainer.nnodes, config.data.train_batch_size, actor.ppo_mini_batch_size
    assert paper == (1, 256, 16)
    config.trainer.nnodes = nodes
    if nodes == 3:  # 24 ranks do not divide 128 rollouts
        config.data.train_batch_size, actor.ppo_mini_batch_size = 240, 15
    try:
        found = estimate(config, GPUS["a100-40gb"])
    finally:  # copies of 72 configs would take longer than all the rest
        config.trainer.nnodes, config.data.train_batch_size, actor.ppo_mini_batch_size = paper
    assert found.problems == []
    assert found.batch.gpus == 8 * nodes and found.batch.optimiser_steps == 16
    assert config.algorithm_name == arm and config.profile_name == recipe


@pytest.mark.parametrize("recipe", recipes())
def test_three_nodes_cannot_share_the_papers_batch(configs, recipe):
    config = copy.deepcopy(configs[recipe, "dsdr"])
    config.trainer.nnodes = 3
    found = estimate(config, GPUS["a100-40gb"]).problems
    (problem,) = found
    assert "24 data-parallel ranks cannot share evenly" in problem
    assert "data.train_batch_size=240 actor_rollout_ref.actor.ppo_mini_batch_size=15" in problem


@pytest.mark.parametrize("recipe", recipes())
def test_it_is_the_papers_setting(configs, recipe):
    wanted = {
        "data.train_batch_size": 256,
        f"{ACTOR}.ppo_mini_batch_size": 16,
        f"{ACTOR}.optim.lr": 1e-6,
        f"{ACTOR}.use_kl_loss": False,
        f"{ROLLOUT}.n": 8,
        f"{ROLLOUT}.temperature": 1.0,
        f"{ROLLOUT}.top_p": 1,
        f"{ROLLOUT}.val_kwargs.n": 16,
        f"{ROLLOUT}.val_kwargs.temperature": 0.7,
        f"{ROLLOUT}.val_kwargs.top_p": 0.9,
        "trainer.total_training_steps": 100,
        "trainer.n_gpus_per_node": 8,
        "trainer.device": "cuda",
        "data.max_response_length": 3584 if recipe == "qwen25_math_1_5b" else 8192,
        "algorithm.dsdr.lambda_d": 0.001,
        "algorithm.dsdr.lambda_l": 0.001,
        "algorithm.dsdr.tau": 5.0,
    }
    config = configs[recipe, "dsdr"]
    assert {key: OmegaConf.select(config, key) for key in wanted} == wanted


def test_a_recipe_leaves_the_arms_apart_in_what_they_ablate_only(configs):
    """DAPO and DSDR, the two that differ most, differ with a recipe where they do without."""

    def differing(one, other):
        return set(flat(one)) ^ set(flat(other))

    def flat(node, path=""):
        for key, value in node.items():
            yield from flat(value, f"{path}{key}/") if isinstance(value, dict) else [(f"{path}{key}", str(value))]

    def plain(arm):
        with initialize_config_module("dsdr_verl.conf", version_base=None):
            return compose("dsdr_trainer", overrides=[f"+algorithm={arm}", "hardware=gpu"])

    with_recipe = (OmegaConf.to_container(configs["qwen3_4b", arm]) for arm in ("dapo", "dsdr"))
    without = (OmegaConf.to_container(plain(arm)) for arm in ("dapo", "dsdr"))
    assert differing(*with_recipe) == differing(*without)


def test_nothing_of_the_demo_is_left(configs):
    """The demo's lengths and limits are another profile's; a recipe starts from verl's own."""
    for recipe in recipes():
        config = configs[recipe, "dsdr"]
        longest = config.data.max_prompt_length + config.data.max_response_length
        assert config.actor_rollout_ref.rollout.max_model_len == longest
        assert config.actor_rollout_ref.actor.ppo_max_token_len_per_gpu % longest == 0, "whole longest sequences"
        assert config.data.task is None and config.trainer.max_actor_ckpt_to_keep == 2
        assert config.scoring.actors == 24 and config.scoring.num_gpus == 0


def test_a_recipe_before_its_algorithm_fails_at_once():
    """It would lose its size of the scoring service, in silence."""
    with (
        initialize_config_module("dsdr_verl.conf", version_base=None),
        pytest.raises(ConfigCompositionException, match=r"recipe/paper.*Could not override 'scoring'"),
    ):
        compose("dsdr_trainer", overrides=["+recipe=qwen3_4b", "+algorithm=dsdr"])


def test_the_data_are_the_users_to_give(configs, monkeypatch):
    config = copy.deepcopy(configs["qwen3_4b", "dsdr"])
    assert config.data.train_files == config.data.val_files == LATER and check_problems(config) == []
    monkeypatch.setenv("RAY_ADDRESS", "a cluster")
    config.data.train_files = None
    assert [problem for problem in check_problems(config) if "data.train_files is null" in problem]


def test_overrides_win_over_a_recipe():
    config = composed("qwen3_4b", "grpo", 2, ("data.train_batch_size=512", "scoring.actors=3", "hardware=gpu"))
    assert (config.data.train_batch_size, config.scoring.actors, config.trainer.nnodes) == (512, 3, 2)
    assert batches(config).rollouts == 4096


@pytest.mark.parametrize(("recipe", "arm", "guess"), [("qwen3_4", "dsdr", "qwen3_4b"), ("qwen3_4b", "dsdr_wo", "dsdr")])
def test_a_wrong_name_lists_the_known_ones(recipe, arm, guess):
    with pytest.raises(ValueError, match=f"did you mean {guess}.*There are ") as error:
        composed(recipe, arm)
    assert ", ".join(arms() if recipe in recipes() else recipes()) in str(error.value)
