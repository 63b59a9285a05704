"""What the sandbox promises of its processes, whatever happens to them."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing

import psutil
import pytest

from dsdr_verl.scoring import sandbox as module
from dsdr_verl.scoring.options import VerifierOptions
from dsdr_verl.scoring.sandbox import Closed, Died, Sandbox, TimedOut
from tests.e2e.processes import eventually, runs

pytestmark = pytest.mark.e2e
LIMIT = 0.6
HOUR = "10^{10^{10}}"  # an answer that takes one
STUCK_IN_C = "9" * 4000 + "^{99999}"


def workers(sandbox):
    return [process for zygote in sandbox.processes() for process in zygote.children()]


async def judge(sandbox, answer="1+x", truth="x+1"):
    return await sandbox.ask("judge", answer, truth)


@pytest.fixture(scope="module")
def shared():
    with closing(Sandbox(VerifierOptions(timeout=LIMIT))) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(shared):
    """With one worker up and nothing remembered, whatever the test before has done to it."""
    shared._replies.clear()
    asyncio.run(judge(shared, "0", "0"))
    return shared


def test_waiting_does_not_count_as_running(sandbox):
    async def run():
        stuck = [judge(sandbox, f"{HOUR}+{i}") for i in range(2)]
        return await asyncio.gather(*stuck, judge(sandbox), return_exceptions=True)

    first, second, last = asyncio.run(run())
    assert isinstance(first, TimedOut) and isinstance(second, TimedOut) and last == "correct"


@pytest.mark.parametrize("answer", [HOUR, STUCK_IN_C], ids=["python", "C"])
def test_a_worker_is_killed_at_the_limit_and_replaced_at_once(sandbox, answer):
    async def run():
        start = time.monotonic()
        with pytest.raises(TimedOut):
            await judge(sandbox, answer)
        assert LIMIT <= time.monotonic() - start < LIMIT + 3
        start = time.monotonic()
        assert await judge(sandbox) == "correct"
        assert time.monotonic() - start < 3

    before = workers(sandbox)
    asyncio.run(run())
    eventually(lambda: not all(map(runs, before)) and 1 <= len(workers(sandbox)) <= 2)  # one may be a spare


def test_equal_questions_are_asked_once(sandbox):
    replaced = sandbox.replaced

    async def run():
        start = time.monotonic()
        results = await asyncio.gather(*(judge(sandbox, HOUR) for _ in range(8)), return_exceptions=True)
        assert time.monotonic() - start < 4 * LIMIT
        return results

    assert [type(result) for result in asyncio.run(run())] == [TimedOut] * 8
    assert sandbox.replaced == replaced + 1
    with pytest.raises(TimedOut):  # and asked again another time
        asyncio.run(judge(sandbox, HOUR))
    assert sandbox.replaced == replaced + 2


def test_one_caller_giving_up_takes_nothing_from_the_others(sandbox):
    async def run():
        stuck = asyncio.ensure_future(judge(sandbox, HOUR))
        first, second = (asyncio.ensure_future(judge(sandbox)) for _ in range(2))
        await asyncio.sleep(0.1)
        first.cancel()
        assert await second == "correct"
        with pytest.raises(TimedOut):
            await stuck

    asyncio.run(run())


def test_from_other_threads_and_loops(sandbox):
    found = []
    threads = [threading.Thread(target=lambda: found.append(asyncio.run(judge(sandbox)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["correct"] * 4


def test_a_full_queue_makes_callers_wait():
    with closing(Sandbox(VerifierOptions(queue=2))) as sandbox:
        most = 0

        async def run():
            nonlocal most
            work = asyncio.gather(*(judge(sandbox, f"{i}+x", f"x+{i}") for i in range(20)))
            while not work.done():
                most = max(most, sandbox.waiting)
                await asyncio.sleep(0.001)
            return await work

        assert asyncio.run(run()) == ["correct"] * 20
        assert most == 2


@pytest.mark.parametrize("whom", ["worker", "zygote"])
@pytest.mark.parametrize("busy", [False, True])
def test_a_process_killed_from_outside_costs_no_answer(sandbox, whom, busy):
    async def run():
        work = asyncio.create_task(judge(sandbox, HOUR)) if busy else None
        await asyncio.sleep(0.3)
        children = workers(sandbox)
        for victim in children if whom == "worker" else sandbox.processes():
            victim.kill()
        eventually(lambda: not any(map(runs, children)), seconds=20)  # they go with their zygote
        assert await judge(sandbox) == "correct"
        if work:
            with pytest.raises(TimedOut):
                await work

    asyncio.run(run())
    assert 1 <= len(workers(sandbox)) <= 2


def test_a_stopped_worker_is_replaced(sandbox):
    """SIGSTOP: it neither answers nor dies."""
    stopped = min(workers(sandbox), key=psutil.Process.create_time)  # the other, if there is one, is the spare
    stopped.send_signal(signal.SIGSTOP)
    with pytest.raises(TimedOut):
        asyncio.run(judge(sandbox))
    assert asyncio.run(judge(sandbox)) == "correct"
    eventually(lambda: not runs(stopped))


def test_a_question_whose_worker_keeps_dying(sandbox):
    async def run():
        work = asyncio.create_task(judge(sandbox, HOUR))
        while not work.done():
            await asyncio.sleep(0.1)
            for worker in workers(sandbox):
                with contextlib.suppress(psutil.NoSuchProcess):
                    worker.kill()
        with pytest.raises(Died):
            await work
        return await judge(sandbox)

    assert asyncio.run(run()) == "correct"


def test_a_machine_that_starts_no_process(monkeypatch):
    def refuse(memory_mb):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched, closing(Sandbox(VerifierOptions(workers=1))) as sandbox:
        patched.setattr(module, "_start_zygote", refuse)
        with pytest.raises(Died, match="can't start new thread"):
            asyncio.run(asyncio.wait_for(judge(sandbox), 10))
        patched.undo()
        assert asyncio.run(judge(sandbox)) == "correct"


def test_workers_are_renewed_now_and_then(sandbox, monkeypatch):
    monkeypatch.setattr(module, "QUESTIONS_PER_WORKER", 3)
    seen = set()

    async def run():
        for i in range(7):
            assert await judge(sandbox, f"x+{i}", f"{i}+x") == "correct"
            seen.update(process.pid for process in workers(sandbox))

    asyncio.run(run())
    assert len(seen) >= 3


def test_a_worker_does_not_grow_with_what_it_was_asked():
    with closing(Sandbox(VerifierOptions(timeout=60.0, workers=1))) as sandbox:

        async def taken_after(questions):
            for i in questions:
                assert await judge(sandbox, rf"\frac{{{i}}}{{7}}x^2+{i}", rf"{i}+\frac{{{i}x^2}}{{7}}") == "correct"
            asked = min(workers(sandbox), key=psutil.Process.create_time)  # another would be the spare
            return asked.memory_full_info().uss

        async def run():
            return await taken_after(range(100, 150)), await taken_after(range(150, 450))

        early, late = asyncio.run(run())
        assert late - early < 2**20


@pytest.mark.parametrize("hungry", [r"\operatorname{eye}(3000)", "(x+y+z)^{300}", r"\sum_{i=1}^{10^9} i^i"])
def test_memory_is_limited(hungry):
    with closing(Sandbox(VerifierOptions(timeout=2.0, memory_mb=64))) as sandbox:

        async def run():
            assert await judge(sandbox) == "correct"
            most = 0
            work = asyncio.create_task(judge(sandbox, hungry))
            while not work.done():
                with contextlib.suppress(psutil.NoSuchProcess):
                    most = max(most, *(worker.memory_info().rss for worker in workers(sandbox)))
                await asyncio.sleep(0.02)
            await asyncio.gather(work, return_exceptions=True)
            assert await judge(sandbox, "x") == "incorrect"
            return most

        assert asyncio.run(run()) < 200 * 2**20


def test_close_ends_processes_and_callers():
    sandbox = Sandbox(VerifierOptions(timeout=60.0, workers=2))

    async def run():
        await asyncio.gather(*(judge(sandbox, f"x+{i}") for i in range(10)))
        tree = [*sandbox.processes(), *workers(sandbox)]
        assert 3 <= len(tree) <= 5  # with spares
        work = [asyncio.create_task(judge(sandbox, f"{HOUR}+{i}")) for i in range(5)]
        await asyncio.sleep(0.3)
        sandbox.close()
        for task in work:
            with pytest.raises(Closed):
                await task
        with pytest.raises(Closed):
            await judge(sandbox)
        return tree

    tree = asyncio.run(run())
    assert not any(map(runs, tree))
    sandbox.close()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("answer", ["x", STUCK_IN_C], ids=["idle", "stuck in C"])
def test_nothing_outlives_its_parent(answer, how, tmp_path):
    """Without a main guard: workers do not import the caller's script."""
    script = tmp_path / "parent.py"
    script.write_text(
        f"""
import asyncio, psutil, signal
from dsdr_verl.scoring.sandbox import Sandbox

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it

async def main():
    sandbox = Sandbox()
    await sandbox.ask("judge", "0", "0")
    work = asyncio.create_task(sandbox.ask("judge", {answer!r}, "x"))
    await asyncio.sleep(0.3)
    print(*[p.pid for p in psutil.Process().children(recursive=True)], flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""
    )
    parent = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    tree = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
    assert 2 <= len(tree) <= 3  # a spare beside the one that is stuck
    os.kill(parent.pid, how)
    parent.stdout.close()
    eventually(lambda: not any(map(runs, tree)), seconds=20)
    parent.wait(20)
