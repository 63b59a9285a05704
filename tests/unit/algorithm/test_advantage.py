import numpy as np
import pytest
import torch

from dsdr_verl.algorithm.advantage import diversity_bonus, group_advantage, shaped_reward

from . import reference
from .batches import random_batch


@pytest.mark.parametrize("norm_by_std", [True, False])
@pytest.mark.parametrize("seed", range(15))
def test_advantages_of_shaped_rewards(seed, norm_by_std):
    batch = random_batch(seed)
    d_bar = torch.rand(len(batch.group), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    r = batch.reward.double()
    shaped = shaped_reward(r, d_bar, batch.solved, 0.01)
    np.testing.assert_allclose(shaped, reference.shaped_reward(r.numpy(), d_bar.numpy(), batch.solved, 0.01))

    A = group_advantage(shaped, batch.group, norm_by_std, 1e-6, batch.valid)
    expected = reference.advantages(shaped.tolist(), batch.group.tolist(), batch.valid.tolist(), norm_by_std, 1e-6)
    assert A.dtype == torch.float64
    np.testing.assert_allclose(A, expected, atol=1e-9)
    in_float32 = group_advantage(shaped.float(), batch.group, norm_by_std, 1e-6, batch.valid)
    assert in_float32.dtype == torch.float32
    np.testing.assert_allclose(in_float32, expected, atol=2e-3)  # of r̃ itself: 6e-8 against a std of some 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, 0.1, 1.0, 1 / 3, 1.00037, -0.7])
@pytest.mark.parametrize("n", [2, 3, 7, 11, 16])
def test_equal_rewards_give_exactly_no_advantage(n, value, dtype):
    r = torch.full((n,), value, dtype=dtype)
    assert group_advantage(r, torch.zeros(n).long()).eq(0).all()


def test_advantages_resolve_small_spreads_on_a_large_mean():
    d = torch.linspace(0, 1, 8, dtype=torch.float64)
    A = group_advantage(1e6 + 1e-4 * d, torch.zeros(8).long(), eps=1e-20)
    torch.testing.assert_close(A, (d - d.mean()) / d.std(), atol=1e-4, rtol=0)


def test_float32_rewards_are_normalised_in_float64():
    r = 1 + 1e-3 * torch.rand(64)
    A, expected = (group_advantage(x, torch.arange(8).repeat(8)) for x in (r, r.double()))
    torch.testing.assert_close(A, expected.float(), atol=1e-6, rtol=0)


def test_a_group_of_one_keeps_its_reward():
    r = torch.tensor([0.5, 1.0, 0.0])
    group = torch.tensor([0, 1, 2])
    torch.testing.assert_close(group_advantage(r, group), r / (1 + 1e-6))
    assert group_advantage(r, group, norm_by_std=False).equal(r)


def test_without_lambda_the_reward_is_untouched_bit_for_bit():
    batch = random_batch(0)
    r = torch.randn(len(batch.group))
    assert shaped_reward(r, torch.rand_like(r), batch.solved, 0.0).equal(r)


def test_the_bonus_is_for_correct_rollouts_only():
    bonus = diversity_bonus(torch.tensor([0.5, 0.5, torch.nan]), torch.tensor([True, False, False]), 0.1)
    assert bonus.tolist() == pytest.approx([0.05, 0, 0])


def spread_rewards(correct, lambda_d):
    d_bar = torch.tensor([0.31, 0.42, 0.36, 0.55, 0.47, 0.33, 0.51, 0.39])
    correct = torch.tensor(correct).bool()
    return shaped_reward(correct.float(), d_bar, correct, lambda_d)


def test_in_an_all_correct_group_lambda_is_a_switch():
    """method.md §8: the std divides λ_d out again, down to ε."""
    A = {x: group_advantage(spread_rewards([1] * 8, x), torch.zeros(8).long()) for x in (0.0, 0.001, 0.01, 0.1)}
    assert A[0.0].eq(0).all()
    torch.testing.assert_close(A[0.001], A[0.01], atol=0.03, rtol=0)
    torch.testing.assert_close(A[0.01], A[0.1], atol=0.003, rtol=0)
    for x in (0.001, 0.01, 0.1):  # about -1.4 to +1.5: correct answers are pushed down at full strength
        assert -1.6 < A[x].min() < -1.2 and 1.3 < A[x].max() < 1.7


def test_in_a_mixed_group_lambda_moves_advantages_by_about_1e_4():
    before, after = (
        group_advantage(spread_rewards([1, 1, 0, 1, 0, 0, 1, 0], x).double(), torch.zeros(8).long()) for x in (0, 0.001)
    )
    move = (after - before).abs()
    assert 5e-5 < move.max() < 5e-4 and move.mean() < 2e-4


def test_without_std_normalisation_the_global_term_nearly_vanishes():
    A = group_advantage(spread_rewards([1] * 8, 0.001), torch.zeros(8).long(), norm_by_std=False)
    assert 0 < A.abs().max() < 2e-4


def test_the_eps_of_the_std_is_a_hidden_hyperparameter():
    r = spread_rewards([1] * 8, 0.001)
    small, large = (group_advantage(r, torch.zeros(8).long(), eps=eps).abs().max() for eps in (1e-6, 1e-4))
    assert large < 0.5 * small
