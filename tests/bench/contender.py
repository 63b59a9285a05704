"""One of three verifiers, in a process of its own on one core: pairs come in on stdin, verdicts go out as they fall.

python -m tests.bench.contender ours|verl|plain LIMIT CORE

In: a JSON list of [response, truth]. Out, a line each: [index, verdict, start, end] in seconds of the monotonic clock,
in any order, then "done". "ready" comes first, once everything is loaded and its processes answer.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

Pairs = list[tuple[str, str]]
Tell = Callable[[Any], None]
IN_FLIGHT = 16  # items with our verifier at a time; the others wait outside
VERL_PROCESSES = 4  # verl's own number; as many threads call it, so that no item waits for its turn with the clock on
RIVAL_GIB = 4  # address space of each rival's process: they have no limit, and would take the whole machine with them
WARM_UP = [(r"\boxed{1+x}", "x+1"), (r"\boxed{\frac{1}{2}}", "0.5"), (r"\boxed{x>3}", r"(3,\infty)")] * 8


def ours(limit: float) -> tuple[Callable[[Pairs, Tell], None], Callable[[], None]]:
    from dsdr_verl.scoring.options import VerifierOptions
    from dsdr_verl.scoring.verifier import Verifier

    verifier = Verifier(VerifierOptions(workers=1, timeout=limit))

    def judge(pairs: Pairs, tell: Tell) -> None:
        async def work(items: Iterable[tuple[int, tuple[str, str]]]) -> None:
            for i, pair in items:
                start = time.monotonic()
                tell([i, (await verifier.verify(*pair)).value, start, time.monotonic()])

        async def all_of_them() -> None:
            items = iter(list(enumerate(pairs)))
            await asyncio.gather(*(work(items) for _ in range(IN_FLIGHT)))

        asyncio.run(all_of_them())

    return judge, verifier.close


def verl(limit: float) -> tuple[Callable[[Pairs, Tell], None], Callable[[], None]]:
    os.environ["VERL_PLATFORM"] = "cpu"
    from verl.utils.reward_score.math_verify import compute_score

    _limit_memory()
    threads = ThreadPoolExecutor(VERL_PROCESSES)

    def judge(pairs: Pairs, tell: Tell) -> None:
        def one(i: int) -> None:
            start = time.monotonic()
            score = compute_score(*pairs[i], timeout=limit)
            tell([i, "correct" if score > 0 else "incorrect", start, time.monotonic()])

        list(threads.map(one, range(len(pairs))))

    return judge, threads.shutdown


def plain(limit: float) -> tuple[Callable[[Pairs, Tell], None], Callable[[], None]]:
    from math_verify import parse, verify

    _limit_memory()
    logging.disable(logging.CRITICAL)
    seconds = max(round(limit), 1)

    def judge(pairs: Pairs, tell: Tell) -> None:
        for i, (response, truth) in enumerate(pairs):
            start = time.monotonic()
            right = False
            with suppress(Exception):
                wanted = parse(rf"\boxed{{{truth}}}", parsing_timeout=seconds)
                right = verify(wanted, parse(response, parsing_timeout=seconds), timeout_seconds=seconds)
            tell([i, "correct" if right else "incorrect", start, time.monotonic()])

    return judge, lambda: None


def _limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (RIVAL_GIB * 2**30, RIVAL_GIB * 2**30))


def main(name: str, limit: float, core: int) -> None:
    os.sched_setaffinity(0, {core})  # before there is any thread or child: they inherit it
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)  # what the libraries print

        def tell(message: Any) -> None:
            out.write(json.dumps(message) + "\n")
            out.flush()

        judge, close = {"ours": ours, "verl": verl, "plain": plain}[name](limit)
        judge(WARM_UP, lambda _: None)
        tell("ready")
        for line in sys.stdin:
            judge([tuple(pair) for pair in json.loads(line)], tell)
            tell("done")
        close()


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))
