"""Reading a config: single keys, and what several amount to. None stands for what is missing or no fit value."""

from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

ACTOR, ROLLOUT, MODEL = (f"actor_rollout_ref.{part}" for part in ("actor", "rollout", "model"))
TRAIN_BATCH, CONTEXT = "data.train_batch_size", f"{ROLLOUT}.max_model_len"


def get(config: DictConfig, key: str, default: Any = None) -> Any:
    """The value of a key; the default if it is absent or null."""
    value = OmegaConf.select(config, key)
    return default if value is None else value


def whole(config: DictConfig, key: str, least: int = 1) -> int | None:
    """A whole number of at least `least`; None for anything else, which `batches.numbers` reports where it matters."""
    value = get(config, key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= least else None


def items(value: Any) -> list:
    """The members of a list; a single value is a list of one."""
    return list(value) if isinstance(value, list | ListConfig) else [] if value is None else [value]


def gpus(config: DictConfig) -> int | None:
    per_node, nodes = whole(config, "trainer.n_gpus_per_node"), whole(config, "trainer.nnodes")
    return per_node * nodes if per_node and nodes else None


def ulysses(config: DictConfig) -> int:
    """GPUs that share a sequence."""
    keys = (f"{ACTOR}.ulysses_sequence_parallel_size", f"{ACTOR}.fsdp_config.ulysses_sequence_parallel_size")
    return max(whole(config, key) or 1 for key in keys)


def longest(config: DictConfig) -> int | None:
    """Tokens of the longest sequence."""
    prompt, response = whole(config, "data.max_prompt_length"), whole(config, "data.max_response_length")
    return prompt + response if prompt and response else None
