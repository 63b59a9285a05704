"""Problems through the engines, and each finished one through the scoring service, while others are sampled."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ray.actor import ActorHandle

from dsdr_verl.evaluate.manifest import sample_seed
from dsdr_verl.evaluate.problems import Problem
from dsdr_verl.evaluate.store import RolloutStore
from dsdr_verl.scoring.answers import extract_answers
from dsdr_verl.scoring.countdown import last_expression, mode_of_response
from dsdr_verl.scoring.off_loop import off_loop_if_long
from dsdr_verl.scoring.service import ScoringClient
from dsdr_verl.scoring.verifier import RULES


@dataclass(frozen=True)
class Work:
    """Samples of a problem that are not there yet."""

    problem: Problem
    prompt: str
    prompt_ids: tuple[int, ...]
    samples: tuple[int, ...]  # their numbers


def missing(problems: Sequence[Problem], n: int, there: Mapping[str, set[int]]) -> dict[str, tuple[int, ...]]:
    """The numbers of the samples that each unfinished problem lacks, by its key."""
    lacking = {p.key: tuple(i for i in range(n) if i not in there.get(p.key, ())) for p in problems}
    return {key: samples for key, samples in lacking.items() if samples}


async def sample_and_score(
    work: Sequence[Work],
    engines: Sequence[ActorHandle],
    scorer: ScoringClient,
    store: RolloutStore,
    *,
    seed: int,
    options: Mapping[str, Any],
    at_once: int,
    progress: Callable[[list[dict]], None],
) -> None:
    """Draw and score all of `work`; what is finished is in the store, whatever ends this.

    Args:
        work: in the order to start with.
        seed: of the evaluation.
        options: of `Engine.sample`.
        at_once: samples that an engine works on at once.
        progress: called with the rows of each finished problem.

    Raises:
        RayActorError: an engine has died, or no scoring actor could be kept alive.
    """
    todo = iter(work)
    most = max((len(item.samples) for item in work), default=1)
    lanes = math.ceil(2 * at_once / most)  # twice what an engine works on, so that it never waits for a prompt

    async def lane(engine: ActorHandle) -> None:
        for item in todo:
            seeds = [sample_seed(seed, item.problem.id, number) for number in item.samples]
            drawn = await engine.sample.remote(item.prompt_ids, seeds, dict(options))
            rows = [
                {
                    "problem": item.problem.key, "sample": number, "seed": own_seed, "prompt": item.prompt,
                    "ground_truth": item.problem.truth, "response": encodable(sample.text), "tokens": sample.tokens,
                    "truncated": sample.truncated,
                }
                for number, own_seed, sample in zip(item.samples, seeds, drawn, strict=True)
            ]  # fmt: skip
            await score_rows(rows, scorer)
            store.add(rows)
            progress(rows)

    try:
        # interleaved, so that each engine has its first problem before any has its second
        await asyncio.gather(*(lane(engine) for _ in range(lanes) for engine in engines))
    finally:
        store.save()


async def score_rows(rows: Sequence[dict], scorer: ScoringClient) -> None:
    """Add the scores to rows that have `response` and `ground_truth`."""

    async def one(row: dict) -> None:
        response, truth = row["response"], row["ground_truth"]
        score = await scorer.score(response, truth)
        boxed = scorer.options.verifier.require_boxed
        row |= {
            "verdict": score.verdict,
            "acc": score.acc,
            "answer": await off_loop_if_long(_answer, response, truth, boxed),
            "mode": mode_of_response(response, truth, boxed) if score.acc and truth.startswith("countdown:") else None,
            "formula_ids": score.formula_ids.tolist(),
            "embedding": score.embedding.tolist(),
        }

    await asyncio.gather(*map(one, rows))


async def rescore(store: RolloutStore, scorer: ScoringClient, progress: Callable[[list[dict]], None]) -> None:
    """Score anew what other options scored; shard by shard, so that it can be interrupted."""
    for path, rows in store.stale():
        await score_rows(rows, scorer)
        store.write(path, rows)
        progress(rows)


def encodable(text: str) -> str:
    """Halves of surrogate pairs, which neither UTF-8 nor Arrow takes, become question marks."""
    return text.encode("utf-8", "replace").decode()


def _answer(response: str, truth: str, require_boxed: bool) -> str | None:
    guess = {"guess": last_expression} if truth.partition(":")[0] in RULES else {}
    try:
        answers = extract_answers(response, require_boxed, **guess)
    except Exception:  # ours, not the response's, and the verdict is there
        return None
    return answers[0] if answers else None
