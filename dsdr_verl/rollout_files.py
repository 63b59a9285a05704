"""Files and tables of rollouts: what a row must hold, with messages that name the row, the key and the fix."""

from __future__ import annotations

import gzip
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
from torch import Tensor

from dsdr_verl.algorithm.groups import group_index

SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")

# The keys that may hold an input; the first that is there counts. Ours, then those of verl's data and rollout dumps.
RESPONSE = ("response", "output")
TRUTH = ("ground_truth", "reward_model", "gts")
GROUP = ("uid", "prompt", "input")

_SHOWN = 5  # rows named in a message


@dataclass(frozen=True, eq=False)
class Rollouts:
    """The inputs of scoring, one entry a rollout [B]."""

    responses: list[str]
    truths: list[str]
    rewards: list[float] | None  # None: 1 if correct, else 0
    group_B: Tensor  # int64, dense


def suffix_of(path: Path) -> str:
    """The one of `SUFFIXES` that the path ends in.

    Raises:
        ValueError: it ends in none of them.
    """
    for suffix in SUFFIXES:
        if path.name.endswith(suffix):
            return suffix
    raise ValueError(f"{path} ends in none of {', '.join(SUFFIXES)}: convert it to one of these")


def read_rollouts(path: str | os.PathLike) -> pd.DataFrame:
    """The rows of a file. The index is named "line" (from 1) or "row" (from 0, parquet), for the messages.

    Raises:
        ValueError: an unknown suffix, a file that is missing, empty or damaged. Names the line and the fix.
    """
    path = Path(path)
    suffix = suffix_of(path)
    if not path.is_file():
        raise ValueError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}: correct the path")
    try:
        # Arrow's types come out as they went in: whole numbers with gaps, lists, structs.
        frame = pd.read_parquet(path, dtype_backend="pyarrow") if suffix == ".parquet" else _read_lines(path)
    except (OSError, EOFError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {_brief(error)}") from error
    return frame if suffix != ".parquet" else frame.reset_index(drop=True).rename_axis("row")


def write_rollouts(frame: pd.DataFrame, path: Path) -> None:
    """Writes a table in the form that the suffix tells; the file appears once it is whole."""
    scratch = path.with_name(f".{path.name}.part")
    try:
        if suffix_of(path) == ".parquet":
            table = pa.Table.from_pandas(frame, preserve_index=False)
            # Without pandas' own notes, in which it cannot read back nested types.
            pyarrow.parquet.write_table(table.replace_schema_metadata(None), scratch)
        else:
            with (gzip.open if path.suffix == ".gz" else open)(scratch, "wt", encoding="utf-8") as file:
                for row in frame.to_dict("records"):
                    file.write(json.dumps({key: value for key, value in row.items() if not _is_nan(value)}) + "\n")
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def parse_rollouts(frame: pd.DataFrame, group_by: str | None = None, reserved: Sequence[str] = ()) -> Rollouts:
    """The inputs of scoring out of a table's columns.

    Args:
        frame: a row a rollout, with the columns of `RESPONSE`, `TRUTH`, `GROUP`, and `reward` if it is more than 0/1.
        group_by: the column whose values tell the groups apart; None takes the first of `GROUP`.
        reserved: columns that the table must not have yet.

    Raises:
        ValueError: lists every problem, each with the column, the rows and the fix.
    """
    if frame.empty:
        raise ValueError("there are no rollouts: give a row each")
    problems = [f"`{name}` is a column that scoring writes: rename or drop it" for name in reserved if name in frame]
    response = _pick(frame, RESPONSE, "the model's text", problems)
    truth = _pick(frame, TRUTH, "the right answer", problems)
    group = _pick(frame, (group_by,) if group_by else GROUP, "the same in all rollouts of a prompt", problems)

    faults = {response: _text_fault, truth: _truth_fault, group: _group_fault, "reward": _reward_fault}
    columns = {name: _values(frame, name) for name in faults if name in frame}
    for name, values in columns.items():
        problems += _check(frame.index, name, values, faults[name])
    if not problems:
        group_B, n_groups = group_index([_group_key(value) for value in columns[group]])
        if n_groups == len(frame):
            problems.append(
                f"`{group}` differs in every row, but DSDR compares the rollouts of a group: name another column with "
                f"--group-by (group_by=); there are {_names(frame)}"
            )
    if problems:
        raise ValueError("\n".join([f"the rollouts have {len(problems)} problem(s):", *(f"- {p}" for p in problems)]))
    rewards = [float(value) for value in columns["reward"]] if "reward" in columns else None
    return Rollouts(columns[response], columns[truth], rewards, group_B)


def _read_lines(path: Path) -> pd.DataFrame:
    rows = dict(_numbered_rows(path))
    index = pd.Index(rows, name="line")
    return pd.DataFrame(list(rows.values()), index=index, dtype=object)  # object: values stay as they are


def _numbered_rows(path: Path) -> Iterator[tuple[int, dict]]:
    with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"line {number} is not JSON ({_brief(error)}): mend or delete the line") from error
            if not isinstance(row, dict):
                raise ValueError(f'line {number} is a {type(row).__name__}, not an object: write {{"response": …}}')
            yield number, row


def _pick(frame: pd.DataFrame, names: Sequence[str], meaning: str, problems: list[str]) -> str | None:
    for name in names:
        if name in frame:
            return name
    wanted = " or ".join(f"`{name}`" for name in names)
    problems.append(f"no column {wanted} ({meaning}): add it; there are {_names(frame)}")
    return None


def _values(frame: pd.DataFrame, name: str) -> list[Any]:
    values = frame[name].tolist()
    if name == "reward_model":
        values = [value.get("ground_truth") if isinstance(value, dict) else None for value in values]
    return values


def _check(index: pd.Index, name: str, values: list[Any], fault: Callable[[Any], str | None]) -> list[str]:
    """One message for each kind of fault, with the rows that have it."""
    faults: dict[str, list[Any]] = {}
    for where, value in zip(index, values, strict=True):
        if text := fault(value):
            faults.setdefault(text, []).append(where)
    key = f"`{name}.ground_truth`" if name == "reward_model" else f"`{name}`"
    return [
        f"{key} {text} ({index.name or 'row'} {', '.join(map(str, rows[:_SHOWN]))}{', …' * (len(rows) > _SHOWN)}; "
        f"{len(rows)} of {len(values)})"
        for text, rows in faults.items()
    ]


def _text_fault(value: Any) -> str | None:
    if _missing(value):
        return "is missing: add it, or drop the row"
    return None if isinstance(value, str) else f"is a {type(value).__name__}, not text: write it with str()"


def _truth_fault(value: Any) -> str | None:
    empty = isinstance(value, str) and not value.strip()
    return "is empty: add the right answer, or drop the row" if empty else _text_fault(value)


def _group_fault(value: Any) -> str | None:
    return "is missing: add it, or drop the row" if _missing(value) else None


def _reward_fault(value: Any) -> str | None:
    if _missing(value):
        return "is missing: give every row one, or none (then it is 1 if correct, else 0)"
    if not isinstance(value, Real) or not math.isfinite(value):
        return "is not a finite number: write one, without quotes"
    return None


def _group_key(value: Any) -> str:
    """Equal for equal ids, and for equal lists of messages."""
    return json.dumps(value, sort_keys=True, default=lambda x: x.tolist() if hasattr(x, "tolist") else str(x))


def _missing(value: Any) -> bool:
    return value is None or value is pd.NA or _is_nan(value)


def _is_nan(value: Any) -> bool:
    """What pandas puts where a row has no such key."""
    return isinstance(value, float) and math.isnan(value)


def _names(frame: pd.DataFrame) -> str:
    return ", ".join(map(str, frame.columns))


def _brief(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
