"""DSDR a second time, from the equations alone: float64 numpy, one loop per sum, no code shared with the package.

Arrays are indexed by rollout; `group[i]` is the prompt of rollout i, and `others(i)` are the valid rollouts beside it.
"""

import math

import numpy as np


def others(i, group, valid):
    return [j for j in range(len(group)) if j != i and group[j] == group[i] and valid[j]]


def members(g, group, keep):
    return [j for j in range(len(group)) if group[j] == g and keep[j]]


def cosine(a, b):
    norms = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / norms if norms > 0 else 0.0


def semantic_diversity(z, group, valid, correct, reference_set):
    """Eqs. 4-6, pair by pair."""
    D = np.zeros(len(group))
    for i in range(len(group)):
        peers = [j for j in others(i, group, valid) if reference_set == "all" or correct[j]]
        if valid[i] and peers:
            D[i] = sum((1 - cosine(z[i], z[j])) / 2 for j in peers) / len(peers)
    return D


def formula_diversity(formulas, group, valid):
    """Eqs. 7-8; `formulas[i]` is the set S(o_i)."""
    D = np.zeros(len(group))
    for i in range(len(group)):
        if valid[i] and formulas[i]:
            elsewhere = set().union(*(formulas[j] for j in others(i, group, valid)))
            D[i] = sum(f not in elsewhere for f in formulas[i]) / len(formulas[i])
    return D


def clipped_diversity(D_emb, D_eq, sigma_d):
    """Eqs. 9-10."""
    return np.array([min(max((a + b) / 2, 0), sigma_d) for a, b in zip(D_emb, D_eq, strict=True)])


def shaped_reward(r, d_bar, correct, lambda_d):
    """Eq. 10."""
    return np.array([r[i] + (lambda_d * d_bar[i] if correct[i] else 0) for i in range(len(r))])


def advantages(r, group, valid, norm_by_std, eps):
    """Eq. 2, with verl's conventions: n - 1 in the std; a group of one has mean 0 and std 1."""
    A = np.zeros(len(r))
    for i in range(len(r)):
        if valid[i]:
            rewards = [r[j] for j in members(group[i], group, valid)]
            n = len(rewards)
            mean = math.fsum(rewards) / n if n > 1 else 0.0
            std = math.sqrt(math.fsum((x - mean) ** 2 for x in rewards) / (n - 1)) if n > 1 else 1.0
            A[i] = (r[i] - mean) / (std + eps if norm_by_std else 1)
    return A


def coupling_weights(d_bar, correct, group, tau):
    """Eq. 11."""
    w = np.zeros(len(group))
    for i in range(len(group)):
        if correct[i]:
            w[i] = math.exp(tau * d_bar[i]) / sum(math.exp(tau * d_bar[j]) for j in members(group[i], group, correct))
    return w


def local_terms(log_prob, old_log_prob, w, mask, ratio_clip=math.inf):
    """Eq. 15 rollout by rollout, and the closed-form gradient with respect to log π of every token."""
    J, gradient = np.zeros(len(w)), np.zeros(np.shape(mask))
    for i in range(len(w)):
        tokens = [t for t in range(len(mask[i])) if mask[i][t]]
        for t in tokens if w[i] > 0 else []:
            rho = math.exp(log_prob[i][t] - old_log_prob[i][t])
            J[i] -= w[i] / len(tokens) * min(rho, ratio_clip) * log_prob[i][t]
            # ∇(ρ log π) = ρ (1 + log π) ∇log π; with ρ held at c only the second factor moves.
            slope = rho * (1 + log_prob[i][t]) if rho <= ratio_clip else ratio_clip
            gradient[i][t] = -w[i] / len(tokens) * slope
    return J, gradient


def log_softmax(logits):
    peak = max(logits)
    log_z = peak + math.log(sum(math.exp(x - peak) for x in logits))
    return [x - log_z for x in logits]


def dsdr_gradient(theta, theta_old, token, mask, group, A, w, lambda_l, clip):
    """∇J_DSDR (Eq. 16) of the toy policy π(v | prompt p, position t) = softmax(theta[p, t])[v], shape of theta.

    J_GRPO is PPO-clip with a mean over the tokens of a rollout, the rollouts of a prompt and the prompts; J_local a sum
    over the rollouts of a prompt and a mean over the prompts. Uses ∇_{theta[p,t]} log π(v) = onehot(v) - π(· | p, t).
    """
    gradient = np.zeros_like(theta)
    prompts = sorted(set(group))
    for i in range(len(group)):
        p, length = group[i], sum(mask[i])
        G = sum(g == p for g in group)
        for t in range(len(mask[i])):
            if not mask[i][t]:
                continue
            v = token[i][t]
            log_pi, log_pi_old = log_softmax(theta[p, t]), log_softmax(theta_old[p, t])
            rho = math.exp(log_pi[v] - log_pi_old[v])
            clipped = (A[i] > 0 and rho > 1 + clip[1]) or (A[i] < 0 and rho < 1 - clip[0])
            grpo = 0.0 if clipped else rho * A[i] / (G * length)
            local = -w[i] / length * rho * (1 + log_pi[v])
            for u in range(len(log_pi)):
                score = (u == v) - math.exp(log_pi[u])
                gradient[p, t, u] += (grpo + lambda_l * local) * score / len(prompts)
    return gradient
