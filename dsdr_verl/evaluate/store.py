"""Rollouts on disk: shards that appear whole, each with the mark of the scoring options that its scores come from."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

SCHEMA = pa.schema(
    [
        ("problem", pa.string()),  # Problem.key
        ("sample", pa.int32()),  # from 0
        ("seed", pa.int64()),
        ("prompt", pa.string()),  # as the model got it
        ("ground_truth", pa.string()),
        ("response", pa.string()),
        ("tokens", pa.int32()),
        ("truncated", pa.bool_()),  # it reached max_tokens
        ("verdict", pa.string()),
        ("acc", pa.float32()),
        ("answer", pa.string()),  # as written; null if there is none
        ("mode", pa.string()),  # of a correct Countdown answer
        ("formula_ids", pa.list_(pa.int64())),
        ("embedding", pa.list_(pa.float32())),
    ]
)
MARK = b"scoring"


class RolloutStore:
    """The folder `rollouts/` of an evaluation."""

    def __init__(self, folder: Path, scoring_mark: str, save_seconds: float):
        self.folder, self.scoring_mark, self.save_seconds = folder, scoring_mark, save_seconds
        folder.mkdir(parents=True, exist_ok=True)
        self._next = 1 + max((int(path.stem) for path in self.shards()), default=-1)
        self._waiting: list[dict] = []
        self._saved_at: float | None = None  # or when the first of those that wait came

    def shards(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("*.parquet") if path.stem.isdigit())

    def samples(self) -> dict[str, set[int]]:
        """The numbers of the samples that each problem has.

        Raises:
            ValueError: a shard is broken.
        """
        found = defaultdict(set)
        for path in self.shards():
            table = read_shard(path, ["problem", "sample"])
            for problem, sample in zip(table["problem"].to_pylist(), table["sample"].to_pylist(), strict=True):
                found[problem].add(sample)
        return found

    def stale(self) -> Iterator[tuple[Path, list[dict]]]:
        """The shards whose scores come from other options, with their rows."""
        for path in self.shards():
            if (pq.read_schema(path).metadata or {}).get(MARK) != self.scoring_mark.encode():
                yield path, read_shard(path).to_pylist()

    def add(self, rows: Sequence[dict]) -> None:
        """Take finished samples of a problem; they are on disk at the latest `save_seconds` and a problem later."""
        self._waiting += rows
        self._saved_at = self._saved_at or time.monotonic()
        if time.monotonic() - self._saved_at >= self.save_seconds:
            self.save()

    def save(self) -> None:
        """Write what waits as one more shard."""
        if self._waiting:
            self.write(self.folder / f"{self._next:05d}.parquet", self._waiting)
            self._next += 1
            self._waiting = []
        self._saved_at = time.monotonic()

    def write(self, path: Path, rows: Sequence[dict]) -> None:
        """Write a shard, or replace it as a whole."""
        schema = SCHEMA.with_metadata({MARK: self.scoring_mark.encode()})
        scratch = path.with_name(f".{path.name}.part")
        pq.write_table(pa.Table.from_pylist(list(rows), schema), scratch, compression="zstd")
        os.replace(scratch, path)

    def read(self, problems: Sequence[str], n: int, leave_out: Sequence[str] = ()) -> pd.DataFrame:
        """The first n samples of the problems, in their order, without the columns of `leave_out`."""
        columns = [name for name in SCHEMA.names if name not in leave_out]
        tables = [read_shard(path, columns) for path in self.shards()]
        frame = (pa.concat_tables(tables) if tables else SCHEMA.empty_table()).to_pandas()
        for name in ("answer", "mode"):  # pandas makes NaN of null
            frame[name] = frame[name].astype(object).where(frame[name].notna(), None)
        order = {problem: index for index, problem in enumerate(problems)}
        frame = frame[frame["problem"].isin(order) & (frame["sample"] < n)]
        place = pd.DataFrame({"problem": frame["problem"].map(order), "sample": frame["sample"]})
        return frame.loc[place.sort_values(["problem", "sample"]).index].reset_index(drop=True)


def read_shard(path: Path, columns: list[str] | None = None) -> pa.Table:
    """The rows of a shard.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        return pq.read_table(path, columns=columns).replace_schema_metadata(None)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is broken ({error}); delete it, and its samples are drawn again") from error
