"""No key and no password in a config, which goes to the run's folder, its log, its trackers and Ray's dashboard."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import reduce
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dsdr_verl.checks.wording import Problems

# At the end of a key, as whole words. A token may be a tokenizer's (eos_token), so that one needs a word before it, or
# the capitals of a variable.
_NAMES = re.compile(
    r"(?<![a-z])(?i:api[_-]?keys?|access[_-]?key|private[_-]?key|secrets?|secret[_-]?key|password|passwd|credentials?)$"
    r"|(^|(?<![a-z])(?i:hf|hub|api|auth|access|bearer|refresh|secret|git(hub|lab)|slack|wandb)[_-]?)(?i:token)$"
    r"|^[A-Z0-9_]*TOKEN$"
)
_VALUES = re.compile(
    r"\bhf_[A-Za-z0-9]{20,}"
    r"|\bsk-(?=[\w-]*[A-Z])(?=[\w-]*\d)[\w-]{20,}"
    r"|\bwandb_v\d+_\w{20,}"
    r"|\b(AKIA|ASIA)[A-Z0-9]{16}\b"
    r"|\bgh[opsu]_[A-Za-z0-9]{30,}|\bgithub_pat_\w{22,}|\bglpat-[\w-]{20,}"
    r"|\bxox[a-z]-[\w-]{10,}"
    r"|\bAIza[\w-]{35}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|://[^/\s:@]*:[^/\s@]+@"  # a password in a URL
)
_SHORTEST = 4  # characters of what is hidden: a shorter one is a part of other words
_WANDB = re.compile(r"[0-9a-f]{40}")  # a commit looks the same, and stands in paths and under these:
_COMMITS = re.compile(r"(revision|commit|sha|hash|version)$", re.IGNORECASE)


def kept_out(config: DictConfig) -> Problems:
    """A secret by the name of its key, or by how it looks. It is never shown."""
    for key, value in _found(config):
        name = "HF_TOKEN" if "hf_" in f"{key} {value}".lower() else "another variable of the environment"
        name = "WANDB_API_KEY" if "wandb" in key.lower() or _WANDB.fullmatch(value) else name
        yield (
            f"{key} holds what looks like a secret (not shown here), and a config is written to the run's folder and "
            f"to its trackers; take it out, and export it as {name} before the run"
        )


def hidden(config: DictConfig, texts: Iterable[str]) -> list[str]:
    """The texts without the secrets of the config."""
    found = [value for _, value in _found(config) if len(value) >= _SHORTEST]
    return [reduce(lambda text, value: text.replace(value, "***"), found, text) for text in texts]


def _found(config: DictConfig) -> Iterator[tuple[str, str]]:
    for key, text in _texts(_plain(config)):
        by_name = _NAMES.search(key.rpartition(".")[2]) and text.strip() not in ("", "???")
        is_wandbs = _WANDB.fullmatch(text.strip()) and not _COMMITS.search(key)
        if by_name or is_wandbs or _VALUES.search(text):
            yield key, text


def _plain(config: DictConfig) -> Any:
    try:
        return OmegaConf.to_container(config, resolve=True)  # ${oc.env:HF_TOKEN} would be written as its value
    except OmegaConfBaseException:  # which key it is, the others say
        return OmegaConf.to_container(config)


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text with its key; a member of a list has the list's."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _texts(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner, key)
    elif isinstance(value, str):
        yield key, value
