"""Memory, shared memory, files and disk. All sizes in bytes."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil

from dsdr_verl.doctor.findings import GIB, Asked, Findings, failed, ok, warning

# By hardware. `MEMORY`: least and good; good is the demo (docs/performance.md: 13.7 GiB at the highest), the others are
# guesses. `SHARED`: Ray's object store (500 MB with hardware=cpu, 10 GB or more by Ray's default) and two buckets of
# weights. `DISK`: two checkpoints, as there are while one is replaced: the demo's, and those of a 1.5B model on GPUs
# (weights, Adam's moments and a copy for Hugging Face, 4 bytes each).
MEMORY = {"cpu": (8 * GIB, 14 * GIB), "gpu": (32 * GIB, 64 * GIB)}
SHARED = {"cpu": 1 * GIB, "gpu": 10 * GIB}
DISK = {"cpu": 5 * GIB, "gpu": 50 * GIB}
TEMPORARY = 2 * GIB  # logs, and objects that Ray spills
SPILL_LIMIT = 0.95  # the share of a disk in use above which Ray stores no more objects
FILES_LEAST, FILES_GOOD = 4096, 8192  # Ray's own limits, below which it warns; it raises the soft limit itself
SHM = Path("/dev/shm")


def memory(asked: Asked) -> Findings:
    least, good = MEMORY[asked.hardware]
    available, total, where = available_memory()
    text = f"{_size(available)} available of {_size(total)} {where}"
    if available < least:
        fix = f"free some, or raise the limit (docker run --memory): about {_size(least)} are needed"
        yield failed("memory", text, fix)
    elif available < good:
        yield warning("memory", text, f"free some, or keep to profile=tiny and small models below {_size(good)}")
    else:
        yield ok("memory", text)


def available_memory() -> tuple[int, int, str]:
    """Bytes that are to be had, bytes that there are, and who says so: the machine, or a lower limit of a cgroup."""
    machine = psutil.virtual_memory()
    total, available, where = machine.total, machine.available, "of the machine"
    for limit, used, folder in cgroup_limits():
        if limit < total:
            total, where = limit, f"by the cgroup {folder}"
        available = min(available, max(limit - used, 0))
    return available, total, where


def cgroup_limits(
    of: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> Iterator[tuple[int, int, Path]]:
    """(limit, used, folder) of every limited memory cgroup that this process is in, v1 and v2; page cache that can go
    at once does not count as used."""
    for line in of.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, limit_file, used_file, cache = root, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            top, limit_file, used_file = root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            cache = "total_inactive_file"
        else:
            continue
        inner = top / path.lstrip("/")
        # inside a container the path may be the host's, and the mount the container's own
        for folder in (inner, *(parent for parent in inner.parents if parent.is_relative_to(top))):
            try:
                limit = (folder / limit_file).read_text().strip()
                used = int((folder / used_file).read_text())
                stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            except (FileNotFoundError, NotADirectoryError):
                continue
            if limit != "max" and int(limit) < 2**60:  # v1 writes a huge number for none
                yield int(limit), used - int(stat.get(cache, 0)), folder


def shared_memory(asked: Asked) -> Findings:
    subject, needed = "shared memory", SHARED[asked.hardware]
    if not SHM.is_dir():
        yield failed(subject, f"there is no {SHM}", f"mount it: mount -t tmpfs -o size={_size(needed, 'G')} shm {SHM}")
        return
    disk = shutil.disk_usage(SHM)
    text = f"{_size(disk.free)} free of {_size(disk.total)} in {SHM}"
    if disk.total < needed:
        size = _size(needed, "g")
        fix = f"docker run --shm-size={size} (or --ipc=host); on a host: mount -o remount,size={size} {SHM}"
        yield failed(subject, text, fix)
    elif disk.free < needed:
        yield failed(subject, text, f"remove what is left in {SHM} by dead programs, or end those that use it")
    else:
        yield ok(subject, text)


def open_files(asked: Asked) -> Findings:
    """Ray raises the soft limit to the hard one by itself, so the hard one counts."""
    subject, (soft, hard) = "open files", resource.getrlimit(resource.RLIMIT_NOFILE)
    most = float("inf") if hard == resource.RLIM_INFINITY else hard
    text = f"ulimit -n is {soft}, and may rise to {'any number' if hard == resource.RLIM_INFINITY else hard}"
    fix = "raise the hard limit to 65536 (/etc/security/limits.conf; docker run --ulimit nofile=65536:65536)"
    if most < FILES_LEAST:
        yield failed(subject, text, fix)
    elif most < FILES_GOOD:
        yield warning(subject, text, fix)
    else:
        yield ok(subject, text)


def disk(asked: Asked) -> Findings:
    """The folder of the runs and Ray's folder of logs and spilled objects."""
    for subject, folder, needed, key in (
        ("disk of runs", asked.run_dir.absolute(), DISK[asked.hardware], "run_dir"),
        ("disk of Ray", ray_temporary(), TEMPORARY, "RAY_TMPDIR"),
    ):
        there = next(parent for parent in (folder, *folder.parents) if parent.exists())
        if not os.access(there, os.W_OK | os.X_OK):
            yield failed(subject, f"{there} may not be written to", f"set {key} to a folder of yours")
            continue
        usage = shutil.disk_usage(there)
        text = f"{_size(usage.free)} free of {_size(usage.total)} in {there}"
        if usage.free < needed:
            yield failed(subject, text, f"free some, or set {key} to a disk with at least {_size(needed)}")
        elif subject == "disk of Ray" and usage.used > SPILL_LIMIT * (usage.used + usage.free):
            fix = f"free some, or set {key} to another disk: above {SPILL_LIMIT:.0%} in use Ray stores no more objects"
            yield failed(subject, text, fix)
        else:
            yield ok(subject, text)


def ray_temporary() -> Path:
    """The folder in which Ray makes its own, by Ray's rule."""
    return Path(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp").absolute()


def _size(number: int, unit: str = " GiB") -> str:
    return f"{number / GIB:.3g}{unit}"
