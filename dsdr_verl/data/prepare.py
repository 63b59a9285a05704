"""`python -m dsdr_verl.data.prepare aime_2024`: a public set, or a task of this project, as a file to train on."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from dsdr_verl.data.cache import cache_root
from dsdr_verl.data.catalogue import PACKAGE, PUBLIC_SETS
from dsdr_verl.data.problem_files import Collected, Item, collect, to_row
from dsdr_verl.data.rows import Row
from dsdr_verl.data.tables import SUFFIXES, BrokenFile, count_rows
from dsdr_verl.data.tasks import TASKS, write_parquet

DESCRIPTION = f"""\
Write a set of problems as parquet for data.train_files and data.val_files: each row checked, each problem once, with an
id that depends on problem and answer alone (docs/data.md). The file comes from --from; else from the package
{PACKAGE} if it is installed and has the set; else from the Hugging Face hub."""

EPILOG = """
sets:     {sets}
tasks:    {tasks} (made here; no download)
examples: python -m dsdr_verl.data.prepare math_500
          python -m dsdr_verl.data.prepare dapo_math_17k --from dapo-math-17k.parquet --out train.parquet
exit:     0 written, 2 nothing written, 130 interrupted
"""


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    args = _parser().parse_args(arguments)
    try:
        split = _split(args.name, args.split)
        out = args.out or cache_root() / "sets" / args.name / f"{split}.parquet"
        _check_output(out, args.force or args.out is None)
        if args.name in TASKS:
            if args.source:
                raise ValueError(f"--from: {args.name} is made here, not read from a file; leave --from out")
            rows, facts = _task_rows(args.name, split), {}
        else:
            rows, facts = _set_rows(args.name, split, args.source, args.skip_broken)
        write_parquet(rows, out)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: nothing was written", file=sys.stderr)
        return 130
    _print_summary({"set": f"{args.name}, {split}", **facts, "written": f"{len(rows)} problems"}, out)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dsdr_verl.data.prepare",
        description=DESCRIPTION,
        epilog=EPILOG.format(sets=", ".join(PUBLIC_SETS), tasks=", ".join(TASKS)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", metavar="NAME", choices=[*PUBLIC_SETS, *TASKS], help="a set or a task, listed below")
    parser.add_argument("--from", dest="source", type=Path, metavar="PATH", help=f"a local file: {', '.join(SUFFIXES)}")
    parser.add_argument("--split", help="train, test or val; default: the only one, or train")
    parser.add_argument("--out", type=Path, help="a .parquet; default: sets/NAME/SPLIT.parquet in the cache folder")
    parser.add_argument("--force", action="store_true", help="overwrite --out")
    parser.add_argument(
        "--skip-broken",
        action="store_true",
        help="leave out broken rows, and problems that come with several answers, instead of ending",
    )
    return parser


def _split(name: str, split: str | None) -> str:
    splits = ("train", "val") if name in TASKS else tuple(PUBLIC_SETS[name].files)
    if split and split not in splits:
        raise ValueError(f"--split {split}: {name} has {', '.join(splits)}; choose one of these")
    return split or splits[0]


def _check_output(out: Path, force: bool) -> None:
    if out.suffix != ".parquet":
        raise ValueError(f"--out {out} must end in .parquet")
    if out.is_dir() or (out.exists() and not force):
        raise ValueError(f"--out {out} is there already; name another, or overwrite it with --force")
    folder = next(parent for parent in out.absolute().parents if parent.exists())
    if not os.access(folder, os.W_OK) or not folder.is_dir():
        raise ValueError(f"{out}: {folder} cannot be written to; name another with --out")


def _task_rows(name: str, split: str) -> list[Row]:
    task = TASKS[name]
    made = task.rows(split, task.train_size if split == "train" else task.val_size)
    rows = []
    for index, row in enumerate(made):
        item = Item(row["extra_info"]["question"], row["reward_model"]["ground_truth"])
        rows.append(to_row(item, row["data_source"], split, index, prompt=row["prompt"]))
    return rows


def _set_rows(name: str, split: str, source: Path | None, skip_broken: bool) -> tuple[list[Row], dict[str, str]]:
    public = PUBLIC_SETS[name]
    path = source.expanduser() if source else public.locate(split)
    with _bar(path) as advance:
        found = collect(path, public.layout, advance)
    if found.faults.count:
        print(found.faults, file=sys.stderr)
        if not (skip_broken and found.items):
            hint = "; --skip-broken leaves such rows out" if found.items else ""
            raise BrokenFile(f"nothing was written{hint}")
    rows = [to_row(item, name, split, index) for index, item in enumerate(found.items)]
    return rows, {"from": str(path), **_counts(found)}


def _counts(found: Collected) -> dict[str, str]:
    left_out = {
        "repeated": found.repeated,
        "of other kinds": found.unwanted,
        "broken": found.broken,
        "with several answers": found.disputed,
    }
    parts = [f"{number} {what}" for what, number in left_out.items() if number]
    return {"rows": f"{found.rows}", "left out": ", ".join(parts) or "none"}


@contextmanager
def _bar(path: Path) -> Iterator[Callable[[], None]]:
    bar = Progress(
        TextColumn("reading"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )
    with bar:
        task = bar.add_task("reading", total=count_rows(path))
        yield lambda: bar.advance(task)


def _print_summary(facts: dict[str, str], out: Path) -> None:
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    summary = Table(show_header=False)
    for fact in facts.items():
        summary.add_row(*fact)
    console.print(summary)
    console.print(str(out), soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
