"""Arms: runs that differ in their seed alone, and how far arms are apart beyond what seeds do."""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from dsdr_verl.evaluation.comparison import holm
from dsdr_verl.report.runs import OPTIONS, SEED, Run, lookup

LEVEL = 0.95
SWEPT = ("λ_d", "λ_ℓ", "τ")  # options whose sensitivity is drawn
_OPERATION = ("ray_kwargs", "checkpoints", "health", "cluster", "global_profiler")  # sections: how a run is run
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
    adjusted_p: float | None  # over all tests of the table (Holm)
    paired: bool  # by seed


@dataclass(frozen=True)
class Row:
    """What was measured of an arm, by quantity."""

    arm: Arm
    seeds: int  # that were measured
    values: dict[str, Mean]
    differences: dict[str, Difference]  # of what is tested; empty for the first arm


# Of each arm the runs that were measured, each with its values by quantity.
Measured = Sequence[Sequence[tuple[Run, Mapping[str, float]]]]


def arms_of(runs: Sequence[Run]) -> list[Arm]:
    """Runs whose configs are equal but for seeds, all different, where they write, and `_OPERATION`; in order of
    appearance. If there are no such two, each run is an arm by its own name."""
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


def last_validations(arms: Sequence[Arm]) -> Measured:
    """pass@k, averaged over sources, at the last validation of each run."""
    return [[(run, {f"pass@{k}": value for k, value in _last_passes(run).items()}) for run in arm.runs] for arm in arms]


def ends(ks: Iterable[int]) -> list[int]:
    """The smallest and the largest, of what all runs have: what is tested, as every test costs power."""
    return sorted({min(ks), max(ks)}) if (ks := set(ks)) else []


def compare_arms(arms: Sequence[Arm], measured: Measured, tested: Sequence[str]) -> list[Row]:
    """Means over seeds with t intervals, and t tests against the first arm.

    Paired by seed where both arms have the same seeds, Welch's where not. Seeds are what is sampled here, with the
    problems as they are; five seeds resolve large effects only.

    Args:
        measured: a quantity that a measured run of an arm lacks has no mean there.
        tested: quantities.
    """
    columns = [_by_quantity([values for _, values in each]) for each in measured]
    runs = [[run for run, _ in each] for each in measured]
    differences = [
        {
            name: _difference(runs[0], columns[0][name], runs[index], columns[index][name])
            for name in tested
            if index and name in columns[0] and name in columns[index]
        }
        for index in range(len(arms))
    ]
    adjusted = holm(
        {
            (index, name): difference.p_value
            for index, each in enumerate(differences)
            for name, difference in each.items()
            if difference.p_value is not None
        }
    )
    return [
        Row(
            arm,
            len(runs[index]),
            {name: mean_over_seeds(values) for name, values in columns[index].items()},
            {
                name: replace(difference, adjusted_p=adjusted.get((index, name)))
                for name, difference in differences[index].items()
            },
        )
        for index, arm in enumerate(arms)
    ]


def _by_quantity(runs: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    names = [name for name in runs[0] if all(name in run for run in runs)] if runs else []
    return {name: [run[name] for run in runs] for name in names}


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
    """The config by dotted keys, of what decides on the numbers: no seeds, names, folders, and no `_OPERATION`."""
    found = {}

    def walk(key: str, value: object) -> None:
        if isinstance(value, dict):
            for part, inner in value.items():
                walk(f"{key}.{part}" if key else str(part), inner)
        elif not (key.endswith("seed") or key == "trainer.experiment_name" or folder in str(value)):
            found[key] = str(value)

    folder = str(lookup(run.config, "run_dir") or run.folder)
    walk("", {section: value for section, value in run.config.items() if section not in _OPERATION})
    return found


def _last_passes(run: Run) -> dict[int, float]:
    return {k: float(values[-1]) for k, (_, values) in run.series.validation()[0].items()}


def _difference(
    first: Sequence[Run], before: Sequence[float], runs: Sequence[Run], after: Sequence[float]
) -> Difference:
    mean = float(np.mean(after) - np.mean(before))
    seeds = [[lookup(run.config, SEED) for run in each] for each in (first, runs)]
    paired = sorted(map(str, seeds[0])) == sorted(map(str, seeds[1])) and len(set(map(str, seeds[0]))) == len(seeds[0])
    if min(len(before), len(after)) < 2:
        return Difference(Mean(mean), None, None, False)
    with warnings.catch_warnings():  # of seeds that all agree
        warnings.simplefilter("ignore", RuntimeWarning)
        if paired:
            order = [seeds[1].index(seed) for seed in seeds[0]]
            test = stats.ttest_rel([after[i] for i in order], before)
        else:
            test = stats.ttest_ind(after, before, equal_var=False)
        interval = test.confidence_interval(LEVEL)
    if math.isnan(test.pvalue):  # no difference and no spread
        return Difference(Mean(mean, mean, mean), 1.0, None, paired)
    return Difference(Mean(mean, float(interval.low), float(interval.high)), float(test.pvalue), None, paired)
