"""Whether a response answers its problem, told within a time limit whatever the response holds."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

from dsdr_verl.scoring import countdown
from dsdr_verl.scoring.answers import extract_answers
from dsdr_verl.scoring.equality import compare
from dsdr_verl.scoring.off_loop import off_loop_if_long
from dsdr_verl.scoring.options import VerifierOptions
from dsdr_verl.scoring.sandbox import Died, Sandbox, TimedOut
from dsdr_verl.scoring.verdict import Verdict

__all__ = ["RULES", "Verdict", "Verifier"]

log = logging.getLogger(__name__)

MAX_ANSWER = 4096  # characters; a longer answer is unparsable


# A ground truth "countdown:…" is judged by rules of its own, here and now: they must be linear in the response.
RULES = {"countdown": countdown.judge}


class Verifier:
    """Verdicts from math-verify in a sandbox of killable processes.

    What strings and plain numbers can decide (`equality.compare`) never reaches a process. Usable from any thread and
    any event loop.
    """

    def __init__(self, options: VerifierOptions | None = None):
        self.options = options or VerifierOptions()
        self.sandbox = Sandbox(self.options)
        self.counts: Counter[str] = Counter()  # verdicts by name, "decided_early" those that took no process

    async def start(self) -> None:
        """Starts a process and waits for its answer.

        Raises:
            RuntimeError: none came up.
        """
        if await self._judge("x+1", "1+x") is not Verdict.correct:
            raise RuntimeError(
                "the verifier's processes do not come up; their own error is above or in the actor's log"
            )

    async def verify(self, response: str, ground_truth: str) -> Verdict:
        r"""The verdict on a whole response.

        With `options.strict`, every final answer of the response must be correct, and the first that is not decides.

        Args:
            response: the model's text.
            ground_truth: the answer; or a worked solution that ends in `\boxed{}` or `#### answer`; or what a rule of
                `RULES` takes, such as `countdown:24:3,4,6,2`.

        Raises:
            RuntimeError: the verifier was closed.
        """
        try:
            seen = await off_loop_if_long(self._look, response, ground_truth)
        except Exception:  # ours, not the response's: it must not end the run either
            log.exception("the answer of a response of %d characters could not be read", len(response))
            seen = Verdict.error
        if isinstance(seen, Verdict):
            self.counts["decided_early"] += 1
            verdict = seen
        else:
            verdict = await self._judge(*chain.from_iterable(seen))
        self.counts[verdict.value] += 1
        return verdict

    def verify_batch(self, pairs: Sequence[tuple[str, str]]) -> list[Verdict]:
        """Verdicts on (response, ground truth) pairs, in their order; blocks, and works inside an event loop too."""

        async def all_of_them() -> list[Verdict]:
            return await asyncio.gather(*(self.verify(*pair) for pair in pairs))

        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, all_of_them()).result()

    def close(self) -> None:
        """Kills the processes; items under way raise RuntimeError in their callers."""
        self.sandbox.close()

    def _look(self, response: str, ground_truth: str) -> Verdict | list[tuple[str, str]]:
        """A verdict, if it takes no algebra; else the answers and the truth to compare."""
        if rule := RULES.get(ground_truth.partition(":")[0]):
            return rule(response, ground_truth, self.options.require_boxed, self.options.strict)
        answers = extract_answers(response, self.options.require_boxed, self.options.strict)
        if not answers:
            return Verdict.no_answer
        if any(len(answer) > MAX_ANSWER for answer in answers):
            return Verdict.unparsable
        truth = ground_truth
        if r"\boxed" in truth or "####" in truth:
            truth = (extract_answers(truth) or [truth])[-1]
        if not truth.strip() or len(truth) > MAX_ANSWER:
            return Verdict.error
        undecided: list[tuple[str, str]] = []
        for answer in answers:
            same = compare(answer, truth)
            if same is False:
                return Verdict.incorrect
            if same is not True:
                undecided += same
        return undecided or Verdict.correct

    async def _judge(self, *pairs: str) -> Verdict:
        try:
            return Verdict(await self.sandbox.ask("judge", *pairs))
        except TimedOut:
            return Verdict.timeout
        except Died:
            return Verdict.error
