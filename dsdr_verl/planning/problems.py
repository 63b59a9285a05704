"""Everything that stands in the way of a planned run: our checks, verl's own validation, and what does not fit."""

from __future__ import annotations

import contextlib
import io
import math
import os
import warnings
from collections.abc import Iterator

from omegaconf import DictConfig

from dsdr_verl.checks import config_problems
from dsdr_verl.checks.reading import ACTOR, ROLLOUT
from dsdr_verl.checks.wording import Problems
from dsdr_verl.planning.batches import Batches
from dsdr_verl.planning.memory import FRAGMENTS, GIB, Memory
from dsdr_verl.planning.shapes import ModelShape
from dsdr_verl.planning.stages import Stages

LATER = "later://given-with-the-run.parquet"  # stands for data files: the checks leave other file systems alone


def check_problems(config: DictConfig) -> list[str]:
    """Those of `dsdr_verl.checks`, as on a cluster that has the GPUs."""
    with _environment(RAY_ADDRESS=os.environ.get("RAY_ADDRESS", "the planned cluster")):
        return config_problems(config)


def verl_problems(config: DictConfig) -> list[str]:
    """What verl's own validation says; it stops at the first."""
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import omega_conf_to_dataclass, validate_config

    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there is no critic
            validate_config(config, need_reference_policy(config), need_critic(config))
            omega_conf_to_dataclass(config.actor_rollout_ref.rollout)
    except Exception as error:  # asserts, ValueErrors and others
        return [f"verl: {error}"]
    return []


def fit_problems(config: DictConfig, shape: ModelShape, batch: Batches, room: Memory, gpu_bytes: float) -> Problems:
    """What does not fit into the model's context, a GPU, or Ray's resources."""
    if batch.longest > shape.positions:
        yield (
            f"data.max_prompt_length + data.max_response_length is {batch.longest}, and the model has "
            f"{shape.positions} positions, beyond which vLLM does not go; lower them"
        )
    usable = (1 - FRAGMENTS) * gpu_bytes
    fixes = {
        "generation": f"lower {ROLLOUT}.gpu_memory_utilization, or set {ACTOR}.fsdp_config.param_offload=true and "
        "optimizer_offload=true",
        "update": f"lower {ACTOR}.ppo_max_token_len_per_gpu, share sequences with "
        f"{ACTOR}.ulysses_sequence_parallel_size=2, or take more GPUs",
        "weight sync": f"raise {ROLLOUT}.tensor_model_parallel_size, or offload as for generation",
    }
    for phase, fix in fixes.items():
        if (peak := room.peak(phase)) > usable:
            yield (
                f"{phase} takes about {peak / GIB:.1f} GiB of a GPU's {gpu_bytes / GIB:.0f}, of which "
                f"{usable / GIB:.1f} can be used; {fix}"
            )
    if room.cached_sequences < 1:
        yield (
            f"vLLM's cache holds {room.cached_sequences:.1f} of the longest sequences ({batch.longest} tokens); raise "
            f"{ROLLOUT}.gpu_memory_utilization or {ROLLOUT}.tensor_model_parallel_size"
        )
    if config.trainer.device == "cuda" and config.scoring.num_gpus > 0:
        yield (
            f"scoring.num_gpus is {config.scoring.num_gpus}, and verl's pool takes all {batch.gpus_per_node} GPUs of "
            "each node first, so the scoring actors would wait for ever; set it to 0 (scoring.embedding.device=cuda "
            "shares a GPU outside of Ray's accounts)"
        )


def scoring_problems(config: DictConfig, stage: Stages) -> Problems:
    """Embedding on CPU cores that would outlast generation."""
    threads = config.scoring.actors * config.scoring.embedding.threads
    if (seconds := stage.embedding / threads) > stage.generation:
        fit = math.ceil(stage.embedding / stage.generation / config.scoring.embedding.threads)
        yield (
            f"scoring.actors is {config.scoring.actors}, which take about {seconds:.0f} s to embed a step's rollouts, "
            f"and generation about {stage.generation:.0f} s; raise it to {fit}"
        )


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
