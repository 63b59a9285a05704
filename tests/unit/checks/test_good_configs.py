"""The config tree itself is found to be well, and checking has no effects."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from dsdr_verl.checks import config_problems

from .configs import MODEL, ROLLOUT, assert_one, composed, problems

CONF = Path(__file__).parents[3] / "conf"


def choices(*groups: str) -> list[str]:
    return sorted(f"{group}={path.stem}" for group in groups for path in (CONF / group).glob("*.yaml"))


@pytest.mark.parametrize("hardware", choices("hardware"))
@pytest.mark.parametrize("algorithm", choices("algorithm"))
def test_every_algorithm_on_every_hardware(algorithm, hardware, monkeypatch):
    if hardware == "hardware=gpu":
        monkeypatch.setenv("RAY_ADDRESS", "a cluster that has them")
    config = composed(f"+{algorithm}", hardware)
    assert config.algorithm_name == algorithm.removeprefix("algorithm=")
    assert config_problems(config) == []


@pytest.mark.parametrize("choice", [*choices("profile", "llm", "task"), *(f"+{name}" for name in choices("filter"))])
def test_every_other_choice(choice):
    found = config_problems(composed("+algorithm=dsdr", "hardware=cpu", choice))
    if choice == "task=files":  # which are the user's to give
        assert_one(found, "data.train_files is null, so it was not given", "set it to a file")
        assert_one(found, "data.val_files is null, so it was not given", "set it to a file")
        assert len(found) == 2
    else:
        assert found == []


def test_no_algorithm_is_the_only_problem_without_one():
    assert_one(found := config_problems(composed("hardware=cpu")), "algorithm_name is null")
    assert len(found) == 1


def test_all_problems_are_listed(cpu_config):
    found = problems(
        cpu_config,
        {"algorithm_name": None, "algorithm.dsdr.tau": -1, f"{ROLLOUT}.n": 1, f"{MODEL}.path": "/no", "run_dir": None},
    )
    assert len(found) == len(set(found)) >= 5


def test_checking_writes_nothing_and_changes_nothing(cpu_config, tmp_path):
    before = OmegaConf.to_yaml(cpu_config)
    config_problems(cpu_config)
    assert OmegaConf.to_yaml(cpu_config) == before
    assert list(tmp_path.iterdir()) == []
