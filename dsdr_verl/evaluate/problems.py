"""The problems to evaluate on, each once and with an id that is the same in every file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsdr_verl.data import prepare, schema, tasks
from dsdr_verl.data.cache import cache_root, fingerprint
from dsdr_verl.data.catalogue import PUBLIC_SETS
from dsdr_verl.data.problem_files import problem_id
from dsdr_verl.data.tables import Faults, read_rows


@dataclass(frozen=True)
class Problem:
    """What is asked, and what is right."""

    id: str  # of question and answer (docs/data.md)
    source: str
    prompt: tuple[dict[str, str], ...]  # messages
    truth: str
    question: str

    @property
    def key(self) -> str:
        """Tells it apart where several sources are evaluated at once."""
        return f"{self.source}/{self.id}"


@dataclass(frozen=True)
class Problems:
    """Distinct problems in the order of their files."""

    all: tuple[Problem, ...]
    rows: int  # of the files, copies included
    files: tuple[Path, ...]

    @property
    def mark(self) -> str:
        """A hash of everything in them."""
        return fingerprint([(p.key, p.prompt, p.truth) for p in self.all])


def files_of(task: str, split: str | None) -> list[Path]:
    """The file of a task or of a public set, which is made first if it is not there.

    Raises:
        ValueError: there is no such split, or the set is not to be had; then its own message was printed.
    """
    if task in tasks.TASKS:
        made = dict(zip(("train", "val"), tasks.prepare(task), strict=True))
        default = "val"
    else:
        folder = cache_root() / "sets" / task
        made = {name: folder / f"{name}.parquet" for name in PUBLIC_SETS[task].files}
        default = "test" if "test" in made else next(iter(made))
    split = split or default
    if split not in made:
        raise ValueError(f"split is {split!r}, and task={task} has {', '.join(made)}; set it to one of these")
    if not made[split].is_file() and prepare.main([task, "--split", split]):
        raise ValueError(f"task is {task!r}, whose problems are not here; see above, or name files=")
    return [made[split]]


def read_problems(paths: Sequence[Path], limit: int | None = None) -> Problems:
    """Read files in verl's format; copies of a problem count once.

    Args:
        paths: parquet, json or jsonl.
        limit: keep the first so many problems.

    Raises:
        ValueError: lists everything that is wrong with the files.
    """
    if wrong := [fault for path in paths for fault in schema.problems(path, "files")]:
        raise ValueError("\n".join(wrong))
    rows, found = 0, {}
    for path in paths:
        faults = Faults(path)
        for _, row in read_rows(path, faults):
            rows += 1
            problem = _problem(row)
            found.setdefault(problem.key, problem)
        if faults.count:
            raise ValueError(str(faults))
    return Problems(tuple(found.values())[:limit], rows, tuple(paths))


def _problem(row: dict[str, Any]) -> Problem:
    prompt = tuple({"role": message["role"], "content": message["content"]} for message in row["prompt"])
    extra, truth = row.get("extra_info"), row["reward_model"]["ground_truth"]
    question = (extra.get("question") if isinstance(extra, dict) else None) or prompt[-1]["content"]
    return Problem(problem_id(extra, prompt, truth), row["data_source"], prompt, truth, str(question))
