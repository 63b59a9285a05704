"""What `make` would run."""

import fnmatch
import os
import subprocess
from pathlib import Path

import pytest

from dsdr_verl.sweep.grid import jobs_of, read_sweep

REPOSITORY = Path(__file__).resolve().parents[2]


def would_run(tmp_path: Path, *words: str, made_for: str = "cpu") -> str:
    """The commands, with a .venv that is as good as new."""
    venv = tmp_path / ".venv"
    venv.mkdir(exist_ok=True)
    ready = venv / f"ready-{made_for}"
    ready.touch()
    command = ["make", "-n", f"VENV={venv}", "-o", str(ready), *words]
    # none of what a `make test ARGS=…` around this hands down
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, check=True, capture_output=True, text=True)
    return done.stdout


def test_cluster_up_takes_an_inventory_a_backend_and_a_timeout(tmp_path):
    said = would_run(tmp_path, "cluster-up", "INVENTORY=my.yaml", "BACKEND=ssh", "TIMEOUT=7")
    assert said.strip() == (
        f"{tmp_path}/.venv/bin/python -m dsdr_verl.cluster up --inventory my.yaml --backend ssh --timeout 7"
    )
    assert "--inventory recipe/cluster/slurm.yaml --backend slurm" in would_run(
        tmp_path, "cluster-down", "BACKEND=slurm"
    )


def test_the_study_reports_on_every_run_of_its_sweep(tmp_path):
    command = would_run(tmp_path, "study").splitlines()[-1].split()
    patterns = [word for word in command if word.startswith("outputs/study/")]
    names = [str(job.folder) for job in jobs_of(read_sweep(REPOSITORY / "recipe/study/sweep.yaml"))]
    assert all(fnmatch.filter(names, pattern) for pattern in patterns)
    assert {name for pattern in patterns for name in fnmatch.filter(names, pattern)} == set(names)


@pytest.mark.parametrize("made_for", ["cpu", "gpu"])
def test_an_environment_keeps_its_lock(tmp_path, made_for):
    """`make tiny` on a GPU machine must not put the CPU's packages over CUDA's."""
    assert "pip install" not in would_run(tmp_path, "tiny", made_for=made_for)
    other = {"cpu": "gpu", "gpu": "cpu"}[made_for]
    assert f"requirements/{other}.lock" in would_run(tmp_path, "tiny", f"HARDWARE={other}", made_for=made_for)


def test_ci_audits_and_only_lets_an_unreachable_database_pass(tmp_path):
    assert "make audit ARGS=--unreachable-ok\n" in (REPOSITORY / ".ci/run").read_text()
    assert would_run(tmp_path, "audit", "ARGS=--unreachable-ok").strip().endswith("-m tests.audit --unreachable-ok")
    assert would_run(tmp_path, "audit").strip().endswith("-m tests.audit")


@pytest.mark.parametrize("hardware", ["cpu", "gpu"])
def test_setup_installs_by_hash_and_torch_for_the_cpu_apart(tmp_path, hardware):
    said = would_run(
        tmp_path, "setup", f"HARDWARE={hardware}", "PYTHON=true", made_for="gpu" if hardware == "cpu" else "cpu"
    )
    assert f"--no-deps --require-hashes --requirement requirements/{hardware}.lock" in said
    assert ("--no-deps --requirement requirements/cpu-torch.txt" in said) == (hardware == "cpu")
    assert "gpu-torch" not in said
