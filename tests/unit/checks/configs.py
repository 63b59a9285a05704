"""Configs of the real tree, changes to them, and what is found."""

import copy

from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from dsdr_verl.checks import config_problems

ACTOR, ROLLOUT, MODEL = (f"actor_rollout_ref.{part}" for part in ("actor", "rollout", "model"))


def composed(*overrides: str):
    with initialize_config_module("dsdr_verl.conf", version_base=None):
        return compose("dsdr_trainer", overrides=list(overrides))


def problems(config, changes: dict) -> list[str]:
    config = copy.deepcopy(config)
    for key, value in changes.items():
        OmegaConf.update(config, key, value, force_add=True)
    return config_problems(config)


def assert_one(found: list[str], *parts: str) -> None:
    matching = [problem for problem in found if all(part in problem for part in parts)]
    assert len(matching) == 1, f"no single problem has {parts}: {found}"
    assert "\n" not in matching[0]
