"""Checkpoints that are whole or not there.

verl writes `global_step_<n>/` file by file. When all of it is on disk, `seal` lists the files with their hashes in
`complete.json`, together with the rows of metrics since the checkpoint before, and only then is an older checkpoint
removed. A folder without that list was never finished, and one that differs from it is corrupt: `resuming` passes over
both. What is later than the step where a run goes on is of another branch: `set_aside` takes it out of the way.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Literal

import xxhash
from pydantic import BaseModel

from dsdr_verl.evaluation.curves import PASS_AT

SEAL = "complete.json"
TRACKER = "latest_checkpointed_iteration.txt"  # verl's
_BLOCK = 2**22  # bytes


@dataclass(frozen=True)
class Flaw:
    """What is wrong with a checkpoint."""

    what: str
    unfinished: bool  # its run was ended while it was written; else it was damaged later


class _File(BaseModel):
    bytes: int
    xxh3: str


class _Row(BaseModel):
    step: int
    kind: Literal["step", "validation"]
    metrics: dict[str, float]


class _Seal(BaseModel):
    files: dict[str, _File] | None = None  # none: the folder is being written or removed
    rows: list[_Row] = []

    @classmethod
    def of(cls, folder: Path) -> _Seal:
        return cls.model_validate_json((folder / SEAL).read_bytes() or b"{}")


def steps_in(root: Path) -> list[Path]:
    """The folders of checkpoints, the oldest first."""
    folders = [path for path in root.glob("global_step_*") if path.is_dir() and step_of(path) is not None]
    return sorted(folders, key=step_of)


def step_of(folder: Path) -> int | None:
    """The number in its name; None if it is no checkpoint's."""
    number = folder.name.removeprefix("global_step_")
    return int(number) if number.isdecimal() else None


def seal(folder: Path, rows: Sequence[dict]) -> None:
    """Declare a checkpoint finished.

    Args:
        rows: as in `metrics.jsonl`, of the steps since the checkpoint before.
    """
    files, scratch = {}, folder / f".{SEAL}.part"
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path not in (folder / SEAL, scratch)):
        _sync(path)
        files[str(path.relative_to(folder))] = {"bytes": path.stat().st_size, "xxh3": _hash(path)}
    with open(scratch, "w") as file:
        json.dump({"files": files, "rows": rows}, file, default=float)  # numpy's numbers
        file.flush()
        os.fsync(file.fileno())
    os.replace(scratch, folder / SEAL)
    for path in {folder.parent, *(path.parent for path in folder.rglob("*"))}:
        with contextlib.suppress(OSError):  # names, too, are to outlast a loss of power; not all file systems can
            _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def unseal(folder: Path) -> None:
    """Before it is written or removed. From here on verl's tracker alone makes no whole checkpoint of it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SEAL).write_bytes(b"")  # takes no room, of which there may be none


def make_portable(folder: Path) -> None:
    """Its models' configs name no attention: ours is unknown to a transformers without this package."""
    for path in folder.glob("*/huggingface/config.json"):
        config = json.loads(path.read_text())
        if config.pop("attn_implementation", None):
            path.write_text(json.dumps(config, indent=2))


def room(folder: Path) -> str:
    """What to say of the space where it is, or is to be; it may be on a disk that has failed."""
    try:
        there = next(path for path in (folder, *folder.parents) if os.path.exists(path))
        return f"{shutil.disk_usage(there).free / 2**20:.1f} MiB free"
    except OSError as error:
        return f"free space unknown ({error})"


def rows_of(folder: Path) -> list[dict]:
    """What `seal` was given; nothing of a checkpoint that stock verl wrote."""
    try:
        return [row.model_dump() for row in _Seal.of(folder).rows]
    except (OSError, ValueError):  # an older one that is damaged must not end a run that looks for the best
        return []


def finished(folder: Path) -> bool | None:
    """None if that cannot be told: it has no seal, or one that cannot be read."""
    try:
        return _Seal.of(folder).files is not None
    except (OSError, ValueError):
        return None


def flaw(folder: Path) -> Flaw | None:
    """None of a checkpoint that is whole. One of stock verl is taken for whole if verl's own tracker names it."""
    unfinished = Flaw("it was not finished", unfinished=True)
    try:
        files = _Seal.of(folder).files
    except FileNotFoundError:
        return None if _tracked(folder.parent) == step_of(folder) else unfinished
    except (OSError, ValueError) as error:
        return Flaw(f"{SEAL} cannot be read ({str(error).splitlines()[0]})", unfinished=False)
    if files is None:
        return unfinished
    for name, wanted in files.items():
        path = folder / name
        if not path.is_file():
            return Flaw(f"{name} is missing", unfinished=False)
        if path.stat().st_size != wanted.bytes:
            return Flaw(f"{name} has {path.stat().st_size} of {wanted.bytes} bytes", unfinished=False)
        if _hash(path) != wanted.xxh3:
            return Flaw(f"{name} is not what was written", unfinished=False)
    return None


def outdated(root: Path, keep_last: int | None, keep_best: bool) -> list[Path]:
    """What need not be kept: all but the newest `keep_last` (None: all), and the best by pass@1 of its validation.

    What was never finished takes no place among the newest.
    """
    folders = steps_in(root)
    whole = [folder for folder in folders if finished(folder)]
    if keep_last is None:
        return []
    kept = set(whole[-keep_last:])
    if keep_best:
        scored = {folder: score for folder in whole if (score := _score(folder)) is not None}
        kept |= {max(scored, key=scored.__getitem__)} if scored else set()
    # one without a seal may be stock verl's and whole, so it stays until there are enough of ours
    oldest = whole[-keep_last] if len(whole) >= keep_last else None
    return [
        folder
        for folder in folders
        if folder not in kept and (finished(folder) is False or (oldest and step_of(folder) < step_of(oldest)))
    ]


def set_aside(root: Path, step: int, resumed: Path | None) -> list[Path]:
    """Have no checkpoint of `root` later than `step`: the run goes on from there, and theirs was another way.

    They are renamed, so that nothing is lost, to names that verl still resumes from; those that were never finished are
    removed. verl's tracker then names what was resumed.

    Args:
        step: 0 of a run that starts anew.
        resumed: its checkpoint; that of another folder leaves none of the same step here.

    Returns:
        The new names.
    """
    left = []
    for folder in steps_in(root):
        if step_of(folder) < step or (resumed and folder.resolve() == resumed.resolve()):
            continue
        if finished(folder) is False:
            remove([folder])
        else:
            left.append(folder.rename(_free_name(folder)))
    tracked = _tracked(root)
    if tracked is not None and not (root / f"global_step_{tracked}").is_dir():
        if resumed and resumed.resolve().parent == root.resolve():
            (root / TRACKER).write_text(str(step))
        else:
            (root / TRACKER).unlink()
    return left


def remove(folders: Sequence[Path]) -> None:
    """Unsealed first, so that a half-removed checkpoint is not taken for a whole one."""
    for folder in folders:
        unseal(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _free_name(folder: Path) -> Path:
    names = (folder.with_name(f"left{number if number > 1 else ''}_{folder.name}") for number in count(1))
    return next(path for path in names if not path.exists())


def _score(folder: Path) -> float | None:
    """Mean over the sources; None of a step without a validation."""
    here = [row for row in rows_of(folder) if (row["step"], row["kind"]) == (step_of(folder), "validation")]
    metrics = here[-1]["metrics"] if here else {}
    first = [value for name, value in metrics.items() if (found := PASS_AT.fullmatch(name)) and found["k"] == "1"]
    return sum(first) / len(first) if first else None


def _tracked(root: Path) -> int | None:
    try:
        return int((root / TRACKER).read_text())
    except (OSError, ValueError):
        return None


def _hash(path: Path) -> str:
    digest = xxhash.xxh3_128()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
