"""`make chaos`: a run for each cell of the matrix of faults, processes and stages; those that go on share a run.

A run takes one to four minutes. What has gone well is not done again: `--out` holds a line for each outcome.
"""

import argparse
import json
import random
import shutil
import sys
from itertools import product
from pathlib import Path

from rich.console import Console

from tests.chaos.cell import START, Cell, Outcome, outcomes
from tests.chaos.inject.sitecustomize import FAULTS, KINDS, STAGES

# Faults of one process that its run may go on after, so that they share one: a stage after another.
SHARED = {"slow", "memory"}
SURVIVED = {"scoring_actor", "verifier"}  # whatever the fault
LATER = {"agent_worker", "verifier"}  # they come after start-up


def never(cell: Cell) -> bool:
    """What there is not; and nobody is left to notice a stopped driver, which goes on when it is let go."""
    return (cell.fault, cell.kind) == ("stop", "driver") or (cell.stage == START and cell.kind in LATER)


def matrix(faults: list[str], kinds: list[str], stages: list[str]) -> list[Cell]:
    cells = [Cell(*parts) for parts in product([f for f in faults if f != "disk"], kinds, stages)]
    if "disk" in faults:
        cells += [Cell("disk", "all", stage) for stage in stages]
    return [cell for cell in cells if not never(cell)]


def once(cells: list[Cell], done: list[Cell]) -> list[Cell]:
    """Of each fault of each process one stage of a step, another for each; none of those that are `done` at any."""
    stages: dict[tuple, list[Cell]] = {}
    for cell in (cell for cell in cells if cell.stage != START):
        stages.setdefault((cell.fault, cell.kind), []).append(cell)
    choices = {pair: choice[number % len(choice)] for number, (pair, choice) in enumerate(stages.items())}
    had = {(cell.fault, cell.kind) for cell in done}
    return [cell for pair, cell in choices.items() if pair not in had]


def runs_of(cells: list[Cell]) -> list[list[Cell]]:
    """Cells that share a run; those that come after its end are left."""
    shared: dict[tuple, list[Cell]] = {}
    alone = []
    for cell in cells:
        if cell.fault in SHARED or cell.kind in SURVIVED:
            shared.setdefault((cell.fault, cell.kind), []).append(cell)
        else:
            alone.append([cell])
    return [*shared.values(), *alone]


def table(rows: list[dict]) -> str:
    """A line for each fault of each process, a column for each stage: "on", or the seconds to the end of the run."""
    lines = [f"| fault | process | {' | '.join(STAGES)} |", "|---|---|" + "--:|" * len(STAGES)]
    found: dict[tuple, dict[str, str]] = {}
    for row in rows:
        cell = row["cell"]
        what = "**WRONG**" if row["wrong"] else "on" if row["seconds"] is None else f"{row['seconds']:.0f}"
        found.setdefault((cell["fault"], cell["kind"]), {})[cell["stage"]] = what
    for pair, stages in sorted(found.items()):
        lines.append(f"| {' | '.join(pair)} | {' | '.join(stages.get(stage, '') for stage in STAGES)} |")
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--faults", nargs="+", choices=sorted(FAULTS), default=sorted(FAULTS))
    parser.add_argument("--kinds", nargs="+", choices=sorted(KINDS), default=sorted(set(KINDS) - {"all"}))
    parser.add_argument("--stages", nargs="+", choices=sorted(STAGES), default=list(STAGES))
    parser.add_argument("--once", action="store_true", help="each fault of each process at one stage, in turn")
    parser.add_argument("--sample", type=int, help="so many runs, at random")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--out", type=Path, default=Path("outputs/chaos"))
    args = parser.parse_args(argv)
    console, results = Console(highlight=False), args.out / "results.jsonl"
    args.out.mkdir(parents=True, exist_ok=True)
    kept = map(json.loads, results.read_text().splitlines()) if results.exists() else []
    rows = [row for row in kept if not row["wrong"]]
    done = [Cell(**row["cell"]) for row in rows]
    cells = matrix(args.faults, args.kinds, args.stages)
    todo = runs_of(once(cells, done) if args.once else [cell for cell in cells if cell not in done])
    if args.sample:
        todo = random.Random(args.seed).sample(todo, min(args.sample, len(todo)))
    console.print(f"{len(todo)} runs, one to four minutes each; {len(done)} outcomes are there")
    number = 0
    while todo:
        number, cells = number + 1, todo.pop(0)
        folder = args.out / "runs" / "-".join(cells[0].at(len(cells)).split("/"))
        shutil.rmtree(folder, ignore_errors=True)
        found = outcomes(folder.absolute(), cells)
        for outcome in found:
            cells = [cell for cell in cells if cell != outcome.cell]
            rows.append(outcome.row())
            with open(results, "a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
            console.print(f"{number}/{number + len(todo)} {line(outcome)}", soft_wrap=True)
        if not any(outcome.wrong for outcome in found):
            shutil.rmtree(folder, ignore_errors=True)
        todo += [cells] if cells else []
    (args.out / "table.md").write_text(table(rows))
    wrong = sum(bool(row["wrong"]) for row in rows)
    console.print(f"{len(rows)} outcomes, {wrong} of them wrong: {args.out / 'table.md'}")
    return 1 if wrong else 0


def line(outcome: Outcome) -> str:
    seconds = "" if outcome.seconds is None else f" after {outcome.seconds:.0f} s"
    return f"{outcome.cell}: {outcome.what}{seconds} {'WRONG: ' + outcome.wrong if outcome.wrong else ''}"


if __name__ == "__main__":
    sys.exit(main())
