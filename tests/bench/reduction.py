"""The group reduction against double loops, and what of scoring stands on the trainer's critical path."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from dsdr_verl.algorithm.options import DSDROptions
from dsdr_verl.algorithm.scores import GroupScores, score_groups
from tests.bench.report import say, target
from tests.unit.algorithm import reference

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
    """Against the float64 reference of the tests, which is the equations as written, and against a loop with numpy."""
    seconds: dict[str, list[float]] = {"ours": [], "reference": [], "numpy": []}
    options = DSDROptions()
    for turn in range(rounds):
        batch = rollouts(turn)
        tensors = _tensors(batch)
        scores = _timed(seconds["ours"], lambda t=tensors: score_groups(**t, options=options))
        for name, loop in (("reference", by_reference), ("numpy", by_numpy)):
            assert_equal(scores, _timed(seconds[name], lambda f=loop, b=batch: f(b, options)))
        say(f"reduction, round {turn + 1} of {rounds}: " + ", ".join(f"{n} {t[-1]:.3f} s" for n, t in seconds.items()))
    median = {name: float(np.median(times)) for name, times in seconds.items()}
    ratio = {name: float(np.median(np.array(times) / np.array(seconds["ours"]))) for name, times in seconds.items()}
    lines = [
        f"{PROMPTS} prompts x {GROUP} rollouts, {DIMENSIONS} dimensions, {FORMULAS} formulas a rollout, torch with "
        f"{torch.get_num_threads()} threads: `score_groups` takes {median['ours'] * 1e3:.1f} ms. The double loop over "
        "rollouts as the paper's equations read, which is the reference of the tests (tests/unit/algorithm/"
        f"reference.py), takes {median['reference']:.2f} s; a loop over the pairs of each group alone, with a numpy "
        f"product each, {median['numpy'] * 1e3:.0f} ms, {ratio['numpy']:.1f} times ours. Results equal to 1e-6 in all "
        f"of {rounds} rounds.",
    ]
    lines += target("time", f"under {SECONDS * 1e3:.0f} ms", f"{median['ours'] * 1e3:.1f} ms", median["ours"] < SECONDS)
    measured = f"{ratio['reference']:.0f}x"
    return lines + target(
        "against the double loop", f"at least {SPEEDUP:.0f}x", measured, ratio["reference"] >= SPEEDUP
    )


def _timed(seconds: list[float], function: Callable[[], Any]) -> Any:
    start = time.perf_counter()
    result = function()
    seconds.append(time.perf_counter() - start)
    return result


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


def by_reference(batch: dict[str, Any], options: DSDROptions) -> dict[str, np.ndarray]:
    z, correct, formulas = batch["z"].tolist(), batch["correct"], [set(f.tolist()) for f in batch["formulas"]]
    group = [i // GROUP for i in range(len(z))]
    valid = [True] * len(z)
    semantic = reference.semantic_diversity(z, group, valid, correct, options.reference_set)
    formula = reference.formula_diversity(formulas, group, valid)
    d_bar = reference.clipped_diversity(semantic, formula, options.sigma_d)
    return {
        "semantic": semantic,
        "formula": formula,
        "diversity": d_bar,
        "shaped_reward": reference.shaped_reward(correct.astype(float), d_bar, correct, options.lambda_d),
        "weight": reference.coupling_weights(d_bar, correct, group, options.tau),
    }


def by_numpy(batch: dict[str, Any], options: DSDROptions) -> dict[str, list[float]]:
    """Eqs. 4-11, a group at a time and a pair at a time."""
    z, formulas, correct = batch["z"], batch["formulas"], batch["correct"]
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


def assert_equal(scores: GroupScores, expected: Mapping[str, Sequence[float]]) -> None:
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
