"""What `python -m dsdr_verl.evaluate output=RUN/evaluation` has left in the folders of runs."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dsdr_verl.report.arms import Arm, Measured
from dsdr_verl.report.runs import Run

FOLDER = "evaluation"
LAST_STEPS = 10  # that the entropy of a run's policy is averaged over


def read_evaluations(arms: Sequence[Arm]) -> tuple[Measured, list[str]]:
    """Means over problems, averaged over sources, of each run that was evaluated; and what a reader has to know.

    Returns:
        `pass@k`, `maj@k`, `modes@k`, `modes_share`, `semantic`, `formula`, `tokens`, `truncated` as docs/evaluation.md
        has them, and `entropy`, of the last steps of training.
    """
    measured: list[list[tuple[Run, dict[str, float]]]] = []
    settings, notes = set(), []
    for arm in arms:
        measured.append([])
        for run in arm.runs:
            folder = run.folder / FOLDER
            if not folder.is_dir():
                continue
            try:
                values, setting = _read(folder)
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                notes.append(f"{run.name}: its evaluation is not finished or cannot be read ({error!r})")
                continue
            measured[-1].append((run, values | _entropy(run)))
            settings.add(setting)
    lacking = [run.name for arm, each in zip(arms, measured, strict=True) for run in arm.runs[len(each) :]]
    if settings and lacking:
        notes.append(f"{len(lacking)} of {sum(len(arm.runs) for arm in arms)} runs were not evaluated")
    if len(settings) > 1:
        notes.append("The evaluations differ in more than model and seed (manifest.json), so they cannot be compared")
    return measured, notes


def _read(folder: Path) -> tuple[dict[str, float], str]:
    summary = json.loads((folder / "summary.json").read_text())
    decides = json.loads((folder / "manifest.json").read_text())["decides"]
    values = defaultdict(list)
    for source in summary["sources"].values():
        for name, estimate in source.items():
            if isinstance(estimate, dict) and "estimate" in estimate:
                values[name].append(float(estimate["estimate"]))
    setting = {"n": summary["n"], **{key: value for key, value in decides.items() if key not in ("model", "seed")}}
    return {name: float(np.mean(each)) for name, each in values.items()}, json.dumps(setting, sort_keys=True)


def _entropy(run: Run) -> dict[str, float]:
    _, values = run.series.train("actor/entropy")
    return {"entropy": float(np.mean(values[-LAST_STEPS:]))} if len(values) else {}
