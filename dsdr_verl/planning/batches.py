"""The arithmetic of a step: what the batch-size keys come to. Exact, but for the lengths that responses will have."""

from __future__ import annotations

import math
from dataclasses import dataclass

from omegaconf import DictConfig

from dsdr_verl.checks.batches import GROUP, MINI_BATCH, nearest
from dsdr_verl.checks.reading import ACTOR, ROLLOUT, TRAIN_BATCH, get, gpus, longest, ulysses


@dataclass(frozen=True)
class Batches:
    """Rollouts, tokens and parts of one step."""

    gpus: int
    gpus_per_node: int
    ranks: int  # that share a batch: GPUs by sequence parallelism
    replicas: int  # of the rollout engine
    prompts: int
    rollouts: int
    mini_batch: int  # rollouts of an optimiser step
    optimiser_steps: int
    longest: int  # tokens of the longest prompt and response
    longest_response: int
    token_limit: int  # tokens of a micro-batch, on one GPU

    @property
    def rollouts_per_replica(self) -> int:
        return math.ceil(self.rollouts / self.replicas)

    @property
    def mini_batch_per_rank(self) -> float:
        return self.mini_batch / self.ranks

    @property
    def micro_batches(self) -> int:
        """Micro-batches of an optimiser step on one rank, if every rollout is of the longest: the most there can be."""
        sequences = max(1, self.token_limit * self.gpus // self.ranks // self.longest)
        return math.ceil(self.mini_batch_per_rank / sequences)

    @property
    def nearest(self) -> tuple[int, int]:
        """Of `dsdr_verl.checks`: prompts of a step and of an optimiser step that the ranks can share."""
        n = self.rollouts // self.prompts
        return nearest(self.prompts, self.mini_batch // n, n, self.ranks)


def batches(config: DictConfig) -> Batches:
    """The batches of a config whose keys `dsdr_verl.checks` found to be well."""
    total, prompts, n = gpus(config), get(config, TRAIN_BATCH), get(config, GROUP)
    mini = get(config, MINI_BATCH)
    return Batches(
        gpus=total,
        gpus_per_node=config.trainer.n_gpus_per_node,
        ranks=total // ulysses(config),
        replicas=max(1, total // get(config, f"{ROLLOUT}.tensor_model_parallel_size")),
        prompts=prompts,
        rollouts=prompts * n,
        mini_batch=mini * n,
        optimiser_steps=math.ceil(prompts / mini),
        longest=longest(config),
        longest_response=config.data.max_response_length,
        token_limit=get(config, f"{ACTOR}.ppo_max_token_len_per_gpu"),
    )
