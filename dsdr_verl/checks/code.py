"""What a config would have called. Options that name code of the user's own (`external_lib`) say so by their name."""

import re

from omegaconf import DictConfig, OmegaConf

from dsdr_verl.checks.wording import Problems, show

_VERLS = re.compile(r"verl(\.\w+)*\.[A-Z]\w*Config")  # its dataclasses


def targets(config: DictConfig) -> Problems:
    """verl instantiates each part of a config that has `_target_`, and Hydra takes any function for one."""
    yield from _targets(OmegaConf.to_container(config), "")  # an interpolation is no class either


def _targets(value: object, key: str) -> Problems:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in inner:
        path = f"{key}.{name}" if key else str(name)
        if name == "_target_" and not (isinstance(part, str) and _VERLS.fullmatch(part)):
            yield f"{path} is {show(part)}, which is no config class of verl's and would be called; take it out"
        yield from _targets(part, path)
