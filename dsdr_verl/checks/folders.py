"""Where a run writes, whether its checkpoints fit there, and what it resumes from."""

import math
import os
import re
import shutil
from pathlib import Path

from omegaconf import DictConfig

from dsdr_verl.checks.model import weight_bytes
from dsdr_verl.checks.reading import ACTOR, get, items, whole
from dsdr_verl.checks.wording import Problems, not_among, show
from dsdr_verl.trainer.checkpoints import finished, step_of, steps_in


def writable(config: DictConfig) -> Problems:
    for key in ("run_dir", "trainer.default_local_dir"):
        value = get(config, key)
        parent = existing_parent(str(value))
        if not value or not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
            yield f"{key} is {show(value)}, and {parent} is no folder to write to; set it to another"


def existing_parent(path: str) -> Path:
    return next(folder for folder in Path(path, "_").absolute().parents if folder.exists())


def resume(config: DictConfig) -> Problems:
    mode, key = "trainer.resume_mode", "trainer.resume_from_path"
    yield from not_among(mode, get(config, mode), ("auto", "disable", "resume_path"))
    path = Path(str(get(config, key)))
    if get(config, mode) == "resume_path" and not ("global_step_" in path.name and (path / "actor").is_dir()):
        where = f"{key} is {show(get(config, key))}"
        yield f"{where}, which is no checkpoint: a folder global_step_<number> with actor in it; or set {mode}=auto"
    if get(config, f"{ACTOR}.checkpoint.async_save"):
        yield f"{ACTOR}.checkpoint.async_save is true; set it to false: a checkpoint counts once all of it is on disk"


def disk(config: DictConfig) -> Problems:
    """A checkpoint has the weights, Adam's two moments and a copy for Hugging Face, by `save_contents`. One is removed
    once the next is whole, so there is one more than are kept."""
    key, every, weights = "trainer.default_local_dir", whole(config, "trainer.save_freq"), weight_bytes(config)
    folder = get(config, key)
    if not (every and weights and folder):
        return
    contents = items(get(config, f"{ACTOR}.checkpoint.save_contents"))
    copies = ("model" in contents) + 2 * ("optimizer" in contents) + ("hf_model" in contents)
    saved = math.ceil((whole(config, "trainer.total_training_steps") or 1) / every)
    most = whole(config, "trainer.max_actor_ckpt_to_keep") or saved
    kept = min(saved, most + 1 + bool(get(config, "checkpoints.keep_best")))
    there, room = 0, shutil.disk_usage(existing_parent(folder)).free
    for path in steps_in(Path(folder)):
        if finished(path) is False:  # the run will remove it
            room += sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        elif step_of(path) <= _goes_on_from(config):
            there += 1
    needed = weights * copies * max(kept - there, 0)
    if needed > room:
        fix = "raise trainer.save_freq, set trainer.max_actor_ckpt_to_keep=1, or free some space"
        sizes = f"{room / 2**30:.1f} GiB free, and the checkpoints will take about {needed / 2**30:.1f} GiB"
        yield f"{key} is {folder!r} with {sizes}; {fix}"


def _goes_on_from(config: DictConfig) -> float:
    """The latest step whose checkpoint stays in its place."""
    mode, path = get(config, "trainer.resume_mode"), str(get(config, "trainer.resume_from_path"))
    if mode == "resume_path":
        number = re.search(r"global_step_(\d+)$", path)
        return int(number[1]) if number else -1
    return math.inf if mode == "auto" else -1
