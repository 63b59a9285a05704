"""`plot_curves` writes a readable PNG whatever a run has logged."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest

from dsdr_verl.console import MetricsLog
from dsdr_verl.evaluation import curves
from dsdr_verl.evaluation.curves import PANELS, Series, plot_curves, running_mean
from dsdr_verl.evaluation.passk import validation_metrics


def step(number: int) -> dict:
    metrics = {
        "dsdr/pass_rate": 0.4,
        "critic/score/mean": 0.4,
        "actor/entropy": 1.0 / number,
        "actor/dsdr_local": 0.5,
        "actor/grad_norm": 1.2,
        "response_length/mean": 24.0,
        "dsdr/bonus/mean": 3e-4,
        "dsdr/bonus/largest": 6e-4,
        "dsdr/coupling/effective_rollouts": 2.0,
        "dsdr/coupling/entropy": math.log(2.0),
        **{f"dsdr/{part}/{kind}": 0.3 for part in ("semantic", "formula") for kind in ("correct", "incorrect")},
        **{f"dsdr/groups/{kind}": 1 / 3 for kind in ("all_correct", "mixed", "all_wrong")},
        **{f"timing_s/{stage}": 1.0 for stage in ("gen", "old_log_prob", "adv", "update_actor", "update_weights")},
        "timing_s/step": 6.0,
    }
    return {"step": number, "kind": "step", "metrics": metrics}


def validation(number: int, source: str = "dsdr/arithmetic") -> dict:
    verdicts = [1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    metrics = validation_metrics([source] * 8, list("aaaabbbb"), verdicts)
    return {"step": number, "kind": "validation", "metrics": metrics}


def without(row: dict, prefix: str) -> dict:
    return {**row, "metrics": {key: value for key, value in row["metrics"].items() if not key.startswith(prefix)}}


TEN = [row for number in range(1, 11) for row in (step(number), *([validation(number)] if number % 5 == 0 else []))]
RUNS = {
    "whole": [validation(0), *TEN],
    "long": [step(number) for number in range(1, 200)],
    "one step": [step(1)],
    "one validation": [validation(0), step(1), step(2)],
    "validation only": [validation(0)],
    "two sources": [validation(0, "a"), validation(0, "b"), step(1), validation(1, "a")],
    "nothing": [],
    "no metrics": [{"step": 1, "kind": "step", "metrics": {}}],
    "other metrics": [{"step": 1, "kind": "validation", "metrics": {"val-aux/x/reward/mean@1": 0.5}}],
    "baseline": [without(without(row, "dsdr/"), "actor/dsdr") for row in TEN],
    "not a number": [{**row, "metrics": dict.fromkeys(row["metrics"], float("nan"))} for row in TEN],
    "some not a number": [step(1), {**step(2), "metrics": dict.fromkeys(step(2)["metrics"], math.inf)}, step(3)],
    "negative reward": [{"step": 1, "kind": "step", "metrics": {"dsdr/pass_rate": 0.1, "critic/score/mean": -0.6}}],
    "all zero": [{**step(1), "metrics": dict.fromkeys(step(1)["metrics"], 0.0)}],
    "from a later step": [step(117), step(118)],
    "repeated": [step(1), step(2), step(2), step(3)],
}


def size(path) -> tuple[int, int]:
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n" and data[-8:-4] == b"IEND"
    return struct.unpack(">II", data[16:24])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("run", RUNS)
def test_a_png_of_sane_size(run, tmp_path):
    path = plot_curves(RUNS[run], tmp_path / "new" / "curves.png")
    assert path == tmp_path / "new" / "curves.png"
    width, height = size(path)
    assert 1000 < width < 2000 and 300 < height < 2000
    assert 2_000 < path.stat().st_size < 1_000_000


def drawn(rows: list[dict]) -> list[str]:
    series = Series(rows)
    return [panel.title for panel in PANELS if panel.exists(series)]


def test_panels_without_data_are_left_out():
    assert drawn(RUNS["whole"]) == [panel.title for panel in PANELS]
    assert drawn(RUNS["nothing"]) == drawn(RUNS["not a number"]) == drawn(RUNS["other metrics"]) == []
    assert drawn(RUNS["validation only"]) == ["Pass rate", "Validation pass@k"]
    assert drawn(RUNS["baseline"]) == [
        "Pass rate", "Validation pass@k", "Entropy of the policy", "Response length", "Gradient norm", "Time of a step",
    ]  # fmt: skip


def test_the_rows_of_a_metrics_log(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for row in [*RUNS["whole"], *RUNS["not a number"]]:
        log.append(row["kind"], row["step"], row["metrics"])
    assert size(plot_curves(log.rows(), tmp_path / "curves.png"))[0] > 1000


def test_validation_is_read_for_every_k_and_averaged_over_sources():
    both = [{"step": 3, "kind": "validation", "metrics": {
        "val-core/dsdr/arithmetic/acc/pass@1": 0.2, "val-core/math/acc/pass@1": 0.4, "val-core/math/acc/pass@16": 0.9,
        "val-core/math/acc/mean@1": 0.0, "val-aux/math/acc/pass@1": 0.0,
    }}]  # fmt: skip
    points, sources = Series(both).validation()
    assert sources == 2 and list(points) == [1, 16]
    np.testing.assert_allclose(points[1], ([3], [0.3]))
    np.testing.assert_allclose(points[16], ([3], [0.9]))


def test_the_reward_is_drawn_only_where_it_is_not_the_pass_rate():
    def labels(reward: float) -> list[str]:
        row = {"step": 1, "kind": "step", "metrics": {"dsdr/pass_rate": 0.5, "critic/score/mean": reward}}
        axes = curves.Figure().add_subplot()
        curves.PassRate().draw(axes, Series([row]))
        return axes.get_legend_handles_labels()[1]

    assert labels(0.5) == ["training"]
    assert labels(0.4) == ["training", "training reward"]


def test_seconds_that_no_stage_accounts_for_are_other():
    axes = curves.Figure().add_subplot()
    PANELS[-1].draw(axes, Series([step(1)]))
    heights = {bars.get_label(): bars.patches[0].get_height() for bars in axes.containers}
    assert heights.pop("other") == pytest.approx(1.0)
    assert set(heights) == {"generate", "log-probs", "advantage", "update", "sync"} and sum(heights.values()) == 5.0


@pytest.mark.parametrize("window", [0, 1, 2, 7])
def test_running_mean_keeps_length_and_level(window):
    assert running_mean(np.full(20, 3.0), window) == pytest.approx(np.full(20, 3.0))
    assert running_mean(np.arange(5.0), 3) == pytest.approx([0.5, 1, 2, 3, 3.5])
