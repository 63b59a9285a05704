"""What can come of a response."""

from __future__ import annotations

from enum import Enum


class Verdict(str, Enum):
    """What came of one response. Only `correct` earns a reward."""

    correct = "correct"
    incorrect = "incorrect"
    no_answer = "no_answer"  # nothing in the response that could be an answer
    unparsable = "unparsable"  # an answer that is no mathematics, or too long
    timeout = "timeout"  # the answer took longer than the limit
    error = "error"  # too much memory, workers that died each time, or a ground truth without meaning
