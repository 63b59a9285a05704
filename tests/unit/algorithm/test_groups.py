from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dsdr_verl.algorithm.groups import (
    SolveCounts,
    count_groups,
    group_index,
    mixed_probability,
    segment_largest,
    segment_mean_std,
    segment_sum,
    solve_counts,
)

from .batches import properties


@properties
@given(st.one_of(st.lists(st.integers(0, 5)), st.lists(st.text("ab", max_size=2))))
def test_group_index_is_dense_and_tells_the_groups_apart(uids):
    group, n = group_index(np.array(uids, dtype=object))
    assert group.dtype == torch.int64 and n == len(set(uids)) == count_groups(group)
    assert sorted(set(group.tolist())) == list(range(n))
    for i, j in product(range(len(uids)), repeat=2):
        assert (group[i] == group[j]) == (uids[i] == uids[j])
    assert group_index(uids)[0].equal(group)


def test_group_index_refuses_what_is_not_a_list_of_ids():
    with pytest.raises(ValueError, match="one id per rollout"):
        group_index(np.zeros((2, 2)))
    with pytest.raises(TypeError):
        group_index([1, "1"])


@pytest.mark.parametrize("seed", range(5))
def test_segments(seed):
    rng = np.random.default_rng(seed)
    index, x = rng.integers(0, 6, size=30), rng.normal(size=(30, 3))
    total = segment_sum(torch.tensor(x), torch.tensor(index), 7)
    column = torch.tensor(x[:, 0])
    largest = segment_largest(column, torch.tensor(index), 7)
    mean, std = segment_mean_std(column, torch.tensor(index), 7)
    for g in range(7):
        rows = x[index == g]
        np.testing.assert_allclose(total[g], rows.sum(0), atol=1e-12)
        assert largest[g] == (rows[:, 0].max() if len(rows) else -np.inf)
        if len(rows) > 1:
            np.testing.assert_allclose([mean[g], std[g]], [rows[:, 0].mean(), rows[:, 0].std(ddof=1)], atol=1e-12)


@pytest.mark.parametrize("value", [0.1, 1 / 3, -0.7, 1e20])
@pytest.mark.parametrize("n", [2, 3, 7, 16])
def test_equal_entries_have_that_mean_and_no_std(value, n):
    x = torch.full((n,), value, dtype=torch.float64)
    mean, std = segment_mean_std(x, torch.zeros(n, dtype=torch.long), 1)
    assert mean.item() == value and std.item() == 0


def test_solve_counts_ignore_padding_and_groups_of_padding():
    group = torch.tensor([0, 1, 1, 2, 2, 3, 0, 3, 4])
    correct = torch.tensor([1, 1, 0, 0, 0, 1, 0, 1, 1]).bool()
    valid = torch.tensor([1, 1, 1, 1, 1, 1, 0, 1, 0]).bool()
    counts = solve_counts(correct, group, valid)
    assert counts == SolveCounts(all_correct=2, mixed=1, all_wrong=1)
    assert counts.shares() == {"all_correct": 0.5, "mixed": 0.25, "all_wrong": 0.25}
    assert sum(solve_counts(correct, group, torch.zeros(9).bool()).shares().values()) == 0


@pytest.mark.parametrize("p", [0.0, 0.1, 1 / 3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("G", [1, 2, 3, 8])
def test_lemma_c3_by_enumeration_of_all_groups(p, G):
    outcomes = torch.tensor(list(product([0, 1], repeat=G)))  # [2^G, G]
    mixed = sum(
        p ** int(outcome.sum()) * (1 - p) ** int(G - outcome.sum())
        for outcome in outcomes
        if solve_counts(outcome.bool(), torch.zeros(G).long(), torch.ones(G).bool()).mixed
    )
    assert mixed_probability(p, G) == pytest.approx(mixed, abs=1e-12)


@pytest.mark.parametrize(("p", "G"), [(-0.1, 2), (1.1, 2), (float("nan"), 2), (0.5, 0)])
def test_lemma_c3_refuses_what_is_no_probability(p, G):
    with pytest.raises(ValueError, match="p must be in"):
        mixed_probability(p, G)
