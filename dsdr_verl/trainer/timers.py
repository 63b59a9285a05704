"""verl times two things a rollout with codetiming, which keeps every reading of a named timer while the process lives.
Nobody asks for them, so none is kept: `timing_s/*` comes from elsewhere.
"""

from __future__ import annotations

from codetiming import Timer


class _Forgetful(type(Timer.timers)):
    def add(self, name: str, value: float) -> None:
        pass


def install() -> None:
    """For this process, from now on."""
    Timer.timers = _Forgetful()
