"""`python -m dsdr_verl.evaluate.compare BASELINE CANDIDATE`: two finished evaluations, paired by problem."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dsdr_verl.evaluate.manifest import FILE, write_json
from dsdr_verl.evaluate.results import bounds_of
from dsdr_verl.evaluation.comparison import Comparison, compare, holm

PROBLEMS = "problems.parquet"
FAMILIES = ("pass", "maj", "modes", "diversity")
EPILOG = """
example:  python -m dsdr_verl.evaluate.compare outputs/evaluate/grpo outputs/evaluate/dsdr --ks 1,8,64
exit:     0 compared, 2 nothing to compare
"""


@dataclass(frozen=True)
class Row:
    """One test: a quantity on the problems of a source."""

    source: str
    quantity: str
    comparison: Comparison
    adjusted_p: float  # by Holm, over the k of its family and source


@dataclass(frozen=True)
class Evaluation:
    """A finished folder."""

    folder: Path
    problems: pd.DataFrame
    manifest: dict[str, Any]


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m dsdr_verl.evaluate.compare",
        description="The difference of two evaluations on the same problems: bootstrap interval, sign-flip test, and "
        "Holm's adjustment over the k (docs/evaluation.md).",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("baseline", metavar="BASELINE", type=Path, help="a folder that an evaluation has finished")
    parser.add_argument("candidate", metavar="CANDIDATE", type=Path, help="another")
    parser.add_argument("--ks", help="such as 1,8,64: decide on them before looking; default: all that both have")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the tests there too")
    args = parser.parse_args(arguments)
    try:
        baseline, candidate = read_evaluation(args.baseline), read_evaluation(args.candidate)
        rows = paired(baseline, candidate, _ks(args.ks))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    console.print(comparison_table(rows))
    for note in differences(baseline.manifest, candidate.manifest):
        console.print(Text(f"note: {note}"), soft_wrap=True)
    if args.json:
        write_json(args.json, [asdict(row) for row in rows])
    return 0


def read_evaluation(folder: Path) -> Evaluation:
    """Read what a finished evaluation left.

    Raises:
        ValueError: there is none, or it is not finished.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; name the output of an evaluation")
    for name in (PROBLEMS, FILE):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} has no {name}: the evaluation is not finished; start its command again")
    return Evaluation(folder, pd.read_parquet(folder / PROBLEMS), json.loads((folder / FILE).read_text()))


def paired(baseline: Evaluation, candidate: Evaluation, ks: Sequence[int] | None = None) -> list[Row]:
    """A test of each quantity that both have, by source.

    Args:
        ks: those to test; None: all that both have.

    Raises:
        ValueError: the problems differ, or a k that one of the two has not.
    """
    columns = set(baseline.problems) & set(candidate.problems)
    if ks is not None and (absent := [k for k in ks if f"pass@{k}" not in columns]):
        raise ValueError(f"--ks {', '.join(map(str, absent))}: not in both evaluations; add them to ks= of both")
    largest = max(_limit(each) for each in (baseline, candidate))
    rows = []
    for source in dict.fromkeys([*baseline.problems["source"], *candidate.problems["source"]]):
        before, after = (e.problems[e.problems["source"] == source].set_index("problem") for e in (baseline, candidate))
        bounds = {name: b for name, b in bounds_of(before, largest).items() if name in columns}
        for family in FAMILIES:
            found = {}
            for name, b in bounds.items():
                if _in_family(name, family, ks):
                    pair = [_values(before, name), _values(after, name)]
                    if family == "diversity":  # where both have two correct solutions
                        both = pair[0].keys() & pair[1].keys()
                        pair = [{key: value for key, value in each.items() if key in both} for each in pair]
                    if pair[0] or pair[1]:
                        found[name] = compare(*pair, bounds=(b.least, b.most))
            adjusted = holm({name: comparison.p_value for name, comparison in found.items()})
            rows += [Row(source, name, comparison, adjusted[name]) for name, comparison in found.items()]
    return rows


def comparison_table(rows: Sequence[Row]) -> Table:
    """A row a test; shares in per cent and their differences in points."""
    table = Table(title="candidate − baseline, paired by problem")
    for head in ("source", "quantity", "baseline", "candidate", "difference", "95% interval", "p", "p (Holm)"):
        table.add_column(head, justify="left" if head in ("source", "quantity") else "right")
    previous = None
    for row in rows:
        scale, digits = (1, 3) if row.quantity.startswith(("modes", "semantic", "formula")) else (100, 1)
        c = row.comparison
        before, after, change, low, high = (
            round(scale * x, digits) + 0.0
            for x in (c.baseline, c.candidate, c.difference.estimate, c.difference.low, c.difference.high)
        )
        table.add_row(
            Text("" if row.source == previous else row.source), row.quantity, f"{before:.{digits}f}",
            f"{after:.{digits}f}", f"{change:+.{digits}f}", f"[{low:+.{digits}f}, {high:+.{digits}f}]",
            f"{c.p_value:.2g}", f"{row.adjusted_p:.2g}",
        )  # fmt: skip
        previous = row.source
    return table


def differences(baseline: Mapping[str, Any], candidate: Mapping[str, Any]) -> list[str]:
    """The settings in which two evaluations differ, for a reader to judge; the model is expected to."""
    a, b = ({"n": m["n"], **m["decides"]} for m in (baseline, candidate))
    keys = [key for key in (*a, *(set(b) - set(a))) if key != "model" and a.get(key) != b.get(key)]
    return [f"{key} is {a.get(key)!r} in the baseline and {b.get(key)!r} in the candidate" for key in keys]


def _in_family(name: str, family: str, ks: Sequence[int] | None) -> bool:
    kind, _, k = name.partition("@")
    if family == "diversity":
        return name in ("semantic", "formula")
    # the vote of one is pass@1
    return kind == family and bool(k) and (ks is None or int(k) in ks) and not (kind == "maj" and int(k) < 3)


def _values(problems: pd.DataFrame, name: str) -> dict[str, float]:
    return problems[name].dropna().to_dict()


def _limit(evaluation: Evaluation) -> int:
    return int(evaluation.manifest["decides"]["max_tokens"])


def _ks(text: str | None) -> list[int] | None:
    if text is None:
        return None
    if not all(part.strip().isdecimal() for part in text.split(",")):
        raise ValueError(f"--ks {text!r}: write whole numbers with commas between, such as 1,8,64")
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
