"""Local regulariser (§3.2.3): token entropy along the correct rollouts, shared out by the coupling weights."""

from torch import Tensor

from dsdr_verl.algorithm.options import CHOICES

LOG_RATIO_BOUND = 20.0  # |log ρ| is held below this against overflow, as in verl's policy loss; no gradient beyond it


def local_objective(
    log_prob_BT: Tensor,
    old_log_prob_BT: Tensor,
    weight_B: Tensor,
    response_mask_BT: Tensor,
    entropy_BT: Tensor | None = None,
    estimator: str = "sampled",
    ratio_clip: float | None = None,
) -> Tensor:
    """The terms J_i of J_local, to be maximised: their sum over the rollouts of a prompt, averaged over prompts.

    "sampled" (Eqs. 13-15)   J_i = -w_i / T_i Σ_t ρ_{i,t} log π_θ(o_{i,t}),   ρ = π_θ / π_old
    "full"    (Eq. 12)       J_i =  w_i / T_i Σ_t H(π_θ(·|q, o_{i,<t}))

    Both factors of "sampled" carry gradient: ∇J_i = -w_i / T_i Σ_t ρ (1 + log π_θ) ∇log π_θ. T_i counts the tokens of
    the mask; 1[r_i = 1] is in the weights, which are 0 for the others. There is no 1/G.

    Args:
        log_prob_BT, old_log_prob_BT: float [B, T], log π of the sampled tokens in nats; anything where masked out.
        weight_B: float [B], w of Eq. 11, without gradient.
        response_mask_BT: bool or 0/1 [B, T].
        entropy_BT: float [B, T], entropy over the vocabulary in nats; asked for by "full" only.
        estimator: "sampled" or "full".
        ratio_clip: c, an upper bound of ρ: where ρ > c it is the constant c. None, the paper's, bounds nothing.

    Returns:
        [B]; exactly 0, value and gradient, where the weight is 0 or no token is left by the mask.

    Raises:
        ValueError: an unknown estimator, or "full" without entropies.
    """
    if estimator not in CHOICES["local_estimator"]:
        raise ValueError(f"estimator must be one of {CHOICES['local_estimator']}, got {estimator!r}")
    mask_BT = response_mask_BT.bool()
    keep_BT = mask_BT & (weight_B > 0)[:, None]
    if estimator == "full":
        if entropy_BT is None:
            raise ValueError('estimator "full" needs entropy_BT; have the actor return entropies')
        H_BT = entropy_BT.where(keep_BT, 0.0)
    else:
        # Select before exp: what is masked out may be -inf, and 0 · inf would be NaN.
        log_prob_BT = log_prob_BT.where(keep_BT, 0.0)
        log_rho_BT = log_prob_BT - old_log_prob_BT.where(keep_BT, 0.0)
        rho_BT = log_rho_BT.clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND).exp()
        if ratio_clip is not None:
            rho_BT = rho_BT.clamp(max=ratio_clip)
        H_BT = -rho_BT * log_prob_BT
    T_B = mask_BT.sum(-1).clamp(min=1)
    return weight_B / T_B * H_BT.sum(-1)
