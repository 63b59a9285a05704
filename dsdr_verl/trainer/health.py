"""What the numbers of a step say of the run: a loss that is no number, a gradient that explodes, a policy or a signal
that is gone. Every alarm is told and counted; those of `health.stop_on` end the run, before that step's checkpoint.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Mapping
from statistics import median
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, StrictInt

Kind = Literal["not_finite", "gradient", "entropy", "no_signal"]
WINDOW = 50  # gradient norms that are remembered
FEWEST = 8  # of them before one is called large
_WATCHED = (
    "actor/loss", "actor/pg_loss", "actor/grad_norm", "actor/entropy", "actor/dsdr_local", "actor/kl_loss",
    "actor/reward_kl_penalty",
)  # fmt: skip


class Unhealthy(RuntimeError):
    """An alarm of a kind that ends the run; the checkpoints before it are kept."""


class HealthOptions(BaseModel):
    """When to be alarmed, and of what to die."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # None: all alarms are told, none ends the run.
    stop_on: tuple[Kind, ...] = ("not_finite",)

    # verl skips an update whose gradient is not finite, so one of them does no harm. So many in a row do.
    not_finite_steps: StrictInt = Field(3, ge=1)

    # `gradient`: the norm before clipping is above this many times the median of the last 50 that were not 0.
    gradient_factor: float = Field(20.0, gt=1)

    # `entropy`, in nats a token: below it the policy is all but deterministic, and a group is n times one rollout.
    entropy_floor: float = Field(0.005, ge=0)

    # `no_signal`: so many steps in a row without an advantage other than 0.
    no_signal_steps: StrictInt = Field(10, ge=1)

    # A stage (generation, update, …) that takes longer ends the run: something hangs. None: never.
    stage_minutes: float | None = Field(120.0, gt=0)


class Health:
    """One a run."""

    def __init__(self, options: HealthOptions):
        self.options = options
        self._gradients: deque[float] = deque(maxlen=WINDOW)
        self._in_a_row: Counter[str] = Counter()

    def alarms(self, metrics: Mapping[str, float]) -> dict[str, str]:
        """What is wrong with a step, by kind: one sentence each.

        Args:
            metrics: verl's dictionary of one step.
        """
        found = {}
        if odd := [name for name in _WATCHED if name in metrics and not math.isfinite(metrics[name])]:
            found["not_finite"] = f"{', '.join(f'{name} is {metrics[name]}' for name in odd)}"
        norm = metrics.get("actor/grad_norm", math.nan)
        if math.isfinite(norm):
            usual = median(self._gradients) if len(self._gradients) >= FEWEST else math.inf
            if norm > self.options.gradient_factor * usual:
                found["gradient"] = f"the gradient's norm is {norm:.3g}, and was {usual:.3g} of late"
            if norm > 0:  # steps without a signal are no measure, however many they are
                self._gradients.append(norm)
        if metrics.get("actor/entropy", math.inf) < self.options.entropy_floor:
            found["entropy"] = f"the policy's entropy is {metrics['actor/entropy']:.2g} nats a token: it has collapsed"
        largest = max(abs(metrics.get(f"critic/advantages/{end}", math.nan)) for end in ("min", "max"))
        if self._repeated("no_signal", largest == 0) >= self.options.no_signal_steps:
            steps = self._in_a_row["no_signal"]
            found["no_signal"] = f"all advantages were 0 for {steps} steps: the problems are too hard, or too easy"
        self._repeated("not_finite", "not_finite" in found)
        return found

    def counts(self, alarms: Mapping[str, str]) -> dict[str, float]:
        """For the log: 1 for each kind that was alarmed at this step, else 0."""
        return {f"health/{kind}": float(kind in alarms) for kind in get_args(Kind)}

    def deadly(self, alarms: Mapping[str, str]) -> str | None:
        """What ends the run, if anything does."""
        for kind in self.options.stop_on:
            enough = kind != "not_finite" or self._in_a_row[kind] >= self.options.not_finite_steps
            if kind in alarms and enough:
                return f"{alarms[kind]} (health.stop_on has {kind}); the checkpoints before this step are kept"
        return None

    def steps_in_a_row(self, kind: Kind) -> int:
        """With a loss that is no number, or without a signal, up to the last step that was looked at."""
        return self._in_a_row[kind]

    def _repeated(self, kind: str, again: bool) -> int:
        self._in_a_row[kind] = self._in_a_row[kind] + 1 if again else 0
        return self._in_a_row[kind]
