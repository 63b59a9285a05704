"""`recipe/study/evaluate.sh`: each finished run once, by its last checkpoint, or by the start if it has none."""

import json
import os
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "recipe/study/evaluate.sh"


def run_of(study: Path, name: str, state: str, *checkpoints: int, evaluated: bool = False) -> Path:
    run = study / name
    run.mkdir(parents=True)
    (run / "sweep.json").write_text(json.dumps({"state": state}, indent=1))
    for step in checkpoints:
        (run / f"checkpoints/global_step_{step}").mkdir(parents=True)
    if evaluated:
        (run / "evaluation").mkdir()
        (run / "evaluation/summary.json").touch()
    return run


def evaluated(study: Path) -> list[list[str]]:
    """The arguments of each call of the evaluation."""
    python = study.parent / "python"
    python.write_text('#!/bin/sh\nprintf "%s|" "$@" >> "$CALLS"\necho >> "$CALLS"\n')
    python.chmod(0o755)
    calls = study.parent / "calls"
    calls.touch()
    environment = os.environ | {"PYTHON": str(python), "CALLS": str(calls)}
    subprocess.run(["bash", SCRIPT, study], check=True, env=environment, capture_output=True, text=True)
    return [line.split("|")[:-1] for line in calls.read_text().splitlines()]


def test_what_is_evaluated(tmp_path):
    study = tmp_path / "the study"  # with a blank
    base = run_of(study, "seed1-base", "finished")
    trained = run_of(study, "seed1-dsdr", "finished", 40, 80, 100)
    run_of(study, "seed1-grpo", "finished", 80, evaluated=True)
    run_of(study, "seed2-dsdr", "stopped", 40)
    run_of(study, "seed2-grpo", "failed", 40)
    (study / "notes").mkdir()
    calls = evaluated(study)
    assert [call[:3] for call in calls] == [["-m", "dsdr_verl.evaluate", f"model='{model}'"] for model in
                                            ("tiny_countdown", f"{trained}/checkpoints/global_step_100")]  # fmt: skip
    assert [call[-1] for call in calls] == [f"output='{run}/evaluation'" for run in (base, trained)]


def test_a_failed_evaluation_ends_the_script(tmp_path):
    run_of(tmp_path / "study", "seed1-base", "finished")
    environment = os.environ | {"PYTHON": "false"}
    ended = subprocess.run(["bash", SCRIPT, tmp_path / "study"], env=environment, capture_output=True)
    assert ended.returncode == 1
