"""What a run has left in its folder: `metrics.jsonl` (docs/metrics.md) and `config.yaml`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dsdr_verl.evaluation.curves import PASS_AT, Series

LONGEST = 120  # characters shown of any value
_SHOWN = 5  # line numbers named in a message

SEED = "data.seed"
# What tells one run from another: label, key of the config.
OPTIONS = (
    ("λ_d", "algorithm.dsdr.lambda_d"),
    ("λ_ℓ", "algorithm.dsdr.lambda_l"),
    ("τ", "algorithm.dsdr.tau"),
    ("d", "algorithm.dsdr.score"),
    ("advantages over std", "algorithm.norm_adv_by_std_in_grpo"),
    ("groups dropped", "trainer.v1.sampler.sampler_kwargs.drop"),
    ("prompts a step", "data.train_batch_size"),
    ("rollouts a prompt", "actor_rollout_ref.rollout.n"),
    ("mini-batch", "actor_rollout_ref.actor.ppo_mini_batch_size"),
    ("learning rate", "actor_rollout_ref.actor.optim.lr"),
    ("clip low", "actor_rollout_ref.actor.clip_ratio_low"),
    ("clip high", "actor_rollout_ref.actor.clip_ratio_high"),
    ("loss aggregation", "actor_rollout_ref.actor.loss_agg_mode"),
    ("temperature", "actor_rollout_ref.rollout.temperature"),
    ("response tokens", "data.max_response_length"),
    ("validation samples", "actor_rollout_ref.rollout.val_kwargs.n"),
    ("validation temperature", "actor_rollout_ref.rollout.val_kwargs.temperature"),
    ("seed", SEED),
)


class Row(BaseModel):
    """A line of `metrics.jsonl`."""

    model_config = ConfigDict(strict=True)
    step: Annotated[int, Field(ge=0, lt=2**53)]  # what axes can hold
    kind: Literal["step", "validation"]
    metrics: dict[str, float]


@dataclass(frozen=True)
class Run:
    """A run folder, read."""

    folder: Path
    series: Series
    config: dict
    notes: tuple[str, ...]  # what could not be read

    @property
    def name(self) -> str:
        return shown(self.folder.name)

    def option(self, key: str) -> str:
        """The value of a dotted key of the config, to show; a dash where there is none."""
        value = lookup(self.config, key)
        return "–" if value is None or isinstance(value, (dict, list)) else shown(value)

    @property
    def algorithm(self) -> str:
        return self.option("algorithm_name")

    @property
    def task(self) -> str:
        """The task's name, or the names of the training files."""
        if lookup(self.config, "data.task") is not None:
            return self.option("data.task")
        files = lookup(self.config, "data.train_files")
        files = files if isinstance(files, list) else [files]
        names = [PurePath(file).name for file in files if isinstance(file, str)]
        return shown(", ".join(names)) if names else "–"

    @property
    def steps(self) -> str:
        """How far it has come, and of how many where the config says so."""
        done = int(self.series.steps[-1]) if len(self.series.steps) else 0
        planned = lookup(self.config, "trainer.total_training_steps")
        return f"{done} of {planned}" if isinstance(planned, int) and planned != done else str(done)

    @property
    def sources(self) -> set[str]:
        """The data sources of the last validation."""
        _, metrics = self.series.last_validation() or (0, {})
        return {found["source"] for name in metrics if (found := PASS_AT.fullmatch(name))}


def read_run(folder: Path) -> Run:
    """Read a run folder; lines of its metrics that are broken are left out and noted.

    Raises:
        ValueError: there is no such folder, no `metrics.jsonl` in it, or no line of that can be read.
    """
    folder = folder.resolve()
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; name a run's folder, as in outputs/<project>/<experiment>")
    rows, notes = _read_metrics(folder / "metrics.jsonl")
    config, problem = _read_config(folder / "config.yaml")
    return Run(folder, Series(rows), config, (*notes, *problem))


def _read_metrics(path: Path) -> tuple[list[dict], list[str]]:
    if not path.is_file():
        raise ValueError(f"{path}: no such file; a run writes it at its first validation or step")
    rows, broken, total = [], [], 0
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        total += 1
        try:
            rows.append(Row.model_validate_json(line).model_dump())
        except ValidationError:
            broken.append(number)
    if not rows:
        raise ValueError(f"{path}: none of its {total} lines is a step or a validation (docs/metrics.md)")
    if not broken:
        return rows, []
    named = ", ".join(map(str, broken[:_SHOWN])) + (", …" if len(broken) > _SHOWN else "")
    return rows, [f"metrics.jsonl: {len(broken)} of {total} lines are broken and were left out (line {named})"]


def _read_config(path: Path) -> tuple[dict, list[str]]:
    # not by OmegaConf, which would put this machine's environment where a config asks for it
    if not path.is_file():
        return {}, ["config.yaml is missing: algorithm, model, task and options are not known"]
    try:
        config = yaml.safe_load(path.read_bytes())
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        return {}, [f"config.yaml cannot be read ({shown(error)})"]
    if not isinstance(config, dict):
        return {}, ["config.yaml is not a mapping"]
    return config, []


def lookup(config: dict, key: str) -> Any:
    """The value of a dotted key, None where there is none."""
    return reduce(lambda node, part: node.get(part) if isinstance(node, dict) else None, key.split("."), config)


def shown(value: object) -> str:
    """On one line, without characters that do not print, and not too long."""
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(value))
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def caveats(runs: Sequence[Run]) -> list[str]:
    """What a reader who compares the runs has to know."""
    found = [f"{run.name}: {note}" for run in runs for note in run.notes]
    validated = [run for run in runs if run.series.last_validation()]
    if len({frozenset(run.sources) for run in validated}) > 1:
        each = "; ".join(f"{run.name} on {shown(', '.join(sorted(run.sources)) or 'none')}" for run in validated)
        found.append(f"The runs were validated on different sources, so their pass@k cannot be compared: {each}.")
    if len({run.series.last_validation()[0] for run in validated}) > 1:
        found.append("The last validations are of different steps.")
    return found
