"""verl's synchronous trainer with DSDR in its advantage stage. Registered with verl as trainer mode "dsdr"."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from omegaconf import OmegaConf, open_dict
from transfer_queue import KVBatchMeta
from verl.trainer.ppo import metric_utils
from verl.trainer.ppo.v1.replay_buffer import DAPO_FILTERED_REWARD_COUNTS_KEY
from verl.trainer.ppo.v1.trainer_base import register_trainer
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.utils import tensordict_utils as tu
from verl.utils.config import omega_conf_to_dataclass

from dsdr_verl.algorithm.options import DSDROptions
from dsdr_verl.algorithm.scores import GroupScores, diversity_metrics
from dsdr_verl.evaluation.passk import validation_metrics
from dsdr_verl.scoring.verifier import Verdict
from dsdr_verl.trainer import checkpoints, queue
from dsdr_verl.trainer.causes import describe
from dsdr_verl.trainer.events import Events
from dsdr_verl.trainer.health import Health, HealthOptions, Unhealthy
from dsdr_verl.trainer.loss import WEIGHT, dsdr_loss
from dsdr_verl.trainer.reduction import kept_of_samples, reduce_groups
from dsdr_verl.trainer.stages import staged
from dsdr_verl.watching.gauges import TrainingGauges

# Steps whose rows a checkpoint has, besides those since the one before: as far as the driver's log may be behind.
ROWS_AGAIN = 50


@register_trainer("dsdr")
@staged
class DSDRTrainer(PPOTrainerSync):
    """GRPO, DAPO and every DSDR arm: with λ_d = λ_ℓ = 0 it only measures diversity."""

    def __init__(self, config):
        with open_dict(config):
            # verl picks its replay buffer by this name, and any name but "sync" means an asynchronous one.
            config.trainer.v1.trainer_mode = "sync"
        super().__init__(config)
        self.replay_buffer.poll_interval = 0.2  # verl's 2 s would be most of a step of the tiny profile
        self.options = DSDROptions.from_mapping(OmegaConf.to_container(config.algorithm.dsdr, resolve=True))
        self.events = Events.connect()
        self.gauges = TrainingGauges(config.trainer.experiment_name)
        health = OmegaConf.select(config, "health", default={})
        self.health = Health(HealthOptions.model_validate(OmegaConf.to_container(OmegaConf.create(health))))
        # verl would remove the older checkpoint before the new one is whole
        self._keep_last = config.trainer.max_actor_ckpt_to_keep
        with open_dict(config):
            config.trainer.max_actor_ckpt_to_keep = config.trainer.max_critic_ckpt_to_keep = None
        self._resumed: Path | None = None
        self._resumed_rows: list[dict] = []
        self._rows: list[dict] = []  # for the next checkpoint
        self._checkpoint_due = False
        self._issued = (-1, 0)  # the step, and the prompts that it has asked for

    # --------------------------------------------------------------------------------------------- set-up

    def on_init_end(self):
        super().on_init_end()
        if self.options.lambda_l > 0:
            self.actor_rollout_wg.set_loss_fn(
                partial(
                    dsdr_loss,
                    config=omega_conf_to_dataclass(self.config.actor_rollout_ref.actor),
                    options=self.options,
                    group_size=self.config.actor_rollout_ref.rollout.n,
                )
            )
        self.events.send(
            "ready", step=self.global_steps, total_steps=self.total_training_steps, rows=self._resumed_rows
        )

    def on_train_begin(self):
        super().on_train_begin()
        if self.global_steps <= self.total_training_steps:
            done = self.global_steps - 1  # verl has moved on to the first that is to come
            for folder in checkpoints.set_aside(self._folder().parent, done, self._resumed):
                self.events.send("left", step=done, folder=str(folder))
        for row in self._resumed_rows[-1:]:  # of the checkpoint's step: its run may have ended before it was logged
            self.logger.log(data=row["metrics"], step=row["step"])

    # ----------------------------------------------------------------------------------------- one step

    def _fetch_one_gen_batch(self):
        """Groups are named by step and number, so that their order can be repeated."""
        batch = super()._fetch_one_gen_batch()
        step, count = self._issued if self._issued[0] == self.global_steps else (self.global_steps, 0)
        self._issued = (step, count + len(batch))
        tu.assign_non_tensor_stack(batch, "uid", [f"{step}-{count + number}" for number in range(len(batch))])
        return batch

    def _balance_batch(self, batch: KVBatchMeta, metrics, **kwargs):
        """Rollouts come as they finish, and sums of floats depend on the order."""
        batch.reorder(sorted(range(len(batch.keys)), key=lambda row: queue.number_of(batch.keys[row])))
        return super()._balance_batch(batch, metrics, **kwargs)

    def on_step_end(self):
        try:
            super().on_step_end()
        except Exception as error:
            raise RuntimeError(
                f"weight sync after step {self.global_steps} failed: a vLLM worker did not take the weights "
                f"({describe(error)})"
            ) from error

    def _compute_advantage(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        """Group reduction, then verl's own advantage stage on the shaped rewards."""
        start = time.perf_counter()
        rollouts = queue.read_rollouts(batch)
        scores, columns = self._score(rollouts, metrics)
        shape = self.options.lambda_d > 0
        if shape:
            columns["rm_scores"] = queue.add_at_first_token(rollouts.rm_scores, scores.bonus)
        queue.write_columns(batch, **columns)
        seconds = time.perf_counter() - start

        batch = super()._compute_advantage(batch, metrics)

        start = time.perf_counter()
        if shape:
            # verl logs `rm_scores` as score and `token_level_rewards` as reward: the task's and the shaped one.
            restored = {"rm_scores": rollouts.rm_scores}
            if not self.config.algorithm.use_kl_in_reward:
                restored["token_level_rewards"] = columns["rm_scores"]
            queue.write_columns(batch, **restored)
        metrics["timing_s/dsdr"] = seconds + time.perf_counter() - start
        return batch

    def _score(self, rollouts: queue.RolloutBatch, metrics: dict) -> tuple[GroupScores, dict[str, torch.Tensor]]:
        """Eqs. 4-11 over the batch: the scores, and the columns the actor's loss needs of them."""
        info, valid_B = rollouts.reward_extra_info, rollouts.valid_B
        reward_B = torch.stack([row.sum() for row in rollouts.rm_scores.unbind()])
        scores, correct_B, group_B = reduce_groups(info, rollouts.uid, reward_B, valid_B, self.options)
        metrics.update(diversity_metrics(scores, correct_B, group_B, valid_B))
        real = [row for row, valid in zip(info, valid_B.tolist(), strict=True) if valid]
        metrics.update(scoring_metrics(real))
        return scores, {WEIGHT: scores.weight}

    # ------------------------------------------------------------------------------- validation, logging

    def _val_metrics_update(self, data_sources, sample_uids, reward_extra_infos_dict, sample_turns, **kwargs):
        scalars = {k: v for k, v in reward_extra_infos_dict.items() if k in ("reward", "acc", "truncated")}
        # verl's best@k and worst@k resample with replacement, which is biased, depends on the order of the samples and
        # takes seconds; ours is the unbiased estimator.
        with patch.object(metric_utils, "bootstrap_metric", lambda reduce_fns, **_: [(0.0, 0.0) for _ in reduce_fns]):
            metrics = super()._val_metrics_update(data_sources, sample_uids, scalars, sample_turns, **kwargs)
        metrics = {name: value for name, value in metrics.items() if "/best@" not in name and "/worst@" not in name}
        return metrics | validation_metrics(data_sources, sample_uids, reward_extra_infos_dict["acc"])

    def _dump_generations(self, inputs, outputs, gts, scores, reward_extra_infos_dict, dump_path):
        kept = kept_of_samples(reward_extra_infos_dict, self.options)
        super()._dump_generations(inputs, outputs, gts, scores, kept, dump_path)

    def _validate(self) -> dict[str, float]:
        metrics = super()._validate()
        self._keep_row("validation", metrics)
        self.events.send("validation", step=self.global_steps, metrics=metrics)
        self.gauges.set(metrics)
        return metrics

    def _compute_metrics(self, batch, metrics, timing_raw, global_steps, epoch):
        super()._compute_metrics(batch, metrics, timing_raw, global_steps, epoch)
        # Dynamic sampling adds a table of what it dropped, which verl takes out later.
        numbers = {name: value for name, value in metrics.items() if name != DAPO_FILTERED_REWARD_COUNTS_KEY}
        alarms = self.health.alarms(numbers)
        numbers |= self.health.counts(alarms)
        self._keep_row("step", numbers)
        fatal = self.health.deadly(alarms)
        if "not_finite" not in alarms:
            self._remove_outdated()  # the newest has weights that only these numbers could judge
        if self._checkpoint_due and not fatal and "not_finite" not in alarms:
            start = time.perf_counter()
            self._write_checkpoint()
            numbers["timing_s/save_checkpoint"] = time.perf_counter() - start
        self._checkpoint_due = False
        metrics.update(numbers)
        self.events.send("step", step=global_steps, metrics=numbers)
        self.gauges.set(numbers)
        for text in alarms.values():
            self.events.send("alarm", step=global_steps, text=text)
        if fatal:
            if "not_finite" in alarms:
                self._leave_suspect()
            raise Unhealthy(f"step {global_steps}: {fatal}")

    # ----------------------------------------------------------------------------------------- checkpoints

    def _load_checkpoint(self):
        super()._load_checkpoint()
        if self.global_steps:
            named = self.config.trainer.resume_mode == "resume_path"
            self._resumed = Path(self.config.trainer.resume_from_path).absolute() if named else self._folder()
        if self._resumed == self._folder():  # another run's rows are not of this one's log
            self._resumed_rows = checkpoints.rows_of(self._resumed)
        self._rows = list(self._resumed_rows)  # the next checkpoint has as many
        for row in self._rows:
            if row["kind"] == "step":
                self.health.alarms(row["metrics"])  # to remember: what was alarming was told then

    def _save_checkpoint(self):
        """Called before the step's metrics are known, which a checkpoint is to hold: see `_compute_metrics`."""
        self._checkpoint_due = True

    def _keep_row(self, kind: str, metrics: dict) -> None:
        if self.config.trainer.save_freq > 0:  # else there will be no checkpoint to take them
            self._rows.append({"step": self.global_steps, "kind": kind, "metrics": metrics})

    def _write_checkpoint(self) -> None:
        folder = self._folder()
        try:
            checkpoints.unseal(folder)
            super()._save_checkpoint()
            checkpoints.make_portable(folder)
            checkpoints.seal(folder, self._rows)
        except Exception as error:  # a rank's too, and torch's own, which is no OSError
            room = checkpoints.room(folder)
            raise RuntimeError(
                f"the checkpoint of step {self.global_steps} could not be written: {folder}, {room} "
                f"({describe(error)}); what was whole before is kept, and the same command goes on from there"
            ) from error
        self._rows = [row for row in self._rows if row["step"] > self.global_steps - ROWS_AGAIN]
        self.events.send("checkpoint", step=self.global_steps)
        if self.global_steps >= self.total_training_steps:
            self._remove_outdated()

    def _remove_outdated(self) -> None:
        keep_best = OmegaConf.select(self.config, "checkpoints.keep_best", default=False)
        checkpoints.remove(checkpoints.outdated(self._folder().parent, self._keep_last, keep_best))

    def _leave_suspect(self) -> None:
        """A checkpoint right before the numbers that are none has the weights that they come from."""
        root, step = self._folder().parent, self.global_steps - self.health.steps_in_a_row("not_finite")
        before = [folder for folder in checkpoints.steps_in(root) if checkpoints.step_of(folder) < step]
        if any(map(checkpoints.finished, before)):  # else the next start would begin anew
            for folder in checkpoints.set_aside(root, step, None):
                self.events.send("suspect", step=step, folder=str(folder))

    def _folder(self) -> Path:
        return Path(self.config.trainer.default_local_dir).absolute() / f"global_step_{self.global_steps}"


def scoring_metrics(info: list[dict]) -> dict[str, float]:
    """Shares of verdicts, and seconds of scoring off the critical path (summed and slowest, over the rollouts)."""
    seconds = [row["dsdr_seconds"] for row in info] or [0.0]
    verdicts = [row["verdict"] for row in info]
    return {
        "dsdr/pass_rate": float(np.mean([row["acc"] for row in info] or [0.0])),
        **{f"dsdr/verdict/{v.value}": verdicts.count(v.value) / max(len(info), 1) for v in Verdict},
        "dsdr/truncated": float(np.mean([row["truncated"] for row in info] or [0.0])),
        "dsdr/scoring/off_path_seconds": float(np.sum(seconds)),
        "dsdr/scoring/slowest_seconds": float(np.max(seconds)),
    }
