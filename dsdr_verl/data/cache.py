"""A folder that is built once, whole or not at all, and found again by its fingerprint."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

MARKER = "dsdr_prepared.json"


def cache_root(cache_dir: str | os.PathLike | None = None) -> Path:
    """Return the cache folder: the argument, else ``$DSDR_CACHE``, else ``~/.cache/dsdr_verl``."""
    return Path(cache_dir or os.environ.get("DSDR_CACHE") or "~/.cache/dsdr_verl").expanduser().absolute()


def fingerprint(*parts: object) -> str:
    """Hash what a prepared folder depends on; a different result means that the folder is stale."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def materialise(folder: Path, mark: str, build: Callable[[Path], None]) -> Path:
    """Return ``folder``, made by ``build(temporary folder)`` unless it is there, complete, and carries ``mark``.

    The finished folder appears by one rename, so a reader never sees half of it; processes that race for it are
    queued by a lock where the file system has one, and elsewhere the loser's copy is discarded.
    """
    if is_complete(folder, mark):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _lock(folder.with_name(f".{folder.name}.lock")) as held:
            if not is_complete(folder, mark):
                if held:  # nobody else is building: what lies about was left by a process that died
                    for leftover in folder.parent.glob(f".{folder.name}.*-*"):
                        shutil.rmtree(leftover, ignore_errors=True)
                _replace(folder, mark, build)
    except PermissionError as error:
        raise PermissionError(f"cannot write to {folder.parent}: set DSDR_CACHE to a writable folder") from error
    return folder


def _replace(folder: Path, mark: str, build: Callable[[Path], None]) -> None:
    """Build beside ``folder`` and move the result into its place."""
    unique = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
    scratch, discarded = (folder.with_name(f".{folder.name}.{kind}-{unique}") for kind in ("new", "old"))
    scratch.mkdir()
    try:
        build(scratch)
        for path in scratch.rglob("*"):  # safetensors makes its files private
            path.chmod(0o755 if path.is_dir() else 0o644)
        files = {str(p.relative_to(scratch)): p.stat().st_size for p in sorted(scratch.rglob("*")) if p.is_file()}
        (scratch / MARKER).write_text(json.dumps({"fingerprint": mark, "files": files}, indent=1))
        if is_complete(folder, mark):  # another process was first (a file system without locks)
            return
        if folder.exists():
            os.rename(folder, discarded)
        try:
            os.rename(scratch, folder)
        except OSError:
            if not is_complete(folder, mark):
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.rmtree(discarded, ignore_errors=True)


def is_complete(folder: Path, mark: str) -> bool:
    """Tell whether ``folder`` carries ``mark`` and still has every file at the size it was written with."""
    try:
        marker = json.loads((folder / MARKER).read_text())
        return marker["fingerprint"] == mark and all(
            (folder / name).stat().st_size == size for name, size in marker["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[bool]:
    """Hold an exclusive lock on ``path``; yield whether there is one (some file systems have none)."""
    with open(path, "w") as handle:
        try:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX)
            held = True
        except (ImportError, OSError):
            held = False
        yield held
