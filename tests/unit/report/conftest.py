"""Run folders as `main_ppo` leaves them: its own writer of metrics, and its config as far as the report reads it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from dsdr_verl.console import MetricsLog
from dsdr_verl.evaluation.passk import validation_metrics
from dsdr_verl.report import page as report_page
from dsdr_verl.report import plots

STEPS = 6
SAMPLES = 4


def step_metrics(step: int, pass_rate: float) -> dict[str, float]:
    return {
        "critic/score/mean": pass_rate,
        "dsdr/pass_rate": pass_rate,
        "actor/entropy": 1.0 / step,
        "dsdr/semantic/correct": 0.1,
        "dsdr/formula/correct": 0.5,
        "response_length/mean": 20.0 + step,
        "dsdr/groups/mixed": 0.5,
        "dsdr/coupling/effective_rollouts": 2.0,
        "dsdr/coupling/entropy": math.log(2.0),
        "timing_s/step": 3.0,
    }


def verdicts(solved: int) -> list[list[float]]:
    """Of 12 problems, of which the first `solved` have three correct samples of four, the others one."""
    return [[1.0] * (3 if problem < solved else 1) + [0.0] * (1 if problem < solved else 3) for problem in range(12)]


def config(folder: Path, **keys) -> DictConfig:
    made = OmegaConf.create(
        {
            "algorithm_name": "dsdr",
            "run_dir": str(folder),
            "algorithm": {"dsdr": {"lambda_d": 0.001, "lambda_l": 0.001, "tau": 5.0}},
            "actor_rollout_ref": {
                "model": {"path": "tiny"},
                "actor": {"optim": {"lr": 0.0001}},
                "rollout": {"n": 4, "val_kwargs": {"n": SAMPLES}},
            },
            "data": {"task": "tiny_arithmetic", "train_files": None, "train_batch_size": 4},
            "trainer": {"total_training_steps": STEPS, "validation_data_dir": None},
        }
    )
    for key, value in keys.items():
        OmegaConf.update(made, key.replace("__", "."), value)
    return made


@pytest.fixture(autouse=True)
def coarse_plots(monkeypatch):
    """Pixels take most of the time of a report."""
    monkeypatch.setattr(report_page, "PNG_DPI", 40)


@pytest.fixture
def few_plots(monkeypatch):
    """Reward, accuracy and entropy, where what else is drawn is of no matter."""
    monkeypatch.setattr(plots, "QUANTITIES", plots.QUANTITIES[:3])


@pytest.fixture
def run_folder(tmp_path) -> Callable[..., Path]:
    """Makes one: `run_folder(name, solved=of the last validation, keep=its samples, **keys of the config)`."""

    def make(name: str, *, pass_rate: float = 0.4, solved: int = 6, keep: bool = False, **keys) -> Path:
        folder = tmp_path / "outputs" / name
        folder.mkdir(parents=True)
        kept = str(folder / "validation") if keep else None
        OmegaConf.save(config(folder, trainer__validation_data_dir=kept, **keys), folder / "config.yaml")
        log = MetricsLog(folder / "metrics.jsonl")
        for step in range(STEPS + 1):
            if step:
                log.append("step", step, step_metrics(step, pass_rate))
            if step % 3 == 0:
                rows = verdicts(solved if step == STEPS else 0)
                uids = [f"p{problem}" for problem, samples in enumerate(rows) for _ in samples]
                flat = [acc for samples in rows for acc in samples]
                log.append("validation", step, validation_metrics(["dsdr/tiny_arithmetic"] * len(flat), uids, flat))
                if keep:
                    keep_samples(folder / "validation" / f"{step}.jsonl", rows)
        return folder

    return make


def keep_samples(path: Path, rows: list[list[float]]) -> None:
    """As verl's `_write_generations` does, with `trainer.validation_data_dir` set."""
    path.parent.mkdir(exist_ok=True)
    lines = [
        {"input": f"What is {problem} + 1?", "output": "…", "gts": str(problem + 1), "score": acc, "step": 6,
         "acc": acc, "verdict": "correct" if acc else "incorrect", "uid": f"{id(path)}-{problem}_{sample}_0"}
        for problem, samples in enumerate(rows)
        for sample, acc in enumerate(samples)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
