"""One response to its score: verdict, formulas and embedding side by side. One code path, with Ray or without."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from dsdr_verl.scoring.embedder import Embedder
from dsdr_verl.scoring.formulas import extract_formulas, formula_ids
from dsdr_verl.scoring.off_loop import off_loop_if_long
from dsdr_verl.scoring.options import ScoringOptions
from dsdr_verl.scoring.sandbox import Died, TimedOut
from dsdr_verl.scoring.verifier import Verdict, Verifier

T = TypeVar("T")
log = logging.getLogger(__name__)
PARTS = ("verify", "embed", "formulas")


@dataclass(frozen=True, eq=False)
class RolloutScore:
    """What the group reduction needs of one rollout."""

    verdict: str  # a value of Verdict
    acc: float  # r of the paper: 1 if correct, else 0
    embedding: np.ndarray  # z̄, float32 [D], norm 1; 0 for an empty response
    formula_ids: np.ndarray  # S(o), int64 [F], distinct
    seconds: float  # from call to result, waiting included

    @property
    def n_formulas(self) -> int:
        return len(self.formula_ids)


class Scorer:
    """Verifier, formulas and embedder in one object, for one event loop at a time.

    Raises:
        FileNotFoundError: the embedding model is not on this machine.
    """

    def __init__(self, options: ScoringOptions | None = None):
        self.options = options or ScoringOptions()
        self.verifier = Verifier(self.options.verifier)
        self.embedder = Embedder(self.options.embedding)
        self.seconds: Counter[str] = Counter()  # by part
        self._items = 0
        self._scoring = 0
        self._waiting: list[tuple[str, asyncio.Future[np.ndarray]]] = []
        self._batching: asyncio.Task[None] | None = None
        self._encoder_thread = ThreadPoolExecutor(1, thread_name_prefix="embedder")

    async def ready(self) -> bool:
        """True once the verifier's processes answer.

        Raises:
            RuntimeError: they do not.
        """
        await self.verifier.start()
        return True

    async def score(self, response: str, ground_truth: str) -> RolloutScore:
        r"""Scores one response.

        Args:
            response: the model's text.
            ground_truth: the answer; or a worked solution that ends in `\boxed{}` or `#### answer`.

        Raises:
            Exception: whatever the encoder raised. A response's own faults are verdicts, never exceptions.
        """
        start = time.perf_counter()
        self._scoring += 1
        try:
            verdict, embedding, ids = await asyncio.gather(
                self._timed("verify", self.verifier.verify(response, ground_truth)),
                self._timed("embed", self._embed(response)),
                self._timed("formulas", self._formulas(response)),
            )
        finally:
            self._scoring -= 1
        self._items += 1
        return RolloutScore(
            verdict=verdict.value,
            acc=float(verdict is Verdict.correct),
            embedding=embedding,
            formula_ids=np.array(ids, dtype=np.int64),
            seconds=time.perf_counter() - start,
        )

    async def stats(self) -> dict[str, float]:
        """Since the start: `items`, `verdict/<name>` and `decided_early` counts, seconds that items spent in each part
        (waiting included, so they overlap). Now: `scoring` items in all, of which `verifying` with the processes or
        waiting for them, and `embedding` waiting for a batch. `workers_replaced`: those killed or found dead.
        """
        counts = self.verifier.counts
        return {
            "items": self._items,
            **{f"verdict/{verdict.value}": counts[verdict.value] for verdict in Verdict},
            "decided_early": counts["decided_early"],
            **{f"seconds/{part}": self.seconds[part] for part in PARTS},
            "scoring": self._scoring,
            "verifying": self.verifier.sandbox.waiting,
            "embedding": len(self._waiting),
            "workers_replaced": self.verifier.sandbox.replaced,
        }

    async def close(self) -> None:
        """Kills the verifier's processes and ends the encoder's thread. Items under way fail."""
        self.verifier.close()
        self._encoder_thread.shutdown(wait=False, cancel_futures=True)

    async def _timed(self, part: str, awaitable: Awaitable[T]) -> T:
        start = time.perf_counter()
        try:
            return await awaitable
        finally:
            self._took(part, time.perf_counter() - start)

    def _took(self, part: str, seconds: float) -> None:
        self.seconds[part] += seconds

    async def _formulas(self, response: str) -> list[int]:
        symbolic = self.options.formulas.notion == "symbolic"
        notion = "normalized" if symbolic else self.options.formulas.notion
        try:
            formulas = await off_loop_if_long(extract_formulas, response, notion)
        except Exception:  # ours, not the response's: it must not end the run either
            log.exception("the formulas of a response of %d characters could not be read", len(response))
            formulas = []
        if symbolic:
            formulas = list(dict.fromkeys(await asyncio.gather(*map(self._canonical, formulas))))
        return formula_ids(formulas)

    async def _canonical(self, formula: str) -> str:
        """The formula's symbolic form; the formula itself where that takes too long or is none."""
        try:
            return await self.verifier.sandbox.ask("canonical", formula) or formula
        except (TimedOut, Died):
            return formula

    async def _embed(self, text: str) -> np.ndarray:
        """The text's row of a batch that is formed of whatever else waits."""
        embedded = asyncio.get_running_loop().create_future()
        self._waiting.append((text, embedded))
        if self._batching is None or self._batching.done():
            self._batching = asyncio.create_task(self._embed_batches())
        return await embedded

    async def _embed_batches(self) -> None:
        size = self.options.embedding.batch_size
        loop = asyncio.get_running_loop()
        while self._waiting:
            if len(self._waiting) < size:
                await asyncio.sleep(self.options.embedding.max_wait_ms / 1000)
            batch, self._waiting = self._waiting[:size], self._waiting[size:]
            try:
                rows = await loop.run_in_executor(self._encoder_thread, self._encoded, [text for text, _ in batch])
            except Exception as error:  # no thread is to be had, and somebody waits
                rows = [error] * len(batch)
            for (_, embedded), row in zip(batch, rows, strict=True):
                if embedded.done():  # its caller gave up
                    continue
                if isinstance(row, Exception):
                    embedded.set_exception(row)
                else:
                    embedded.set_result(row)

    def _encoded(self, texts: list[str]) -> Sequence[np.ndarray | Exception]:
        """A row a text; where the batch fails, each text for itself."""
        try:
            return self.embedder.encode(texts)
        except Exception as error:
            return [error] if len(texts) == 1 else [self._encoded([text])[0] for text in texts]
