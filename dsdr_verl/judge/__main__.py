"""`python -m dsdr_verl.judge rollouts.jsonl --endpoint URL --model NAME`: a judge model's scores of diversity."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dsdr_verl.data.cache import cache_root
from dsdr_verl.evaluation.intervals import mean_intervals
from dsdr_verl.judge.answers import Answers
from dsdr_verl.judge.endpoint import Endpoint, EndpointOptions, Unusable
from dsdr_verl.judge.problems import FEWEST, Selection, read_problems
from dsdr_verl.judge.prompt import DIMENSIONS, HIGHEST, PROMPT_VERSION
from dsdr_verl.judge.run import JudgeJob
from dsdr_verl.progress import progress_bar
from dsdr_verl.rollout_files import SUFFIXES, read_rollouts, suffix_of, write_rollouts
from dsdr_verl.signals import terminated_is_interrupted

TOLERATED = 1.0  # points that the mean of a control may be off before the summary warns

DESCRIPTION = """\
Logic, formula and semantic diversity of the correct solutions of each problem, 0 to 10, scored by a language model
behind an OpenAI-compatible endpoint. Writes a row a problem (docs/judge.md)."""

EPILOG = """
a row:    as for python -m dsdr_verl.score; a column `verdict` is taken as it is, without one our verifier decides
example:  python -m dsdr_verl.judge rollouts.scored.jsonl --endpoint http://127.0.0.1:8000/v1 --model Qwen/Qwen3-32B
exit:     0 every problem with 2 correct rollouts judged, 1 some missing, 2 bad input or endpoint, 130 interrupted
          answers are kept: the same command goes on where it stopped, and asks again only for what is missing
"""


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    args = _parser().parse_args(arguments)
    terminated_is_interrupted()
    try:
        if args.concurrency < 1 or args.controls < 0:
            raise ValueError("--concurrency must be at least 1, and --controls at least 0")
        options = EndpointOptions(**{field.name: getattr(args, field.name) for field in fields(EndpointOptions)})
        selection = Selection(args.max_solutions, args.max_chars, args.seed)
        key = _key(args.api_key_env)
        out = _output(args.file, args.out, args.force)
        return asyncio.run(_judge(args, options, selection, key, out))
    except (ValueError, Unusable) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; answers so far are kept, and the same command goes on", file=sys.stderr)
        return 130


async def _judge(
    args: argparse.Namespace, options: EndpointOptions, selection: Selection, key: str | None, out: Path
) -> int:
    start = time.perf_counter()
    try:
        problems = await read_problems(read_rollouts(args.file), args.group_by, selection)
    except ValueError as error:
        raise ValueError(f"{args.file}: {error}") from error
    if not any(len(problem.solutions) >= FEWEST for problem in problems):
        raise ValueError(f"{args.file}: none of {len(problems)} problems has {FEWEST} correct rollouts to compare")
    answers = Answers(args.cache or cache_root() / "judge.sqlite")
    endpoint = Endpoint(options, key)
    bar = progress_bar(Console(stderr=True))
    try:
        job = JudgeJob(problems, endpoint, answers, args.both_orders, args.controls)
        with bar:
            task = bar.add_task("questions", total=job.n_questions, completed=job.n_kept)
            await job.run(args.concurrency, lambda: bar.advance(task))
    except Unusable as error:
        kept = f"{job.n_answered} of {job.n_questions} answers are kept"
        raise Unusable(f"{error}\n{kept}; the same command goes on") from error
    finally:
        await endpoint.close()
        answers.close()
    table = job.table()
    write_rollouts(table, out)
    _print_summary(table, job, selection, time.perf_counter() - start)
    n_missing = int((table["status"] == "missing").sum())
    again = f" ({n_missing} missing: the same command with --force asks for them again)" if n_missing else ""
    print(f"written to {out}{again}")
    return 1 if n_missing else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dsdr_verl.judge",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("file", type=Path, metavar="ROLLOUTS", help=f"rollouts, a row each: {', '.join(SUFFIXES)}")
    add("--endpoint", required=True, metavar="URL", help="of an OpenAI-compatible server, up to /v1")
    add("--model", required=True, metavar="NAME", help="as the endpoint calls it")
    add("--api-key-env", metavar="NAME", help="the environment variable that holds the key; default: no key")
    add("--out", type=Path, metavar="FILE", help=f"{', '.join(SUFFIXES)}; default: ROLLOUTS with .judged")
    add("--force", action="store_true", help="overwrite the output")
    add("--group-by", metavar="COLUMN", help="what tells the problems apart; default: uid, else prompt, else input")
    add(
        "--both-orders", action="store_true", help="ask a second time with the solutions reversed; scores are the means"
    )
    add("--controls", type=int, default=5, metavar="N", help="problems to test the judge itself on (%(default)s)")
    for options in (Selection, EndpointOptions):
        for field in fields(options):
            if field.name not in ("endpoint", "model"):
                flag, kind = f"--{field.name.replace('_', '-')}", type(field.default)
                add(flag, type=kind, default=field.default, metavar="N", help=_HELP[field.name] + " (%(default)s)")
    add("--concurrency", type=int, default=8, metavar="N", help="questions at a time (%(default)s)")
    add("--cache", type=Path, metavar="FILE", help="where answers are kept; default: judge.sqlite in $DSDR_CACHE")
    return parser


_HELP = {
    "max_solutions": "of a problem; of more, as many drawn with the seed",
    "max_chars": "of a solution; the middle of a longer one is left out",
    "seed": "of the choice and the order of the solutions",
    "temperature": "of the judge",
    "max_tokens": "of a reply, thoughts included",
    "timeout": "seconds for a request",
    "retries": "of a request after 429, 5xx, a timeout or a lost connection, with backoff",
    "attempts": "at a question while replies are invalid",
}


def _key(variable: str | None) -> str | None:
    """The key. No message repeats the argument: people paste the key itself."""
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ValueError("--api-key-env must name an environment variable that is set; it is not the key itself")
    if not (key.isascii() and key.isprintable()):
        raise ValueError("the variable that --api-key-env names holds no key: it must be ASCII, on one line")
    return key


def _output(file: Path, out: Path | None, force: bool) -> Path:
    suffix = suffix_of(file)
    out = out or file.with_name(file.name.removesuffix(suffix) + ".judged" + suffix)
    suffix_of(out)
    if not os.access(out.parent, os.W_OK):
        raise ValueError(f"--out {out}: its folder is missing or cannot be written to; create it or name another")
    if out.exists() and not force:
        raise ValueError(f"{out} is there already; name another with --out, or overwrite it with --force")
    return out


def _print_summary(table: pd.DataFrame, job: JudgeJob, selection: Selection, seconds: float) -> None:
    judged = table[table["status"] == "judged"]
    sizes = judged["n_solutions"]
    counts = {status: int((table["status"] == status).sum()) for status in ("judged", "missing", "too_few")}
    shown = Table(show_header=False)

    def add(name: str, value: str) -> None:
        shown.add_row(name, Text(value))  # as text, for a reason may look like markup

    add("judge", f"{job.endpoint.options.model}, prompt {PROMPT_VERSION}")
    too_few = f"{counts['too_few']} with fewer than {FEWEST} correct rollouts"
    add("problems", f"{len(table)}: {counts['judged']} judged, {counts['missing']} missing, {too_few}")
    for reason, count in table["reason"].value_counts().head(5).items():
        add("missing because", f"{count}: {reason}")
    if len(judged):
        cut = f"{judged['n_cut'].sum()} cut to {selection.max_chars} characters"
        add("solutions", f"{sizes.min()} to {sizes.max()} a problem, {cut}")
        points = mean_intervals(judged[list(DIMENSIONS)].to_numpy(float), bounds=(0, HIGHEST))
        for name, point in zip(DIMENSIONS, points, strict=True):
            add(f"{name} diversity", f"{point.estimate:.2f} [{point.low:.2f}, {point.high:.2f}] of {HIGHEST}")
        orders = np.array(judged["orders"].tolist(), dtype=float)  # [P, orders, dimensions]
        if orders.shape[1] == 2:
            gaps = np.abs(orders[:, 0] - orders[:, 1]).mean(axis=0)
            add("gap of the two orders", _by_name(gaps))
    if len(controlled := table["controls"].dropna()):
        copies, high, low = np.array(controlled.tolist(), dtype=float).mean(axis=0)
        add("control: copies of one", f"{_by_name(copies)} (0 is right; {len(controlled)} problems)")
        add("control: pleas", f"{_by_name(high - low)} apart (0 is right)")
        if max(*copies, *np.abs(high - low)) > TOLERATED:
            add("this judge", "fails its controls: its scores cannot be relied on (docs/judge.md)")
    schema = "" if job.endpoint.structured else " (this endpoint takes no JSON schema)"
    add("requests", f"{job.endpoint.requests}{schema}; {job.n_kept} answers were kept from before")
    add("time", f"{seconds:.1f} s")
    Console(highlight=False, width=None if sys.stdout.isatty() else 110).print(shown)


def _by_name(values: np.ndarray) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in zip(DIMENSIONS, values, strict=True))


if __name__ == "__main__":
    sys.exit(main())
