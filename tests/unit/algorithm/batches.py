"""Random batches with everything that may go wrong in them."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from hypothesis import settings
from torch import Tensor

from dsdr_verl.algorithm.options import DSDROptions
from dsdr_verl.algorithm.scores import GroupScores, score_groups

properties = settings(max_examples=40, deadline=None, derandomize=True, database=None)


@dataclass(frozen=True)
class Batch:
    reward: Tensor
    correct: Tensor
    embedding: Tensor
    row: Tensor
    formula: Tensor
    group: Tensor
    valid: Tensor

    @property
    def solved(self) -> Tensor:
        return self.correct & self.valid

    @property
    def formulas(self) -> list[set[int]]:
        """S(o_i) of every rollout."""
        sets: list[set[int]] = [set() for _ in self.group]
        for i, f in zip(self.row.tolist(), self.formula.tolist(), strict=True):
            sets[i].add(f)
        return sets

    def score(self, options: DSDROptions) -> GroupScores:
        return score_groups(
            self.reward, self.correct, self.embedding, self.row, self.formula, self.group, self.valid, options
        )

    def permuted(self, order: Tensor) -> "Batch":
        rows = ("reward", "correct", "embedding", "group", "valid")
        return replace(self, row=order.argsort()[self.row], **{name: getattr(self, name)[order] for name in rows})


def random_batch(seed: int) -> Batch:
    """1 to 6 groups of 1 to 16 rollouts each, shuffled; in a group none, one, some or all are correct.

    Some responses are empty (zero embedding, no formula), some repeat another. Up to a fifth of the rows is padding,
    which looks like a correct rollout, shares groups and formulas with the others, and has NaN embeddings and rewards.
    """
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 17, size=rng.integers(1, 7))
    group = np.repeat(np.arange(len(sizes)), sizes)
    correct = np.zeros(len(group), dtype=bool)
    for g in range(len(sizes)):
        at = np.flatnonzero(group == g)
        solved = rng.choice([0, 1, len(at), rng.integers(0, len(at) + 1)])
        correct[rng.permutation(at)[:solved]] = True
    B = len(group)

    # A common direction, as sentence embeddings of one prompt have, and any norm.
    z = (rng.normal(size=(B, 24)) + rng.normal(size=24)) * rng.uniform(0.01, 10, size=(B, 1))
    z[rng.random(B) < 0.1] = 0
    z = np.where(rng.random((B, 1)) < 0.1, z[rng.integers(0, B, size=B)], z)

    pairs = [(i, f) for i in range(B) for f in rng.integers(0, 40, size=rng.choice([0, 1, 3, 12]))]  # with repeats
    pairs = np.array(pairs, dtype=np.int64).reshape(-1, 2)[rng.permutation(len(pairs))]
    ids = rng.integers(-(2**63), 2**63 - 1, size=40)  # formula ids are hashes

    reward = correct - rng.choice([0, 0.25], size=B)  # a task reward that is more than correctness
    valid = rng.random(B) > rng.choice([0, 0.2])
    valid[0] = True
    z[~valid], reward[~valid], correct[~valid] = np.nan, np.nan, True
    batch = Batch(
        torch.tensor(reward, dtype=torch.float32),
        torch.tensor(correct),
        torch.tensor(z, dtype=torch.float32),
        torch.tensor(pairs[:, 0]),
        torch.tensor(ids[pairs[:, 1]]),
        torch.tensor(group),
        torch.tensor(valid),
    )
    return batch.permuted(torch.tensor(rng.permutation(B)))
