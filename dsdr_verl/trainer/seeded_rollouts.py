"""Rollouts that a second run repeats: `+rollouts=seeded` puts this in `rollout.agent.agent_loop_manager_class`.

vLLM's own generator serves requests in the order in which they come, which no run repeats, and a resumed one starts it
anew. (verl's `rollout.full_determinism` gives every request one seed, so that a group would be n times one rollout.)
"""

from __future__ import annotations

import hashlib

import ray
from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopManagerTQ, AgentLoopWorkerTQ


def rollout_seed(*what: object) -> int:
    """A seed for one rollout, of everything that tells it from others."""
    return int.from_bytes(hashlib.blake2b(repr(what).encode(), digest_size=8).digest(), "big") >> 1


@ray.remote
class SeededWorker(AgentLoopWorkerTQ.__ray_metadata__.modified_class):
    async def _run_agent_loop(self, sampling_params, trajectory, *, session_id, index, **kwargs):
        whose = (self.rollout_config.seed, trajectory["validate"], trajectory["step"], int(index), session_id)
        return await super()._run_agent_loop(
            {**sampling_params, "seed": rollout_seed(*whose)}, trajectory, session_id=session_id, index=index, **kwargs
        )


class SeededManager(AgentLoopManagerTQ):
    """verl's manager with `SeededWorker`s."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.agent_loop_workers_class = SeededWorker
