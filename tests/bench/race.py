"""The other end of `contender`: starts one, feeds it, reads verdicts under a hard limit, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from queue import Empty, Queue
from typing import Any, NamedTuple

import psutil

ROOT = Path(__file__).resolve().parents[2]
CORE = max(os.sched_getaffinity(0))
START = 180.0  # seconds that a contender may take to come up
EXIT = 30.0  # seconds that it may take to end


class Verdict(NamedTuple):
    index: int
    value: str
    start: float
    end: float


class Heat(NamedTuple):
    """What came of one list of pairs."""

    verdicts: dict[int, Verdict]
    seconds: float  # from the first start to the last verdict
    finished: bool  # False: it was stopped at the outer limit

    @property
    def longest_silence(self) -> float:
        """The longest time between two verdicts: with one worker, no item ran longer."""
        ends = sorted(v.end for v in self.verdicts.values())
        first = min((v.start for v in self.verdicts.values()), default=0.0)
        return max((b - a for a, b in zip([first, *ends], ends, strict=False)), default=0.0)


class Contender:
    def __init__(self, name: str, limit: float = 5.0):
        self.name = name
        self._seen: set[psutil.Process] = set()
        self._lines: Queue[Any] = Queue()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.contender", name, str(limit), str(CORE)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT,
        )  # fmt: skip
        threading.Thread(target=self._read, daemon=True).start()
        if self._next(time.monotonic() + START) != "ready":
            self.close()
            raise RuntimeError(f"{name} did not come up; see python -m tests.bench.contender {name} {limit} {CORE}")

    def judge(self, pairs: list[tuple[str, str]], outer: float = 600.0) -> Heat:
        self._process.stdin.write(json.dumps(pairs) + "\n")
        self._process.stdin.flush()
        verdicts: dict[int, Verdict] = {}
        end = time.monotonic() + outer
        while (message := self._next(end)) not in (None, "done"):
            verdicts[message[0]] = Verdict(*message)
        self._look()
        started = min((v.start for v in verdicts.values()), default=0.0)
        return Heat(verdicts, max((v.end for v in verdicts.values()), default=0.0) - started, message == "done")

    def close(self) -> tuple[bool, int]:
        """Whether it ended by itself, and how many of its processes outlived it. Then kills these."""
        self._look()
        self._process.stdin.close()
        ended = True
        try:
            self._process.wait(EXIT)
        except subprocess.TimeoutExpired:
            ended = False
            self._look()
            self._process.kill()
            self._process.wait()
        time.sleep(2.0)
        left = [p for p in self._seen if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
        for process in left:
            process.kill()
        return ended, len(left)

    def _look(self) -> None:
        """Notes its children; multiprocessing's bookkeeper, which ends with its parent, is none of them."""
        try:
            children = psutil.Process(self._process.pid).children(recursive=True)
            self._seen.update(p for p in children if "resource_tracker" not in " ".join(p.cmdline()))
        except psutil.NoSuchProcess:
            pass

    def _next(self, end: float) -> Any:
        try:
            return self._lines.get(timeout=max(end - time.monotonic(), 0))
        except Empty:
            return None

    def _read(self) -> None:
        for line in self._process.stdout:
            self._lines.put(json.loads(line))
        self._lines.put(None)
