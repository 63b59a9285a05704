"""A prepared folder is whole or absent, made once, and made again when it is damaged or stale."""

import multiprocessing
import os
import time
from pathlib import Path

import pytest

from dsdr_verl.data.cache import MARKER, cache_root, is_complete, materialise


def _write(folder: Path) -> None:
    (folder / "inner").mkdir()
    (folder / "inner" / "file").write_text("content")


def test_builds_once_and_leaves_nothing_else(tmp_path):
    calls = []

    def build(folder: Path) -> None:
        calls.append(folder)
        assert not (tmp_path / "x").exists()
        _write(folder)

    for _ in range(2):
        assert materialise(tmp_path / "x", "mark", build) == tmp_path / "x"
    assert len(calls) == 1
    assert {p.name for p in tmp_path.iterdir()} == {"x", ".x.lock"}
    assert (tmp_path / "x" / "inner" / "file").read_text() == "content"


def test_a_failed_build_leaves_nothing(tmp_path):
    def build(folder: Path) -> None:
        _write(folder)
        raise RuntimeError("no space")

    with pytest.raises(RuntimeError, match="no space"):
        materialise(tmp_path / "x", "mark", build)
    assert {p.name for p in tmp_path.iterdir()} == {".x.lock"}


@pytest.mark.parametrize("damage", ["stale", "file gone", "file short", "marker gone", "marker broken"])
def test_builds_anew_when_damaged(tmp_path, damage):
    folder = materialise(tmp_path / "x", "old", _write)
    mark = "new" if damage == "stale" else "old"
    if damage == "file gone":
        (folder / "inner" / "file").unlink()
    elif damage == "file short":
        (folder / "inner" / "file").write_text("con")
    elif damage == "marker gone":
        (folder / MARKER).unlink()
    elif damage == "marker broken":
        (folder / MARKER).write_text("[1")
    assert not is_complete(folder, mark)
    materialise(folder, mark, _write)
    assert is_complete(folder, mark)
    assert (folder / "inner" / "file").read_text() == "content"
    assert {p.name for p in tmp_path.iterdir()} == {"x", ".x.lock"}


def test_clears_what_a_killed_process_left(tmp_path):
    (tmp_path / ".x.new-1-abc").mkdir()
    (tmp_path / ".x.new-1-abc" / "half").write_text("")
    materialise(tmp_path / "x", "mark", _write)
    assert not (tmp_path / ".x.new-1-abc").exists()


def _slow(folder: Path) -> None:
    _write(folder)
    with open(folder.parent / "builds", "a") as log:
        log.write(f"{os.getpid()}\n")
    time.sleep(0.3)


def test_racing_processes_build_once(tmp_path):
    context = multiprocessing.get_context("fork")
    runs = [context.Process(target=materialise, args=(tmp_path / "x", "mark", _slow)) for _ in range(3)]
    for run in runs:
        run.start()
    for run in runs:
        run.join(30)
        assert run.exitcode == 0
    assert is_complete(tmp_path / "x", "mark")
    assert len((tmp_path / "builds").read_text().split()) == 1


def test_a_race_without_locks_still_ends_complete(tmp_path, monkeypatch):
    import fcntl

    def refuse(*_):
        raise OSError("no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)

    def build(folder: Path) -> None:
        _write(folder)
        if not (tmp_path / "x").exists():
            materialise(tmp_path / "x", "mark", _write)  # another process comes first

    materialise(tmp_path / "x", "mark", build)
    assert is_complete(tmp_path / "x", "mark")


def test_cache_root(monkeypatch, tmp_path):
    monkeypatch.setenv("DSDR_CACHE", str(tmp_path / "env"))
    assert cache_root() == tmp_path / "env"
    assert cache_root(tmp_path) == tmp_path
    monkeypatch.delenv("DSDR_CACHE")
    assert cache_root() == Path("~/.cache/dsdr_verl").expanduser()
