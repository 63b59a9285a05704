import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from dsdr_verl.algorithm.local import LOG_RATIO_BOUND, local_objective

from . import reference


def random_tokens(seed, B=7, T=9):
    """log π, log π_old, weights (some 0) and masks with holes, one of them empty; float64."""
    rng = np.random.default_rng(seed)
    log_prob = torch.tensor(-rng.exponential(1.5, size=(B, T)), requires_grad=True)
    old_log_prob = log_prob.detach() + torch.tensor(rng.normal(scale=0.4, size=(B, T)))
    weight = torch.tensor(rng.random(B) * (rng.random(B) < 0.7))
    mask = torch.tensor((np.arange(T) < rng.integers(0, T + 1, size=(B, 1))) & (rng.random((B, T)) < 0.9)).long()
    weight[0], mask[0] = 0.5, 0
    return log_prob, old_log_prob, weight, mask


@pytest.mark.parametrize("ratio_clip", [None, 1.3])
@pytest.mark.parametrize("seed", range(10))
def test_sampled_value_and_gradient_in_closed_form(seed, ratio_clip):
    log_prob, old_log_prob, weight, mask = random_tokens(seed)
    J = local_objective(log_prob, old_log_prob, weight, mask, ratio_clip=ratio_clip)
    J.sum().backward()
    expected, gradient = reference.local_terms(
        log_prob.tolist(), old_log_prob.tolist(), weight.tolist(), mask.tolist(), ratio_clip or np.inf
    )
    np.testing.assert_allclose(J.detach(), expected, rtol=1e-12)
    np.testing.assert_allclose(log_prob.grad, gradient, rtol=1e-12)


@pytest.mark.parametrize("ratio_clip", [None, 1.3])
def test_gradcheck_sampled(ratio_clip):
    log_prob, old_log_prob, weight, mask = random_tokens(0)
    assert gradcheck(lambda x: local_objective(x, old_log_prob, weight, mask, ratio_clip=ratio_clip), log_prob)


def test_gradcheck_full():
    log_prob, old_log_prob, weight, mask = random_tokens(1)
    entropy = torch.rand(mask.shape, dtype=torch.float64, requires_grad=True)
    log_prob = log_prob.detach()
    assert gradcheck(lambda h: local_objective(log_prob, old_log_prob, weight, mask, h, "full"), entropy)


def test_full_is_the_weighted_mean_entropy():
    log_prob, old_log_prob, weight, mask = random_tokens(2)
    entropy = torch.rand(mask.shape, dtype=torch.float64)
    J = local_objective(log_prob, old_log_prob, weight, mask, entropy, "full")
    for i in range(len(weight)):
        tokens = entropy[i][mask[i].bool()]
        assert J[i].item() == pytest.approx((weight[i] * tokens.mean()).item() if len(tokens) else 0)


def test_a_token_above_one_over_e_is_pushed_down_and_one_below_it_up():
    log_prob = torch.tensor([[-0.9, -1.1]], requires_grad=True)
    local_objective(log_prob, log_prob.detach(), torch.ones(1), torch.ones(1, 2)).sum().backward()
    assert log_prob.grad[0, 0] < 0 < log_prob.grad[0, 1]


def test_the_ratio_clip_cuts_the_gradient_of_rho():
    log_prob = torch.tensor([[-0.2, -0.2]], requires_grad=True)
    old_log_prob = torch.tensor([[-1.2, -0.3]])  # ρ = e, and ρ = e^0.1 below the bound
    local_objective(log_prob, old_log_prob, torch.ones(1), torch.ones(1, 2), ratio_clip=2.0).sum().backward()
    rho = np.exp(0.1)
    assert log_prob.grad[0].tolist() == pytest.approx([-2.0 / 2, -rho * (1 - 0.2) / 2])


@pytest.mark.parametrize("estimator", ["sampled", "full"])
@pytest.mark.parametrize("garbage", [-torch.inf, torch.inf, torch.nan, 1e30])
def test_garbage_behind_the_mask_or_a_zero_weight_does_not_leak(garbage, estimator):
    weight, mask = torch.tensor([0.7, 0.0, 0.3, 0.5]), torch.tensor([[1, 1, 0], [1, 1, 1], [0, 0, 0], [1, 1, 1]])
    off = ~mask.bool() | (weight == 0)[:, None]
    log_prob, entropy = (torch.full((4, 3), x).masked_fill(off, garbage).requires_grad_() for x in (-0.4, 1.5))
    J = local_objective(log_prob, log_prob.detach().clone(), weight, mask, entropy, estimator)
    J.sum().backward()
    assert J.isfinite().all() and J[1:3].eq(0).all() and J[[0, 3]].gt(0).all()
    gradient = log_prob.grad if estimator == "sampled" else entropy.grad
    assert gradient.isfinite().all() and gradient[off].eq(0).all() and gradient[~off].ne(0).all()


def test_an_extreme_ratio_does_not_overflow():
    log_prob = torch.tensor([[-1.0, -500.0]], requires_grad=True)
    J = local_objective(log_prob, torch.tensor([[-500.0, -1.0]]), torch.ones(1), torch.ones(1, 2))
    J.sum().backward()
    assert J.item() == pytest.approx(np.exp(LOG_RATIO_BOUND) / 2, rel=1e-5)
    assert log_prob.grad.isfinite().all()


def test_on_policy_the_expected_gradient_is_that_of_the_entropy():
    """Eqs. 12-14: importance sampling of the entropy. Tokens enumerated with their probabilities for weights."""
    logits = torch.randn(6, dtype=torch.float64, requires_grad=True)
    log_pi = logits.log_softmax(-1)
    entropy = -(log_pi.exp() * log_pi).sum()
    (expected,) = torch.autograd.grad(entropy, logits, retain_graph=True)
    for old in (log_pi.detach(), torch.randn(6, dtype=torch.float64).log_softmax(-1)):  # on and off policy alike
        J = local_objective(log_pi[:, None], old[:, None], old.exp(), torch.ones(6, 1)).sum()
        torch.testing.assert_close(J, entropy)
        torch.testing.assert_close(torch.autograd.grad(J, logits, retain_graph=True)[0], expected)


def test_wrong_calls_say_what_to_do():
    x = torch.zeros(1, 1)
    with pytest.raises(ValueError, match="needs entropy_BT"):
        local_objective(x, x, torch.ones(1), x, estimator="full")
    with pytest.raises(ValueError, match="estimator must be one of"):
        local_objective(x, x, torch.ones(1), x, estimator="exact")
