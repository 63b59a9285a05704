"""What a run leaves outside of its folder, removed after any end: processes, shared memory, sockets, Ray's session.

A driver that is killed cannot do it. What it has is written down as it goes, and a process of a few lines waits for its
end and removes that; if both are killed, the next run of the same user on that machine does.

python -m dsdr_verl.trainer.traces NOTE is what waits.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from glob import escape, glob
from pathlib import Path
from uuid import uuid4

from dsdr_verl.platform.sockets import RUN, remove_left_by
from dsdr_verl.ray_address import joins_cluster
from dsdr_verl.trainer import processes, segments

_NOTE = "run.json"
_PREFIX = "dsdr-run-"
LOOK_S = 1.0  # between two looks for new shared memory, whose owner may be killed
RAY_S = 20.0  # for Ray to go by itself


@dataclass
class Traces:
    """One a run. Its `folder` has sockets, and a note of what there is, which is locked while the driver lives."""

    run: str
    folder: Path
    began: float = field(default_factory=time.time)
    session: str | None = None  # the folder of a Ray that the run starts: a pattern, as its name is known late
    segments: set[str] = field(default_factory=set)  # of shared memory
    lock: int | None = None
    janitor: subprocess.Popen | None = None
    noting: threading.Lock = field(default_factory=threading.Lock)
    over: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def begin(cls) -> Traces:
        """Mark this process, and all that it starts, as a run's. What dead runs of this user have left goes."""
        for note in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/{_NOTE}"):
            remove_abandoned(note)
        run = uuid4().hex[:8]
        traces = cls(run, Path(tempfile.gettempdir()) / f"{_PREFIX}{run}")
        traces.folder.mkdir(mode=0o700)
        traces.lock = os.open(traces.folder / _NOTE, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(traces.lock, fcntl.LOCK_EX)
        traces.note()
        traces.janitor = subprocess.Popen(  # before the mark is set, which would end it
            [sys.executable, "-m", "dsdr_verl.trainer.traces", traces.folder / _NOTE],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        os.environ |= {RUN: run, "SPT_NOENV": "1"}  # or titles, as of Ray's agents, would overwrite the mark
        threading.Thread(target=traces._keep_noting, daemon=True, name="traces").start()
        return traces

    def note(self, session: str | None = None) -> None:
        """Write down what there is, shared memory of the run's processes included.

        Args:
            session: a pattern of the folder of a Ray that the run starts; older ones that fit stay.
        """
        with self.noting:
            self.session = session or self.session
            segments.update(self.segments, self.run)
            found = {"run": self.run, "began": self.began, "session": self.session, "segments": sorted(self.segments)}
            size = os.fstat(self.lock).st_size  # not truncated: a kill may come at any moment
            os.pwrite(self.lock, json.dumps(found).encode().ljust(size), 0)

    def _keep_noting(self) -> None:
        before, last = set(), set()
        while not self.over.wait(LOOK_S):
            with contextlib.suppress(OSError):  # of a full disk
                now = segments.all_names()
                if now - before:  # noted twice: when it appears, nobody may have it open yet
                    self.note()
                before, last = last, now

    @contextlib.contextmanager
    def of_ray(self, folder: str | None = None) -> Iterator[None]:
        """Around `ray.init`, which may fail or be killed half-way. A cluster that is joined stays as it is.

        Args:
            folder: of Ray's sessions; None for Ray's own choice.
        """
        if joins_cluster():
            yield
            return
        import ray

        folder = folder or ray._common.utils.get_default_ray_temp_dir()
        self.note(session=f"{escape(folder)}/session_*_{os.getpid()}")
        yield
        self.note(session=escape(ray._private.worker._global_node.get_session_dir_path()))

    def remove(self, ray_shutdown: Callable[[], None] | None = None, logs: Path | None = None) -> bool:
        """Leave nothing of the run on this machine.

        Args:
            ray_shutdown: asked first, for a while.
            logs: a folder that gets the logs of the Ray that the run had started.

        Returns:
            whether Ray has gone by itself. Else a thread of this process still waits for it.
        """
        segments.update(self.segments, self.run)
        gone = ray_shutdown is None or _within(RAY_S, ray_shutdown)
        self.over.set()
        segments.update(self.segments, self.run)
        processes.end_all(self.run)
        remove_left_by(self.run)
        segments.remove(self.segments)
        for session in self._sessions():
            if logs:
                with contextlib.suppress(OSError, shutil.Error):  # they help, but a full disk has said what is wrong
                    shutil.copytree(session / "logs", logs, dirs_exist_ok=True, symlinks=True)
            _remove_session(session)
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.janitor:
            self.janitor.kill()
            self.janitor.wait()
        return gone

    def _sessions(self) -> list[Path]:
        found = map(Path, glob(self.session or ""))
        return [path for path in found if path.stat().st_mtime >= self.began]


def remove_abandoned(note: Path, wait: bool = False) -> None:
    """What a run of this user has left whose driver is gone; nothing if `note` is not of one.

    Args:
        wait: for the driver to go.
    """
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError), open(note, "r+") as file:
        if os.fstat(file.fileno()).st_uid != os.getuid():
            return
        removed = "removed" in json.load(file)  # by another process at this moment: to be waited for
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait or removed else fcntl.LOCK_NB))
        file.seek(0)
        found = json.load(file)
        traces = Traces(found["run"], note.parent, found["began"], found["session"], set(found["segments"]))
        if note.parent.name == f"{_PREFIX}{traces.run}" and note.exists():
            os.pwrite(file.fileno(), json.dumps(found | {"removed": True}).encode(), 0)
            traces.remove()


def _remove_session(session: Path) -> None:
    latest = session.parent / "session_latest"
    with contextlib.suppress(OSError):
        if latest.is_symlink() and latest.resolve() == session.resolve():
            latest.unlink()
    shutil.rmtree(session, ignore_errors=True)


def _within(seconds: float, call: Callable[[], None]) -> bool:
    """Whether `call` has returned, or failed, in time; it goes on in a thread if not."""
    thread = threading.Thread(target=_quietly, args=(call,), daemon=True)
    thread.start()
    thread.join(seconds)
    return not thread.is_alive()


def _quietly(call: Callable[[], None]) -> None:
    with contextlib.suppress(Exception):
        call()


if __name__ == "__main__":
    for ignored in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # the driver heeds them
        signal.signal(ignored, signal.SIG_IGN)
    remove_abandoned(Path(sys.argv[1]), wait=True)
