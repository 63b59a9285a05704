"""One plot a quantity, with all arms on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    as_share,
    draw_line,
    dress,
)
from dsdr_verl.evaluation.intervals import Estimate
from dsdr_verl.report.arms import Arm, Measured, Sweep, sweeps_of
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
class Curve:
    """A line [X], and of several seeds the lowest and the highest."""

    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None


NOTHING = Curve((), ())


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


def training_plots(arms: Sequence[Arm]) -> list[Plot]:
    """The quantities that at least one run has logged, over steps."""
    plots = []
    for quantity in QUANTITIES:
        curves = [over_seeds([run.series.train(quantity.key) for run in arm.runs]) for arm in arms]
        if any(len(curve.x) for curve in curves):
            figure, axes = _axes(quantity.title, quantity.unit)
            _overlay(axes, arms, curves)
            axes.set_xlim(_span(arms))
            if quantity.share:
                as_share(axes)
            plots.append(_finished(quantity.name, quantity.title, figure, arms))
    return plots


def validation_plots(arms: Sequence[Arm], bands: Sequence[dict[int, Estimate]] = ()) -> list[Plot]:
    """pass@k over k at the last validation; pass@1 and the largest common pass@k over steps where there are several;
    and for each option that was swept, pass@k over its values.

    Args:
        arms: those that have validated are drawn.
        bands: for each arm the intervals of its last pass@k, by k; none where there are no rows of problems.
    """
    curves = [
        {k: over_seeds([run.get(k, ((), ())) for run in runs]) for k in sorted({k for run in runs for k in run})}
        for runs in ([run.series.validation()[0] for run in arm.runs] for arm in arms)
    ]
    ks = sorted(set.intersection(*[set(each) for each in curves if each])) if any(curves) else []
    if not ks:
        return []
    plots = [_over_k(arms, curves, bands)]
    if any(len(each[ks[0]].x) > 1 for each in curves if each):
        for k in sorted({ks[0], ks[-1]}):
            title = f"Validation pass@{k}"
            figure, axes = _axes(title, "problems solved")
            _overlay(axes, arms, [each.get(k, NOTHING) for each in curves])
            axes.set_xlim(_span(arms))
            as_share(axes)
            plots.append(_finished(f"pass-at-{k}", title, figure, arms))
    return plots + [_sensitivity(index, sweep, sorted({ks[0], ks[-1]})) for index, sweep in enumerate(sweeps_of(arms))]


def over_seeds(curves: Sequence[tuple]) -> Curve:
    """The mean of curves (x, y) where all have a point, and between which they lie; of one curve itself."""
    if len(curves) == 1:
        return Curve(*curves[0])
    at = [dict(zip(map(float, x), y, strict=True)) for x, y in curves]
    x = sorted(set.intersection(*map(set, at)))
    if not x:
        return NOTHING
    y_SX = np.array([[points[step] for step in x] for points in at])
    return Curve(np.array(x), y_SX.mean(0), y_SX.min(0), y_SX.max(0))


def _over_k(arms: Sequence[Arm], curves: list[dict[int, Curve]], bands: Sequence[dict[int, Estimate]]) -> Plot:
    title = "Last validation: pass@k over k"
    figure, axes = _axes(title, "problems solved")
    for index, band in enumerate(bands):
        if band:
            low, high = zip(*[(point.low, point.high) for point in band.values()], strict=True)
            axes.fill_between(list(band), low, high, color=colour(index), alpha=0.15, linewidth=0)
    _overlay(axes, arms, last := [_at_last(each) for each in curves])
    _ks_below(axes, last)
    as_share(axes)
    return _finished("pass-at-k", title, figure, arms)


def evaluation_plots(arms: Sequence[Arm], measured: Measured) -> list[Plot]:
    """pass@k and distinct modes over k, of what was evaluated."""
    plots = []
    for kind, title, unit in (
        ("pass", "Evaluation: pass@k over k", "problems solved"),
        ("modes", "Evaluation: modes in k samples", "distinct correct modes"),
    ):
        curves = [over_seeds(found) if (found := [_at_ks(v, kind) for _, v in each]) else NOTHING for each in measured]
        if any(len(curve.x) for curve in curves):
            figure, axes = _axes(title, unit)
            _overlay(axes, arms, curves)
            _ks_below(axes, curves)
            if kind == "pass":
                as_share(axes)
            plots.append(_finished(f"evaluation-{kind}", title, figure, arms))
    return plots


def _at_ks(values: Mapping[str, float], kind: str) -> tuple[list[int], list[float]]:
    points = sorted(
        (int(name.partition("@")[2]), value) for name, value in values.items() if name.startswith(f"{kind}@")
    )
    return [k for k, _ in points], [value for _, value in points]


def _ks_below(axes: Axes, curves: Sequence[Curve]) -> None:
    axes.set_xscale("log", base=2)
    ks = sorted({int(k) for curve in curves for k in curve.x})
    axes.set_xticks(ks, map(str, ks))
    axes.minorticks_off()
    axes.set_xlabel("k", fontsize=9)


def _at_last(curves: dict[int, Curve]) -> Curve:
    """Where the curves of each k end, over k."""
    curves = {k: curve for k, curve in curves.items() if len(curve.x)}
    of_seeds = bool(curves) and all(curve.low is not None for curve in curves.values())
    names = ("y", "low", "high") if of_seeds else ("y",)
    return Curve(list(curves), *(np.array([getattr(c, name)[-1] for c in curves.values()]) for name in names))


def _sensitivity(index: int, sweep: Sweep, ks: Sequence[int]) -> Plot:
    """A dot a seed, and a line through the means. Values stand side by side, whatever their distance."""
    title = f"Sensitivity to {sweep.label} ({sweep.algorithm})"
    figure, axes = _axes(title, "problems solved, last validation")
    places = range(len(sweep.points))
    for number, k in enumerate(ks):
        means = []
        for place, arm in zip(places, sweep.points.values(), strict=True):
            values = [found[k][1][-1] for run in arm.runs if k in (found := run.series.validation()[0])]
            axes.plot([place] * len(values), values, ".", color=colour(number), alpha=0.6)
            means.append(np.mean(values) if values else np.nan)
        axes.plot(places, means, "-", color=colour(number), label=f"pass@{k}")
    axes.set_xticks(places, [f"{value:g}" for value in sweep.points])
    axes.set_xlabel(sweep.label, fontsize=9)
    as_share(axes)
    figure.legend(loc="outside lower left", ncols=2, frameon=False, fontsize=8, handlelength=1.5, borderpad=0)
    return Plot(f"sensitivity-{index + 1}", title, figure)


def colour(index: int) -> str:
    """Of the arm at `index`."""
    return COLOURS[index % len(COLOURS)]


def _axes(title: str, unit: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.2, 2.9), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    dress(axes, title, unit, pad=8)
    return figure, axes


def _overlay(axes: Axes, arms: Sequence[Arm], curves: Sequence[Curve]) -> None:
    for index, (arm, curve) in enumerate(zip(arms, curves, strict=True)):
        if len(curve.x):
            before = len(axes.lines)
            if curve.low is not None:
                axes.fill_between(curve.x, curve.low, curve.high, color=colour(index), alpha=0.15, linewidth=0)
            draw_line(axes, curve.x, curve.y, colour(index), legend_name(index, arm))
            for line in axes.lines[before:]:
                line.set_linestyle(STYLES[index // len(COLOURS) % len(STYLES)])


def legend_name(index: int, arm: Arm) -> str:
    """Numbered as on the page: names may be equal, or too long."""
    name = arm.name if len(arm.name) <= LONGEST_NAME else f"{arm.name[: LONGEST_NAME - 1]}…"
    return f"{index + 1}  {name}"


def _finished(name: str, title: str, figure: Figure, arms: Sequence[Arm]) -> Plot:
    if len(arms) > 1:
        figure.legend(loc="outside lower left", ncols=2, frameon=False, fontsize=8, handlelength=1.5, borderpad=0)
    return Plot(name, title, figure)


def _span(arms: Sequence[Arm]) -> tuple[float, float]:
    lows, highs = zip(*[run.series.span() for arm in arms for run in arm.runs], strict=True)
    return min(lows), max(highs)


def drawing() -> AbstractContextManager:
    """The context that figures are made and saved in."""
    return matplotlib.rc_context(STYLE)
