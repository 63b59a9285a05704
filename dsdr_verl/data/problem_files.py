"""A file of a public set, made into the rows that verl reads: every row checked, every problem once."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dsdr_verl.data.layouts import Layout, normalise, parse
from dsdr_verl.data.rows import ABILITY, Row
from dsdr_verl.data.tables import Faults, read_rows

# Asked after every problem, in training and in evaluation alike; the verifier looks for the box first.
INSTRUCTION = r"Please reason step by step, and put your final answer within \boxed{}."


@dataclass(frozen=True)
class Item:
    """A problem and its answer; ``source_id`` is the dataset's own name for it, if it has one."""

    question: str
    truth: str
    source_id: str | None = None

    @property
    def id(self) -> str:
        """16 hex digits that depend on the problem and the answer alone, not on the file or its order."""
        return hashlib.sha256(f"{normalise(self.question)}\0{normalise(self.truth)}".encode()).hexdigest()[:16]


def problem_id(extra_info: Any, prompt: Sequence[Mapping[str, Any]], truth: str) -> str:
    """The id of a row in verl's format: the one in its ``extra_info``, else that of an `Item` with its question.

    Args:
        extra_info: the row's, whatever it is.
        prompt: messages, which stand for a question that is not there.
    """
    extra = extra_info if isinstance(extra_info, Mapping) else {}
    messages = [{"role": message["role"], "content": message["content"]} for message in prompt]
    question = extra.get("question") or json.dumps(messages, ensure_ascii=False)
    return str(extra.get("id") or Item(str(question), truth).id)


@dataclass
class Collected:
    """What a file holds. ``rows`` = items + repeated + unwanted + broken + disputed."""

    faults: Faults
    items: list[Item] = field(default_factory=list)  # in the order of the file
    rows: int = 0
    repeated: int = 0  # copies of an item that was there already
    unwanted: int = 0  # of another part of the dataset
    broken: int = 0
    disputed: int = 0  # distinct items that share a problem or a source id, but not the answer: none can be trusted


def collect(path: Path, layout: type[Layout], advance: Callable[[], None] = lambda: None) -> Collected:
    """Read every row; nothing raises for what a file holds, and ``faults`` lists what is wrong with it.

    ``advance`` is called after every row.
    """
    found = Collected(Faults(path))
    seen: dict[str, tuple[str, Item]] = {}  # by item id: the first copy, and its place
    for place, row in read_rows(path, found.faults, layout.columns(required=True), layout.columns(required=False)):
        found.rows += 1
        advance()
        parsed = parse(layout, row)
        if isinstance(parsed, list):
            found.broken += 1
            for text in parsed:
                found.faults.add(place, text)
        elif not parsed.wanted:
            found.unwanted += 1
        else:
            item = Item(parsed.question, parsed.truth, parsed.source_id)
            found.repeated += item.id in seen
            seen.setdefault(item.id, (place, item))
    disputed = _disputed(list(seen.values()), found.faults)
    found.items = [item for _, item in seen.values() if item.id not in disputed]
    found.disputed = len(disputed)
    if not found.items and not found.faults.count:
        found.faults.add(
            "", f"has none of the problems that are used ({found.unwanted} of other kinds): see docs/data.md"
        )
    return found


def _disputed(placed: list[tuple[str, Item]], faults: Faults) -> set[str]:
    """The ids of all items that share their problem or their source id with an item of another answer."""
    claims: dict[str, list[tuple[str, Item]]] = defaultdict(list)
    for place, item in placed:
        claims[f"problem {normalise(item.question)}"].append((place, item))
        if item.source_id is not None:
            claims[f"id {item.source_id}"].append((place, item))
    disputed: set[str] = set()
    for key, ((there, first), *others) in claims.items():
        truth = normalise(first.truth)
        for place, item in others:
            if normalise(item.truth) != truth and item.id not in disputed:
                name = "problem" if key.startswith("problem ") else f"id {item.source_id!r}"
                answers = f"{item.truth[:40]!r}, there {first.truth[:40]!r}"
                faults.add(place, f"the {name} is also on {there}, with another answer ({answers}): keep one")
        if any(normalise(item.truth) != truth for _, item in others):
            disputed |= {item.id for _, item in (*others, (there, first))}
    return disputed


def to_row(item: Item, source: str, split: str, index: int, prompt: list[dict[str, str]] | None = None) -> Row:
    """Write an item as verl reads it; ``prompt`` defaults to the problem and `INSTRUCTION` as one message.

    All files have the same columns and keys, so that several can be given to ``data.val_files`` at once.
    """
    return {
        "data_source": source,
        "prompt": prompt or [{"role": "user", "content": f"{item.question}\n\n{INSTRUCTION}"}],
        "ability": ABILITY,
        "reward_model": {"style": "rule", "ground_truth": item.truth},
        "extra_info": {
            "split": split,
            "index": index,
            "id": item.id,
            "question": item.question,
            "source_id": item.source_id or "",
        },
    }
