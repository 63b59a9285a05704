"""What verl looks up by name: `algorithm.adv_estimator=dsdr` and `actor.policy_loss.loss_mode=dsdr`.

Both are handed tensors only, no batch: the shaped rewards reach the estimator through `token_level_rewards`, and the
local term is taken around the policy loss, in `loss.dsdr_loss`.
"""

from __future__ import annotations

import numpy as np
import torch
from verl.trainer.ppo.core_algos import compute_policy_loss_vanilla, register_adv_est, register_policy_loss

from dsdr_verl.algorithm.advantage import group_advantage
from dsdr_verl.algorithm.groups import group_index
from dsdr_verl.algorithm.options import DSDROptions


@register_adv_est("dsdr")
def dsdr_advantage(
    token_level_rewards: torch.Tensor, response_mask: torch.Tensor, index: np.ndarray, config, **kwargs
) -> tuple[torch.Tensor, torch.Tensor]:
    """Eq. 2 on the rewards r̃ that the trainer has shaped: (advantages, returns), both [B, T] and equal."""
    options = DSDROptions.from_mapping(config.get("dsdr") or {})
    group_B, _ = group_index(index)
    A_B = group_advantage(
        token_level_rewards.double().sum(-1),
        group_B,
        norm_by_std=config.get("norm_adv_by_std_in_grpo", True),
        eps=options.std_eps,
    )
    A_BT = A_B.float()[:, None] * response_mask
    return A_BT, A_BT


@register_policy_loss("dsdr")
def dsdr_policy_loss(**kwargs):
    """J_GRPO of Eq. 16: verl's PPO-clip, unchanged, so that λ_d = λ_ℓ = 0 is GRPO to the bit.

    It keeps verl's dual clip (`actor.clip_ratio_c`, 3), which the paper does not write but its code base has.
    """
    return compute_policy_loss_vanilla(**kwargs)
