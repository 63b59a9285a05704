"""Why something failed, from the far end of a chain of Ray errors."""

from __future__ import annotations

import ray

LONGEST_CAUSE = 800  # characters of an error shown on the console; the log has all


def describe(error: BaseException) -> str:
    """The root of a chain of Ray errors, in its own words."""
    while isinstance(error, ray.exceptions.RayTaskError) and error.cause is not None:
        error = error.cause
    text = str(error).strip()
    if len(text) > LONGEST_CAUSE:
        text = f"{text[:LONGEST_CAUSE]} …"
    return f"{type(error).__name__}: {text}"
