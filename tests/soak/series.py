"""samples.jsonl as series: one a quantity in all, and one a quantity and role of process."""

from __future__ import annotations

import contextlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SAMPLES = "samples.jsonl"
ALL = "all"
WARM_UP_HOURS = 0.25  # from the first step on, but never more than
WARM_UP_SHARE = 0.15  # of what there is


class TooFew(ValueError):
    """There are too few samples to tell anything."""


@dataclass(frozen=True)
class Quantity:
    """What is measured, and the growth that nobody minds: in a week 168 times as much."""

    name: str
    unit: str
    harmless: float = 0.0  # units an hour; besides 0.5 % of the median
    judged: bool = True


MEMORY = Quantity("memory", "MiB", 1.0)
SHARED = Quantity("shared memory", "MiB", 1.0)
DESCRIPTORS = Quantity("file descriptors", "fds", 1.0)
THREADS = Quantity("threads", "threads", 1.0)
PROCESSES = Quantity("processes", "processes", 1.0)
BY_ROLE = {"memory": MEMORY, "shared": SHARED, "descriptors": DESCRIPTORS, "threads": THREADS}
WHOLE = {
    "shm": Quantity("/dev/shm", "MiB", 1.0),
    "folder": Quantity("run folder without checkpoints", "MiB", judged=False),  # logs are to grow
    "session": Quantity("Ray's session folder", "MiB", judged=False),
}
TIMES = {
    "step": Quantity("step time", "ms"),
    "validation": Quantity("validation time", "ms"),
    "checkpoint": Quantity("checkpoint time", "ms"),
}
CLOCK = Quantity("time from step to step", "ms")  # with validation, checkpoints and all that no timer of verl sees


@dataclass(frozen=True)
class Series:
    """A quantity of a role, or of `ALL`, over hours since the first step."""

    quantity: Quantity
    role: str
    hours: np.ndarray
    values: np.ndarray
    warm_up: float  # hours

    def after(self) -> tuple[np.ndarray, np.ndarray]:
        """Hours and values after the warm-up."""
        kept = self.hours >= self.warm_up
        return self.hours[kept], self.values[kept]


def read(path: Path) -> list[dict]:
    """Samples in order; what was cut off in the middle of a line is left out."""
    found = []
    for line in path.read_text(errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
    return found


def series_of(samples: Sequence[dict]) -> list[Series]:
    """All series, from the first step on.

    Raises:
        TooFew: there was no step.
    """
    samples = [sample for sample in samples if sample["step"] > 0]
    if len(samples) < 2:
        raise TooFew(f"{len(samples)} samples after the first step")
    hours = (np.array([sample["seconds"] for sample in samples]) - samples[0]["seconds"]) / 3600
    warm_up = min(WARM_UP_HOURS, WARM_UP_SHARE * hours[-1])

    def series(quantity: Quantity, role: str, values: Sequence[float | None]) -> Series:
        values = np.array(values, dtype=float)  # None: nothing to measure, and left out
        there = np.isfinite(values)
        return Series(quantity, role, hours[there], values[there], warm_up)

    found = [series(CLOCK, ALL, list(_from_step_to_step(samples)))]
    for name, quantity in TIMES.items():
        times = [sample["times"].get(name) for sample in samples]
        found.append(series(quantity, ALL, [1000 * np.mean(each) if each else None for each in times]))
    found += [series(quantity, ALL, [sample[name] for sample in samples]) for name, quantity in WHOLE.items()]
    role_of = _roles(samples)
    roles = sorted(set(role_of.values()))
    for name, quantity in {**BY_ROLE, "count": PROCESSES}.items():
        sums = [_sums(sample["processes"], name, role_of) for sample in samples]
        found.append(series(quantity, ALL, [each.total() for each in sums]))
        found += [series(quantity, role, [each[role] for each in sums]) for role in roles]
    return found


def _roles(samples: Sequence[dict]) -> dict[int, str]:
    """Of each process the one that it mostly has: a title of Ray's has the base class while a method of that runs."""
    seen: dict[int, Counter[str]] = defaultdict(Counter)
    for sample in samples:
        for process in sample["processes"]:
            seen[process["pid"]][process["role"]] += 1
    return {pid: roles.most_common(1)[0][0] for pid, roles in seen.items()}


def _sums(processes: Sequence[dict], name: str, role_of: dict[int, str]) -> Counter[str]:
    sums: Counter[str] = Counter()
    for process in processes:
        sums[role_of[process["pid"]]] += process.get(name, 1)
    return sums


def _from_step_to_step(samples: Sequence[dict]) -> Iterator[float | None]:
    """Milliseconds a step since the sample before; None where there was none."""
    yield None
    last = samples[0]
    for sample in samples[1:]:
        if steps := sample["step"] - last["step"]:
            yield 1000 * (sample["seconds"] - last["seconds"]) / steps
            last = sample
        else:
            yield None
