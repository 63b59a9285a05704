"""Intervals and paired tests over the problems of the last validation, where a run has kept its samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dsdr_verl.evaluation.comparison import Comparison, compare, holm
from dsdr_verl.evaluation.estimators import pass_at_ks
from dsdr_verl.evaluation.intervals import Estimate, mean_intervals
from dsdr_verl.evaluation.passk import powers_of_two
from dsdr_verl.report.runs import Run
from dsdr_verl.report.samples import Problems


@dataclass(frozen=True)
class Test:
    """A run against the first one."""

    run: int  # its index
    k: int
    comparison: Comparison
    adjusted_p: float  # over all tests of the report (Holm)


@dataclass(frozen=True)
class Judged:
    """What can be said about how sure the numbers are."""

    intervals: list[dict[int, Estimate]]  # for each run by k; empty where its problems are not known
    tests: list[Test]
    bands: list[dict[int, Estimate]]  # the intervals that belong on the plot of pass@k
    notes: list[str]  # why something is not here


def judge(runs: Sequence[Run], found: Sequence[Problems]) -> Judged:
    """Intervals of each run's pass@k, and tests against the first run at k = 1 and at the largest k they share."""
    notes = []
    intervals = [_intervals(problems) for problems in found]
    tests: list[tuple[int, int, Comparison]] = []
    for index, problems in enumerate(found[1:], start=1):
        if not (found[0] and problems):
            continue
        if found[0].keys() != problems.keys():
            notes.append(f"{runs[index].name}: not tested against {runs[0].name}, whose problems or prompts are others")
            continue
        ks = sorted(intervals[0].keys() & intervals[index].keys())
        for k in sorted({ks[0], ks[-1]}):
            tests.append((index, k, compare(_values(found[0], k), _values(problems, k))))
    adjusted = holm({(index, k): comparison.p_value for index, k, comparison in tests})
    return Judged(
        intervals=intervals,
        tests=[Test(index, k, comparison, adjusted[index, k]) for index, k, comparison in tests],
        # of several sources the plot has the mean over sources, and a sample does not say which is its own
        bands=[each if len(run.sources) == 1 else {} for run, each in zip(runs, intervals, strict=True)],
        notes=notes,
    )


def _intervals(problems: Problems) -> dict[int, Estimate]:
    if not problems:
        return {}
    ks = powers_of_two(min(map(len, problems.values())))
    return dict(zip(ks, mean_intervals(pass_at_ks(_verdicts(problems), ks)), strict=True))


def _values(problems: Problems, k: int) -> dict[str, float]:
    return dict(zip(problems, pass_at_ks(_verdicts(problems), [k])[:, 0].tolist(), strict=True))


def _verdicts(problems: Problems) -> list[list[bool]]:
    return [[sample.correct for sample in samples] for samples in problems.values()]
