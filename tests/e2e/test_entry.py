"""The entry as a user calls it, where it ends before Ray starts; and the wheel that carries it."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from dsdr_verl.alone import alone_in

pytestmark = pytest.mark.e2e
REPOSITORY = Path(__file__).resolve().parents[2]


def entry(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "dsdr_verl.main_ppo", *arguments], capture_output=True, text=True, cwd=cwd, timeout=300
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


def test_a_second_run_in_a_folder_is_refused(tmp_path):
    with alone_in(tmp_path / "run", ""):
        ended = entry("profile=tiny", "hardware=cpu", "+algorithm=dsdr", "run_dir=run", cwd=tmp_path)
    assert ended.returncode == 2 and "run_dir: another process trains in" in ended.stderr, ended.stderr
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]


def test_help_and_cfg(tmp_path):
    shown = entry("--help", cwd=tmp_path)
    assert shown.returncode == 0 and "+algorithm=dsdr" in shown.stdout
    shown = entry("--cfg", "job", "+algorithm=dsdr", cwd=tmp_path)
    assert shown.returncode == 0 and "lambda_d: 0.001" in shown.stdout


def test_wheel_carries_the_tree(tmp_path):
    """Installed from a wheel, away from the repository, the entry composes."""
    # a copy: setuptools would leave its build folder in the repository
    source = tmp_path / "source"
    for folder in ("dsdr_verl", "conf"):
        shutil.copytree(REPOSITORY / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / file, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    in_tree = {path.relative_to(REPOSITORY / "conf").as_posix() for path in (REPOSITORY / "conf").rglob("*.yaml")}
    assert in_tree == {n.removeprefix("dsdr_verl/conf/") for n in names if n.endswith(".yaml")}
    assert {f"dsdr_verl/data/{name}/model.safetensors" for name in ("tiny_model", "countdown_model")} <= set(names)
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    shown = subprocess.run(
        [sys.executable, "-m", "dsdr_verl.main_ppo", "--cfg", "job", "+algorithm=dapo"],
        capture_output=True, text=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
    )  # fmt: skip
    assert shown.returncode == 0 and "overlong_buffer_cfg" in shown.stdout, shown.stderr
    shown = subprocess.run(
        [sys.executable, "-m", "dsdr_verl.evaluate", "--cfg", "job", "sampling=paper_avg16"],
        capture_output=True, text=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
    )  # fmt: skip
    assert shown.returncode == 0 and "max_tokens: 4096" in shown.stdout, shown.stderr
