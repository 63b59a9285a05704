"""The model that is evaluated: where it is, and a mark that changes with its weights but not with its place."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from dsdr_verl.data import models
from dsdr_verl.data.cache import fingerprint, materialise

MERGED = "merged"  # beside a checkpoint's actor/
_BLOCK, _BLOCKS = 2**20, 64  # of a file of weights, that are hashed: training moves every tensor
# The config of a checkpoint may name an attention that is registered by its import.
_MERGER = "import dsdr_verl.platform.attention; from verl.model_merger.__main__ import main; main()"
_READ = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt")  # what the engine and the tokenizer read


@dataclass(frozen=True)
class Model:
    """A Hugging Face folder; `name` and `revision` are what an engine on another node is given."""

    label: str
    folder: Path
    name: str
    revision: str | None = None

    @property
    def mark(self) -> str:
        """A hash of the folder's content; of large files, of 64 MiB that are spread evenly over them."""
        files = sorted({path for pattern in _READ for path in self.folder.glob(pattern)})
        return fingerprint([(path.name, path.stat().st_size, _content(path)) for path in files])

    @property
    def positions(self) -> int | None:
        """The longest sequence that it takes, in tokens; None if its config does not say."""
        config = json.loads((self.folder / "config.json").read_text())
        return config.get("max_position_embeddings") or config.get("text_config", {}).get("max_position_embeddings")


def find_model(name: str) -> Model:
    """Make, merge or download what `model=` names.

    Raises:
        ValueError: it is none of what `model` may be; names the fix.
        FileNotFoundError: the package that carries a prepared model is missing.
    """
    if name in models.PREPARED:
        folder = models.prepare(name)
        return Model(name, folder, str(folder))
    folder = Path(name).expanduser()
    if not folder.is_dir():
        return _from_hub(name)
    folder = folder.absolute()
    if folder.name == "actor":
        folder = folder.parent
    if (folder / "actor").is_dir():
        label = f"{folder.parents[1].name}-{folder.name}"  # <run>/checkpoints/global_step_20
        folder = _merged(folder)
    else:
        label = folder.name
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        steps = sorted(folder.glob("checkpoints/global_step_*"), key=lambda path: int(path.name.rpartition("_")[2]))
        fix = f"it is a run; name a checkpoint of it, such as {steps[-1]}" if steps else "name one from save_pretrained"
        raise ValueError(f"model is {name!r}, a folder without config.json and *.safetensors; {fix}")
    return Model(label, folder, str(folder))


def _from_hub(name: str) -> Model:
    from huggingface_hub import snapshot_download  # reads the environment, and takes a second

    try:
        folder = Path(snapshot_download(name, allow_patterns=list(_READ)))
    except Exception as error:  # a dozen kinds, of two libraries: whatever it is, the model is not here
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise ValueError(
            f"model is {name!r}, which is no folder, and the hub did not give it ({reason}); give an existing folder, "
            f"a hub name, a checkpoint of a run, {' or '.join(models.PREPARED)}"
        ) from error
    return Model(name.rpartition("/")[2], folder, name, folder.name)


def _merged(checkpoint: Path) -> Path:
    """FSDP's shards as one folder, by verl's own merger, which rounds to bfloat16; made once."""
    actor = checkpoint / "actor"
    if any((actor / "huggingface").glob("*.safetensors")):
        return actor / "huggingface"  # saved with hf_model among checkpoint.save_contents
    shards = sorted(actor.glob("model_world_size_*.pt"))
    if not shards:
        raise ValueError(
            f"model is {str(checkpoint)!r}, a checkpoint without actor/model_world_size_*.pt; name another"
        )

    def build(folder: Path) -> None:
        from dsdr_verl import pickles  # brings torch

        try:
            pickles.look(actor)
        except pickles.Unfit as unfit:
            raise ValueError(
                f"model is {str(checkpoint)!r}, which may run code as it is loaded: actor/{unfit}; find out who wrote "
                f"it, and name another, or a folder with *.safetensors"
            ) from unfit
        merger = [sys.executable, "-c", _MERGER, "merge", "--backend", "fsdp"]
        ended = subprocess.run(
            [*merger, "--local_dir", str(actor), "--target_dir", str(folder)],
            capture_output=True, text=True, env=os.environ | {"VERL_PLATFORM": "cpu", "CUDA_VISIBLE_DEVICES": ""},
        )  # fmt: skip
        if ended.returncode:
            raise ValueError(f"model is {str(checkpoint)!r}, and verl's merger failed on it:\n{ended.stderr[-2000:]}")

    mark = fingerprint([(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in shards])
    return materialise(checkpoint / MERGED, mark, build)


def _content(path: Path) -> str:
    size = path.stat().st_size
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        if size <= _BLOCK * _BLOCKS:
            digest.update(file.read())
        else:
            for block in range(_BLOCKS):
                file.seek((size - _BLOCK) * block // (_BLOCKS - 1))
                digest.update(file.read(_BLOCK))
    return digest.hexdigest()
