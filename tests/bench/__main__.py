"""Measurements, written to docs/performance.md: each part replaces its own section there and no other.

python -m tests.bench [training] [scoring] [memory]; all if none is named.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from tests.bench import page

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    arguments = parse()
    for name in arguments.parts or PARTS:
        section = PARTS[name](arguments)
        print(section, flush=True)
        page.put(arguments.out, name, section)
    print(f"written to {arguments.out}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}; all if none is named")
    parser.add_argument("--profile", default="demo", choices=["demo", "tiny"], help="training: what to train")
    parser.add_argument(
        "--steps", type=int, default=5, help="training: steps of each run; the first is left out as a warm-up"
    )
    parser.add_argument("--quick", action="store_true", help="scoring, memory: small sizes, to see that it runs")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "performance.md")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    return arguments


def _training(arguments: argparse.Namespace) -> str:
    from tests.bench import training

    return training.section(arguments.profile, arguments.steps)


def _scoring(arguments: argparse.Namespace) -> str:
    from tests.bench import scoring

    return scoring.section(arguments.quick)


def _memory(arguments: argparse.Namespace) -> str:
    from tests.bench import memory

    return memory.section(arguments.quick)


PARTS: dict[str, Callable[[argparse.Namespace], str]] = {
    "training": _training,
    "scoring": _scoring,
    "memory": _memory,
}

if __name__ == "__main__":
    main()
