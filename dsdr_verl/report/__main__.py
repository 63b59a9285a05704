"""`python -m dsdr_verl.report RUN [RUN ...]`: one page and its plots from what runs have left in their folders."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dsdr_verl.report.page import points, write_report
from dsdr_verl.report.plots import QUANTITIES, in_common
from dsdr_verl.report.runs import Run, caveats, read_run

EPILOG = """\
example:  python -m dsdr_verl.report outputs/dsdr/demo-grpo outputs/dsdr/demo-dsdr --out demo.html
exit:     0 written, 2 nothing to report on
"""


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m dsdr_verl.report",
        description="Training, validation and a comparison of runs, as one HTML page and PNGs (docs/report.md).",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="a run's folder; the first is compared to")
    parser.add_argument("--out", type=Path, default=Path("report.html"), help="the page (default: report.html)")
    args = parser.parse_args(arguments)
    try:
        if args.out.suffix != ".html":
            raise ValueError(f"--out {args.out} must end in .html")
        runs = read_runs(args.runs)
        pictures = write_report(runs, args.out)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    console.print(summary(runs))
    for caveat in caveats(runs):
        console.print(Text(f"note: {caveat}"), soft_wrap=True)
    console.print(
        Text(f"page   {args.out}\nplots  {len(pictures)} PNGs beside it, {pictures[0].name} …"), soft_wrap=True
    )
    return 0


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Read run folders that can be put beside each other.

    Raises:
        ValueError: as `read_run`, a folder is named twice, or the runs have no metric in common that is drawn.
    """
    runs = [read_run(folder) for folder in folders]
    if twice := [str(run.folder) for index, run in enumerate(runs) if run.folder in [r.folder for r in runs[:index]]]:
        raise ValueError(f"{', '.join(twice)}: named twice; name each run once")
    if not in_common(runs):
        if len(runs) == 1:
            raise ValueError(f"{runs[0].folder}: no metric that the report draws was logged (docs/report.md)")
        raise ValueError(
            "these runs have no metric in common, so there is nothing to compare; report them one by one: "
            + ", ".join(str(run.folder) for run in runs)
        )
    return runs


def summary(runs: Sequence[Run]) -> Table:
    """A row a run: the last value of each quantity, and of pass@k with the difference to the first run in points."""
    curves = [{k: values[-1] for k, (_, values) in run.series.validation()[0].items()} for run in runs]
    ks = sorted({k for each in curves for k in each})
    ks = sorted({ks[0], ks[-1]}) if ks else []
    # a terminal is narrow
    columns = [quantity for quantity in QUANTITIES if quantity.name in ("reward", "entropy", "semantic", "mixed")]
    table = Table(title="last values")
    table.add_column("run", overflow="fold")
    for head in ("algorithm", "steps", *(quantity.name for quantity in columns), *(f"pass@{k}" for k in ks)):
        table.add_column(head, justify="left" if head == "algorithm" else "right")
    for index, (run, last) in enumerate(zip(runs, curves, strict=True)):
        cells = [f"{index + 1} {run.name}", run.algorithm, run.steps]
        for quantity in columns:
            _, values = run.series.train(quantity.key)
            cells.append((f"{values[-1]:.0%}" if quantity.share else f"{values[-1]:.3f}") if len(values) else "–")
        for k in ks:
            change = f" ({points(last[k] - curves[0][k])})" if index and k in last and k in curves[0] else ""
            cells.append(f"{last[k]:.1%}{change}" if k in last else "–")
        # as text, for a name may look like markup
        table.add_row(*map(Text, cells))
    return table


if __name__ == "__main__":
    sys.exit(main())
