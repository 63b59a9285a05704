"""`python -m dsdr_verl.sweep FILE [override ...]`: train every run of a sweep that is not finished yet."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dsdr_verl.sweep.grid import Job, Sweep, compose_problems, jobs_of, read_sweep
from dsdr_verl.sweep.launch import FINISHED, launch_all, locked, read_outcome

EPILOG = """\
example:  python -m dsdr_verl.sweep recipe/study/sweep.yaml seed=1 +algorithm=grpo,dsdr
exit:     0 all runs are finished, 1 some are not, 2 nothing was started, 130 stopped
"""


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m dsdr_verl.sweep",
        description="Train every run of a sweep, one after the other. The same command goes on where it was stopped.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, help="the sweep (recipe/*/sweep.yaml)")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides for every run; they win over the file's")
    parser.add_argument("--folder", type=Path, help="of the sweep, instead of the file's")
    parser.add_argument("--dry-run", action="store_true", help="compose every run and tell the cost, start nothing")
    args = parser.parse_intermixed_args(arguments)
    try:
        sweep = read_sweep(args.file)
        if args.folder:
            sweep = sweep.model_copy(update={"folder": args.folder})
        jobs = jobs_of(sweep, args.overrides)
        if problems := compose_problems(jobs):
            raise ValueError("\n".join([f"{len(problems)} of {len(jobs)} runs cannot be composed:", *problems]))
        print(cost(sweep, jobs), flush=True)
        if args.dry_run:
            print("\n".join(f"{job.name}: {' '.join(job.overrides)}" for job in jobs))
            return 0
        with locked(sweep.folder) as lock:
            tried = launch_all(jobs, lock, lambda text: print(text, flush=True))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    Console(highlight=False, width=None if sys.stdout.isatty() else 120).print(ending(jobs))
    if not tried:
        print("stopped; the same command goes on")
        return 130
    return 0 if all(read_outcome(job).state == FINISHED for job in jobs) else 1


def cost(sweep: Sweep, jobs: Sequence[Job]) -> str:
    """How much is to do, in a sentence."""
    left = sum(read_outcome(job).state != FINISHED for job in jobs)
    time = (
        f"{left * sweep.minutes / 60:.1f} hours"
        if left * sweep.minutes >= 90
        else f"{left * sweep.minutes:.0f} minutes"
    )
    return (
        f"{len(jobs)} runs in {sweep.folder}, {len(jobs) - left} of them finished; "
        f"the others take about {time} ({sweep.minutes:g} minutes a run on {sweep.machine})"
    )


def ending(jobs: Sequence[Job]) -> Table:
    """A row a run: how it stands, and how long it took."""
    table = Table(title="the sweep")
    for head, justify in (("run", "left"), ("state", "left"), ("minutes", "right"), ("cause", "left")):
        table.add_column(head, justify=justify, overflow="fold")
    for job in jobs:
        outcome = read_outcome(job)
        # as text, for a cause may look like markup
        table.add_row(*map(Text, (job.name, outcome.state, f"{outcome.seconds / 60:.1f}", outcome.cause)))
    return table


if __name__ == "__main__":
    sys.exit(main())
