"""The runs of a sweep: products of overrides in Hydra's grammar (`+algorithm=grpo,dsdr seed=range(1,6)`)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import product
from pathlib import Path

import yaml
from hydra import compose, initialize_config_module
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dsdr_verl.checks import secrets


class Sweep(BaseModel):
    """A sweep's file: what all runs share, and the grids, each of them the product of its overrides."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: Path  # of the sweep; a run has a folder of its own in it
    common: tuple[str, ...] = ()
    grids: tuple[tuple[str, ...], ...] = Field(min_length=1)
    minutes: float = Field(gt=0)  # of a run, about
    machine: str  # where it takes so long


@dataclass(frozen=True)
class Job:
    """One run of a sweep."""

    name: str
    overrides: tuple[str, ...]  # of dsdr_verl.main_ppo, without run_dir
    folder: Path  # its run_dir


def read_sweep(path: Path) -> Sweep:
    """Read a sweep's file.

    Raises:
        ValueError: it is not there, or no sweep; the message names the keys.
    """
    try:
        return Sweep.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: no sweep to read ({error})") from error
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'the file'}: {e['msg']}" for e in error.errors())
        raise ValueError(f"{path}: {found}") from error


def jobs_of(sweep: Sweep, overrides: Sequence[str] = ()) -> list[Job]:
    """The runs of a sweep in order: grid by grid, the last override of each fastest.

    Args:
        overrides: of a key that a grid sets: which of its values to take; of any other: for every run, whatever
            `common` says. So `seed=1` takes one seed of five, and its runs are the same as in the whole sweep.

    Raises:
        ValueError: an override that cannot be read, `run_dir` among them; no run is left; or two runs would have one
            name.
    """
    jobs: dict[str, Job] = {}
    shared, added = _by_key(sweep.common), _by_key(overrides)
    for grid in sweep.grids:
        own = _by_key(grid)
        named = [*own, *(key for key, override in added.items() if override.is_sweep_override() and key not in own)]
        choices = {key: _choices(override) for key, override in (shared | added | own).items()}
        for key in own.keys() & added.keys():
            choices[key] = [text for text in choices[key] if text in _choices(added[key])]
        for chosen in product(*choices.values()):
            texts = dict(zip(choices, chosen, strict=True))
            name = "-".join(_label(texts[key]) for key in named)
            job = Job(name, chosen, sweep.folder / name)
            if jobs.setdefault(name, job) != job:
                raise ValueError(f"two different runs would be {name}: let what they differ in stand in their grids")
    if not jobs:
        raise ValueError(f"no grid has a run with all of {' '.join(overrides)}: take values that the file lists")
    return list(jobs.values())


def compose_problems(jobs: Sequence[Job]) -> list[str]:
    """What keeps runs from being composed, one message each; empty if all can."""
    found = []
    with initialize_config_module("dsdr_verl.conf", version_base=None):
        for job in jobs:
            try:
                config = compose("dsdr_trainer", overrides=list(job.overrides))
                OmegaConf.to_container(config, resolve=True)
            except (HydraException, OmegaConfBaseException) as error:
                found.append(f"{job.name}: {error}")
            else:  # before overrides are printed, and written to the record of the run
                found += secrets.hidden(config, (f"{job.name}: {problem}" for problem in secrets.kept_out(config)))
    return found


def _by_key(overrides: Sequence[str]) -> dict[str, Override]:
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise ValueError(str(error)) from error
    by_key = {override.get_key_element(): override for override in parsed}
    if "run_dir" in by_key:
        raise ValueError("run_dir is the sweep's to set, in its folder: give --folder")
    return by_key


def _choices(override: Override) -> list[str]:
    if not override.is_sweep_override():
        return [str(override.input_line)]
    key = override.get_key_element()
    if not override.is_discrete_sweep():
        raise ValueError(f"{override.input_line}: list the values, as in {key}=1,2,3 or {key}=range(1,4)")
    return [f"{key}={value}" for value in override.sweep_string_iterator()]


def _label(override: str) -> str:
    """`dsdr` of `+algorithm=dsdr`, `lambda_d0.01` of `algorithm.dsdr.lambda_d=0.01`."""
    key, _, value = override.partition("=")
    key = key.lstrip("+~").split("@")[0]
    group = (files("dsdr_verl.conf") / key).is_dir()
    return re.sub(r"[^\w.]+", "_", ("" if group else key.rsplit(".", 1)[-1]) + value)
