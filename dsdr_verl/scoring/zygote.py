"""The process that forks the sandbox's workers: `python -c "…zygote.serve(…)"`, started by `sandbox.Sandbox`.

It has done the workers' imports once, so that a replacement takes milliseconds. It kills on request, and kills all of
them when its own parent is gone, however that ended.
"""

from __future__ import annotations

import ctypes
import gc
import os
import selectors
import signal
import socket

from dsdr_verl.scoring import worker

LOOK_S = 1.0  # between two looks whether the parent is still there
_PR_SET_PDEATHSIG = 1


def serve(control_fd: int, memory_mb: int) -> None:
    """Obeys `fork N` (with the descriptor of worker N's socket) and `kill N` until the other end is closed."""
    control = socket.socket(fileno=control_fd)
    parent = os.getppid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    libc = ctypes.CDLL(None, use_errno=True)  # before the workers refuse to load anything
    worker.warm_up()
    gc.freeze()
    workers: dict[str, int] = {}
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        while os.getppid() == parent:
            if not selector.select(LOOK_S):
                continue
            message, descriptors, _, _ = socket.recv_fds(control, 64, 1)
            if not message:
                break
            order, number = message.decode().split()
            _end(workers.pop(number, None))
            if order == "fork":
                (descriptor,) = descriptors
                if (pid := os.fork()) == 0:
                    selector.close()
                    control.close()
                    _run_worker(libc, descriptor, memory_mb)
                os.close(descriptor)
                workers[number] = pid
    for pid in workers.values():
        _end(pid)


def _run_worker(libc: ctypes.CDLL, descriptor: int, memory_mb: int) -> None:
    status = 1
    try:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        worker.serve(descriptor, memory_mb)
        status = 0
    finally:
        os._exit(status)


def _end(pid: int | None) -> None:
    if pid is not None:
        os.kill(pid, signal.SIGKILL)  # ours and not yet waited for, so the id is not someone else's
        os.waitpid(pid, 0)
