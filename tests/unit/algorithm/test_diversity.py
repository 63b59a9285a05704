import numpy as np
import pytest
import torch

from dsdr_verl.algorithm.diversity import (
    clipped,
    combined_diversity,
    formula_diversity,
    semantic_diversity,
)

from . import reference
from .batches import random_batch


@pytest.mark.parametrize("reference_set", ["all", "correct"])
@pytest.mark.parametrize("seed", range(25))
def test_semantic_diversity_is_the_pairwise_mean(seed, reference_set):
    batch = random_batch(seed)
    D_emb = semantic_diversity(batch.embedding, batch.group, batch.valid, batch.correct, reference_set)
    expected = reference.semantic_diversity(
        batch.embedding.double().tolist(),
        batch.group.tolist(),
        batch.valid.tolist(),
        batch.correct.tolist(),
        reference_set,
    )
    assert D_emb.dtype == torch.float32
    np.testing.assert_allclose(D_emb, expected, atol=1e-7)


@pytest.mark.parametrize("seed", range(25))
def test_formula_diversity_is_the_share_of_unique_formulas(seed):
    batch = random_batch(seed)
    D_eq = formula_diversity(batch.row, batch.formula, batch.group, batch.valid)
    expected = reference.formula_diversity(batch.formulas, batch.group.tolist(), batch.valid.tolist())
    assert D_eq.dtype == torch.float32
    np.testing.assert_allclose(D_eq, expected, atol=1e-7)


def everyone(n):
    return torch.zeros(n).long(), torch.ones(n).bool(), torch.ones(n).bool()  # one group, all valid, all correct


def test_semantic_diversity_at_the_ends_of_its_range():
    x = torch.randn(1, 8)
    assert semantic_diversity(x.repeat(4, 1), *everyone(4)).tolist() == pytest.approx([0] * 4, abs=1e-12)
    assert semantic_diversity(torch.cat([x, -3 * x]), *everyone(2)).tolist() == pytest.approx([1, 1])
    assert semantic_diversity(torch.zeros(3, 8), *everyone(3)).tolist() == [0.5] * 3
    assert semantic_diversity(x, *everyone(1)).tolist() == [0]
    group, valid, correct = everyone(3)
    assert semantic_diversity(torch.randn(3, 8), group, valid, ~correct, "correct").tolist() == [0] * 3


def test_near_duplicates_are_resolved():
    z = torch.tensor([[1.0, 0.0], [1.0, 1e-3], [1.0, 2e-3]])
    D_emb = semantic_diversity(z, *everyone(3))
    expected = reference.semantic_diversity(z.double().tolist(), [0] * 3, [1] * 3, [1] * 3, "all")
    np.testing.assert_allclose(D_emb, expected, rtol=1e-6)


def test_embeddings_of_any_norm_and_dtype():
    z = torch.randn(5, 8)
    D_emb = semantic_diversity(z, *everyone(5))
    scale = torch.tensor([1e-20, 1e-3, 1.0, 1e3, 1e20])[:, None]
    torch.testing.assert_close(semantic_diversity(scale * z, *everyone(5)), D_emb)
    torch.testing.assert_close(semantic_diversity(z.bfloat16(), *everyone(5)), D_emb, atol=1e-2, rtol=0)
    assert semantic_diversity(torch.zeros(5, 8), *everyone(5)).eq(0.5).all()


def test_embeddings_are_left_as_they_were():
    z = torch.randn(5, 8, dtype=torch.float64)
    before = z.clone()
    group, valid, correct = everyone(5)
    valid[3] = False
    semantic_diversity(z, group, valid, correct)
    assert z.equal(before)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_embeddings_that_are_not_finite_raise_unless_padding(bad):
    z = torch.randn(4, 8)
    z[2, 3] = bad
    group, valid, correct = everyone(4)
    with pytest.raises(ValueError, match=r"1 embedding.*rows \[2\]"):
        semantic_diversity(z, group, valid, correct)
    valid[2] = False
    assert semantic_diversity(z, group, valid, correct)[2] == 0


def test_unknown_reference_set():
    with pytest.raises(ValueError, match="reference_set"):
        semantic_diversity(torch.randn(2, 3), *everyone(2), "wrong")


def test_formulas_of_other_groups_and_of_padding_do_not_count():
    row, formula = torch.tensor([0, 1, 2, 2]), torch.tensor([7, 7, 7, 8])
    group, valid = torch.tensor([0, 1, 1]), torch.tensor([True, True, False])
    assert formula_diversity(row, formula, group, valid).tolist() == [1, 1, 0]
    assert formula_diversity(row, formula, group, torch.ones(3).bool()).tolist() == [1, 0, 0.5]


def test_no_formula_at_all():
    none = torch.zeros(0).long()
    assert formula_diversity(none, none, torch.tensor([0, 0]), torch.ones(2).bool()).tolist() == [0, 0]


@pytest.mark.parametrize("row", [-1, 2])
def test_rows_outside_the_batch_raise(row):
    with pytest.raises(ValueError, match=r"row_F must be in 0\.\.1"):
        formula_diversity(torch.tensor([0, row]), torch.tensor([1, 1]), torch.tensor([0, 0]), torch.ones(2).bool())


def test_combination_and_clip():
    d = combined_diversity(torch.tensor([0.0, 0.2, 1.0]), torch.tensor([0.0, 0.6, 1.0]))
    assert d.tolist() == pytest.approx([0, 0.4, 1])
    assert clipped(d, 0.5).tolist() == pytest.approx([0, 0.4, 0.5])
