"""The group reduction against a plain double loop, and what of scoring stands on the trainer's critical path."""

from __future__ import annotations

import math
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from dsdr_verl.algorithm.options import DSDROptions
from dsdr_verl.algorithm.scores import GroupScores, score_groups
from tests.bench.report import say, target

PROMPTS, GROUP, DIMENSIONS, FORMULAS, TOKENS = 256, 8, 384, 30, 4096
SECONDS, SPEEDUP = 0.1, 100.0
GENERATION, SHARE = 10.0, 0.01


def section(rounds: int) -> list[str]:
    return ["### Group reduction", "", *_against_loops(rounds), *_critical_path(rounds)]


def rollouts(seed: int) -> dict[str, np.ndarray | list]:
    """A batch, prompt by prompt: embeddings near their group's, formulas of which a group shares some."""
    random = np.random.default_rng(seed)
    centre = random.normal(size=(PROMPTS, 1, DIMENSIONS))
    z = (centre + random.normal(size=(PROMPTS, GROUP, DIMENSIONS))).reshape(-1, DIMENSIONS).astype(np.float32)
    pool = random.integers(-(2**63), 2**63, size=(PROMPTS, 4 * FORMULAS))
    formulas = [random.choice(pool[i // GROUP], FORMULAS, replace=False) for i in range(PROMPTS * GROUP)]
    return {"z": z, "formulas": formulas, "correct": random.random(PROMPTS * GROUP) < 0.5}


def _against_loops(rounds: int) -> list[str]:
    loops, ours = [], []
    options = DSDROptions()
    for turn in range(rounds):
        batch = rollouts(turn)
        tensors = _tensors(batch)
        start = time.perf_counter()
        scores = score_groups(**tensors, options=options)
        ours.append(time.perf_counter() - start)
        start = time.perf_counter()
        expected = double_loop(batch["z"], batch["formulas"], batch["correct"], options)
        loops.append(time.perf_counter() - start)
        assert_equal(scores, expected)
        say(f"reduction, round {turn + 1} of {rounds}: {ours[-1] * 1e3:.1f} ms, the loops {loops[-1]:.2f} s, equal")
    mine, theirs = float(np.median(ours)), float(np.median(loops))
    ratio = float(np.median(np.array(loops) / np.array(ours)))
    lines = [
        f"{PROMPTS} prompts x {GROUP} rollouts, {DIMENSIONS} dimensions, {FORMULAS} formulas a rollout, torch with "
        f"{torch.get_num_threads()} threads: `score_groups` takes {mine * 1e3:.1f} ms; loops over pairs, with a numpy "
        f"product each and Python sets of formulas, {theirs * 1e3:.0f} ms. Results equal to 1e-6 in all of {rounds} "
        "rounds.",
    ]
    lines += target("time", f"under {SECONDS * 1e3:.0f} ms", f"{mine * 1e3:.1f} ms", mine < SECONDS)
    return lines + target("against the loops", f"at least {SPEEDUP:.0f}x", f"{ratio:.0f}x", ratio >= SPEEDUP)


def _tensors(batch: dict[str, Any]) -> dict[str, torch.Tensor]:
    correct_B = torch.from_numpy(batch["correct"])
    B = len(correct_B)
    return {
        "reward_B": correct_B.float(),
        "correct_B": correct_B,
        "embedding_BD": torch.from_numpy(batch["z"]),
        "row_F": torch.arange(B).repeat_interleave(FORMULAS),
        "formula_F": torch.from_numpy(np.concatenate(batch["formulas"])),
        "group_B": torch.arange(B) // GROUP,
        "valid_B": torch.ones(B, dtype=torch.bool),
    }


def double_loop(
    z: np.ndarray, formulas: list[np.ndarray], correct: np.ndarray, options: DSDROptions
) -> dict[str, list[float]]:
    """Eqs. 4-11 as they are written, a group at a time and a pair at a time."""
    out: dict[str, list[float]] = {
        name: [] for name in ("semantic", "formula", "diversity", "bonus", "shaped_reward", "weight")
    }
    for first in range(0, len(z), GROUP):
        group = range(first, first + GROUP)
        unit = {i: z[i].astype(np.float64) / np.linalg.norm(z[i].astype(np.float64)) for i in group}
        sets = {i: set(formulas[i].tolist()) for i in group}
        clipped = {}
        for i in group:
            others = [j for j in group if j != i]
            semantic = sum((1 - float(unit[i] @ unit[j])) / 2 for j in others) / len(others)
            unique = [f for f in sets[i] if all(f not in sets[j] for j in others)]
            formula = len(unique) / len(sets[i]) if sets[i] else 0.0
            clipped[i] = min(0.5 * (semantic + formula), options.sigma_d)
            out["semantic"].append(semantic)
            out["formula"].append(formula)
            out["diversity"].append(clipped[i])
        total = sum(math.exp(options.tau * clipped[j]) for j in group if correct[j])
        for i in group:
            bonus = options.lambda_d * clipped[i] if correct[i] else 0.0
            out["bonus"].append(bonus)
            out["shaped_reward"].append(float(correct[i]) + bonus)
            out["weight"].append(math.exp(options.tau * clipped[i]) / total if correct[i] else 0.0)
    return out


def assert_equal(scores: GroupScores, expected: dict[str, list[float]]) -> None:
    for name, values in expected.items():
        np.testing.assert_allclose(getattr(scores, name).numpy(), values, atol=1e-6, err_msg=name)


def _critical_path(rounds: int) -> list[str]:
    """The trainer's own method on rollouts as TransferQueue hands them over; the queue itself is not in it."""
    from dsdr_verl.trainer.dsdr_trainer import DSDRTrainer
    from dsdr_verl.trainer.queue import RolloutBatch, add_at_first_token
    from dsdr_verl.trainer.reward_manager import EMBEDDING
    from dsdr_verl.trainer.reward_manager import FORMULAS as FORMULA_IDS

    seconds = []
    for turn in range(rounds + 1):
        batch = rollouts(turn)
        B = len(batch["correct"])
        rewards = torch.nested.nested_tensor(
            [torch.zeros(int(n)) for n in np.random.default_rng(turn).integers(TOKENS // 2, TOKENS, B)],
            layout=torch.jagged,
        )
        info = [
            {"acc": float(c), "verdict": "correct" if c else "incorrect", "truncated": 0.0, "dsdr_seconds": 0.1}
            | {EMBEDDING: z, FORMULA_IDS: f}
            for c, z, f in zip(batch["correct"], batch["z"], batch["formulas"], strict=True)
        ]
        uid = np.array([f"prompt-{i // GROUP}" for i in range(B)], dtype=object)
        data = RolloutBatch(uid, rewards, info, torch.ones(B, dtype=torch.bool))
        start = time.perf_counter()
        scores, _ = DSDRTrainer._score(SimpleNamespace(options=DSDROptions()), data, {})
        add_at_first_token(rewards, scores.bonus)
        seconds.append(time.perf_counter() - start)
    spent = float(np.median(seconds[1:]))
    say(f"critical path: {spent * 1e3:.0f} ms")
    lines = [
        "",
        "Between the end of generation and the update the trainer stacks what the service returned, reduces it by "
        f"group, computes its metrics and adds the bonus to the rewards (of up to {TOKENS} tokens): {spent * 1e3:.0f} "
        f"ms for {PROMPTS} x {GROUP}. Reading from and writing to TransferQueue is not in it; `dsdr` under Training "
        "has both.",
    ]
    share = spent / GENERATION
    said = f"{share:.2%} of {GENERATION:.0f} s"
    return lines + target("critical path beside a generation of 10 s", f"under {SHARE:.0%}", said, share < SHARE)
