"""What the terminal shows of an evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from dsdr_verl.evaluation.pasted import latex, markdown
from dsdr_verl.scoring.verdict import Verdict

DASH = "–"


def summary_table(summary: Mapping[str, Mapping[str, Any]], n: int, level: float) -> Table:
    """A column a source, a row a quantity.

    Args:
        summary: of `results.summarise`.
        n: samples of a problem.
        level: of the intervals.
    """
    table = Table(title=f"means over problems, with {level:.0%} intervals")
    table.add_column("")
    for source in summary:
        table.add_column(Text(source), justify="right")
    for head, cells in _known_rows(summary, n):
        table.add_row(head, *cells)
    return table


def summary_markdown(summary: Mapping[str, Mapping[str, Any]], n: int, level: float) -> str:
    """The same as `summary_table`, to paste."""
    return markdown(*_pasted(summary, n, level))


def summary_latex(summary: Mapping[str, Mapping[str, Any]], n: int, level: float) -> str:
    """The same for a paper, with booktabs."""
    return latex(*_pasted(summary, n, level))


def _pasted(summary: Mapping[str, Mapping[str, Any]], n: int, level: float) -> tuple[list[str], list[list[str]]]:
    heads = [f"{level:.0%} intervals over problems", *summary]
    return heads, [[head, *cells] for head, cells in _known_rows(summary, n)]


def _known_rows(summary: Mapping[str, Mapping[str, Any]], n: int) -> list[tuple[str, list[str]]]:
    return [(head, cells) for head, cells in _rows(summary, n) if set(cells) != {DASH}]


def _rows(summary: Mapping[str, Mapping[str, Any]], n: int) -> Iterator[tuple[str, list[str]]]:
    sources = list(summary.values())

    def row(head: str, name: str, form) -> tuple[str, list[str]]:
        return head, [form(source[name]) if source.get(name) else DASH for source in sources]

    def ks(kind: str) -> list[int]:
        found = {int(name.partition("@")[2]) for source in sources for name in source if name.startswith(f"{kind}@")}
        return sorted(found)

    yield "problems, samples of each", [f"{source['problems']}, {n}" for source in sources]
    for k in ks("pass"):
        yield row(f"Avg@{n} = pass@1" if k == 1 else f"pass@{k}", f"pass@{k}", share)
    for k in ks("maj")[-1:]:
        if k > 2:  # the vote of one or two is a sample
            yield row(f"maj@{k}", f"maj@{k}", share)
    for k in ks("modes"):
        yield row(f"distinct modes in {k}", f"modes@{k}", number)
    yield row(f"share of all modes, in {n}", "modes_share", share)
    yield "tokens, mean", [number(source["tokens"]) for source in sources]
    quantiles = [source["token_quantiles"] for source in sources]
    yield "tokens, 5% / median / 95% / most", [" / ".join(f"{x:.0f}" for x in q.values()) for q in quantiles]
    yield row("truncated", "truncated", share)
    for verdict in Verdict:
        name = f"verdict/{verdict.value}"
        if verdict is not Verdict.correct and any(source[name]["estimate"] for source in sources):
            yield row(f"verdict {verdict.value}", name, lambda estimate: f"{estimate['estimate']:.1%}")
    yield row("semantic diversity of correct", "semantic", number)
    yield row("formula diversity of correct", "formula", number)


def share(estimate: Mapping[str, float]) -> str:
    """`12.3% [10.1, 14.0]`, in per cent."""
    low, high = 100 * estimate["low"], 100 * estimate["high"]
    return f"{estimate['estimate']:.1%} [{low:.1f}, {high:.1f}]"


def number(estimate: Mapping[str, float]) -> str:
    """`12.3 [10.1, 14.0]`, with the digits that a reader can use."""
    digits = 1 if estimate["estimate"] >= 10 else 3 if estimate["estimate"] < 1 else 2
    return f"{estimate['estimate']:.{digits}f} [{estimate['low']:.{digits}f}, {estimate['high']:.{digits}f}]"
