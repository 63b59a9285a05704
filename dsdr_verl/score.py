"""`python -m dsdr_verl.score rollouts.jsonl`: what DSDR makes of rollouts, whoever trained. Or `score_rollouts`."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from dsdr_verl.algorithm.options import DSDROptions
from dsdr_verl.progress import progress_bar
from dsdr_verl.ray_address import joins_cluster, prepare_ray
from dsdr_verl.rollout_files import SUFFIXES, read_rollouts, suffix_of, write_rollouts
from dsdr_verl.rollouts import ScoringJob, score_rollouts, summarise
from dsdr_verl.scoring.options import ScoringOptions
from dsdr_verl.scoring.scorer import RolloutScore
from dsdr_verl.scoring.verifier import Verdict
from dsdr_verl.signals import terminated_is_interrupted

if TYPE_CHECKING:
    from dsdr_verl.scoring.service import ScoringClient

__all__ = ["score_rollouts", "summarise"]

DESCRIPTION = """\
Verdicts, diversities, bonuses, coupling weights and advantages of the rollouts in a file: the verifier, the encoder and
the equations that DSDR trains with. Writes the file's rows and columns, and new columns (docs/score.md)."""

EPILOG = r"""
a row:    {"uid": "p1", "response": "… so \\boxed{12}", "ground_truth": "12"}
          `prompt` may stand for `uid`, and verl's `reward_model.ground_truth` for `ground_truth`;
          `reward` is optional: the task's, where it is more than 1 if correct and else 0
example:  python -m dsdr_verl.score rollouts.jsonl algorithm.dsdr.lambda_d=0.01 scoring.verifier.workers=4
exit:     0 done, 1 failed, 2 bad input and nothing scored, 130 interrupted
"""


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    args = _parser().parse_intermixed_args(arguments)
    try:
        scoring, dsdr, norm_by_std = _options(args.overrides)
        out = _output(args.file, args.out, args.force)
        frame = read_rollouts(args.file)
        try:
            job = ScoringJob(frame, args.group_by)
        except ValueError as error:
            raise ValueError(f"{args.file}: {error}") from error
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # transformers' own, as it loads the encoder
    terminated_is_interrupted()
    code = 0
    try:
        with _scorer(scoring, args.ray) as scorer, _bar(len(job.scores)) as advance:
            job.run(scorer, advance)
    except (KeyboardInterrupt, Exception) as error:
        code = 130 if isinstance(error, KeyboardInterrupt) else 1
        if code == 1:
            traceback.print_exception(error)
        what = "interrupted" if code == 130 else "failed"
        print(f"{what} after {job.done} of {len(job.scores)} rollouts; whole groups are kept", file=sys.stderr)
        out = _with_mark(out, ".partial")
    table = job.table(dsdr, norm_by_std)
    if len(table):
        try:
            write_rollouts(table, out)
        except OSError as error:  # a full disk must not cost hours of scoring
            code = code or 1
            print(f"{out} cannot be written ({error}); the scores go to another place", file=sys.stderr)
            out = Path(tempfile.mkdtemp(prefix="dsdr_scores_")) / out.name
            write_rollouts(table, out)
        _print_summary(table, job.seconds, out)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dsdr_verl.score",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, metavar="FILE", help=f"rollouts, a row each: {', '.join(SUFFIXES)}")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="options named as in training: scoring.*, algorithm.dsdr.*, algorithm.norm_adv_by_std_in_grpo",
    )
    parser.add_argument("--out", type=Path, help="default: FILE with .scored before its suffix")
    parser.add_argument("--force", action="store_true", help="overwrite the output")
    parser.add_argument("--group-by", metavar="COLUMN", help="what tells the groups apart; default: uid, else prompt")
    parser.add_argument(
        "--ray",
        action="store_true",
        default="RAY_ADDRESS" in os.environ,
        help="score in scoring.actors=N Ray actors, on the cluster at RAY_ADDRESS if that is set (which implies --ray)",
    )
    return parser


def _options(overrides: list[str]) -> tuple[ScoringOptions, DSDROptions, bool]:
    try:
        config = OmegaConf.to_container(OmegaConf.from_dotlist(overrides))
    except Exception as error:  # YAML's and OmegaConf's own
        raise ValueError(f"{' '.join(overrides)} cannot be read as key=value ({error})") from error
    scoring, algorithm = config.pop("scoring", {}), config.pop("algorithm", {})
    sections = {"scoring": scoring, "algorithm": algorithm}
    if isinstance(algorithm, Mapping):
        sections["algorithm.dsdr"] = dsdr = algorithm.pop("dsdr", {})
        norm_by_std = algorithm.pop("norm_adv_by_std_in_grpo", True)
        config |= {f"algorithm.{key}": value for key, value in algorithm.items()}
    wrong = [*config, *(key for key, value in sections.items() if not isinstance(value, Mapping))]
    if wrong:
        raise ValueError(
            f"{', '.join(wrong)}: no option of this command, which takes scoring.<option>=…, algorithm.dsdr.<option>=… "
            "and algorithm.norm_adv_by_std_in_grpo=…, as training does"
        )
    if not isinstance(norm_by_std, bool):
        raise ValueError(f"algorithm.norm_adv_by_std_in_grpo is {norm_by_std!r}; set it to true or false")
    return ScoringOptions.from_mapping(scoring), DSDROptions.from_mapping(dsdr), norm_by_std


def _output(file: Path, out: Path | None, force: bool) -> Path:
    suffix = suffix_of(file)
    out = out or _with_mark(file, ".scored")
    if suffix_of(out).removesuffix(".gz") != suffix.removesuffix(".gz"):
        raise ValueError(f"--out {out} must end in {suffix}, as the input does")
    if not os.access(out.parent, os.W_OK):
        raise ValueError(f"--out {out}: its folder is missing or cannot be written to; create it or name another")
    if out.exists() and not force:
        raise ValueError(f"{out} is there already; name another with --out, or overwrite it with --force")
    return out


def _with_mark(path: Path, mark: str) -> Path:
    suffix = suffix_of(path)
    return path.with_name(path.name.removesuffix(suffix) + mark + suffix)


@contextlib.contextmanager
def _scorer(options: ScoringOptions, on_ray: bool) -> Iterator[ScoringOptions | ScoringClient]:
    if not on_ray:
        yield options
        return
    if not joins_cluster():
        prepare_ray()
    import ray

    from dsdr_verl.scoring.service import ScoringClient
    from dsdr_verl.trainer.traces import Traces

    traces = Traces.begin()
    try:
        with traces.of_ray():
            # without RAY_ADDRESS Ray would join whatever was last started on this machine
            ray.init(os.environ.get("RAY_ADDRESS") or "local", logging_level="ERROR", log_to_driver=False)
        client = ScoringClient.connect(options)
        yield client
        client.close()
    finally:
        traces.remove(ray.shutdown)


@contextlib.contextmanager
def _bar(total: int) -> Iterator[Callable[[RolloutScore], None]]:
    verdicts: Counter[str] = Counter()
    bar = progress_bar(Console(stderr=True))

    def advance(score: RolloutScore) -> None:
        verdicts[score.verdict] += 1
        counts = "  ".join(f"{name} {count}" for name, count in verdicts.most_common())
        bar.update(task, advance=1, description=f"{bar.tasks[0].speed or 0:.0f}/s  {counts}")

    with bar:
        task = bar.add_task("loading", total=total)
        yield advance


def _print_summary(table: pd.DataFrame, seconds: float, out: Path) -> None:
    metrics = {key.removeprefix("dsdr/"): value for key, value in summarise(table).items()}
    sizes = table["group"].value_counts()
    verdicts = {verdict.value: metrics[f"verdict/{verdict.value}"] for verdict in Verdict}
    rows = {
        "rollouts": f"{len(table)}",
        "groups": f"{len(sizes)}, of {sizes.min()} to {sizes.max()} rollouts",
        "pass rate": f"{metrics['pass_rate']:.1%}",
        "verdicts": ", ".join(f"{name} {share:.1%}" for name, share in verdicts.items() if share),
        "groups all correct / mixed / all wrong": " / ".join(
            f"{metrics[f'groups/{kind}']:.1%}" for kind in ("all_correct", "mixed", "all_wrong")
        ),
        **{
            f"{what}, correct / incorrect": f"{metrics[f'{name}/correct']:.4f} / {metrics[f'{name}/incorrect']:.4f}"
            for what, name in (("D_emb", "semantic"), ("D_eq", "formula"), ("d̄", "diversity"))
        },
        "bonus of the correct": f"{metrics['bonus/mean']:.3g}",
        "entropy of w, effective rollouts": (
            f"{metrics['coupling/entropy']:.3f} nats, {metrics['coupling/effective_rollouts']:.2f}"
        ),
        "time": f"{seconds:.1f} s, {len(table) / seconds:.1f} rollouts/s",
    }
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    summary = Table(show_header=False)
    for row in rows.items():
        summary.add_row(*row)
    console.print(summary)
    console.print(f"written to {out}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
