"""Train the tiny model of the tests and quick studies from scratch, on one CPU core.

It learns arithmetic from solutions written in several styles, some of them wrong on purpose: at temperature 1 it is
right about half of the time and in many ways, which is what an RL run with a diversity term needs to start from.
"""

from __future__ import annotations

import argparse
import random
import re

import torch

from dsdr_verl.data.models import COMMITTED, TINY
from dsdr_verl.data.tasks import TINY_ARITHMETIC, Problem
from recipe import from_scratch
from recipe.from_scratch import Example

TASK = TINY_ARITHMETIC
WORD_OR_SIGN = r"\\boxed\{| ?[A-Za-z]+|[\s\S]"
VOCABULARY = 128


def solve(problem: Problem, rng: random.Random, noise: float) -> str:
    """Write one solution in a style drawn at random; with probability ``noise`` its result is slightly wrong."""
    slip = rng.choice([-10, -2, -1, 1, 2, 10]) if rng.random() < noise else 0
    right = problem.answer
    result = right + slip if right + slip >= 0 else right - slip
    a, b, *rest = problem.operands
    if problem.kind == "difference":
        steps = rng.choice([f"{a}-{b}={result}", f"{a}-{b}={result}", f"{b}+{result}={a}, so the answer is {result}"])
        if b >= 10 and rng.random() < 0.5:
            steps = f"{a}-{b // 10 * 10}={a - b // 10 * 10}, {a - b // 10 * 10}-{b % 10}={result}"
    elif problem.kind == "product":
        low, high = sorted((a, b))
        steps = rng.choice([f"{a}*{b}={result}", f"{b}*{a}={result}"])
        if low <= 4 and rng.random() < 0.5:
            steps = f"{'+'.join([str(high)] * low)}={result}"
    elif rest:
        x, y, z = rng.sample(problem.operands, 3)
        steps = rng.choice([f"{x}+{y}={x + y}, {x + y}+{z}={result}", f"{x}+{y}={x + y}, {z}+{x + y}={result}"])
        if rng.random() < 0.25:
            steps = f"{x}+{y}+{z}={result}"
    else:
        if rng.random() < 0.5:
            a, b = b, a
        tens, ones = a // 10 * 10 + b // 10 * 10, a % 10 + b % 10
        steps = rng.choice(
            [
                f"{a}+{b}={result}",
                f"{a // 10 * 10}+{b // 10 * 10}={tens}, {a % 10}+{b % 10}={ones}, {tens}+{ones}={result}",
                f"{a}+{b // 10 * 10}={a + b // 10 * 10}, {a + b // 10 * 10}+{b % 10}={result}",
            ]
        )
    if "answer" in steps:
        return steps
    return rng.choice(
        [
            steps,
            f"${steps}$",
            f"{steps}, so the answer is {result}",
            f"{steps}. Answer: {result}",
            steps.removesuffix(str(result)) + f"\\boxed{{{result}}}",
        ]
    )


def answer_of(response: str) -> str | None:
    """Take the last number: every style ends with the result."""
    numbers = re.findall(r"-?\d+", response.replace("-", " -"))
    return numbers[-1] if numbers else None


def train(args: argparse.Namespace) -> None:
    """Run the training."""
    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    pools = [[p for p in problems if p.split == "train"] for problems in TASK.pools]

    def draw(count: int) -> list[Example]:
        problems = [rng.choice(pool) for pool in rng.choices(pools, TASK.shares, k=count)]
        return [(TASK.ask(problem), solve(problem, rng, args.noise)) for problem in problems]

    tokenizer = from_scratch.build_tokenizer([text for _, text in draw(5000)], WORD_OR_SIGN, VOCABULARY)
    model = from_scratch.build_model(tokenizer, VOCABULARY, width=128, layers=4)
    held_out = TASK.problems("val", 64, seed=args.seed)
    questions = [TASK.ask(problem) for problem in held_out]
    keys = [lambda text, truth=problem.truth: text if answer_of(text) == truth else None for problem in held_out]
    from_scratch.fit(model, tokenizer, draw, lambda: from_scratch.describe(model, tokenizer, questions, keys), args)


def main() -> None:
    """Parse the command line and train."""
    args = from_scratch.parser(__doc__, COMMITTED[TINY], steps=800, batch=128, noise=0.3).parse_args()
    torch.set_num_threads(1)
    train(args)


if __name__ == "__main__":
    main()
