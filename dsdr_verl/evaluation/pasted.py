"""Tables as text, to paste into notes and papers."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A GitHub table; all columns but the first are flush right."""
    cells = [[text.replace("|", r"\|").replace("\n", " ") for text in line] for line in (heads, *rows)]
    lines = [cells[0], ["---", *("--:" for _ in heads[1:])], *cells[1:]]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def latex(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A `tabular` for the package booktabs, with LaTeX's own characters escaped."""
    columns = "l" + "r" * (len(heads) - 1)
    return pd.DataFrame(rows, columns=list(heads)).to_latex(index=False, escape=True, column_format=columns)
