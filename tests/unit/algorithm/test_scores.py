from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dsdr_verl.algorithm.options import DSDROptions
from dsdr_verl.algorithm.scores import GroupScores, diversity_metrics, score_groups

from . import reference
from .batches import properties, random_batch

KEYS = {
    *(f"dsdr/{name}/{kind}" for name in ("semantic", "formula", "diversity") for kind in ("correct", "incorrect")),
    *(f"dsdr/bonus/{name}" for name in ("mean", "largest")),
    *(f"dsdr/coupling/{name}" for name in ("entropy", "effective_rollouts", "largest_weight")),
    *(f"dsdr/groups/{name}" for name in ("all_correct", "mixed", "all_wrong", "count")),
}
OPTIONS = [
    DSDROptions(),
    DSDROptions(lambda_d=0.1, tau=1, sigma_d=0.4, reference_set="correct"),
    DSDROptions(lambda_d=0.1, score="formula"),
    DSDROptions(lambda_d=0.1, score="semantic", sigma_d=0.2),
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("seed", range(20))
def test_scores_against_the_reference(seed, options):
    batch = random_batch(seed)
    group, valid, solved = batch.group.tolist(), batch.valid.tolist(), batch.solved.tolist()
    z = batch.embedding.double().tolist()
    semantic = reference.semantic_diversity(z, group, valid, solved, options.reference_set)
    formula = reference.formula_diversity(batch.formulas, group, valid)
    halves = {"combined": (semantic, formula), "semantic": (semantic,) * 2, "formula": (formula,) * 2}[options.score]
    d_bar = reference.clipped_diversity(*halves, options.sigma_d)
    shaped = reference.shaped_reward(batch.reward.tolist(), d_bar, solved, options.lambda_d)
    expected = {
        "semantic": semantic,
        "formula": formula,
        "diversity": d_bar,
        "bonus": options.lambda_d * d_bar * np.array(solved),
        "shaped_reward": np.where(valid, shaped, 0),
        "weight": reference.coupling_weights(d_bar, solved, group, options.tau),
    }
    scores = batch.score(options)
    assert {field.name for field in fields(GroupScores)} == set(expected)
    for name, value in expected.items():
        score = getattr(scores, name)
        assert score.dtype == torch.float32 and score[~batch.valid].eq(0).all()
        np.testing.assert_allclose(score, value, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("seed", range(10))
def test_metrics_against_plain_means(seed, options):
    batch = random_batch(seed)
    scores = batch.score(options)
    metrics = diversity_metrics(scores, batch.correct, batch.group, batch.valid)
    assert set(metrics) == KEYS and all(type(value) is float for value in metrics.values())

    solved, wrong = batch.solved.numpy(), (batch.valid & ~batch.correct).numpy()
    mean = lambda x: float(np.mean(x)) if len(x) else 0.0  # noqa: E731
    expected = {}
    for name in ("semantic", "formula", "diversity"):
        value = getattr(scores, name).double().numpy()
        expected |= {f"{name}/correct": mean(value[solved]), f"{name}/incorrect": mean(value[wrong])}
    bonus = scores.bonus.double().numpy()[solved]
    expected |= {"bonus/mean": mean(bonus), "bonus/largest": max(bonus, default=0.0)}
    w, group, valid = scores.weight.double().numpy(), batch.group.numpy(), batch.valid.numpy()
    inside = [w[(group == g) & solved] for g in set(group[solved])]
    expected["coupling/entropy"] = mean([-sum(x * np.log(x)) for x in inside])
    expected["coupling/effective_rollouts"] = mean([1 / sum(x**2) for x in inside])
    expected["coupling/largest_weight"] = mean([max(x) for x in inside])
    kinds = [solved[(group == g) & valid] for g in set(group[valid])]
    expected["groups/count"] = len(kinds)
    expected["groups/all_correct"] = mean([x.all() for x in kinds])
    expected["groups/all_wrong"] = mean([not x.any() for x in kinds])
    expected["groups/mixed"] = mean([x.any() and not x.all() for x in kinds])
    assert metrics == pytest.approx({f"dsdr/{name}": value for name, value in expected.items()}, abs=1e-7)


@pytest.mark.parametrize("valid", [True, False])
def test_the_same_keys_whatever_the_batch(valid):
    B = 4
    batch = (torch.zeros(B), torch.zeros(B).bool(), torch.randn(B, 3), torch.zeros(0).long(), torch.zeros(0).long())
    group, valid_B = torch.tensor([0, 0, 1, 1]), torch.full((B,), valid)
    metrics = diversity_metrics(score_groups(*batch, group, valid_B, DSDROptions()), batch[1], group, valid_B)
    assert set(metrics) == KEYS
    assert metrics["dsdr/groups/all_wrong"] == valid and metrics["dsdr/coupling/entropy"] == 0


def test_an_empty_batch():
    none, integers = torch.zeros(0), torch.zeros(0).long()
    scores = score_groups(
        none, none.bool(), torch.zeros(0, 3), integers, integers, integers, none.bool(), DSDROptions()
    )
    assert scores.weight.shape == (0,)
    metrics = diversity_metrics(scores, none.bool(), integers, none.bool())
    assert set(metrics) == KEYS and not any(metrics.values())


def test_lengths_that_differ_raise():
    batch = random_batch(0)
    with pytest.raises(ValueError, match="must agree"):
        score_groups(
            batch.reward[1:],
            batch.correct,
            batch.embedding,
            batch.row,
            batch.formula,
            batch.group,
            batch.valid,
            DSDROptions(),
        )


@properties
@given(st.integers(0, 2**32 - 1), st.sampled_from(OPTIONS))
def test_the_order_of_rollouts_does_not_matter(seed, options):
    batch = random_batch(seed)
    order = torch.randperm(len(batch.group), generator=torch.Generator().manual_seed(seed % 2**31))
    scores, permuted = batch.score(options), batch.permuted(order).score(options)
    for field in fields(GroupScores):
        torch.testing.assert_close(getattr(permuted, field.name), getattr(scores, field.name)[order], atol=1e-6, rtol=0)


@properties
@given(st.integers(0, 2**32 - 1), st.sampled_from(OPTIONS))
def test_ranges(seed, options):
    batch = random_batch(seed)
    scores = batch.score(options)
    for d, bound in ((scores.semantic, 1), (scores.formula, 1), (scores.diversity, options.sigma_d)):
        assert d.ge(0).all() and d.le(bound).all()
    assert scores.bonus.le(options.lambda_d * options.sigma_d * (1 + 1e-6)).all()
    total = torch.zeros(int(batch.group.max()) + 1).index_add(0, batch.group, scores.weight)
    solved = torch.zeros_like(total).index_add(0, batch.group, batch.solved.float()) > 0
    torch.testing.assert_close(total, solved.float())


def test_equal_responses_in_an_all_correct_group_stay_without_signal():
    """The same text has the same score to the last bit, else the std would blow up a difference of rounding."""
    z = torch.randn(1, 384).repeat(8, 1)
    everyone = torch.ones(8).bool()
    row, formula = torch.arange(8), torch.full((8,), 3)
    scores = score_groups(torch.ones(8), everyone, z, row, formula, torch.zeros(8).long(), everyone, DSDROptions())
    assert scores.shaped_reward.unique().numel() == 1
