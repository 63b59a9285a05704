"""Responses and ground truths to fuzz with. An item follows from its seed and number alone, so it can be made again."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from random import Random
from typing import NamedTuple

from tests.fuzz.latex import answer, expression
from tests.fuzz.vocabulary import CODE, ENDINGS, ENDLESS, PAIRS, STEPS, STRANGE, TOKENS

CORPUS = Path(__file__).resolve().parents[1] / "corpus" / "answers.jsonl"


class Item(NamedTuple):
    number: int
    kind: str
    response: str
    truth: str


def item(seed: int, number: int) -> Item:
    random = Random(f"{seed}:{number}")
    kind = random.choices(list(KINDS), [share for share, _ in KINDS.values()])[0]
    truth = _truth(random)
    said = truth if random.random() < 0.3 else answer(random)
    return Item(number, kind, KINDS[kind][1](random, said), truth)


def _truth(random: Random) -> str:
    draw = random.random()
    if draw < 0.85:
        return answer(random)
    text = answer(random) if random.random() < 0.5 else solution(random, answer(random))
    return text if draw < 0.93 else mutated(random, text)


def solution(random: Random, said: str) -> str:
    """What a model writes that knows what it is doing, with `said` as its answer; or a row of the corpus."""
    if (rows := corpus()) and random.random() < 0.3:
        return random.choice(rows)
    steps = [random.choice(STEPS).replace("%", expression(random, 1)) for _ in range(random.randint(0, 6))]
    return "\n".join([*steps, random.choice(ENDINGS).replace("%", said)])


@cache
def corpus() -> list[str]:
    """Every text in the corpus of answers; none if it is not there."""
    if not CORPUS.exists():
        return []
    rows = map(json.loads, filter(str.strip, CORPUS.read_text().splitlines()))
    return [text for row in rows for text in (row.values() if isinstance(row, dict) else row) if isinstance(text, str)]


def mutated(random: Random, text: str) -> str:
    for _ in range(random.choice([1, 1, 2, 4, 16, 64])):
        text = random.choice(_MUTATIONS)(random, text)[:20_000]
    return text


def _cut(random: Random, text: str) -> tuple[int, int]:
    """A short stretch of `text`, mostly; now and then any."""
    start = random.randrange(len(text) + 1)
    return start, min(len(text), start + random.choice([0, 1, 1, 2, 5, 20, 500]))


def _delete(random: Random, text: str) -> str:
    start, end = _cut(random, text)
    return text[:start] + text[end:]


def _repeat(random: Random, text: str) -> str:
    start, end = _cut(random, text)
    return text[:start] + text[start:end] * random.choice([2, 2, 3, 10, 50]) + text[end:]


def _insert(random: Random, text: str) -> str:
    start, end = _cut(random, text)
    return text[:start] + token(random) + text[random.choice([start, end]) :]


def _swap(random: Random, text: str) -> str:
    a, b = sorted(random.randrange(len(text) + 1) for _ in range(2))
    return text[:a] + text[b:] + text[a:b]


def _flip(random: Random, text: str) -> str:
    """One bit of one byte, as a damaged file or a wrong encoding would have it."""
    raw = bytearray(text.encode(errors="surrogatepass"))
    if raw:
        raw[random.randrange(len(raw))] ^= 1 << random.randrange(8)
    return raw.decode(errors=random.choice(["replace", "surrogateescape", "ignore"]))


_MUTATIONS = (_delete, _repeat, _insert, _insert, _swap, _flip)


def token(random: Random) -> str:
    return random.choice(TOKENS if random.random() < 0.8 else STRANGE)


def _soup(random: Random) -> str:
    return random.choice(["", " "]).join(token(random) for _ in range(random.choice([1, 5, 20, 100, 400])))


def _characters(random: Random) -> str:
    """Any code points, half of them from one small range so that they meet."""
    low = random.choice([0, 0, 0x20, 0x300, 0x600, 0x2000, 0x4E00, 0xD800, 0x1F300, 0xE0000])
    high = random.choice([0x80, 0x400, 0x110000 - low])
    return "".join(chr(low + random.randrange(high)) for _ in range(random.choice([1, 10, 100, 1000])))


def _boxed(random: Random) -> str:
    return random.choice([r"\boxed{%}", "The answer is $%$", "%"]).replace("%", _soup(random)[:500])


def _nested(random: Random) -> str:
    left, right = random.choice(PAIRS)
    depth = random.choice([3, 30, 300, 1500])
    inside = left * depth + expression(random, 1) + right * (depth - random.choice([0, 0, 1, depth]))
    return random.choice([r"\boxed{%}", "$%$", "%", "#### %"]).replace("%", inside)


def _injection(random: Random) -> str:
    code = random.choice(CODE)
    return random.choice([r"\boxed{%}", "%", r"\boxed{1+%}", r"\boxed{\text{%}}", "answer is %", "$%$"]).replace(
        "%", code
    )


def _hostile(random: Random) -> str:
    return random.choice([r"\boxed{%}", "$%$", "The answer is %."]).replace("%", random.choice(ENDLESS))


def _pumped(random: Random) -> str:
    """One short piece many times over: what a model does that is stuck, and what a slow pattern shows on."""
    piece = "".join(token(random) for _ in range(random.randint(1, 4)))
    size = random.choice([500, 5_000, 20_000] if random.random() < 0.98 else [1_000_000, 4_000_000])
    return (
        random.choice(["", solution(random, "7"), token(random)])
        + piece * (size // max(len(piece), 1))
        + random.choice(["", token(random)])
    )


KINDS = {
    "solution": (30, solution),
    "mutated": (30, lambda random, said: mutated(random, solution(random, said))),
    "soup": (10, lambda random, _: _soup(random)),
    "boxed soup": (10, lambda random, _: _boxed(random)),
    "characters": (5, lambda random, _: _characters(random)),
    "nested": (3, lambda random, _: _nested(random)),
    "injection": (5, lambda random, _: _injection(random)),
    "hostile": (0.5, lambda random, _: _hostile(random)),
    "pumped": (3, lambda random, _: _pumped(random)),
}  # fmt: skip
