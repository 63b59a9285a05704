"""The trainer's metrics as Ray metrics. Ray exports them to Prometheus with the prefix `ray_`."""

from __future__ import annotations

import functools
import logging
import re
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from ray.util.metrics import Gauge

logger = logging.getLogger(__name__)

REPEAT_S = 5.0  # Ray forgets a gauge that nobody has set for 20 s, and a step can take minutes


class Row(NamedTuple):
    """A metric key of the trainer (`{tag}` stands for what becomes a tag) and the gauge that shows it."""

    key: str
    gauge: str
    description: str
    convert: Callable[[Any], float] = float

    @property
    def tags(self) -> tuple[str, ...]:
        return tuple(re.findall(r"\{(\w+)\}", self.key))


# The first row that matches a key takes it. docs/metrics.md says what each means.
TABLE = (
    Row("training/global_step", "dsdr_train_step", "Steps done."),
    Row("critic/score/mean", "dsdr_train_reward", "The task's reward, mean of the step."),
    Row("critic/rewards/mean", "dsdr_train_shaped_reward", "The shaped reward (Eq. 10), mean of the step."),
    Row("critic/{reward}/{of}", "dsdr_train_reward_range", "Smallest and largest score, reward, advantage, return."),
    Row("dsdr/pass_rate", "dsdr_train_pass_rate", "Share of rollouts with a correct answer."),
    Row("val-core/{source}/acc/{measure}", "dsdr_train_validation", "Latest validation: pass@k, mean@n, maj@n."),
    Row("actor/entropy", "dsdr_train_entropy", "Token entropy under the old policy, in nats."),
    Row("actor/dsdr_local", "dsdr_train_local_term", "J_local (Eq. 15 or 12) before its weight, in nats."),
    Row("dsdr/semantic/{answers}", "dsdr_train_semantic_diversity", "Mean D_emb (Eq. 6)."),
    Row("dsdr/formula/{answers}", "dsdr_train_formula_diversity", "Mean D_eq (Eq. 8)."),
    Row("dsdr/diversity/{answers}", "dsdr_train_diversity", "Mean clipped diversity (Eqs. 9-10)."),
    Row("dsdr/bonus/{of}", "dsdr_train_bonus", "Diversity bonus of correct rollouts, in units of reward."),
    Row("dsdr/coupling/effective_rollouts", "dsdr_train_effective_rollouts", "w_eff: 1 over the sum of squared w."),
    Row("dsdr/coupling/largest_weight", "dsdr_train_largest_weight", "Largest w of a group, averaged."),
    Row("dsdr/coupling/entropy", "dsdr_train_coupling_entropy", "Entropy of w (Eq. 11), in nats."),
    Row("dsdr/groups/count", "dsdr_train_groups", "Groups of the step."),
    Row("dsdr/groups/{answers}", "dsdr_train_group_share", "Shares of groups all correct, mixed, all wrong."),
    Row("dsdr/verdict/{verdict}", "dsdr_train_verdict_share", "Shares of the verifier's verdicts."),
    Row("dsdr/truncated", "dsdr_train_truncated", "Share of responses cut at the longest length."),
    Row("dsdr/scoring/{of}_seconds", "dsdr_train_scoring_seconds", "Scoring: summed off the path, slowest rollout."),
    Row("health/{kind}", "dsdr_train_alarm", "1 at a step with an alarm of that kind."),
    Row("timing_per_token_ms/gen", "dsdr_train_rollout_tokens_per_second", "Response tokens generated a second.",
        lambda ms: 1000 / ms),
    Row("perf/throughput", "dsdr_train_tokens_per_second", "All tokens a second of a whole step, by device."),
    Row("timing_s/{stage}", "dsdr_train_stage_seconds", "Seconds of the step spent in each stage."),
    Row("actor/perf/{kind}_gb", "dsdr_train_memory_gb", "Memory of the training processes, GiB."),
    Row("actor/kl_loss", "dsdr_train_reference_kl", "KL to the reference model, in nats."),
    Row("actor/ppo_kl", "dsdr_train_policy_kl", "KL to the policy that sampled, in nats."),
    Row("actor/grad_norm", "dsdr_train_grad_norm", "Norm of the gradient before clipping."),
    Row("response_length/{of}", "dsdr_train_response_tokens", "Tokens of a response; clip_ratio is a share."),
    Row("training/rollout_probs_diff_max", "dsdr_train_rollout_probs_diff", "Rollout engine against trainer."),
    Row("rollout_corr/log_ppl_abs_diff", "dsdr_train_rollout_log_ppl_diff", "Rollout engine against trainer."),
)  # fmt: skip


class Reading(NamedTuple):
    gauge: str
    tags: dict[str, str]
    value: float


@functools.cache
def _patterns() -> list[tuple[re.Pattern, Row]]:
    return [(re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>.+)", re.escape(row.key))), row) for row in TABLE]


@functools.lru_cache(maxsize=4096)
def _row_of(key: str) -> tuple[Row, dict[str, str]] | None:
    for pattern, row in _patterns():
        if match := pattern.fullmatch(key):
            return row, match.groupdict()
    return None


def readings(metrics: Mapping[str, Any]) -> list[Reading]:
    """What the gauges show of a step's metrics; keys outside `TABLE` and values that are no numbers are left out."""
    found = []
    for key, value in metrics.items():
        if at := _row_of(key):
            row, tags = at
            with suppress(TypeError, ValueError, ZeroDivisionError):
                found.append(Reading(row.gauge, tags, float(row.convert(value))))
    return found


class TrainingGauges:
    """One gauge for each row of `TABLE`, with the tag `run` besides its own. Never raises once it is made.

    The values of the latest step stay on Ray's endpoint for as long as this process lives.

    Args:
        run: the run's name, to tell runs on one cluster apart.
    """

    def __init__(self, run: str):
        self._gauges = {
            row.gauge: Gauge(row.gauge, row.description, ("run", *row.tags)).set_default_tags({"run": run})
            for row in TABLE
        }
        self._latest: dict[tuple, Reading] = {}
        self._warned = False
        threading.Thread(target=self._repeat, name="dsdr_gauges", daemon=True).start()

    def set(self, metrics: Mapping[str, Any]) -> None:
        """Show `metrics`, verl's dictionary of one step. A value that is missing stays as it was."""
        try:
            self._latest = self._latest | {(r.gauge, *r.tags.items()): r for r in readings(metrics)}
            self._record()
        except Exception:
            if not self._warned:
                logger.warning("the run's numbers do not reach Ray's metrics", exc_info=True)
            self._warned = True

    def _record(self) -> None:
        for gauge, tags, value in self._latest.values():
            self._gauges[gauge].set(value, tags)

    def _repeat(self) -> None:
        while True:
            threading.Event().wait(REPEAT_S)
            with suppress(Exception):  # `set` has said so
                self._record()
