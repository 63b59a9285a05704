"""The config tree: every choice composes, passes verl's own validation, and ships in the wheel."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

REPOSITORY = Path(__file__).resolve().parents[2]
ALGORITHMS = ("grpo", "dapo", "dsdr", "dsdr_wo_gd", "dsdr_wo_gc", "dsdr_uniform")


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
    assert terms("grpo")[:2] == terms("dapo")[:2] == (0.0, 0.0)


def test_options_in_yaml_are_the_defaults_in_code():
    from dsdr_verl.algorithm.options import DSDROptions
    from dsdr_verl.scoring.options import ScoringOptions

    c = config("+algorithm=dsdr")
    assert DSDROptions.from_mapping(OmegaConf.to_container(c.algorithm.dsdr)) == DSDROptions()
    assert ScoringOptions.from_mapping(OmegaConf.to_container(c.scoring)) == ScoringOptions()


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


def entry(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "dsdr_verl.main_ppo", *arguments], capture_output=True, text=True, cwd=cwd, timeout=120
    )


def test_bad_configs_end_before_anything_starts(tmp_path):
    """All problems at once, each with its key; no folder, no Ray."""
    ended = entry(
        "+algorithm=dsdr", "actor_rollout_ref.rollout.n=1", "algorithm.dsdr.tau=-1", "data.train_batch_size=7",
        "actor_rollout_ref.model.path=./nowhere", "task=files", "data.train_files=gone.parquet", cwd=tmp_path,
    )  # fmt: skip
    assert ended.returncode == 2
    for key in ("rollout.n", "algorithm.dsdr.tau", "train_batch_size", "model.path", "data.train_files"):
        assert key in ended.stderr, ended.stderr
    assert "Traceback" not in ended.stderr and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [((), "+algorithm=dsdr"), (("+algorithm=dsdr", "algorithm.dsdr.lamda_d=1"), "lamda_d")],
    ids=["no-algorithm", "unknown-option"],
)
def test_messages(tmp_path, arguments, says):
    ended = entry(*arguments, cwd=tmp_path)
    assert ended.returncode != 0 and says in ended.stderr and not list(tmp_path.iterdir())


def test_help_and_cfg(tmp_path):
    shown = entry("--help", cwd=tmp_path)
    assert shown.returncode == 0 and "+algorithm=dsdr" in shown.stdout
    shown = entry("--cfg", "job", "+algorithm=dsdr", cwd=tmp_path)
    assert shown.returncode == 0 and "lambda_d: 0.001" in shown.stdout


def test_wheel_carries_the_tree(tmp_path):
    """Installed from a wheel, away from the repository, the entry composes."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(REPOSITORY)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    in_tree = {path.relative_to(REPOSITORY / "conf").as_posix() for path in (REPOSITORY / "conf").rglob("*.yaml")}
    assert in_tree == {n.removeprefix("dsdr_verl/conf/") for n in names if n.endswith(".yaml")}
    assert "dsdr_verl/data/tiny_model/model.safetensors" in names
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    shown = subprocess.run(
        [sys.executable, "-m", "dsdr_verl.main_ppo", "--cfg", "job", "+algorithm=dapo"],
        capture_output=True, text=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
    )  # fmt: skip
    assert shown.returncode == 0 and "overlong_buffer_cfg" in shown.stdout, shown.stderr
