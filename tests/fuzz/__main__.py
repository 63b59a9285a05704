"""Fuzzes the scoring service from generated and mutated responses: `make fuzz`.

python -m tests.fuzz [--count 100000] [--seed N] [--minutes M]. Every item goes through `Scorer.score` with its
processes; the sentence encoder sees one in ten (--embed-every), of each at most its first 4,000 characters. What fails
is printed and kept as JSON. With --pump, looks instead for texts that take more than linear time.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from random import Random

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tests.fuzz.generate import Item, item
from tests.fuzz.pump import growth
from tests.fuzz.run import Report, Settings, fuzz
from tests.fuzz.shrink import shrunk

ROOT = Path(__file__).resolve().parents[2]
PRINTED = 20


def main() -> int:
    arguments = parse()
    end = time.monotonic() + 60 * arguments.minutes if arguments.minutes else float("inf")
    if arguments.pump:
        return pump(arguments.seed, min(end, time.monotonic() + 3600))

    def items() -> Iterator[Item]:
        for number in range(arguments.first, arguments.first + arguments.count):
            if time.monotonic() > end:
                return
            yield item(arguments.seed, number)

    settings = Settings(arguments.limit, arguments.workers, arguments.embed_every, arguments.notion)
    columns = TextColumn("fuzzing"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    with Progress(*columns, TextColumn("{task.fields[failures]} failed"), refresh_per_second=2) as bar:
        task = bar.add_task("", total=arguments.count, failures=0)
        report = fuzz(items(), settings, lambda r: bar.update(task, completed=r.items, failures=len(r.failures)))
    show(report, arguments.out)
    return 1 if report.failures else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first item, to see one again")
    parser.add_argument("--minutes", type=float, help="stop after so many")
    parser.add_argument("--limit", type=float, default=1.0, help="the verifier's seconds an item")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--embed-every", type=int, default=10)
    parser.add_argument("--notion", default="normalized")
    parser.add_argument("--pump", action="store_true", help="look for texts that take more than linear time")
    parser.add_argument("--out", type=Path, default=ROOT / "outputs" / "fuzz-failures.json")
    arguments = parser.parse_args()
    arguments.out = arguments.out.resolve()
    return arguments


def show(report: Report, out: Path) -> None:
    parent, child = report.peaks()
    print(f"{report.items:,} items in {report.seconds:.0f} s, {report.embedded:,} embedded; {dict(report.verdicts)}")
    print(f"slowest {report.slowest:.2f} s; peak memory {parent:.0f} MiB here, {child:.0f} MiB in a child")
    print(f"memory here grew by {report.parent_slope():.1f} MiB per 10,000 items over the second half")
    failures = [(at and shrunk(at, problem), problem) for at, problem in report.failures[:PRINTED]]
    failures += report.failures[PRINTED:]
    for at, problem in failures[:PRINTED]:
        print(f"FAILED {at.number if at else ''} {at.kind if at else ''}: {problem}")
        if at:
            print(f"  response {at.response[:200]!a} truth {at.truth[:100]!a}")
    if failures:
        rows = [{**(at._asdict() if at else {}), "problem": problem} for at, problem in failures]
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(rows, indent=1))
        print(f"{len(failures)} failures, all of them in {out}")
    else:
        print("no failures")


def pump(seed: int, end: float) -> int:
    found = 0
    for number in count():
        if time.monotonic() > end:
            print(f"{number} pieces tried, {found} grew faster than linear")
            return 1 if found else 0
        for grown in growth(Random(f"{seed}:{number}")):
            found += 1
            print(ascii(grown), flush=True)


if __name__ == "__main__":
    sys.exit(main())
