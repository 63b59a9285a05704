"""With λ_d = λ_ℓ = 0 DSDR is verl's GRPO; with both, Eq. 16 on verl's policy loss has the gradient of the paper."""

import numpy as np
import pytest
import torch
from verl.trainer.ppo.core_algos import compute_grpo_outcome_advantage, compute_policy_loss_vanilla
from verl.utils.metric import reduce_metrics
from verl.workers.config import ActorConfig

from dsdr_verl.algorithm.advantage import group_advantage
from dsdr_verl.algorithm.coupling import coupling_weights
from dsdr_verl.algorithm.local import local_objective
from dsdr_verl.algorithm.options import DSDROptions
from dsdr_verl.algorithm.scores import diversity_metrics

from . import reference
from .batches import random_batch


def verl_advantage(r, group, norm_by_std, eps=1e-6):
    rewards = torch.stack([r * 0, r], dim=1)  # the reward sits on the last token
    A, _ = compute_grpo_outcome_advantage(rewards, torch.ones_like(rewards), group.numpy(), eps, norm_by_std)
    return A[:, 0]


@pytest.mark.parametrize("norm_by_std", [True, False])
@pytest.mark.parametrize("seed", range(15))
def test_without_lambda_advantages_are_verls(seed, norm_by_std):
    batch = random_batch(seed)
    shaped, keep = batch.score(DSDROptions(lambda_d=0)).shaped_reward, batch.valid
    assert shaped[keep].equal(batch.reward[keep])
    A = group_advantage(shaped, batch.group, norm_by_std, 1e-6, keep)
    torch.testing.assert_close(A[keep], verl_advantage(batch.reward[keep], batch.group[keep], norm_by_std))


@pytest.mark.parametrize("norm_by_std", [True, False])
@pytest.mark.parametrize("seed", range(15))
def test_with_lambda_advantages_are_verls_in_float64(seed, norm_by_std):
    batch = random_batch(seed)
    r, group = batch.score(DSDROptions()).shaped_reward[batch.valid].double(), batch.group[batch.valid]
    expected = verl_advantage(r, group, norm_by_std)
    # To 1e-7 only, for verl keeps the std of a group of one, 1, in float32.
    torch.testing.assert_close(group_advantage(r, group, norm_by_std), expected, atol=1e-7, rtol=1e-7)


@pytest.mark.parametrize("lambda_l", [0.0, 0.001, 0.1])
@pytest.mark.parametrize("seed", range(4))
def test_gradient_of_the_whole_objective(seed, lambda_l):
    """A toy policy with one softmax per prompt and position, and an old policy that differs from it."""
    rng = np.random.default_rng(seed)
    P, G, T, V, clip = 3, 4, 5, 6, (0.2, 0.28)
    theta = rng.normal(size=(P, T, V))
    theta_old = theta + rng.normal(scale=0.2, size=theta.shape)
    group = np.repeat(np.arange(P), G)[rng.permutation(P * G)]
    token = rng.integers(0, V, size=(P * G, T))
    mask = (np.arange(T) < rng.integers(1, T + 1, size=(P * G, 1))).astype(int)
    correct, d_bar = rng.random(P * G) < 0.6, rng.random(P * G)

    shaped = reference.shaped_reward(correct.astype(float), d_bar, correct, 0.01)
    A = reference.advantages(shaped, group, [True] * len(group), True, 1e-6)
    w = reference.coupling_weights(d_bar, correct, group, 5.0)
    expected = reference.dsdr_gradient(theta, theta_old, token, mask, group, A, w, lambda_l, clip)

    logits = torch.tensor(theta, requires_grad=True)
    at = (torch.tensor(group)[:, None], torch.arange(T), torch.tensor(token))
    log_prob = logits.log_softmax(-1)[at]
    old_log_prob = torch.tensor(theta_old).log_softmax(-1)[at]
    group_B, mask_BT = torch.tensor(group), torch.tensor(mask)
    A_B = group_advantage(torch.tensor(shaped), group_B)
    w_B = coupling_weights(torch.tensor(d_bar), torch.tensor(correct), group_B, 5.0)
    config = ActorConfig(
        strategy="fsdp",
        rollout_n=G,
        ppo_micro_batch_size_per_gpu=1,
        clip_ratio_low=clip[0],
        clip_ratio_high=clip[1],
    )
    loss, _ = compute_policy_loss_vanilla(
        old_log_prob, log_prob, A_B[:, None].expand(-1, T), mask_BT, "seq-mean-token-mean", config
    )
    J_local = local_objective(log_prob, old_log_prob, w_B, mask_BT).sum() / P
    (loss - lambda_l * J_local).backward()
    np.testing.assert_allclose(-logits.grad, expected, atol=1e-8)


def test_verl_reduces_every_metric_by_its_mean():
    batch = random_batch(0)
    metrics = diversity_metrics(batch.score(DSDROptions()), batch.correct, batch.group, batch.valid)
    assert reduce_metrics({key: [0.0, 1.0, 5.0] for key in metrics}) == dict.fromkeys(metrics, 2.0)
