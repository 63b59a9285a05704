"""Intervals and paired tests over the problems of the last validation, where a run has kept them.

`metrics.jsonl` has means only. verl writes each sample to `<trainer.validation_data_dir>/<step>.jsonl` if that is set.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, JsonValue, ValidationError

from dsdr_verl.evaluation.comparison import Comparison, compare, holm
from dsdr_verl.evaluation.estimators import pass_at_ks
from dsdr_verl.evaluation.intervals import Estimate, mean_intervals
from dsdr_verl.evaluation.passk import powers_of_two
from dsdr_verl.report.runs import Run, lookup

Problems = dict[str, list[bool]]  # of each problem, the verdicts on its samples


class Sample(BaseModel):
    """A line that verl writes; it has more fields."""

    input: str
    gts: JsonValue = None
    acc: float | None  # None: no verdict


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


def judge(runs: Sequence[Run]) -> Judged:
    """Intervals of each run's pass@k, and tests against the first run at k = 1 and at the largest k they share."""
    notes, found = [], []
    for run in runs:
        try:
            found.append(read_problems(run))
        except ValueError as error:
            notes.append(f"{run.name}: {error}")
            found.append({})
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


def read_problems(run: Run) -> Problems:
    """The verdicts of the last validation; empty if the run did not keep them.

    Raises:
        ValueError: the file is not as verl writes it.
    """
    folder, last = lookup(run.config, "trainer.validation_data_dir"), run.series.last_validation()
    if not (isinstance(folder, str) and last):
        return {}
    # the run folder may have been moved since
    places = [run.folder / Path(folder).name / f"{last[0]}.jsonl", Path(folder) / f"{last[0]}.jsonl"]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        return {}
    problems = defaultdict(list)
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            sample = Sample.model_validate_json(line)
        except ValidationError as error:
            raise ValueError(f"line {number} of {path.name} of its samples is broken, so none is used") from error
        # verl's uid is another one in each run
        problems[json.dumps([sample.input, sample.gts], sort_keys=True)].append(bool(sample.acc))
    return dict(problems)


def _intervals(problems: Problems) -> dict[int, Estimate]:
    if not problems:
        return {}
    ks = powers_of_two(min(map(len, problems.values())))
    return dict(zip(ks, mean_intervals(pass_at_ks(list(problems.values()), ks)), strict=True))


def _values(problems: Problems, k: int) -> dict[str, float]:
    return dict(zip(problems, pass_at_ks(list(problems.values()), [k])[:, 0].tolist(), strict=True))
