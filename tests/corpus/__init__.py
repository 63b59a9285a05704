"""Answers with labels set by hand, and a comparison of judges on them (`python -m tests.corpus.compare`)."""

from __future__ import annotations

import json
from pathlib import Path

HERE = Path(__file__).parent


def load(name: str) -> list[dict]:
    """The rows of one file: answers, tricks or honest."""
    with open(HERE / f"{name}.jsonl", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
