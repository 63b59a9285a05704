"""Scores of a table of rollouts, whoever trained: `score_rollouts`."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from dsdr_verl.algorithm.advantage import group_advantage
from dsdr_verl.algorithm.diversity import formula_pairs
from dsdr_verl.algorithm.groups import group_index
from dsdr_verl.algorithm.options import DSDROptions
from dsdr_verl.algorithm.scores import GroupScores, diversity_metrics, score_groups
from dsdr_verl.rollout_files import parse_rollouts
from dsdr_verl.scoring.options import ScoringOptions
from dsdr_verl.scoring.scorer import RolloutScore, Scorer
from dsdr_verl.scoring.verifier import Verdict

if TYPE_CHECKING:
    from dsdr_verl.scoring.service import ScoringClient  # brings Ray

GROUP_COLUMNS = tuple(field.name for field in fields(GroupScores))
COLUMNS = ("verdict", "acc", "n_formulas", "formula_ids", "group", *GROUP_COLUMNS, "advantage")
BATCHES_IN_FLIGHT = 8  # of the encoder, per actor: enough to keep it and the verifier busy


def score_rollouts(
    rollouts: pd.DataFrame | list[dict],
    scoring: ScoringOptions | Scorer | ScoringClient | None = None,
    dsdr: DSDROptions | None = None,
    *,
    group_by: str | None = None,
    norm_by_std: bool = True,
    progress: Callable[[RolloutScore], None] | None = None,
) -> pd.DataFrame:
    """Verdicts, diversities, shaped rewards, weights and advantages of groups of rollouts (Eqs. 2-11).

    Blocks. Works inside a running event loop too (Jupyter), for it scores in a thread of its own.

    Args:
        rollouts: a row a rollout, in any order. Columns: `response`, the model's text; `ground_truth` (or verl's
            `reward_model.ground_truth`), text; `uid`, equal within a group, or else `prompt`; and, optionally,
            `reward`, the task's reward where it is more than 1 for a correct response and 0 otherwise.
        scoring: options of a scorer that lives for this call, or a `Scorer` or `ScoringClient` that is kept open
            between calls (loading the encoder takes seconds). None: the defaults.
        dsdr: λ_d, τ, σ_d, ε and the reference set. None: the paper's.
        group_by: the column that tells the groups apart, instead of `uid` or `prompt`.
        norm_by_std: divide the advantages by the group's std (Eq. 2); False is Dr. GRPO's.
        progress: called with every score as it comes, in no fixed order, from the scoring thread.

    Returns:
        The rows [B] in their order, their columns kept, with: `verdict`, a value of `Verdict`; `acc`, r of the paper, 0
        or 1; `n_formulas` and `formula_ids`, S(o) as 64-bit hashes; `group`, 0..P-1; `reward`, if it was not there;
        `semantic`, D_emb (Eq. 6); `formula`, D_eq (Eq. 8); `diversity`, d̄ (Eqs. 9-10); `bonus`, λ_d d̄ where correct,
        in units of reward; `shaped_reward`, r̃ (Eq. 10); `weight`, w (Eq. 11); `advantage`, A of r̃ (Eq. 2).

    Raises:
        ValueError: rows that cannot be scored. Lists every problem with its column, rows and fix.
        FileNotFoundError: the encoder is not on this machine.
        RuntimeError: the verifier's processes do not come up.
    """
    # object: pandas' own string type refuses half a surrogate pair
    frame = rollouts if isinstance(rollouts, pd.DataFrame) else pd.DataFrame(rollouts, dtype=object)
    job = ScoringJob(frame, group_by)
    job.run(scoring or ScoringOptions(), progress or (lambda score: None))
    return job.table(dsdr or DSDROptions(), norm_by_std)


def summarise(table: pd.DataFrame) -> dict[str, float]:
    """Means over a table of `score_rollouts`, under the keys that training logs (docs/metrics.md)."""
    scores = GroupScores(**{name: torch.from_numpy(table[name].to_numpy(np.float32)) for name in GROUP_COLUMNS})
    correct_B = torch.from_numpy(table["acc"].to_numpy(float) > 0)
    group_B, _ = group_index(table["group"].tolist())
    return {
        "dsdr/pass_rate": float(correct_B.double().mean()),
        **{f"dsdr/verdict/{verdict.value}": float((table["verdict"] == verdict.value).mean()) for verdict in Verdict},
        **diversity_metrics(scores, correct_B, group_B, torch.ones_like(correct_B)),
    }


class ScoringJob:
    """A table on its way through the scorer. What is done stays when `run` is interrupted."""

    def __init__(self, frame: pd.DataFrame, group_by: str | None):
        self.frame = frame
        self.rollouts = parse_rollouts(frame, group_by, reserved=COLUMNS)
        self.scores: list[RolloutScore | None] = [None] * len(frame)
        self.seconds = 0.0  # of scoring, without the start of the scorer

    @property
    def done(self) -> int:
        """Rollouts scored so far."""
        return sum(score is not None for score in self.scores)

    def run(self, scoring: Any, progress: Callable[[RolloutScore], None]) -> None:
        """Scores every row; see `score_rollouts`."""
        _run_in_thread(self._score_all(scoring, progress))

    def table(self, dsdr: DSDROptions, norm_by_std: bool) -> pd.DataFrame:
        """The rows of the groups that are scored in full, with the columns of `score_rollouts`; may be empty."""
        missing_B = torch.tensor([score is None for score in self.scores])
        whole_B = ~torch.isin(self.rollouts.group_B, self.rollouts.group_B[missing_B])
        table = self.frame[whole_B.numpy()].copy()
        if table.empty:
            return table
        scores = [score for score, whole in zip(self.scores, whole_B.tolist(), strict=True) if whole]
        group_B, _ = group_index(self.rollouts.group_B[whole_B].tolist())
        acc_B = torch.tensor([score.acc for score in scores], dtype=torch.float64)
        rewards = self.rollouts.rewards
        reward_B = acc_B if rewards is None else torch.tensor(rewards, dtype=torch.float64)[whole_B]
        row_F, formula_F = formula_pairs([score.formula_ids for score in scores])
        groups = score_groups(
            reward_B=reward_B,
            correct_B=acc_B > 0,
            embedding_BD=torch.from_numpy(np.stack([score.embedding for score in scores])),
            row_F=row_F,
            formula_F=formula_F,
            group_B=group_B,
            valid_B=torch.ones_like(group_B, dtype=torch.bool),
            options=dsdr,
        )
        # In float64, as in training: there bonus and reward sit on two tokens, and are added up in float64.
        shaped_B = reward_B + groups.bonus.double()
        table["verdict"] = [score.verdict for score in scores]
        table["acc"] = acc_B.numpy()
        table["n_formulas"] = [score.n_formulas for score in scores]
        table["formula_ids"] = [score.formula_ids.tolist() for score in scores]
        table["group"] = group_B.numpy()
        table["reward"] = reward_B.numpy()
        for name in GROUP_COLUMNS:
            table[name] = getattr(groups, name).double().numpy()
        table["shaped_reward"] = shaped_B.numpy()
        table["advantage"] = group_advantage(shaped_B, group_B, norm_by_std, dsdr.std_eps).numpy()
        return table

    async def _score_all(self, scoring: Any, progress: Callable[[RolloutScore], None]) -> None:
        # Group by group, so that an interrupted run leaves whole groups.
        rows = iter(torch.argsort(self.rollouts.group_B, stable=True).tolist())

        async def lane() -> None:
            for i in rows:
                score = await scorer.score(self.rollouts.responses[i], self.rollouts.truths[i])
                self.scores[i] = score
                progress(score)

        async with _opened(scoring) as scorer:
            start = time.perf_counter()
            lanes = BATCHES_IN_FLIGHT * scorer.options.embedding.batch_size * scorer.options.actors
            try:
                await asyncio.gather(*(lane() for _ in range(min(lanes, len(self.scores)))))
            finally:
                self.seconds = time.perf_counter() - start


@contextlib.asynccontextmanager
async def _opened(scoring: Any) -> AsyncIterator[Scorer | ScoringClient]:
    """A scorer that is ready; closed at the end if it was made here."""
    scorer = Scorer(scoring) if isinstance(scoring, ScoringOptions) else scoring
    try:
        await scorer.ready()
        yield scorer
    finally:
        if scorer is not scoring:
            await scorer.close()


def _run_in_thread(work: Coroutine[Any, Any, None]) -> None:
    """`asyncio.run`, also where a loop runs already. Ctrl-C, which reaches the main thread only, cancels the work."""
    started: Future = Future()

    async def main() -> None:
        started.set_result((asyncio.get_running_loop(), asyncio.current_task()))
        await work

    with ThreadPoolExecutor(1, thread_name_prefix="scoring") as thread:
        running = thread.submit(asyncio.run, main())
        try:
            running.result()
        except BaseException:
            loop, task = started.result()
            with contextlib.suppress(RuntimeError):  # the loop is closed: the work itself has failed
                loop.call_soon_threadsafe(task.cancel)
            raise
