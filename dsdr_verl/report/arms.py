"""Arms: runs that differ in their seed alone, and how far arms are apart beyond what seeds do."""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from dsdr_verl.evaluation.comparison import holm
from dsdr_verl.report.runs import OPTIONS, SEED, Run, lookup

LEVEL = 0.95
SWEPT = ("λ_d", "λ_ℓ", "τ")  # options whose sensitivity is drawn
_SAME = [("model", "actor_rollout_ref.model.path"), *[option for option in OPTIONS if option[1] != SEED]]


@dataclass(frozen=True)
class Arm:
    """At least one run."""

    name: str
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Mean:
    """Over the seeds of an arm; without an interval where there is one seed."""

    mean: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Difference:
    """Of an arm from the first one."""

    mean: Mean
    p_value: float | None  # None: too few seeds
    adjusted_p: float | None  # over the arms and k of the table (Holm)
    paired: bool  # by seed


@dataclass(frozen=True)
class Row:
    arm: Arm
    passes: dict[int, Mean]  # by k, at the last validation
    differences: dict[int, Difference]  # by k; empty for the first arm


def arms_of(runs: Sequence[Run]) -> list[Arm]:
    """Runs whose configs are equal but for seeds, all different, and for where they write; in order of appearance. If
    there are no such two, each run is an arm by its own name."""
    alike: dict[tuple, list[Run]] = defaultdict(list)
    for run in runs:
        settings = _settings(run)
        alike[tuple(sorted(settings.items()))].append(run)
    groups = []
    for group in alike.values():
        seeds = {lookup(run.config, SEED) for run in group}
        distinct = None not in seeds and len(seeds) == len(group)
        groups += [tuple(group)] if distinct else [(run,) for run in group]
    if max(map(len, groups)) == 1:
        return [Arm(run.name, (run,)) for run in runs]
    return [Arm(_name(group[0], [other[0] for other in groups]), group) for group in groups]


def seeded(arms: Sequence[Arm]) -> bool:
    return any(len(arm.runs) > 1 for arm in arms)


def compare_arms(arms: Sequence[Arm]) -> list[Row]:
    """Means over seeds with t intervals, and t tests against the first arm at the smallest and the largest common k.

    Paired by seed where both arms have the same seeds, Welch's where not. Seeds are what is sampled here, with the
    problems as they are; five seeds resolve large effects only.
    """
    last = [[_last_passes(run) for run in arm.runs] for arm in arms]
    ks = sorted(set.intersection(*[set(passes) for each in last for passes in each]))
    ks = sorted({ks[0], ks[-1]}) if ks else []
    passes = [{k: mean_over_seeds([run[k] for run in each]) for k in ks} for each in last]
    tested: dict[tuple[int, int], tuple[Mean, float | None, bool]] = {}
    for index in range(1, len(arms)):
        for k in ks:
            tested[index, k] = _difference(
                arms[0], [run[k] for run in last[0]], arms[index], [r[k] for r in last[index]]
            )
    adjusted = holm({key: p for key, (_, p, _) in tested.items() if p is not None})
    return [
        Row(
            arm,
            passes[index],
            {
                k: Difference(mean, p, adjusted.get((index, k)), paired)
                for (at, k), (mean, p, paired) in tested.items()
                if at == index
            },
        )
        for index, arm in enumerate(arms)
    ]


def mean_over_seeds(values: Sequence[float]) -> Mean:
    """With a two-sided t interval of `LEVEL`, for values [seeds]."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return Mean(mean)
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) * stats.sem(values))
    return Mean(mean, mean - half, mean + half)


@dataclass(frozen=True)
class Sweep:
    """One option varied, all else equal: of each value the arm that has it, by value."""

    label: str
    algorithm: str
    points: dict[float, Arm]


def sweeps_of(arms: Sequence[Arm]) -> list[Sweep]:
    """For each option of `SWEPT`, the arms of one algorithm that differ in it alone, where there are at least two."""
    found = []
    for label, key in OPTIONS:
        if label not in SWEPT:
            continue
        others = [option for _, option in _SAME if option != key]
        alike: dict[tuple, dict[float, Arm]] = defaultdict(dict)
        for arm in arms:
            run, value = arm.runs[0], lookup(arm.runs[0].config, key)
            if isinstance(value, (int, float)) and math.isfinite(value):
                alike[(run.algorithm, run.task, *map(run.option, others))][float(value)] = arm
        found += [
            Sweep(label, group[0], dict(sorted(points.items()))) for group, points in alike.items() if len(points) > 1
        ]
    return found


def _name(run: Run, arms: Sequence[Run]) -> str:
    """The algorithm, and what tells this arm from others of the same: of `OPTIONS`, or else any setting."""
    rivals = [_settings(other) for other in arms if other.algorithm == run.algorithm]
    differing = [key for key in _settings(run) if len({rival.get(key) for rival in rivals}) > 1]
    labels = {key: label for label, key in _SAME}
    shown = [f"{labels[key]} {run.option(key)}" for key in differing if key in labels]
    return ", ".join([run.algorithm, *(shown or [f"{key} {run.option(key)}" for key in differing[:3]])])


def _settings(run: Run) -> dict[str, str]:
    """The config by dotted keys, without seeds, the run's name and whatever is in its folder."""
    found = {}

    def walk(key: str, value: object) -> None:
        if isinstance(value, dict):
            for part, inner in value.items():
                walk(f"{key}.{part}" if key else str(part), inner)
        elif not (key.endswith("seed") or key == "trainer.experiment_name" or folder in str(value)):
            found[key] = str(value)

    folder = str(lookup(run.config, "run_dir") or run.folder)
    walk("", run.config)
    return found


def _last_passes(run: Run) -> dict[int, float]:
    return {k: float(values[-1]) for k, (_, values) in run.series.validation()[0].items()}


def _difference(
    first: Arm, before: Sequence[float], arm: Arm, after: Sequence[float]
) -> tuple[Mean, float | None, bool]:
    mean = float(np.mean(after) - np.mean(before))
    seeds = [[lookup(run.config, SEED) for run in each.runs] for each in (first, arm)]
    paired = sorted(map(str, seeds[0])) == sorted(map(str, seeds[1])) and len(set(map(str, seeds[0]))) == len(seeds[0])
    if min(len(before), len(after)) < 2:
        return Mean(mean), None, False
    with warnings.catch_warnings():  # of seeds that all agree
        warnings.simplefilter("ignore", RuntimeWarning)
        if paired:
            order = [seeds[1].index(seed) for seed in seeds[0]]
            test = stats.ttest_rel([after[i] for i in order], before)
        else:
            test = stats.ttest_ind(after, before, equal_var=False)
        interval = test.confidence_interval(LEVEL)
    if math.isnan(test.pvalue):  # no difference and no spread
        return Mean(mean, mean, mean), 1.0, paired
    return Mean(mean, float(interval.low), float(interval.high)), float(test.pvalue), paired
