"""One plot a quantity, with all runs on it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dsdr_verl.evaluation.curves import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    Series,
    as_share,
    draw_line,
    dress,
)
from dsdr_verl.evaluation.intervals import Estimate
from dsdr_verl.report.runs import Run

COLOURS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY)
STYLES = ("-", "--", ":", "-.")  # for more runs than colours
INK = "#1b1f24"
LONGEST_NAME = 24  # characters in a legend
# Any character of a run's name is drawn as it is, and text of the SVG stays text.
STYLE = {
    "text.parse_math": False,
    "svg.fonttype": "none",
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
}


@dataclass(frozen=True)
class Quantity:
    """A metric of the training steps."""

    name: str  # in the names of files
    title: str
    unit: str
    key: str
    share: bool = False


QUANTITIES = (
    Quantity("reward", "Reward", "mean over rollouts", "critic/score/mean"),
    Quantity("accuracy", "Accuracy of training rollouts", "rollouts that are correct", "dsdr/pass_rate", share=True),
    Quantity("entropy", "Entropy of the policy", "nats a token", "actor/entropy"),
    Quantity("semantic", "Semantic diversity (Eq. 6)", "mean over correct rollouts", "dsdr/semantic/correct"),
    Quantity("formula", "Formula diversity (Eq. 8)", "mean over correct rollouts", "dsdr/formula/correct"),
    Quantity("length", "Response length", "tokens, mean", "response_length/mean"),
    Quantity("mixed", "Informative groups", "groups that are mixed", "dsdr/groups/mixed", share=True),
    Quantity("rollouts", "Coupling: effective rollouts", "1 / Σw²", "dsdr/coupling/effective_rollouts"),
    Quantity("coupling", "Coupling: entropy of the weights", "nats", "dsdr/coupling/entropy"),
)


@dataclass(frozen=True)
class Plot:
    """A drawn figure."""

    name: str
    title: str
    figure: Figure


def in_common(runs: Sequence[Run]) -> set[str]:
    """The metrics, of those that are drawn, that all runs have."""
    return set.intersection(*map(_drawable, runs))


def _drawable(run: Run) -> set[str]:
    trained = {quantity.key for quantity in QUANTITIES if run.series.has(quantity.key)}
    return trained | {f"pass@{k}" for k in run.series.validation()[0]}


def training_plots(runs: Sequence[Run]) -> list[Plot]:
    """The quantities that at least one run has logged, over steps."""
    plots = []
    for quantity in QUANTITIES:
        curves = [run.series.train(quantity.key) for run in runs]
        if any(len(steps) for steps, _ in curves):
            figure, axes = _axes(quantity.title, quantity.unit)
            _overlay(axes, runs, curves)
            axes.set_xlim(_span([run.series for run in runs]))
            if quantity.share:
                as_share(axes)
            plots.append(_finished(quantity.name, quantity.title, figure, runs))
    return plots


def validation_plots(runs: Sequence[Run], bands: Sequence[dict[int, Estimate]] = ()) -> list[Plot]:
    """pass@k over k at the last validation; pass@1 and the largest common pass@k over steps where there are several.

    Args:
        runs: those that have validated are drawn.
        bands: for each run the intervals of its last pass@k, by k; none where there are no rows of problems.
    """
    curves = [run.series.validation()[0] for run in runs]
    ks = sorted(set.intersection(*[set(each) for each in curves if each])) if any(curves) else []
    if not ks:
        return []
    plots = [_over_k(runs, curves, bands)]
    if any(len(each[ks[0]][0]) > 1 for each in curves if each):
        for k in sorted({ks[0], ks[-1]}):
            title = f"Validation pass@{k}"
            figure, axes = _axes(title, "problems solved")
            _overlay(axes, runs, [each.get(k, ((), ())) for each in curves])
            axes.set_xlim(_span([run.series for run in runs]))
            as_share(axes)
            plots.append(_finished(f"pass-at-{k}", title, figure, runs))
    return plots


def _over_k(runs: Sequence[Run], curves: list[dict], bands: Sequence[dict[int, Estimate]]) -> Plot:
    title = "Last validation: pass@k over k"
    figure, axes = _axes(title, "problems solved")
    axes.set_xscale("log", base=2)
    last = [{k: values[-1] for k, (_, values) in each.items()} for each in curves]
    for index, band in enumerate(bands):
        if band:
            low, high = zip(*[(point.low, point.high) for point in band.values()], strict=True)
            axes.fill_between(list(band), low, high, color=colour(index), alpha=0.15, linewidth=0)
    _overlay(axes, runs, [(np.array(list(points)), np.array(list(points.values()))) for points in last])
    ks = sorted({k for points in last for k in points})
    axes.set_xticks(ks, map(str, ks))
    axes.minorticks_off()
    axes.set_xlabel("k", fontsize=9)
    as_share(axes)
    return _finished("pass-at-k", title, figure, runs)


def colour(index: int) -> str:
    """Of the run at `index`."""
    return COLOURS[index % len(COLOURS)]


def _axes(title: str, unit: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.2, 2.9), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    dress(axes, title, unit, pad=8)
    return figure, axes


def _overlay(axes: Axes, runs: Sequence[Run], curves: Sequence[tuple]) -> None:
    for index, (run, (x, y)) in enumerate(zip(runs, curves, strict=True)):
        if len(x):
            before = len(axes.lines)
            draw_line(axes, x, y, colour(index), legend_name(index, run))
            for line in axes.lines[before:]:
                line.set_linestyle(STYLES[index // len(COLOURS) % len(STYLES)])


def legend_name(index: int, run: Run) -> str:
    """Numbered as on the page: names may be equal, or too long."""
    name = run.name if len(run.name) <= LONGEST_NAME else f"{run.name[: LONGEST_NAME - 1]}…"
    return f"{index + 1}  {name}"


def _finished(name: str, title: str, figure: Figure, runs: Sequence[Run]) -> Plot:
    if len(runs) > 1:
        figure.legend(loc="outside lower left", ncols=2, frameon=False, fontsize=8, handlelength=1.5, borderpad=0)
    return Plot(name, title, figure)


def _span(series: Sequence[Series]) -> tuple[float, float]:
    lows, highs = zip(*[each.span() for each in series], strict=True)
    return min(lows), max(highs)


def drawing() -> AbstractContextManager:
    """The context that figures are made and saved in."""
    return matplotlib.rc_context(STYLE)
