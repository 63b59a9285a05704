"""Which checkpoint a run goes on from, before Ray starts: one that is whole, runs no code and fits the run."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import yaml
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from dsdr_verl.checks.wording import show
from dsdr_verl.trainer.checkpoints import flaw, steps_in

_SHARD = re.compile(r"model_world_size_(\d+)_rank_\d+\.pt")  # of FSDP
_LONGEST = 80  # characters of a setting
_MODES = ("trainer.resume_mode", "trainer.resume_from_path")


class NoCheckpoint(ValueError):
    """There are checkpoints, and none of them can be used."""


def choose(config: DictConfig, say: Callable[[str], None]) -> Path | None:
    """With `trainer.resume_mode=auto`, have verl resume from the newest checkpoint that is whole, and name the others.

    Returns:
        The absolute path of the checkpoint; None of a run that starts anew.

    Raises:
        NoCheckpoint: all are damaged; or the one that `trainer.resume_from_path` names is; or what is to be resumed
            may run code as it is loaded, or is of another number of ranks.
    """
    trainer = config.trainer
    if trainer.resume_mode == "disable":
        return None
    if trainer.resume_mode == "resume_path":
        chosen = Path(trainer.resume_from_path)
        if wrong := flaw(chosen):
            raise NoCheckpoint(f"trainer.resume_from_path is {trainer.resume_from_path!r}, and {wrong.what}")
    else:
        chosen = _newest_whole(Path(trainer.default_local_dir), say)
    if chosen:
        _see_that_ranks_fit(chosen, trainer.nnodes * trainer.n_gpus_per_node)
        if not OmegaConf.select(config, "checkpoints.trusted"):
            _look_at_pickles(chosen)
    if trainer.resume_mode == "auto":
        with open_dict(config):
            trainer.resume_mode = "resume_path" if chosen else "disable"
            trainer.resume_from_path = str(chosen) if chosen else None
    return chosen and chosen.absolute()


def changes(before: Path, config: DictConfig) -> list[str]:
    """Settings of a resolved config that are not those of the file `before`, such as "data.seed: 1 → 2".

    Nothing if there is no such file, or none that can be read.
    """
    try:
        old, new = (dict(_leaves(OmegaConf.to_container(c))) for c in (OmegaConf.load(before), config))
    except (OSError, ValueError, AttributeError, yaml.YAMLError, OmegaConfBaseException):
        return []
    keys = [key for key in {**old, **new} if key not in _MODES and old.get(key) != new.get(key)]
    return [f"{key}: {old.get(key, 'unset')[:_LONGEST]} → {new.get(key, 'unset')[:_LONGEST]}" for key in keys]


def _leaves(tree: Mapping, prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", show(value)


def _newest_whole(root: Path, say: Callable[[str], None]) -> Path | None:
    flaws = {}
    chosen = None
    for folder in reversed(steps_in(root)):
        if (wrong := flaw(folder)) is None:
            chosen = folder
            break
        flaws[folder] = wrong
    damaged = [f"{folder}: {wrong.what}" for folder, wrong in flaws.items()]
    if chosen is None and not all(wrong.unfinished for wrong in flaws.values()):
        raise NoCheckpoint(
            "\n  ".join(["no checkpoint of this run is whole:", *damaged])
            + "\ntrainer.resume_mode=disable starts anew in the same folder; another run_dir leaves this one as it is"
        )
    for line in damaged:
        say(f"passed over {line}")
    return chosen


def _see_that_ranks_fit(folder: Path, ranks: int) -> None:
    shards = [match for path in folder.glob("actor/*.pt") if (match := _SHARD.fullmatch(path.name))]
    written = {int(shard[1]) for shard in shards}
    if written and ranks not in written:
        raise NoCheckpoint(
            f"{folder} is of {min(written)} rank(s), and trainer.nnodes × trainer.n_gpus_per_node is {ranks}: verl "
            "loads it on as many as wrote it\ngive as many, or start another run from its weights: `python -m "
            "verl.model_merger merge --backend fsdp` makes a model of it for actor_rollout_ref.model.path"
        )


def _look_at_pickles(folder: Path) -> None:
    """An older one is not taken instead: whoever could put this file there could do so with others."""
    from dsdr_verl import pickles  # brings torch

    try:
        pickles.look(folder)
    except pickles.Unfit as unfit:
        raise NoCheckpoint(
            f"{folder} may run code as it is loaded: {unfit}\n"
            "find out who wrote it; without the folder, the run resumes from the one before. If it is a type of your "
            "own, in the state of a data set or optimiser, checkpoints.trusted=true loads it unseen"
        ) from unfit
