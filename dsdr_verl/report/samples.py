"""The samples of a run's last validation: verl writes each to `<trainer.validation_data_dir>/<step>.jsonl`."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, JsonValue, ValidationError

from dsdr_verl.report.runs import Run, lookup


class Sample(BaseModel):
    """A line of the file; it has more fields."""

    input: str
    output: str = ""
    gts: JsonValue = None
    acc: float | None  # None: no verdict
    data_source: str | None = None  # None: of a run before it was written
    diversity: float | None = None  # d̄ (Eqs. 9-10) within the samples of its problem
    weight: float | None = None  # w (Eq. 11)

    @property
    def correct(self) -> bool:
        return bool(self.acc)


Problems = dict[str, list[Sample]]  # by source, prompt and ground truth, in the order of the file


def read_all_problems(runs: Sequence[Run]) -> tuple[list[Problems], list[str]]:
    """`read_problems` of each run, and why one of them has none."""
    found, notes = [], []
    for run in runs:
        try:
            found.append(read_problems(run))
        except ValueError as error:
            notes.append(f"{run.name}: {error}")
            found.append({})
    return found, notes


def read_problems(run: Run) -> Problems:
    """The samples of the last validation; empty if the run did not keep them.

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
        problems[json.dumps([sample.data_source, sample.input, sample.gts], sort_keys=True)].append(sample)
    return dict(problems)
