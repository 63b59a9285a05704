"""What a check is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

GIB = 2**30


@dataclass(frozen=True)
class Asked:
    """What this machine is to do. `hardware` is cpu or gpu, as in the config tree."""

    hardware: str
    lock: Path
    run_dir: Path = Path("outputs")


@dataclass(frozen=True)
class Finding:
    """One line of the report. `fix` is one sentence; empty if there is nothing to do."""

    level: str  # ok, warning or FAILED
    subject: str
    text: str
    fix: str = ""


Findings = Iterator[Finding]
Check = Callable[[Asked], Findings]


def ok(subject: str, text: str) -> Finding:
    return Finding("ok", subject, text)


def warning(subject: str, text: str, fix: str) -> Finding:
    return Finding("warning", subject, text, fix)


def failed(subject: str, text: str, fix: str) -> Finding:
    return Finding("FAILED", subject, text, fix)
