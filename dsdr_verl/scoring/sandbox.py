"""Questions to worker processes that are killed and replaced when one takes too long, too much memory, or dies."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import queue
import socket
import subprocess
import sys
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from hashlib import blake2b
from itertools import cycle
from multiprocessing.connection import Connection
from weakref import WeakKeyDictionary

import psutil
from cachetools import LRUCache

from dsdr_verl.scoring.options import VerifierOptions

ATTEMPTS = 3  # times that a question is asked whose worker dies under it
SLOW_S = 0.1  # after which a question's worker gets a spare beside it
START_S = 60.0  # for a worker to come up
QUESTIONS_PER_WORKER = 10_000  # then it is replaced, so that nothing it holds on to adds up
REMEMBERED = 2**22  # bytes, about, of replies kept, as the rollouts of a group often ask the same
REPLY_OVERHEAD = 128  # bytes that a kept reply takes beside its text
MAX_REPLY = 2**20  # bytes

# A GiB of a worker that was killed is given back in 4 ms, not 70.
_HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
_ZYGOTE = """
import json, sys
sys.path[:] = json.loads({path!r})
from dsdr_verl.scoring import zygote
zygote.serve({fd}, {memory_mb})
"""


class TimedOut(Exception):
    """The question took longer than the limit; its worker was killed."""


class Died(Exception):
    """Each worker that was asked died, from want of memory perhaps."""


class Closed(RuntimeError):
    """The sandbox was closed."""


@dataclass
class _Worker:
    name: str
    connection: Connection
    asked: int = 0

    def wait_until_ready(self) -> None:
        if not self.connection.poll(START_S):
            raise TimeoutError(f"a worker process did not come up in {START_S} s")
        self.connection.recv_bytes(MAX_REPLY)


class Sandbox:
    """Workers that run the tasks of `worker.TASKS`, one question at a time each.

    A question that passes `timeout` costs its worker, and nobody else anything. Usable from any thread and any event
    loop. Equal questions are asked once. The processes start with the first question and end with `close`, or with
    this process, even if that is killed.
    """

    def __init__(self, options: VerifierOptions | None = None):
        self.options = options or VerifierOptions()
        self._zygote: tuple[subprocess.Popen[bytes], socket.socket] | None = None
        self._lock = threading.Lock()
        self._questions: queue.SimpleQueue[tuple[Future[str | None], bytes] | None] = queue.SimpleQueue()
        self._asked: dict[bytes, Future[str | None]] = {}  # not yet answered
        self._replies: LRUCache[bytes, str | None] = LRUCache(
            REMEMBERED, getsizeof=lambda reply: REPLY_OVERHEAD + len(reply or "")
        )
        self._slots: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()
        self._threads: list[threading.Thread] = []
        self._closed = False
        self.waiting = 0  # questions with a worker or in line for one
        self.replaced = 0  # workers killed for a question, or found dead

    async def ask(self, task: str, *arguments: str) -> str | None:
        """What `worker.TASKS[task](*arguments)` returns.

        Raises:
            TimedOut, Died: see there.
            Closed: the sandbox was closed.
        """
        slots = self._slots.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(self.options.queue))
        async with slots:
            answer = asyncio.wrap_future(self._ask(task, *arguments))
            # A caller that has gone leaves it to nobody, and asyncio would complain of that on the console.
            answer.add_done_callback(lambda done: done.cancelled() or done.exception())
            # Shielded: another caller may be waiting for the same.
            return await asyncio.shield(answer)

    def _ask(self, *question: str) -> Future[str | None]:
        message = json.dumps(question).encode()
        key = blake2b(message, digest_size=16).digest()
        with self._lock:
            if self._closed:
                raise Closed("the sandbox was closed")
            if key in self._asked:
                return self._asked[key]
            future: Future[str | None] = Future()
            if key in self._replies:
                future.set_result(self._replies[key])
                return future
            self._asked[key] = future
            self.waiting += 1
            if not self._threads:
                self._threads = [
                    threading.Thread(target=self._work, args=(str(number),), daemon=True, name=f"sandbox-{number}")
                    for number in range(self.options.workers)
                ]
                for thread in self._threads:
                    thread.start()
            future.add_done_callback(lambda _: self._settle(key, future))
            self._questions.put((future, message))
        return future

    def _settle(self, key: bytes, future: Future[str | None]) -> None:
        with self._lock:
            self.waiting -= 1
            del self._asked[key]
            if future.exception() is None:  # else it may go better another time
                self._replies[key] = future.result()

    # ------------------------------------------------------------------------------- a thread for each worker

    def _work(self, number: str) -> None:
        names = cycle((f"{number}a", f"{number}b"))
        worker: _Worker | None = None
        spare: _Worker | None = None
        while (item := self._questions.get()) is not None:
            future, question = item
            for attempt in range(1, ATTEMPTS + 1):
                reply: str | None = None
                failure: Exception | None = None
                try:
                    if worker is None:
                        worker, spare = spare or self._fork(next(names)), None
                        worker.wait_until_ready()
                    worker.connection.send_bytes(question)
                    if not worker.connection.poll(min(SLOW_S, self.options.timeout)):
                        spare = spare or self._fork(next(names))  # in case that this one is killed
                        if not worker.connection.poll(max(self.options.timeout - SLOW_S, 0)):
                            raise TimedOut(f"no answer in {self.options.timeout} s")
                    reply = json.loads(worker.connection.recv_bytes(MAX_REPLY))
                    worker.asked += 1
                except TimedOut as error:
                    failure = error
                except Exception as error:  # whatever it is, somebody waits
                    failure = Died(f"{ATTEMPTS} workers died of one question, the last by {error!r}")
                    if self._closed:
                        failure = Closed("the sandbox was closed")
                if worker is not None and (failure or worker.asked >= QUESTIONS_PER_WORKER):
                    self._kill(worker)
                    worker = None
                if failure is None:
                    future.set_result(reply)
                    break
                if attempt == ATTEMPTS or not isinstance(failure, Died):
                    future.set_exception(failure)
                    break
        for left in filter(None, (worker, spare)):
            left.connection.close()

    def _fork(self, name: str) -> _Worker:
        ours, theirs = socket.socketpair()
        with theirs:
            self._order(f"fork {name}", theirs.fileno())
        return _Worker(name, Connection(ours.detach()))

    def _kill(self, worker: _Worker) -> None:
        self.replaced += 1
        worker.connection.close()
        with contextlib.suppress(OSError):  # no zygote, no workers
            self._order(f"kill {worker.name}")

    def _order(self, order: str, *descriptors: int) -> None:
        with self._lock:
            if self._closed:
                raise ConnectionAbortedError("the sandbox was closed")
            if self._zygote is None or self._zygote[0].poll() is not None:
                self._zygote = _start_zygote(self.options.memory_mb)
            socket.send_fds(self._zygote[1], [order.encode()], descriptors)

    def processes(self) -> list[psutil.Process]:
        """The zygote, whose children are the workers; empty before the first question."""
        with self._lock:
            return [psutil.Process(self._zygote[0].pid)] if self._zygote else []

    def close(self) -> None:
        """Kills the processes; callers under way get `Closed`."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            zygote, self._zygote = self._zygote, None
        if zygote is not None:
            process, control = zygote
            control.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for _ in self._threads:
            self._questions.put(None)
        for thread in self._threads:
            thread.join()


def _start_zygote(memory_mb: int) -> tuple[subprocess.Popen[bytes], socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    code = _ZYGOTE.format(path=json.dumps(sys.path), fd=theirs.fileno(), memory_mb=memory_mb)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, start_new_session=True, env=os.environ | _HUGE_PAGES,
        )  # fmt: skip
    return process, ours
