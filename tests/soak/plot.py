"""soak.png: a panel a quantity, with its total and the roles that have moved most."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dsdr_verl.evaluation.curves import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION, dress, legend
from tests.soak.judge import GROWS, Finding
from tests.soak.series import ALL

COLUMNS = 3
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY)


def draw(findings: Sequence[Finding], path: Path) -> None:
    """Roles are drawn as they differ from their median, for they are of very different sizes."""
    panels: dict[str, list[Finding]] = {}
    for finding in findings:
        panels.setdefault(finding.series.quantity.name, []).append(finding)
    lines = math.ceil(len(panels) / COLUMNS)
    figure = Figure(figsize=(5.4 * COLUMNS, 3.2 * lines), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    for index, (name, group) in enumerate(panels.items()):
        (total,) = [each for each in group if each.series.role == ALL]
        roles = sorted((each for each in group if each.series.role != ALL and _moved(each)), key=_moved)[::-1]
        axes = figure.add_subplot(lines, COLUMNS, index + 1)
        unit = total.series.quantity.unit
        dress(axes, name, f"{unit} beside a median of {total.median:,.0f}")
        axes.set_xlabel("hours since the first step", fontsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.axvspan(0, total.series.warm_up, color=GREY, alpha=0.15, linewidth=0)
        for finding, colour in zip(roles, COLOURS, strict=False):
            _line(axes, finding, colour, finding.series.role, 1.0)
        _line(axes, total, "black", ALL, 1.4)
        _trend(axes, total)
        low, high = axes.get_ylim()
        axes.set_ylim(min(low, -1), max(high, 1))  # what is flat looks flat
        legend(axes)
    figure.savefig(path)


def _moved(finding: Finding) -> float:
    return float(np.ptp(finding.series.after()[1]))


def _line(axes: Axes, finding: Finding, colour: str, label: str, width: float) -> None:
    axes.plot(finding.series.hours, finding.series.values - finding.median, color=colour, lw=width, label=label)


def _trend(axes: Axes, finding: Finding) -> None:
    hours, values = finding.series.after()
    middle = hours.mean()
    line = values.mean() - finding.median + finding.slope.estimate * (hours - middle)
    axes.plot(hours, line, "--", color=VERMILION, lw=1.6, label=f"{finding.slope.estimate:+.2g} an hour")
    if finding.verdict == GROWS:
        axes.text(0.99, 0.97, "grows", transform=axes.transAxes, ha="right", va="top", color=VERMILION, weight="bold")
