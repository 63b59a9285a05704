"""The statements of method.md §6, on problems small enough to enumerate. Lemma C.3 is in test_groups.py."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.optimize import minimize

from dsdr_verl.algorithm.advantage import group_advantage, shaped_reward
from dsdr_verl.algorithm.coupling import coupling_entropy, coupling_weights
from dsdr_verl.algorithm.local import local_objective

from .batches import properties

taus = st.floats(0.1, 10)


@st.composite
def finite_problems(draw, largest=6):
    """A prompt with a finite set of responses: d̄ and correctness of each, and how often each is drawn."""
    K = draw(st.integers(2, largest))
    d_bar = draw(st.lists(st.floats(0, 1, width=32), min_size=K, max_size=K))
    correct = draw(st.lists(st.booleans(), min_size=K, max_size=K).filter(any))
    counts = draw(st.lists(st.integers(1, 6), min_size=K, max_size=K))
    return torch.tensor(d_bar, dtype=torch.float64), torch.tensor(correct), torch.tensor(counts)


def one_group(n):
    return torch.zeros(n).long()


@properties
@given(finite_problems(), taus)
def test_theorem_3_1(problem, tau):
    d_bar, correct, counts = problem
    logits = counts.double().log().requires_grad_()
    pi = logits.softmax(-1)
    Z = (pi * (tau * d_bar).exp() * correct).sum()
    (gradient,) = torch.autograd.grad(Z.log() / tau, logits)

    # The weighted form, outcome by outcome: ∇log π(o) = onehot(o) - π.
    pi = pi.detach()
    score = torch.eye(len(pi)) - pi
    weight = ((tau * d_bar).exp() * correct / Z.detach() - 1) / tau
    torch.testing.assert_close((pi * weight) @ score, gradient)

    # In a group that holds every response as often as π draws it, 1/τ Σ w_i ∇log π(o_i) is that gradient.
    response = torch.arange(len(pi)).repeat_interleave(counts)
    w = coupling_weights(d_bar[response], correct[response], one_group(len(response)), tau)
    torch.testing.assert_close(w.double() @ score[response] / tau, gradient, atol=1e-6, rtol=1e-5)

    # Self-normalised Monte Carlo weights, 1/G · exp(τ d̄) 1(R=1) / Ẑ, are Eq. 11.
    share = (tau * d_bar[response]).exp() * correct[response]
    torch.testing.assert_close(w.double(), share / len(share) / share.mean(), atol=1e-6, rtol=1e-5)


@st.composite
def policy_classes(draw):
    """A finite class of policies over V responses, as counts out of N, so that ties in correctness are exact."""
    V, N = draw(st.integers(2, 6)), draw(st.integers(1, 12))
    cuts = st.lists(st.integers(0, N), min_size=V - 1, max_size=V - 1).map(sorted)
    policies = draw(st.lists(cuts, min_size=2, max_size=12))
    correct = draw(st.lists(st.booleans(), min_size=V, max_size=V))
    return np.array([np.diff([0, *cut, N]) for cut in policies]), np.array(correct), N


def local_entropy(policy, tau=5.0):
    """J_local of a policy of one-token responses: a group of three rollouts, two of them correct."""
    H = -torch.xlogy(torch.tensor(policy), torch.tensor(policy)).sum()
    w = coupling_weights(torch.tensor([0.1, 0.7, 0.4]), torch.tensor([True, True, False]), one_group(3), tau).double()
    x = torch.zeros(3, 1, dtype=torch.float64)
    return local_objective(x, x, w, torch.ones(3, 1), H.expand(3, 1), "full").sum().item()


@properties
@given(policy_classes(), st.floats(0, 0.999))
def test_proposition_c2(problem, fraction):
    counts, correct, N = problem
    solved = counts[:, correct].sum(1)  # integers: correctness times N
    worse = solved[solved < solved.max()]
    assume(len(worse))
    bound = (solved.max() - worse.max()) / N / math.log(counts.shape[1])  # Δ / log|V|
    entropy = np.array([local_entropy(policy / N) for policy in counts])
    assert (entropy >= 0).all() and (entropy <= math.log(counts.shape[1]) + 1e-6).all()
    objective = solved / N + fraction * bound * entropy
    assert (solved[objective >= objective.max() - 1e-12] == solved.max()).all()


@pytest.mark.parametrize("V", [2, 5])
def test_the_bound_of_proposition_c2_is_tight(V):
    """The certain, correct policy against the uniform one: they change places at Δ / log|V|."""
    bound = (1 - 1 / V) / math.log(V)
    certain, uniform = (
        (lambda x: 1 + x * local_entropy(np.eye(V)[0])),
        (lambda x: 1 / V + x * local_entropy([1 / V] * V)),
    )
    assert certain(0.99 * bound) > uniform(0.99 * bound)
    assert certain(1.01 * bound) < uniform(1.01 * bound)


@properties
@given(st.lists(st.floats(-2, 2, width=32), min_size=2, max_size=16), st.booleans())
def test_proposition_c4(rewards, norm_by_std):
    r = torch.tensor(rewards)
    A = group_advantage(r, one_group(len(r)), norm_by_std)
    assert A.isfinite().all()
    assert A.any() == (r.unique().numel() > 1)
    assert A.double().sum().abs() < 1e-4


@properties
@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=16), st.sampled_from([0.001, 0.01, 0.1]))
def test_proposition_c4_a_solve_all_group_keeps_a_signal(d, lambda_d):
    d_bar, everyone, group = torch.tensor(d), torch.ones(len(d)).bool(), one_group(len(d))
    assume(d_bar.max() - d_bar.min() > 2.4e-7 / lambda_d)  # apart in float32, which resolves 1.2e-7 above 1
    shaped = shaped_reward(everyone.float(), d_bar, everyone, lambda_d)
    torch.testing.assert_close(shaped, 1 + lambda_d * d_bar)
    A = group_advantage(shaped, group)
    assert A[d_bar.argmax()] > 0 > A[d_bar.argmin()]
    assert group_advantage(everyone.float(), group).eq(0).all()  # GRPO has none


@properties
@given(finite_problems(), taus, st.integers(0, 2**32 - 1))
def test_proposition_c5(problem, tau, seed):
    d_bar, correct, _ = problem
    w = coupling_weights(d_bar, correct, one_group(len(d_bar)), tau)
    entropy = coupling_entropy(w, one_group(len(d_bar))).item()
    w, d = w[correct].double().numpy(), d_bar[correct].numpy()

    def value(x):
        return tau * x @ d - np.sum(x * np.log(np.maximum(x, 1e-300)))

    best = value(w)
    assert best == pytest.approx(tau * w @ d + entropy, abs=1e-6)
    assert best == pytest.approx(math.log(sum(math.exp(tau * x) for x in d)), abs=1e-6)
    for x in np.random.default_rng(seed).dirichlet(np.ones(len(d)), size=50):
        kl = np.sum(x * np.log(np.maximum(x, 1e-300) / w))
        assert best - value(x) == pytest.approx(kl, abs=1e-5)  # the gap is KL(x‖w): above 0 anywhere else

    if len(d) > 1:
        found = minimize(
            lambda x: -value(x),
            np.full(len(d), 1 / len(d)),
            bounds=[(1e-9, 1)] * len(d),
            constraints={"type": "eq", "fun": lambda x: x.sum() - 1},
            options={"ftol": 1e-12},
        )
        np.testing.assert_allclose(found.x, w, atol=1e-3)
