"""`curves.png`: a run at a glance, as small multiples of what `metrics.jsonl` holds. `PANELS` lists them."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

COLUMNS = 3
# Okabe and Ito's palette, which stays apart under the common colour-vision deficiencies; good is blue, bad vermilion.
BLUE, ORANGE, GREEN, SKY, VERMILION, PURPLE, GREY = (
    "#0072B2", "#E69F00", "#009E73", "#56B4E9", "#D55E00", "#CC79A7", "#999999",
)  # fmt: skip
PASS_AT = re.compile(r"val-core/(?P<source>.+)/acc/pass@(?P<k>\d+)")
# Up to this many steps every value is marked and stacked; beyond it lines get a running mean, and stacks become areas.
FEW = 60


class Series:
    """The rows of a run by metric: `train("actor/entropy")` is (steps, values), both empty where nobody logged it."""

    def __init__(self, rows: list[dict]):
        # a resumed run may repeat a step: the last one counts
        latest = {(row["kind"], row["step"]): row["metrics"] for row in rows}
        self._train = sorted((step, metrics) for (kind, step), metrics in latest.items() if kind == "step")
        self._validation = sorted((step, metrics) for (kind, step), metrics in latest.items() if kind == "validation")
        self.steps = np.array([step for step, _ in self._train])

    def span(self) -> tuple[float, float]:
        """The steps that all panels show."""
        steps = [step for step, _ in self._train + self._validation]
        pad = max(0.6, 0.01 * (max(steps) - min(steps)))
        return min(steps) - pad, max(steps) + pad

    def train(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        return _finite([(step, metrics[key]) for step, metrics in self._train if key in metrics])

    def column(self, key: str) -> np.ndarray:
        """One value for each of `steps`, 0 where there is none."""
        values = np.array([metrics.get(key, 0.0) for _, metrics in self._train], dtype=float)
        return np.where(np.isfinite(values), values, 0.0)

    def has(self, *keys: str) -> bool:
        return any(len(self.train(key)[0]) for key in keys)

    def last_validation(self) -> tuple[int, dict[str, float]] | None:
        """Its step and all its metrics; None where the run has not validated."""
        return self._validation[-1] if self._validation else None

    def validation(self) -> tuple[dict[int, tuple[np.ndarray, np.ndarray]], int]:
        """pass@k over steps for each k, averaged over the data sources, and the number of those."""
        values: dict[int, list[tuple[int, float]]] = defaultdict(list)
        sources = set()
        for step, metrics in self._validation:
            by_k = defaultdict(list)
            for name, value in metrics.items():
                if found := PASS_AT.fullmatch(name):
                    sources.add(found["source"])
                    by_k[int(found["k"])].append(value)
            for k, at_step in by_k.items():
                values[k].append((step, float(np.mean(at_step))))
        curves = {k: _finite(values[k]) for k in sorted(values)}
        return {k: curve for k, curve in curves.items() if len(curve[0])}, len(sources)


def _finite(points: list[tuple[int, float]]) -> tuple[np.ndarray, np.ndarray]:
    points = [(step, value) for step, value in points if math.isfinite(value)]
    return np.array([step for step, _ in points]), np.array([value for _, value in points], dtype=float)


# ------------------------------------------------------------------------------------------------ panels


@dataclass(frozen=True)
class Lines:
    """Metrics of the training steps in one unit."""

    title: str
    unit: str
    keys: dict[str, str]  # metric key: label
    colours: tuple[str, ...] = (BLUE, VERMILION)
    share: bool = False
    scale: Callable[[str, np.ndarray], np.ndarray] = lambda key, values: values

    def exists(self, series: Series) -> bool:
        return series.has(*self.keys)

    def draw(self, axes: Axes, series: Series) -> None:
        for (key, label), colour in zip(self.keys.items(), self.colours, strict=False):
            steps, values = series.train(key)
            if len(steps):
                draw_line(axes, steps, self.scale(key, values), colour, label)
        if self.share:
            as_share(axes)


@dataclass(frozen=True)
class Stack:
    """Metrics of the training steps that add up."""

    title: str
    unit: str
    keys: dict[str, str]
    colours: tuple[str, ...]
    total: str | None = None  # the metric that the parts are parts of: what they leave is drawn as "other"
    share: bool = False

    def exists(self, series: Series) -> bool:
        return series.has(*self.keys)

    def draw(self, axes: Axes, series: Series) -> None:
        labelled = zip(self.keys.items(), self.colours, strict=True)
        parts = [(label, series.column(key), colour) for (key, label), colour in labelled]
        if self.total and series.has(self.total):
            left = series.column(self.total) - sum(values for _, values, _ in parts)
            parts.append(("other", left.clip(min=0), GREY))
        parts = [(label, values, colour) for label, values, colour in parts if self.share or values.any()]
        if len(series.steps) <= FEW:
            bottom = np.zeros(len(series.steps))
            for label, values, colour in parts:
                axes.bar(series.steps, values, bottom=bottom, color=colour, width=0.85, label=label)
                bottom = bottom + values
        else:
            labels, values, colours = zip(*parts, strict=True)
            axes.stackplot(series.steps, *values, colors=colours, labels=labels, linewidth=0)
        if self.share:
            axes.set_ylim(0, 1)
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))


@dataclass(frozen=True)
class PassRate:
    """How often a training rollout is right, with the accuracy on held-out problems."""

    title: str = "Pass rate"
    unit: str = "rollouts that are correct"
    rate: str = "dsdr/pass_rate"
    reward: str = "critic/score/mean"

    def exists(self, series: Series) -> bool:
        return series.has(self.rate, self.reward) or 1 in series.validation()[0]

    def draw(self, axes: Axes, series: Series) -> None:
        (steps, rate), (reward_steps, reward) = series.train(self.rate), series.train(self.reward)
        if len(steps):
            draw_line(axes, steps, rate, BLUE, "training")
        # the reward is the pass rate unless something such as a length penalty is in it
        if len(reward_steps) and not (len(rate) == len(reward) and np.allclose(rate, reward, atol=1e-6)):
            draw_line(axes, reward_steps, reward, SKY, "training reward")
        if points := series.validation()[0].get(1):
            axes.plot(*points, color=VERMILION, marker="D", ms=5, lw=1.2, ls="--", label="validation", zorder=4)
        as_share(axes)


@dataclass(frozen=True)
class PassAtK:
    """Unbiased pass@k on held-out problems."""

    title: str = "Validation pass@k"
    unit: str = "problems solved"

    def exists(self, series: Series) -> bool:
        return bool(series.validation()[0])

    def draw(self, axes: Axes, series: Series) -> None:
        curves, sources = series.validation()
        if sources > 1:
            axes.set_ylabel(f"{self.unit} (mean of {sources} sources)")
        if len(next(iter(curves.values()))[0]) <= 1:  # one validation: pass@k against k says more
            points = [(k, values[0]) for k, (_, values) in curves.items()]
            axes.plot([value for _, value in points], color=VERMILION, marker="D", ms=5, lw=1.2)
            axes.set_xticks(range(len(points)), [str(k) for k, _ in points])
            axes.set_xlabel("k", fontsize=9)
            axes.margins(x=0.2)
        else:
            # light to dark with k, away from the extremes of the map
            colours = [_blues(x) for x in np.linspace(0, 1, max(len(curves), 2))]
            for (k, points), colour in zip(curves.items(), colours, strict=False):
                axes.plot(*points, color=colour, marker="o", ms=4, lw=1.6, label=f"k={k}")
        as_share(axes)


def _blues(x: float) -> tuple[float, float, float]:
    """From sky blue to a dark blue."""
    light, dark = np.array([0.45, 0.76, 0.95]), np.array([0.0, 0.16, 0.36])
    return tuple(light + (dark - light) * x)


def _effective(key: str, values: np.ndarray) -> np.ndarray:
    """The entropy of the weights as a number of rollouts, to compare with 1/Σw²."""
    return np.exp(values) if key.endswith("entropy") else values


def kinds(name: str) -> dict[str, str]:
    return {f"dsdr/{name}/correct": "correct", f"dsdr/{name}/incorrect": "incorrect"}


PANELS = (
    PassRate(),
    PassAtK(),
    Stack(
        "Groups",
        "share of groups",
        {
            "dsdr/groups/all_correct": "all correct",
            "dsdr/groups/mixed": "mixed",
            "dsdr/groups/all_wrong": "all wrong",
        },
        (BLUE, SKY, VERMILION),
        share=True,
    ),
    Lines("Entropy of the policy", "nats a token", {"actor/entropy": "entropy"}),
    Lines("Semantic diversity (Eq. 6)", "mean over rollouts", kinds("semantic")),
    Lines("Formula diversity (Eq. 8)", "mean over rollouts", kinds("formula")),
    Lines(
        "Coupling: weighted rollouts of a group",
        "effective number",
        {"dsdr/coupling/effective_rollouts": "1 / Σw²", "dsdr/coupling/entropy": "exp H(w)"},
        (BLUE, ORANGE),
        scale=_effective,
    ),
    Lines("Local term (Eq. 15)", "nats", {"actor/dsdr_local": "local"}, (GREEN,)),
    Lines(
        "Diversity bonus (Eq. 10)",
        "reward, correct rollouts",
        {"dsdr/bonus/mean": "mean", "dsdr/bonus/largest": "largest"},
        (GREEN, ORANGE),
    ),
    Lines("Response length", "tokens", {"response_length/mean": "mean"}),
    Lines("Gradient norm", "before clipping", {"actor/grad_norm": "norm"}, (PURPLE,)),
    Stack(
        "Time of a step",
        "seconds",
        {
            "timing_s/gen": "generate",
            "timing_s/old_log_prob": "log-probs",
            "timing_s/ref": "reference",
            "timing_s/adv": "advantage",
            "timing_s/update_actor": "update",
            "timing_s/update_weights": "sync",
        },
        (BLUE, SKY, PURPLE, VERMILION, ORANGE, GREEN),
        total="timing_s/step",
    ),
)


# ------------------------------------------------------------------------------------------------ drawing


def plot_curves(rows: list[dict], path: Path) -> Path:
    """Write the panels that have data as one PNG.

    Args:
        rows: of `MetricsLog`: {"step": int, "kind": "step" | "validation", "metrics": {name: value}}.
        path: where to write; its folder is made, and its name is the title.
    """
    series = Series(rows)
    panels = [panel for panel in PANELS if panel.exists(series)]
    lines = max(1, math.ceil(len(panels) / COLUMNS))
    figure = Figure(figsize=(4.6 * COLUMNS, 3.0 * lines + 0.7), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)
    name = path.absolute().parent.name
    figure.suptitle(f"{name}: {len(series.steps)} step{'s' * (len(series.steps) != 1)}", fontsize=14, weight="bold")
    if not panels:
        figure.text(0.5, 0.5, "no metrics were logged", ha="center", va="center", fontsize=12, color=GREY)
    for index, panel in enumerate(panels):
        axes = figure.add_subplot(lines, COLUMNS, index + 1)
        dress(axes, panel.title, panel.unit)
        panel.draw(axes, series)
        if axes.get_xlabel() == "step":
            axes.set_xlim(series.span())
        legend(axes)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path


def dress(axes: Axes, title: str, unit: str, pad: float = 20) -> None:
    axes.set_title(title, loc="left", fontsize=11, weight="bold", pad=pad)
    axes.set_ylabel(unit, fontsize=9)
    axes.set_xlabel("step", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    # no power of ten above the axis, where the legend is
    axes.ticklabel_format(axis="y", style="plain", useOffset=False)


def legend(axes: Axes) -> None:
    """Between title and axes, where it can cover no data; one series needs none."""
    handles, labels = axes.get_legend_handles_labels()
    if len(handles) < 2:
        return
    small = len(handles) > 4
    axes.legend(
        handles,
        labels,
        loc="lower left",
        bbox_to_anchor=(-0.01, 0.99),
        ncols=len(handles),
        frameon=False,
        fontsize=6.5 if small else 8,
        handlelength=0.9 if small else 1.5,
        handletextpad=0.4,
        columnspacing=0.7 if small else 1.2,
        borderpad=0.1,
    )


def draw_line(axes: Axes, steps: np.ndarray, values: np.ndarray, colour: str, label: str) -> None:
    if len(steps) <= FEW:
        axes.plot(steps, values, color=colour, lw=1.6, marker="o", ms=3 if len(steps) > 1 else 6, label=label)
    else:
        axes.plot(steps, values, color=colour, lw=0.8, alpha=0.3)
        axes.plot(steps, running_mean(values, len(values) // 25), color=colour, lw=1.8, label=label)


def running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Centred; at the ends over what there is."""
    kernel = np.ones(2 * (window // 2) + 1)
    return np.convolve(values, kernel, "same") / np.convolve(np.ones_like(values), kernel, "same")


def as_share(axes: Axes) -> None:
    """Per cent, from 0 unless something is below it, with room to see small ones."""
    low, high = axes.dataLim.y0, axes.dataLim.y1
    axes.set_ylim(min(0.0, low * 1.1), min(max(high * 1.15, 0.05), 1.03))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
