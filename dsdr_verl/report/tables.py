"""Tables of arms: the same cells for the page, for Markdown and for LaTeX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dsdr_verl.evaluation.pasted import latex, markdown
from dsdr_verl.report.arms import Mean, Row

SHARES = ("pass", "maj", "truncated", "modes_share")  # in per cent, their differences in points
HEADS = {
    "modes_share": "share of all modes",
    "semantic": "semantic diversity",
    "formula": "formula diversity",
    "entropy": "entropy, nats a token",
}


@dataclass(frozen=True)
class Table:
    """`rows` are (index of the arm, cells); the first cell is the arm's name."""

    name: str
    heads: list[str]
    rows: list[tuple[int, list[str]]]

    @property
    def markdown(self) -> str:
        return markdown(self.heads, [cells for _, cells in self.rows])

    @property
    def latex(self) -> str:
        return latex(self.heads, [cells for _, cells in self.rows])


def means_table(name: str, title: str, rows: Sequence[Row], quantities: Sequence[str]) -> Table:
    """A row an arm that was measured, a column a quantity, with intervals where there are seeds."""
    return Table(
        name,
        [title, "seeds", *map(head, quantities)],
        [
            (index, [f"{index + 1} {row.arm.name}", str(row.seeds), *(_cell(q, row.values.get(q)) for q in quantities)])
            for index, row in enumerate(rows)
            if row.values
        ],
    )


def tests_table(name: str, rows: Sequence[Row]) -> Table:
    """A row a test against the first arm."""
    found = []
    for index, row in enumerate(rows):
        for quantity, difference in row.differences.items():
            p_values = ("–" if p is None else f"{p:.4f}" for p in (difference.p_value, difference.adjusted_p))
            kind = "–" if difference.p_value is None else "paired by seed" if difference.paired else "Welch"
            cell = _cell(quantity, difference.mean, signed=True)
            found.append((index, [f"{index + 1} {row.arm.name}", head(quantity), cell, *p_values, kind]))
    return Table(name, ["against arm 1", "quantity", "difference", "p", "p, Holm", "test"], found)


def head(quantity: str) -> str:
    """As a reader knows it."""
    kind, _, k = quantity.partition("@")
    return f"modes in {k}" if kind == "modes" and k else HEADS.get(quantity, quantity)


def _cell(quantity: str, mean: Mean | None, signed: bool = False) -> str:
    if mean is None:
        return "–"
    is_share = quantity.partition("@")[0] in SHARES
    digits, unit = (1, "" if signed else "%") if is_share else (3 if abs(mean.mean) < 1 else 2, "")
    form = f"{'+' if signed else ''}.{digits}f"

    def say(value: float) -> str:
        return format(round(value * (100 if is_share else 1), digits) + 0.0, form)

    interval = "" if mean.low is None else f" [{say(mean.low)}, {say(mean.high)}]"
    return f"{say(mean.mean)}{unit}{interval}"
