"""One vLLM engine behind a Ray actor. Nothing of vLLM is imported before the actor's process is up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import uuid4

import ray
from ray.actor import ActorHandle

CONCURRENCY = 1000  # calls that an actor holds at once


class Sample(NamedTuple):
    """What a request gave."""

    text: str
    tokens: int
    truncated: bool


class Engine:
    """Samples of a prompt, each with a seed of its own, so that they do not depend on what else is in the batch."""

    def __init__(self, args: dict[str, Any]):
        from dsdr_verl.platform import vllm_metadata

        vllm_metadata.install()
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        self.engine = AsyncLLM.from_engine_args(AsyncEngineArgs(**args))

    async def ready(self) -> bool:
        return True

    async def sample(self, prompt_ids: Sequence[int], seeds: Sequence[int], options: dict[str, Any]) -> list[Sample]:
        """One sample a seed.

        Args:
            prompt_ids: tokens.
            seeds: of the samples.
            options: `temperature`, `top_p`, `top_k`, `max_tokens`, as vLLM names them.
        """
        return await asyncio.gather(*(self._one(list(prompt_ids), seed, options) for seed in seeds))

    async def _one(self, prompt_ids: list[int], seed: int, options: dict[str, Any]) -> Sample:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        params = SamplingParams(seed=seed, output_kind=RequestOutputKind.FINAL_ONLY, **options)
        async for output in self.engine.generate({"prompt_token_ids": prompt_ids}, params, uuid4().hex):
            (choice,) = output.outputs
        return Sample(choice.text, len(choice.token_ids), choice.finish_reason == "length")

    def close(self) -> None:
        """Ends vLLM's own processes."""
        self.engine.shutdown()


def start_engines(count: int, gpus_each: int, env: dict[str, str], args: dict[str, Any]) -> list[ActorHandle]:
    """Create the actors; returns at once.

    Args:
        count: engines.
        gpus_each: 0 on the CPU.
        env: of their processes.
        args: vLLM's `AsyncEngineArgs`.
    """
    actor = ray.remote(Engine).options(
        num_cpus=0,
        num_gpus=gpus_each,
        max_concurrency=CONCURRENCY,
        runtime_env={"env_vars": env},
        scheduling_strategy="SPREAD",
    )
    return [actor.remote(args) for _ in range(count)]
