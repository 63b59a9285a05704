"""`python -m dsdr_verl.doctor`: a line for each finding, a fix for each that needs one."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.text import Text

from dsdr_verl.doctor import CHECKS, WITH_RAY, examine
from dsdr_verl.doctor.devices import default_hardware
from dsdr_verl.doctor.findings import Asked, Finding

STYLES = {"ok": "green", "warning": "yellow", "FAILED": "bold red"}


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    args = _parser().parse_args(arguments)
    hardware = args.hardware or default_hardware()
    asked = Asked(hardware, args.lock or _lock_of(hardware), args.run_dir)
    console = Console(highlight=False, soft_wrap=True)
    found = []
    for finding in examine(asked, CHECKS if args.no_ray else CHECKS + WITH_RAY):
        found.append(finding)
        if not args.json:
            _print(console, finding)
    count = Counter(finding.level for finding in found)
    if args.json:
        print(json.dumps({"hardware": hardware, "failed": count["FAILED"], "findings": list(map(asdict, found))}))
    else:
        console.print(f"hardware={hardware}: " + ", ".join(f"{count[level]} {level}" for level in STYLES))
    return 1 if count["FAILED"] else 0


def _print(console: Console, finding: Finding) -> None:
    console.print(Text.assemble((f"{finding.level:8}", STYLES[finding.level]), f"{finding.subject:25}  {finding.text}"))
    if finding.fix:
        console.print(Text(f"{'':35}fix: {finding.fix}"))


def _lock_of(hardware: str) -> Path:
    return Path(__file__).resolve().parents[2] / "requirements" / f"{hardware}.lock"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dsdr_verl.doctor",
        description="Looks at this machine, starts nothing but a small Ray of its own, and says what to mend.",
        epilog="exit: 0 nothing failed (warnings may be there), 1 something failed, 2 wrong arguments",
    )
    parser.add_argument("--hardware", choices=("cpu", "gpu"), help="default: gpu where nvidia-smi is found")
    parser.add_argument("--lock", type=Path, help="default: requirements/<hardware>.lock of this checkout")
    parser.add_argument(
        "--run-dir", type=Path, default=Path("outputs"), help="where runs are to be written (%(default)s)"
    )
    parser.add_argument("--no-ray", action="store_true", help="leave out the plug-in in Ray's processes; seconds")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    return parser


if __name__ == "__main__":
    sys.exit(main())
