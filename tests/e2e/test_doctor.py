"""The doctor as a user calls it, with its Ray: the plug-in in every kind of process, and kept out of all of them."""

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.e2e.processes import eventually, started_with

pytestmark = pytest.mark.e2e
KINDS = ["driver", "Ray task", "Ray actor", "vLLM worker"]


@pytest.fixture
def folder():
    """For Ray, whose sockets have paths of at most 107 characters: shorter than pytest's."""
    with tempfile.TemporaryDirectory(prefix="d-", dir="/tmp", ignore_cleanup_errors=True) as path:
        yield Path(path)


@dataclass
class Report:
    code: int
    lines: list[str]

    def of(self, kind: str) -> tuple[str, str]:
        """The line on the plug-in in a kind of process, and the one below."""
        at = next(n for n, line in enumerate(self.lines) if f"plug-in: {kind} " in line)
        return self.lines[at], [*self.lines, ""][at + 1]


def doctor(folder: Path, **broken: str) -> Report:
    """Its own Ray must not care that RAY_ADDRESS leads nowhere; nor may it leave anything behind."""
    env = os.environ | {"HF_HUB_OFFLINE": "1", "RAY_TMPDIR": str(folder), "DSDR_TEST_RUN": str(folder)} | broken
    env.pop("VERL_PLATFORM", None)
    command = [sys.executable, "-m", "dsdr_verl.doctor", "--hardware", "cpu"]
    ended = subprocess.run(command, capture_output=True, text=True, env=env, cwd=folder, timeout=600)
    assert not ended.stderr, ended.stderr
    eventually(lambda: not left(folder), 15)
    assert not list(folder.rglob("ray*"))
    return Report(ended.returncode, ended.stdout.splitlines())


def left(folder: Path) -> list[psutil.Process]:
    return started_with("DSDR_TEST_RUN", str(folder))


def test_the_plug_in_is_in_every_kind_of_process(folder):
    report = doctor(folder, RAY_ADDRESS="127.0.0.1:9")
    for kind in KINDS:
        line, _ = report.of(kind)
        assert line.startswith("ok ") and "verl knows dsdr" in line, "\n".join(report.lines)
    assert report.code == 1  # for RAY_ADDRESS
    assert [line for line in report.lines if line.startswith("FAILED") and "no Ray answers at 127.0.0.1:9" in line]


def test_a_plug_in_that_is_kept_out_is_missed_in_every_kind_of_process(folder):
    report = doctor(folder, VERL_USE_EXTERNAL_PLUGINS="none")
    for kind in KINDS:
        line, below = report.of(kind)
        assert line.startswith("FAILED") and "VERL_USE_EXTERNAL_PLUGINS=none" in line, "\n".join(report.lines)
        assert below.strip() == "fix: unset VERL_USE_EXTERNAL_PLUGINS"
    assert report.code == 1


def test_a_ray_that_does_not_start_is_told_from_the_rest(folder):
    """Its folder has a path that is too long for sockets."""
    long = folder / ("x" * 100)
    long.mkdir()
    report = doctor(folder, RAY_TMPDIR=str(long))
    for kind in ("Ray task", "Ray actor"):
        line, below = report.of(kind)
        assert line.startswith("FAILED") and "107" in line and "RAY_TMPDIR" in below, "\n".join(report.lines)
    for kind in ("driver", "vLLM worker"):
        assert report.of(kind)[0].startswith("ok "), "\n".join(report.lines)
