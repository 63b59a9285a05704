"""What is wrong with the config of an evaluation, found before anything is started."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from dsdr_verl.checks import secrets
from dsdr_verl.checks.reading import get, items
from dsdr_verl.checks.wording import Problems, not_among, show
from dsdr_verl.data.cache import fingerprint
from dsdr_verl.data.catalogue import PUBLIC_SETS
from dsdr_verl.data.tasks import TASKS
from dsdr_verl.evaluation.estimators import MOST_VOTES
from dsdr_verl.evaluation.passk import powers_of_two
from dsdr_verl.scoring.options import ScoringOptions

# the options have their defaults in code: here they become a part of the config tree
ConfigStore.instance().store(group="scoring", name="defaults", node=asdict(ScoringOptions()))


def _whole(least: int, most: float = math.inf) -> Callable[[Any], bool]:
    return lambda x: isinstance(x, int) and not isinstance(x, bool) and least <= x <= most


def _number(fits: Callable[[float], bool]) -> Callable[[Any], bool]:
    return lambda x: isinstance(x, int | float) and not isinstance(x, bool) and fits(x)


RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "n": (_whole(1, MOST_VOTES), f"a whole number from 1 to {MOST_VOTES}"),
    "seed": (_whole(0), "a whole number of at least 0"),
    "max_tokens": (_whole(1), "a whole number of at least 1"),
    "limit": (lambda x: x is None or _whole(1)(x), "a whole number of at least 1, or null for all"),
    "level": (_number(lambda x: 0 < x < 1), "a number between 0 and 1, such as 0.95"),
    "save_seconds": (_number(lambda x: x >= 0), "a number of seconds >= 0"),
    "sampling.temperature": (_number(lambda x: 0 <= x <= 100), "a number >= 0"),
    "sampling.top_p": (_number(lambda x: 0 < x <= 1), "a number in (0, 1]"),
    "sampling.top_k": (lambda x: x == -1 or _whole(1)(x), "a whole number of at least 1, or -1 for all"),
    "engine.replicas": (_whole(1), "a whole number of at least 1"),
    "engine.tensor_parallel_size": (_whole(1), "a whole number of at least 1"),
    "engine.capacity.max_num_seqs": (_whole(1), "a whole number of at least 1"),
}


def config_problems(config: DictConfig) -> list[str]:
    """Every problem of the config, one sentence each; empty if it may be run."""
    checks = (_model, _problem_files, _values, _ks, _engine, _output, secrets.kept_out)
    return secrets.hidden(config, (problem for check in checks for problem in check(config)))


def ks_of(config: DictConfig) -> list[int]:
    """The k of pass@k, maj@k and modes, ascending; 1 is always among them, for it is Avg@n."""
    return sorted({1, *items(config.ks)}) if config.ks is not None else powers_of_two(config.n)


def scoring_options(config: DictConfig) -> ScoringOptions:
    """The service's options.

    Raises:
        ValueError: as `ScoringOptions.from_mapping`.
    """
    return ScoringOptions.from_mapping(OmegaConf.to_container(config.scoring, resolve=True))


def scoring_mark(options: ScoringOptions) -> str:
    """A hash of what the scores depend on, which the number of actors, their devices and batches is not."""
    skipped = {"workers", "queue", "device", "backend", "batch_size", "max_wait_ms", "threads"}
    kept = [
        {key: value for key, value in asdict(part).items() if key not in skipped}
        for part in (options.verifier, options.formulas, options.embedding)
    ]
    return fingerprint(kept, metadata.version("dsdr-verl"))


def _model(config: DictConfig) -> Problems:
    if not isinstance(get(config, "model"), str):
        yield f"model is {show(get(config, 'model'))}; set it to a folder, a hub name or a checkpoint, such as tiny"


def _problem_files(config: DictConfig) -> Problems:
    task, files = get(config, "task"), items(get(config, "files"))
    if (task is None) == (not files):
        yield f"task is {show(task)} and files is {show(files or None)}; set one of them"
    elif task is not None:
        yield from not_among("task", task, [*PUBLIC_SETS, *TASKS])
    for path in files:
        if not Path(str(path)).expanduser().is_file():
            yield f"files has {str(path)!r}, and there is no such file; correct the path"


def _values(config: DictConfig) -> Iterator[str]:
    for key, (fits, wanted) in RULES.items():
        value = OmegaConf.select(config, key)
        if not fits(value):
            yield f"{key} is {show(value)}; set it to {wanted}"
    if get(config, "sampling.temperature") == 0 and get(config, "n") != 1:
        yield f"n is {config.n}, and at sampling.temperature=0 all samples are alike; set n=1, or raise the temperature"
    try:
        scoring_options(config)
    except ValueError as error:
        yield str(error)


def _ks(config: DictConfig) -> Problems:
    n = get(config, "n")
    for k in items(get(config, "ks")):
        if _whole(1)(n) and not _whole(1, n)(k):
            yield f"ks has {show(k)}; set its members to whole numbers from 1 to n, which is {n}"


def _engine(config: DictConfig) -> Problems:
    device = get(config, "engine.device")
    yield from not_among("engine.device", device, ("cpu", "cuda"))
    if device == "cuda" and not (shutil.which("nvidia-smi") or os.environ.get("RAY_ADDRESS")):
        yield "engine.device is 'cuda', and this machine has no nvidia-smi; choose engine=cpu, or set RAY_ADDRESS"


def _output(config: DictConfig) -> Problems:
    if (output := get(config, "output")) is not None:
        parent = next(folder for folder in Path(str(output), "_").absolute().parents if folder.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
            yield f"output is {show(output)}, and {parent} is no folder to write to; set it to another"
