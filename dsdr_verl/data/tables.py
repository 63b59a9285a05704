"""Rows of a jsonl, json, csv or parquet file, each with its place; what cannot be read is noted under its line or row.

The file is only parsed: nothing in it is evaluated, unpickled or imported.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
SHOWN = 20  # problems named in a message; the others are counted

Names = Sequence[Sequence[str]]  # for each column, the names it goes by

_BOM = "\ufeff"
_LFS_POINTER = b"version https://git-lfs"


@dataclass
class Faults:
    """What is wrong with a file: the first problems in words, the others by number."""

    path: Path
    count: int = 0
    shown: list[str] = field(default_factory=list)

    def add(self, place: str, text: str) -> None:
        """Note a problem; ``place`` is "line 3", "row 2", or empty for the file as a whole."""
        self.count += 1
        if self.count <= SHOWN:
            self.shown.append(f"{place}: {text}" if place else text)

    def __str__(self) -> str:
        rest = [f"- ... and {self.count - SHOWN} more"] if self.count > SHOWN else []
        return "\n".join([f"{self.path} has {self.count} problem(s):", *(f"- {text}" for text in self.shown), *rest])


class BrokenFile(ValueError):
    """A file that cannot be used; the text lists every problem with its place and the fix."""


def read_rows(
    path: Path, faults: Faults, required: Names = (), optional: Names = ()
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ("line 3" or "row 2", row); lines count from 1, rows of json and parquet from 0.

    A csv or parquet file must have every ``required`` column, under one of its names; of parquet only these and the
    ``optional`` columns are read, or all if there are none. Problems go to ``faults``; reading goes on where it can.
    """
    kind = path.suffix
    if path.is_dir() or not path.exists():
        faults.add("", "is a folder: name a file in it" if path.is_dir() else "does not exist: correct the path")
        return
    if kind not in SUFFIXES:
        faults.add("", f"ends in {kind or 'nothing'!r}: convert it to one of {', '.join(SUFFIXES)}")
        return
    try:
        with open(path, "rb") as file:
            head = file.read(len(_LFS_POINTER))
    except OSError as error:
        faults.add("", f"cannot be read ({error.strerror}): change its permissions")
        return
    if not head or head == _LFS_POINTER:
        what = (
            "is a Git LFS pointer, not the data: run `git lfs pull`" if head else "is empty (0 bytes): bring it again"
        )
        faults.add("", what)
        return
    if kind == ".parquet":
        rows = _parquet(path, faults, required, optional)
    elif kind == ".csv":
        rows = _csv(path, faults, required)
    else:
        rows = (_json if kind == ".json" else _jsonl)(path, faults)
    count = 0
    for place, row in rows:
        count += 1
        if isinstance(row, dict):
            yield place, row
        else:
            faults.add(place, f"the row is a {type(row).__name__}, not an object: write it as {{key: value}}")
    if not count and not faults.count:
        faults.add("", "has no rows: bring it again")


def count_rows(path: Path) -> int | None:
    """The number of rows, if the file tells it at once."""
    from pyarrow.parquet import read_metadata

    try:
        return read_metadata(path).num_rows if path.suffix == ".parquet" else None
    except (OSError, ValueError):
        return None


def _parquet(path: Path, faults: Faults, required: Names, optional: Names) -> Iterator[tuple[str, Any]]:
    import pyarrow.parquet

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if absent := _absent(names, required):
                faults.add("", f"has no column {absent}; there are {', '.join(names)}: is it another dataset's file?")
                return
            wanted = {name for choices in (*required, *optional) for name in choices}
            kept = [name for name in names if name in wanted or not wanted]
            for batch in file.iter_batches(batch_size=4096, columns=kept):
                for row in batch.to_pylist():
                    yield f"row {number}", row
                    number += 1
    except Exception as error:  # Arrow's many kinds, all of which say that the bytes are wrong
        place = f"row {number}" if number else ""
        faults.add(place, f"cannot be read as parquet ({_brief(error)}): it is damaged or cut short; bring it again")


def _lines(path: Path, faults: Faults) -> Iterator[tuple[int, str | None]]:
    """Yield numbered lines, None for one that is not UTF-8."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield number, line.decode().removeprefix(_BOM if number == 1 else "")
            except UnicodeDecodeError as error:
                faults.add(f"line {number}", f"byte {error.start + 1} is not UTF-8: save the file as UTF-8")
                yield number, None


def _jsonl(path: Path, faults: Faults) -> Iterator[tuple[str, Any]]:
    for number, line in _lines(path, faults):
        if line is None or not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            faults.add(f"line {number}", f"is not JSON ({_brief(error)}): mend or delete the line")
            continue
        yield f"line {number}", row


def _json(path: Path, faults: Faults) -> Iterator[tuple[str, Any]]:
    data = path.read_bytes()
    try:
        rows = json.loads(data.decode().removeprefix(_BOM))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        faults.add(f"line {line}", "is not UTF-8: save the file as UTF-8")
    except json.JSONDecodeError as error:
        hint = "name the file .jsonl if it has an object a line" if error.msg == "Extra data" else "mend it"
        faults.add(f"line {error.lineno}", f"is not JSON ({error.msg}): {hint}")
    except (ValueError, RecursionError) as error:
        faults.add("", f"is not JSON ({_brief(error)}): mend it")
    else:
        if isinstance(rows, list):
            yield from ((f"row {number}", row) for number, row in enumerate(rows))
        else:
            faults.add("", f"holds a {type(rows).__name__}, not a list: write [{{key: value}}, ...]")


def _csv(path: Path, faults: Faults, required: Names) -> Iterator[tuple[str, Any]]:
    broken: set[int] = set()

    def texts() -> Iterator[str]:
        for number, line in _lines(path, faults):
            if line is None:
                broken.add(number)
            yield line or "\n"

    reader = csv.reader(texts(), strict=True)
    header: list[str] | None = None
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            faults.add(f"line {line}", f"is not csv ({error}): mend or delete the line")
            continue
        if cells is None:
            return
        if not cells:
            continue
        if header is None:
            header = [cell.strip() for cell in cells]
            if absent := _absent(header, required):
                found = ", ".join(header)[:160]
                faults.add(f"line {line}", f"has no column {absent}: write the columns' names there; it has {found}")
                return
        elif len(cells) != len(header):
            faults.add(f"line {line}", f"has {len(cells)} cells under {len(header)} columns: quote cells with commas")
        elif not broken.intersection(range(line, reader.line_num + 1)):
            yield f"line {line}", dict(zip(header, cells, strict=True))


def _absent(names: Iterable[str], required: Names) -> str:
    """The required columns that are not there, each with all its names."""
    absent = [choices for choices in required if not set(choices) & set(names)]
    return " and no ".join(" or ".join(f"`{name}`" for name in choices) for choices in absent)


def _brief(error: Exception) -> str:
    """The first line of an error."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
