"""Verdicts a second on ordinary answers: ours against verl's built-in and plain math-verify, all on the same core."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from statistics import median

from tests.bench.problems import Problem, Rollout, group, problems
from tests.bench.race import Contender, Heat
from tests.bench.report import code, say, table, target

NAMES = ("ours", "verl", "plain")
GROUP = 8
TARGET = 5.0
Maker = Callable[[str, int, Random], list[list[Rollout]]]


def section(rounds: int, prompts: int) -> tuple[list[str], float]:
    """Markdown, and our seconds an item on MATH in groups, for the cost model."""
    contenders = {name: Contender(name) for name in NAMES}
    try:
        stages = [
            (f"{name}, {kind}", heats(contenders, rounds, make(files, rounds + 1, prompts)))
            for kind, make, files in (
                ("groups of 8", grouped, ("GSM8K", "MATH-500")),
                ("all different", distinct, MORE),
            )
            for name, files in ((file.split(",")[0], file) for file in files)
        ]
    finally:
        for contender in contenders.values():
            contender.close()
    lines = ["### Ordinary answers", "", _explained(rounds, prompts)]
    lines += table(
        ["", *(f"{name}, items/s" for name in NAMES), "ours / verl's", "ours / plain"],
        [_row(*stage) for stage in stages],
    )
    ratios = {name: median(h["verl"].seconds / h["ours"].seconds for _, h in rows) for name, rows in stages}
    worst = min(ratios, key=ratios.__getitem__)
    said = ", ".join(f"{ratio:.1f}x ({name})" for name, ratio in ratios.items())
    lines += target("against verl's built-in", f"at least {TARGET:.0f}x everywhere", said, ratios[worst] >= TARGET)
    rows = dict(stages)["MATH-500, groups of 8"]
    return lines + differences(stages), median(h["ours"].seconds / len(r) for r, h in rows)


MORE = ("GSM8K, more", "MATH, more")


def _explained(rounds: int, prompts: int) -> str:
    return (
        f"Each of {rounds} rounds has {prompts} problems that no earlier round had, so nothing is cached from before; "
        "a first round is left out, in which each process warms its parser up. The three take turns, each pinned to "
        "the same core with all its processes: ours with one worker, verl's `math_verify.compute_score` with its pool "
        "of four behind four threads, math-verify called in a loop. A group is 8 rollouts of one problem, a quarter to "
        "three quarters of them right, in the truth's spelling or another, the wrong ones near misses or another "
        'problem\'s answer. "All different" takes one rollout a problem, of twice as many problems, so that hardly a '
        "verdict or a parsed truth is of use twice. Medians."
    )


def grouped(file: str, rounds: int, prompts: int) -> list[list[Rollout]]:
    return _rollouts(file, rounds, prompts, GROUP)


def distinct(file: str, rounds: int, prompts: int) -> list[list[Rollout]]:
    return _rollouts(file, rounds, 2 * prompts, 1)


def _rollouts(file: str, rounds: int, prompts: int, size: int) -> list[list[Rollout]]:
    random = Random(file)
    pool = problems(file)
    random.shuffle(pool)
    per_round = min(prompts, len(pool) // rounds)
    chosen: list[list[Problem]] = [pool[i * per_round : (i + 1) * per_round] for i in range(rounds)]
    return [[r for problem in some for r in group(problem, pool, size, random)] for some in chosen]


def heats(
    contenders: dict[str, Contender], rounds: int, batches: list[list[Rollout]]
) -> list[tuple[list[Rollout], dict[str, Heat]]]:
    """Every batch given to every contender, in another order each time; the first batch is not counted."""
    found = []
    for turn, rollouts in enumerate(batches):
        pairs = [(r.response, r.truth) for r in rollouts]
        order = [NAMES[(turn + k) % len(NAMES)] for k in range(len(NAMES))]
        by_name = {name: contenders[name].judge(pairs) for name in order}
        rates = ", ".join(f"{name} {len(pairs) / heat.seconds:.0f}/s" for name, heat in sorted(by_name.items()))
        say(f"verdicts, round {turn} of {rounds}{' (warm-up)' if turn == 0 else ''}: {len(pairs)} items: {rates}")
        if turn:
            found.append((rollouts, by_name))
    return found


def _row(name: str, rows: list[tuple[list[Rollout], dict[str, Heat]]]) -> list[str]:
    rates = [f"{median(len(rollouts) / heat[who].seconds for rollouts, heat in rows):.0f}" for who in NAMES]
    ratios = [f"{median(heat[who].seconds / heat['ours'].seconds for _, heat in rows):.1f}" for who in NAMES[1:]]
    return [name, *rates, *ratios]


def differences(stages: list[tuple[str, list[tuple[list[Rollout], dict[str, Heat]]]]]) -> list[str]:
    """Every (answer, truth) on which the three do not agree, once."""
    seen: dict[tuple[str, str], list[str]] = {}
    items = 0
    for _, rows in stages:
        for rollouts, by_name in rows:
            items += len(rollouts)
            for i, rollout in enumerate(rollouts):
                verdicts = [
                    by_name[name].verdicts[i].value if i in by_name[name].verdicts else "none" for name in NAMES
                ]
                if len({verdict == "correct" for verdict in verdicts}) > 1:
                    made = "right" if rollout.right else "wrong"
                    seen[rollout.said, rollout.truth] = [code(rollout.said), code(rollout.truth), made, *verdicts]
    lines = [f"The verdicts differ on {len(seen)} distinct pairs among {items} items:", "", "<details>"]
    return [*lines, *table(["answer", "truth", "made", *NAMES], sorted(seen.values())), "</details>", ""]
