"""The recipes and arms of the config tree, composed as training would."""

from __future__ import annotations

from difflib import get_close_matches
from importlib.resources import files

from hydra import compose, initialize_config_module
from omegaconf import DictConfig, open_dict

from dsdr_verl.planning.problems import LATER


def recipes() -> list[str]:
    return sorted(set(_names("recipe")) - {"paper"})  # their common part


def arms() -> list[str]:
    return _names("algorithm")


def composed(recipe: str, arm: str = "dsdr", nodes: int | None = None, overrides: tuple[str, ...] = ()) -> DictConfig:
    """The config of `+algorithm=<arm> +recipe=<recipe>`, with a stand-in for data files that are not given.

    Raises:
        ValueError: no such recipe or arm; the message lists those that there are.
        HydraException: an override that does not fit the tree.
    """
    for kind, name, known in (("recipe", recipe, recipes()), ("arm", arm, arms())):
        if name not in known:
            close = get_close_matches(name, known, n=1)
            guess = f"did you mean {close[0]}? " if close else ""
            raise ValueError(f"there is no {kind} {name!r}; {guess}There are {', '.join(known)}")
    with initialize_config_module("dsdr_verl.conf", version_base=None):
        config = compose("dsdr_trainer", overrides=[f"+algorithm={arm}", f"+recipe={recipe}", *overrides])
    with open_dict(config):
        if nodes is not None:
            config.trainer.nnodes = nodes
        if config.data.task is None:
            config.data.train_files = config.data.train_files or LATER
            config.data.val_files = config.data.val_files or LATER
    return config


def _names(group: str) -> list[str]:
    folder = files("dsdr_verl.conf") / group
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))
