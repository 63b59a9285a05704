"""Train the countdown model of the laptop-scale study from scratch, on one CPU core.

It is shown each problem with a solution drawn at random among all of its modes, now and then with a wrong one, always
step by step: at temperature 1 it is right in a part of its answers and in many ways, which is what an RL run with a
diversity term needs to start from.
"""

from __future__ import annotations

import argparse
import operator
import random
from itertools import combinations_with_replacement
from typing import NamedTuple

import torch

from dsdr_verl.data.countdown import SMALLEST, TINY_COUNTDOWN, Countdown, in_split
from dsdr_verl.data.models import COMMITTED
from dsdr_verl.data.models import TINY_COUNTDOWN as NAME
from dsdr_verl.scoring.arithmetic import combined, fold, read
from dsdr_verl.scoring.countdown import mode_of_response
from dsdr_verl.scoring.modes import modes_by_target
from recipe import from_scratch
from recipe.from_scratch import Example

TASK = TINY_COUNTDOWN
NUMBER_OR_SIGN = r"[0-9]{1,2}|[\s\S]"
VOCABULARY = 208
WIDTH, LAYERS = 128, 4


class Solved(NamedTuple):
    """A training problem with one of its modes."""

    problem: Countdown
    mode: str
    others: list[str]  # every mode of these numbers, whatever it reaches


def solved_problems() -> list[Solved]:
    """Each mode of each problem of the training split that has two or more, so also of easier and harder ones."""
    solved = []
    for numbers in combinations_with_replacement(range(SMALLEST, TASK.largest_number + 1), TASK.numbers):
        if in_split(numbers, "train"):
            found = {target: sorted(modes) for target, modes in modes_by_target(numbers, TASK.operators).items()}
            others = [mode for modes in found.values() for mode in modes]
            for target, modes in found.items():
                if target <= TASK.largest_target and len(modes) > 1:
                    solved += [Solved(Countdown(target, numbers), mode, others) for mode in modes]
    return solved


def show(solved: Solved, rng: random.Random, noise: float) -> Example:
    """Ask a problem, its numbers in any order, and answer it; with probability `noise` by any mode of its numbers."""
    mode = rng.choice(solved.others) if rng.random() < noise else solved.mode
    numbers = rng.sample(solved.problem.numbers, TASK.numbers)
    return TASK.ask(Countdown(solved.problem.target, tuple(numbers))), written_out(mode)


def written_out(expression: str) -> str:
    """The steps of an expression, a line each, and then the expression."""
    lines = []

    def step(symbol: str, left: int, right: int) -> int:
        lines.append(f"{left}{symbol}{right}={combined(symbol, left, right)}")
        return combined(symbol, left, right)

    fold(read(expression), int, step, operator.neg)
    return "\n".join([*lines, expression])


def train(args: argparse.Namespace) -> None:
    """Run the training."""
    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    solved = solved_problems()

    def draw(count: int) -> list[Example]:
        return [show(one, rng, args.noise) for one in rng.choices(solved, k=count)]

    numbers = [str(number) for number in range(100) for _ in range(100)]  # each of them a token
    tokenizer = from_scratch.build_tokenizer(numbers, NUMBER_OR_SIGN, VOCABULARY)
    model = from_scratch.build_model(tokenizer, VOCABULARY, WIDTH, LAYERS)
    held_out = {split: TASK.problems(split, 64, args.seed) for split in ("train", "val")}

    def report() -> dict:
        return {
            split: from_scratch.describe(
                model,
                tokenizer,
                [TASK.ask(problem) for problem in asked],
                [lambda text, truth=problem.truth: mode_of_response(text, truth) for problem in asked],
            )
            for split, asked in held_out.items()
        }

    from_scratch.fit(model, tokenizer, draw, report, args)


def main() -> None:
    """Parse the command line and train."""
    args = from_scratch.parser(__doc__, COMMITTED[NAME], steps=1500, batch=128, noise=0.2).parse_args()
    torch.set_num_threads(1)
    train(args)


if __name__ == "__main__":
    main()
