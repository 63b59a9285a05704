"""Whether a response answers its problem, told within a time limit whatever the response holds."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from concurrent.futures.process import BrokenProcessPool
from enum import Enum
from weakref import WeakKeyDictionary

from pebble import ProcessExpired, ProcessPool

from dsdr_verl.scoring import worker
from dsdr_verl.scoring.answers import decide, extract_answer, normalize_answer, unwrap
from dsdr_verl.scoring.options import VerifierOptions

MAX_ANSWER = 4096  # characters; a longer answer is unparsable
ATTEMPTS = 3  # times that an item is tried whose process ends under it
TASKS_PER_PROCESS = 10_000  # then it is replaced, so that nothing it holds on to adds up


class Verdict(str, Enum):
    """What came of one response. Only `correct` earns a reward."""

    correct = "correct"
    incorrect = "incorrect"
    no_answer = "no_answer"  # nothing in the response that could be an answer
    unparsable = "unparsable"  # an answer that is no mathematics, or too long
    timeout = "timeout"  # the answer took longer than the limit
    error = "error"  # too much memory, a process that ended each time it was tried, or a ground truth without meaning


class Verifier:
    """Verdicts from math-verify in processes that are killed and replaced when an item passes its limits.

    What strings and plain numbers can decide (`answers.decide`) never reaches a process. Usable from any thread and any
    event loop. The processes start with the first item that needs one, and end with `close` or with this process.
    """

    def __init__(self, options: VerifierOptions | None = None):
        self.options = options or VerifierOptions()
        self.counts: Counter[str] = Counter()  # verdicts by name, "decided_early" those that took no process
        self._pool: ProcessPool | None = None
        self._lock = threading.Lock()
        self._running: set[Future[str]] = set()
        self._slots: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()
        self._closed = False

    async def start(self) -> None:
        """Starts the processes and waits for one to answer.

        Raises:
            RuntimeError: none came up.
        """
        if await self._judge("x+1", "1+x") is not Verdict.correct:
            raise RuntimeError(
                "the verifier's processes do not come up; see their error above. They are spawned, so a script that "
                'scores needs `if __name__ == "__main__":` around what it runs'
            )

    async def verify(self, response: str, ground_truth: str) -> Verdict:
        r"""The verdict on a whole response.

        Args:
            response: the model's text.
            ground_truth: the answer; or a worked solution that ends in `\boxed{}` or `#### answer`.

        Raises:
            RuntimeError: the verifier was closed.
        """
        seen = await asyncio.to_thread(self._look, response, ground_truth)
        if isinstance(seen, Verdict):
            self.counts["decided_early"] += 1
        verdict = seen if isinstance(seen, Verdict) else await self._judge(*seen)
        self.counts[verdict.value] += 1
        return verdict

    def verify_batch(self, pairs: Sequence[tuple[str, str]]) -> list[Verdict]:
        """Verdicts on (response, ground truth) pairs, in their order; blocks, and works inside an event loop too."""

        async def all_of_them() -> list[Verdict]:
            return await asyncio.gather(*(self.verify(*pair) for pair in pairs))

        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, all_of_them()).result()

    @property
    def queued(self) -> int:
        """Items that wait for or are with the processes."""
        return len(self._running)

    def close(self) -> None:
        """Kills the processes; items under way raise RuntimeError in their callers."""
        with self._lock:
            self._closed = True
            pool, self._pool = self._pool, None
        if pool:
            _end(pool)
        for future in list(self._running):
            future.cancel()

    def _look(self, response: str, ground_truth: str) -> Verdict | tuple[str, str]:
        """A verdict, if it takes no algebra; else the answer and the truth to compare."""
        answer = extract_answer(response, self.options.require_boxed)
        if answer is None:
            return Verdict.no_answer
        if len(answer) > MAX_ANSWER:
            return Verdict.unparsable
        truth = ground_truth
        if r"\boxed" in truth or "####" in truth:
            truth = extract_answer(truth) or truth
        if not truth.strip() or len(truth) > MAX_ANSWER:
            return Verdict.error
        decided = decide(normalize_answer(answer), normalize_answer(truth))
        if decided is None:
            return unwrap(answer), unwrap(truth)
        return Verdict.correct if decided else Verdict.incorrect

    async def _judge(self, answer: str, truth: str) -> Verdict:
        slots = self._slots.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(self.options.queue))
        async with slots:
            for _ in range(ATTEMPTS):
                pool, future = self._schedule(answer, truth)
                try:
                    return Verdict(await self._result(pool, future))
                except (FutureTimeout, asyncio.TimeoutError):
                    return Verdict.timeout
                except ProcessExpired as death:  # killed from outside, perhaps
                    if death.exitcode == -signal.SIGALRM:
                        return Verdict.timeout
                except BrokenProcessPool:
                    await asyncio.to_thread(self._replace, pool)
                except asyncio.CancelledError:
                    if self._closed and future.cancelled():
                        raise RuntimeError("the verifier was closed") from None
                    raise
            return Verdict.error

    def _schedule(self, answer: str, truth: str) -> tuple[ProcessPool, Future[str]]:
        with self._lock:
            if self._closed:
                raise RuntimeError("the verifier was closed")
            if self._pool is not None and not self._pool.active:
                _end(self._pool)
                self._pool = None
            if self._pool is None:
                self._pool = ProcessPool(
                    max_workers=self.options.workers,
                    max_tasks=TASKS_PER_PROCESS,
                    initializer=worker.initialise,
                    initargs=(self.options.timeout, self.options.memory_mb),
                    context=multiprocessing.get_context("spawn"),
                )
            future = self._pool.schedule(worker.judge, args=(answer, truth), timeout=self.options.timeout)
            self._running.add(future)
            future.add_done_callback(self._running.discard)
            return self._pool, future

    async def _result(self, pool: ProcessPool, future: Future[str]) -> str:
        """The future's result. A pool that fails unexpectedly forgets its futures, so it is asked now and then."""
        waiting = asyncio.wrap_future(future)
        try:
            while not (await asyncio.wait({waiting}, timeout=2.0))[0]:
                if not pool.active and not future.done():
                    raise BrokenProcessPool("the pool of verifier processes failed")
            return waiting.result()
        finally:
            waiting.cancel()

    def _replace(self, pool: ProcessPool) -> None:
        with self._lock:
            if self._pool is pool:
                self._pool = None
                _end(pool)


def _end(pool: ProcessPool) -> None:
    pool.stop()
    pool.join()
