"""Dynamic sampling that may keep solved groups. Loaded by `trainer.v1.sampler.custom_sampler` (see conf/filter)."""

from __future__ import annotations

from collections import Counter

from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer


class GroupFilterBuffer(ReplayBuffer):
    """verl's replay buffer, dropping groups by `sampler_kwargs.drop`:

    * `no_signal`: every rollout right or every one wrong, as in DAPO;
    * `all_wrong`: every one wrong. A solved group has a signal under DSDR (Prop. C.4), and is the one its global term
      exists for.

    Dropped groups are replaced by fresh prompts, at most `sampler_kwargs.max_gen_batches` batches of them a step.
    """

    def __init__(self, *, sampler_kwargs, **kwargs):
        super().__init__(
            sampler_kwargs=sampler_kwargs,
            filter_groups_metric=sampler_kwargs.metric,
            train_batch_size=sampler_kwargs.train_batch_size,
            gen_batch_size=1,
            max_inflight_gen_batches=sampler_kwargs.max_inflight_gen_batches,
            **kwargs,
        )
        self._most_dropped = sampler_kwargs.max_gen_batches * sampler_kwargs.train_batch_size
        self._dropped = 0

    def sample(self, global_steps: int, partition_id: str, batch_size: int):
        self._dropped = 0
        return super().sample(global_steps, partition_id, batch_size)

    def _dapo_filtered_keys(self, partition_id: str) -> tuple[set[str], Counter]:
        """Raises:
        RuntimeError: so many groups of this step were dropped that the model has nothing to learn from this data.
        """
        uids, _ = super()._dapo_filtered_keys(partition_id)
        shared_value = self._dapo_classification_cache[partition_id]
        if self.sampler_kwargs.drop == "all_wrong":
            uids = {uid for uid in uids if shared_value[uid] == 0.0}
        self._dropped += len(uids)
        if self._dropped > self._most_dropped:
            raise RuntimeError(
                f"{self._dropped} groups of one step were dropped ({self.sampler_kwargs.drop}). Take easier or harder "
                "problems, raise actor_rollout_ref.rollout.n, or raise "
                f"trainer.v1.sampler.sampler_kwargs.max_gen_batches ({self.sampler_kwargs.max_gen_batches})."
            )
        return uids, Counter(shared_value[uid] for uid in uids)
