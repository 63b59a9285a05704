"""What λ_d does to advantages, on groups of real rollouts: `python -m recipe.study.lambda_d RUN/evaluation …`.

The samples of each problem are taken in groups as in training. Prints a Markdown table.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from dsdr_verl.algorithm.advantage import group_advantage
from dsdr_verl.algorithm.diversity import formula_pairs
from dsdr_verl.algorithm.options import DSDROptions
from dsdr_verl.algorithm.scores import score_groups
from dsdr_verl.evaluation.pasted import markdown

GROUP = 8  # rollouts, as in profile=study
LAMBDAS = (0.001, 0.01, 0.1)


def main(folders: list[str]) -> None:
    """Print the table for the evaluations in `folders`, all their groups together."""
    if not folders:
        sys.exit("usage: python -m recipe.study.lambda_d RUN/evaluation [RUN/evaluation …]")
    rollouts = pd.concat([read(Path(folder), number) for number, folder in enumerate(folders)])
    correct_B = torch.tensor(rollouts["acc"].to_numpy() > 0)
    group_B = torch.tensor(pd.factorize(rollouts["group"])[0])
    row_F, formula_F = formula_pairs([np.asarray(ids, np.int64) for ids in rollouts["formula_ids"]])
    scores = score_groups(
        reward_B=correct_B.float(),
        correct_B=correct_B,
        embedding_BD=torch.from_numpy(np.stack(rollouts["embedding"].tolist()).astype(np.float32)),
        row_F=row_F,
        formula_F=formula_F,
        group_B=group_B,
        valid_B=torch.ones_like(correct_B),
        options=DSDROptions(),
    )
    solved_P = torch.bincount(group_B, correct_B.double())
    solved_B, mixed_B = (solved_P == GROUP)[group_B], ((solved_P > 0) & (solved_P < GROUP))[group_B]
    print(
        f"{len(solved_P)} groups, {int((solved_P == GROUP).sum())} all correct, {int(mixed_B.sum()) // GROUP} mixed\n"
    )
    rows = []
    for norm_by_std in (True, False):
        plain_B = group_advantage(correct_B.double(), group_B, norm_by_std)
        for lambda_d in LAMBDAS:
            shaped_B = correct_B.double() + (lambda_d * scores.diversity.double()).where(correct_B, 0.0)
            advantage_B = group_advantage(shaped_B, group_B, norm_by_std)
            solved, change = advantage_B[solved_B], (advantage_B - plain_B)[mixed_B].abs()
            rows.append(
                [
                    f"{lambda_d:g}, {'over std' if norm_by_std else 'not over std'}",
                    f"{solved.quantile(0.05):+.2g} to {solved.quantile(0.95):+.2g}",
                    f"{solved.abs().mean():.2g}",
                    f"{(solved < 0).double().mean():.0%}",
                    f"{change.mean():.1g}, at most {change.max():.1g}",
                    f"{plain_B[mixed_B].abs().mean():.2g}",
                ]
            )
    heads = [
        "λ_d, advantages", "all correct: A, 5% to 95%", "mean size of A", "A < 0", "mixed: change of A by λ_d",
        "mixed: mean size of A",
    ]  # fmt: skip
    print(markdown(heads, rows))


def read(folder: Path, number: int) -> pd.DataFrame:
    """The rollouts of an evaluation, in groups."""
    columns = ["problem", "sample", "acc", "formula_ids", "embedding"]
    rows = pd.concat(
        [pd.read_parquet(file, columns=columns) for file in sorted((folder / "rollouts").glob("*.parquet"))]
    )
    rows = rows.sort_values(["problem", "sample"])
    rows["group"] = [f"{number} {p} {s // GROUP}" for p, s in zip(rows["problem"], rows["sample"], strict=True)]
    return rows


if __name__ == "__main__":
    main(sys.argv[1:])
