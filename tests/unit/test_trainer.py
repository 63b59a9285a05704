"""The pure parts of the trainer: no Ray, no TransferQueue."""

import asyncio
import errno
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from ray.exceptions import RayTaskError
from verl import DataProto
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync

from dsdr_verl.algorithm.options import DSDROptions
from dsdr_verl.console import MetricsLog, last_errors, short
from dsdr_verl.data.problem_files import Item, to_row
from dsdr_verl.scoring.scorer import RolloutScore
from dsdr_verl.trainer.checkpoints import flaw, rows_of, seal
from dsdr_verl.trainer.dsdr_trainer import DSDRTrainer, scoring_metrics
from dsdr_verl.trainer.health import Health, HealthOptions
from dsdr_verl.trainer.queue import RolloutBatch, add_at_first_token, read_rollouts
from dsdr_verl.trainer.reduction import kept_of_samples, reduce_groups
from dsdr_verl.trainer.registered import dsdr_advantage
from dsdr_verl.trainer.reward_manager import EMBEDDING, FORMULAS, DSDRRewardManager


def nested(*rows):
    return torch.nested.as_nested_tensor([torch.tensor(row) for row in rows], layout=torch.jagged)


def info(acc: float, seed: int = 0, formulas=(), verdict: str = "correct") -> dict:
    embedding = np.random.default_rng(seed).normal(size=8).astype(np.float32)
    return {
        "acc": acc, "verdict": verdict, "truncated": 0.0, "dsdr_seconds": 0.5,
        EMBEDDING: embedding / np.linalg.norm(embedding), FORMULAS: np.array(formulas, dtype=np.int64),
    }  # fmt: skip


def test_bonus_goes_to_the_first_token():
    rows = nested([0.0, 1.0], [0.0, 0.0, 1.0], [1.0])
    shaped = add_at_first_token(rows, torch.tensor([0.5, 0.0, 0.25]))
    assert [row.tolist() for row in shaped.unbind()] == [[0.5, 1.0], [0.0, 0.0, 1.0], [1.25]]
    assert rows.unbind()[0].tolist() == [0.0, 1.0], "the task's reward stays as it was"


def test_bonus_keeps_its_digits_beside_a_reward_of_one():
    """In float32, 1 + 1e-4 would keep three digits of the bonus."""
    bonus = torch.tensor([1.0e-4, 1.1e-4, 1.2e-4, 1.3e-4])
    rewards = add_at_first_token(nested(*[[0.0, 1.0]] * 4), bonus).to_padded_tensor(0.0)
    advantages, _ = dsdr_advantage(
        rewards, torch.ones(4, 2), np.array(["p"] * 4, dtype=object), config={"dsdr": {"std_eps": 1e-12}}
    )
    x = bonus.double()
    expected = (x - x.mean()) / x.std()
    torch.testing.assert_close(advantages[:, 0].double(), expected, atol=1e-5, rtol=0)


def test_estimator_reads_its_options():
    config = {"dsdr": {"std_eps": 0.5}, "norm_adv_by_std_in_grpo": True}
    rewards = torch.tensor([[1.0], [0.0]])
    advantages, returns = dsdr_advantage(rewards, torch.ones(2, 1), np.array(["p", "p"], dtype=object), config=config)
    expected = 0.5 / (torch.tensor([1.0, 0.0]).std() + 0.5)
    assert advantages[0, 0] == pytest.approx(float(expected)) and torch.equal(advantages, returns)


def test_padding_rows_never_count():
    """They copy a correct rollout's scores; only their tag tells them apart."""
    trainer = SimpleNamespace(options=DSDROptions())
    real = [info(1.0, 1, [1, 2]), info(0.0, 2, [2]), info(1.0, 3, [3])]

    def scored(rows, uids, valid):
        metrics: dict = {}
        batch = RolloutBatch(
            uid=np.array(uids, dtype=object), rm_scores=nested(*[[0.0, row["acc"]] for row in rows]),
            reward_extra_info=rows, valid_B=torch.tensor(valid),
        )  # fmt: skip
        scores, columns = DSDRTrainer._score(trainer, batch, metrics)
        return scores, columns, metrics

    plain, _, metrics = scored(real, ["p", "p", "p"], [True] * 3)
    # in another order, with two padding rows that share the uid "pad"
    padded, columns, padded_metrics = scored(
        [real[0], real[2], real[0], real[1], real[0]], ["pad", "p", "p", "p", "pad"], [False, True, True, True, False]
    )
    order = [2, 3, 1]
    for name in ("semantic", "formula", "diversity", "bonus", "weight"):
        torch.testing.assert_close(getattr(padded, name)[order], getattr(plain, name))
        assert getattr(padded, name)[[0, 4]].abs().sum() == 0
    assert columns["dsdr_weight"][[0, 4]].sum() == 0
    assert padded_metrics == pytest.approx(metrics)


def test_rollouts_are_read_in_the_order_of_their_keys(monkeypatch):
    """Whatever container a non-tensor column arrives in."""
    from tensordict import NonTensorData

    from dsdr_verl.trainer import queue

    columns = {
        "uid": np.array(["p", "q"], dtype=object), "rm_scores": nested([0.0, 1.0], [0.0]),
        "extra_fields": [NonTensorData({"reward_extra_info": {"acc": 1.0}}), {"reward_extra_info": {"acc": 0.0}}],
    }  # fmt: skip
    monkeypatch.setattr(queue, "tq", SimpleNamespace(kv_batch_get=lambda **kwargs: columns))
    batch = SimpleNamespace(keys=["p_0_0", "q_0_0"], partition_id="train", tags=[{}, {"is_padding": True}])
    rollouts = read_rollouts(batch)
    assert rollouts.uid.tolist() == ["p", "q"] and rollouts.valid_B.tolist() == [True, False]
    assert [row["acc"] for row in rollouts.reward_extra_info] == [1.0, 0.0]


def test_samples_are_kept_with_diversities_in_place_of_embeddings():
    rows = [info(1.0, 1, [1, 2]), info(0.0, 2, [2]), info(1.0, 3, [3]), info(1.0, 4, [4])]
    columns = {name: [row[name] for row in rows] + [None] for name in rows[0]}
    columns |= {"uid": ["p_0_0", "p_1_0", "p_2_0", "q_r_0_0", "q_r_1_0"], "reward": [1.0, 0.0, 1.0, 1.0, 0.0]}
    kept = kept_of_samples(columns, DSDROptions(tau=5.0))
    assert kept.keys() == (columns.keys() - {EMBEDDING, FORMULAS}) | {"semantic", "formula", "diversity", "weight"}
    assert kept["weight"][1] == 0 and kept["weight"][0] + kept["weight"][2] == pytest.approx(1)
    assert kept["weight"][3:] == [1.0, None] and kept["diversity"][4] is None
    assert kept["semantic"][3] == 0, "alone in its group"
    scores, _, _ = reduce_groups(rows[:3], ["p"] * 3, torch.tensor([1.0, 0, 1]), torch.ones(3).bool(), DSDROptions())
    assert kept["semantic"][:3] == scores.semantic.tolist()


def test_rollouts_of_training_are_kept_as_they_are():
    columns = {"uid": ["p_0_0", "p_1_0"]}
    assert kept_of_samples(columns, DSDROptions()) == columns
    nothing = {"uid": ["p_0_0"], "acc": [None], EMBEDDING: [None], FORMULAS: [None]}
    assert kept_of_samples(nothing, DSDROptions())["weight"] == [None]


def test_no_correct_rollout_and_no_formulas():
    trainer = SimpleNamespace(options=DSDROptions())
    rows = [info(0.0, seed, verdict="no_answer") for seed in range(4)]
    metrics: dict = {}
    batch = RolloutBatch(np.array(["p"] * 4, dtype=object), nested(*[[0.0]] * 4), rows, torch.ones(4).bool())
    scores, _ = DSDRTrainer._score(trainer, batch, metrics)
    assert scores.weight.sum() == 0 and scores.bonus.sum() == 0
    assert metrics["dsdr/groups/all_wrong"] == 1.0 and metrics["dsdr/verdict/no_answer"] == 1.0


def test_scoring_metrics_of_nothing():
    assert scoring_metrics([])["dsdr/pass_rate"] == 0.0


@pytest.mark.parametrize(("length", "penalty"), [(0, 0.0), (80, 0.0), (90, -0.5), (100, -1.0), (120, -1.0)])
def test_overlong_penalty(length, penalty):
    manager = SimpleNamespace(max_response_length=100, overlong_len=20, overlong_factor=1.0)
    assert DSDRRewardManager.overlong_penalty(manager, length) == pytest.approx(penalty)


def test_group_filter(monkeypatch):
    from verl.trainer.ppo.v1 import replay_buffer

    from dsdr_verl.trainer.group_filter import GroupFilterBuffer

    def dropped(drop: str, most: int = 10) -> set[str]:
        kwargs = OmegaConf.create(
            {"drop": drop, "metric": "acc", "train_batch_size": 1, "max_inflight_gen_batches": 1,
             "max_gen_batches": most}
        )  # fmt: skip
        buffer = GroupFilterBuffer(
            sampler_kwargs=kwargs, trainer_mode="sync", trainer_config={}, max_off_policy_threshold=8,
            max_off_policy_strategy="drop", refill_fn=lambda n: n,
        )  # fmt: skip
        acc = {"solved_0_0": 1.0, "solved_1_0": 1.0, "wrong_0_0": 0.0, "wrong_1_0": 0.0, "mixed_0_0": 1, "mixed_1_0": 0}
        buffer.finished_keys["train"] = {"solved", "wrong", "mixed"}
        buffer.partitions["train"] = {key: {} for key in acc}
        fields = {"extra_fields": [{"reward_extra_info": {"acc": acc[key]}} for key in acc]}
        monkeypatch.setattr(replay_buffer, "tq", SimpleNamespace(kv_batch_get=lambda **_: fields))
        return buffer._dapo_filtered_keys("train")[0]

    assert dropped("no_signal") == {"solved", "wrong"}
    assert dropped("all_wrong") == {"wrong"}
    with pytest.raises(RuntimeError, match="max_gen_batches"):
        dropped("no_signal", most=1)


def test_metrics_log_forgets_what_a_resumed_run_repeats(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append("validation", 0, {"a": 1})
    for step in (1, 2, 3):
        log.append("step", step, {"a": np.float32(step)})
    log.append("validation", 2, {"a": 1})
    with open(log.path, "ab") as file:  # it was killed, or its machine
        file.write(b'\xff\x00\n{"step": 3}\n17\n{"step": 4, "ki')
    log.resume(2, [])
    kinds = [("validation", 0), ("step", 1), ("validation", 2), ("step", 2)]
    assert [(row["kind"], row["step"]) for row in log.rows()] == kinds
    log.append("validation", 2, {"a": 7})
    assert len(log.rows()) == 4 and log.rows()[-1]["metrics"] == {"a": 7}


def test_metrics_log_is_not_read_at_each_validation(tmp_path, monkeypatch):
    """A run of thousands of steps would do little else."""
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.resume(0, [])
    monkeypatch.setattr(MetricsLog, "rows", None)
    for step in (0, 5, 10):
        log.append("validation", step, {"a": 1})
    assert len(log.path.read_text().splitlines()) == 3


def test_metrics_log_has_what_the_checkpoint_had(tmp_path):
    """A run that is killed between its checkpoint and its log."""
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append("step", 2, {"a": 1})
    rows = [(3, "step", 2.0), (4, "validation", 3.0), (4, "step", 4.0)]
    held = [{"step": step, "kind": kind, "metrics": {"a": value}} for step, kind, value in rows]
    log.resume(4, held)
    log.resume(4, [held[-1] | {"metrics": {"a": 9.0}}])
    assert [(row["step"], row["kind"], *row["metrics"].values()) for row in log.rows()] == [(2, "step", 1.0), *rows]


def writing(monkeypatch, folder) -> DSDRTrainer:
    """A trainer whose checkpoints have no weights."""
    trainer = object.__new__(DSDRTrainer)
    trainer.config = OmegaConf.create({"trainer": {"default_local_dir": str(folder), "save_freq": 1}})
    trainer.events, trainer._rows, trainer._keep_last = SimpleNamespace(send=lambda *a, **k: None), [], 1
    trainer.total_training_steps = 200
    monkeypatch.setattr(PPOTrainerSync, "_save_checkpoint", lambda self: None)
    return trainer


def test_a_checkpoint_has_the_rows_of_steps_that_the_log_may_lack(monkeypatch, tmp_path):
    """The trainer may be several checkpoints ahead of a driver that is being stopped."""
    trainer = writing(monkeypatch, tmp_path)
    found = {}
    for trainer.global_steps in range(1, 121):
        trainer._keep_row("step", {"a": 1.0})
        if trainer.global_steps in (60, 61, 120):
            trainer._write_checkpoint()
            found[trainer.global_steps] = [row["step"] for row in rows_of(trainer._folder())]
    assert found == {60: [*range(1, 61)], 61: [*range(11, 62)], 120: [*range(12, 121)]}


def test_a_checkpoint_that_cannot_be_written_ends_the_run_and_keeps_the_one_before(monkeypatch, tmp_path):
    trainer = writing(monkeypatch, tmp_path)
    trainer.global_steps = 1
    trainer._write_checkpoint()

    def of_a_rank(self):
        (self._folder() / "half").write_text("")
        full = OSError(errno.ENOSPC, "No space left on device")
        raise RayTaskError("save_checkpoint", "traceback", full).as_instanceof_cause()

    monkeypatch.setattr(PPOTrainerSync, "_save_checkpoint", of_a_rank)
    trainer.global_steps = 2
    says = rf"step 2 could not be written: {tmp_path}/global_step_2, \d+\.\d MiB free \(OSError: .*No space left"
    with pytest.raises(RuntimeError, match=says):
        trainer._write_checkpoint()
    assert flaw(tmp_path / "global_step_1") is None and flaw(tmp_path / "global_step_2").unfinished


@pytest.fixture
def begun(monkeypatch, tmp_path):
    """A trainer at the begin of its training, with checkpoints of steps 2, 4 and 6: what is there, and its news."""
    for step in (2, 4, 6):
        folder = tmp_path / f"global_step_{step}"
        folder.mkdir()
        seal(folder, [{"step": step, "kind": "step", "metrics": {"a": 1.0}}])
    monkeypatch.setattr(PPOTrainerSync, "on_train_begin", lambda self: None)

    def begin(step: int, total: int = 9, **trainer):
        news = []
        made = object.__new__(DSDRTrainer)
        made.config = OmegaConf.create(
            {"trainer": {"default_local_dir": str(tmp_path), "resume_from_path": None} | trainer}
        )
        made.events = SimpleNamespace(send=lambda kind, **content: news.append((kind, content["step"])))
        made.logger = SimpleNamespace(log=lambda data, step: news.append(("logged", step)))
        made._resumed, made._resumed_rows, made.total_training_steps = None, [], total
        made.health = Health(HealthOptions())
        monkeypatch.setattr(PPOTrainerSync, "_load_checkpoint", lambda self: setattr(self, "global_steps", step))
        made._load_checkpoint()
        made.global_steps += 1  # as verl does before it begins
        made.on_train_begin()
        return sorted(path.name for path in tmp_path.glob("global_step_*")), news

    return begin


def test_a_run_that_goes_back_says_what_it_leaves(begun, tmp_path):
    named = {"resume_mode": "resume_path", "resume_from_path": str(tmp_path / "global_step_2")}
    assert begun(2, **named) == (["global_step_2"], [("left", 2), ("left", 2), ("logged", 2)])


def test_a_run_that_goes_on_leaves_nothing(begun, tmp_path):
    everything = ["global_step_2", "global_step_4", "global_step_6"]
    named = {"resume_mode": "resume_path", "resume_from_path": str(tmp_path / "global_step_6")}
    assert begun(6, **named) == (everything, [("logged", 6)])
    assert begun(6, resume_mode="auto") == (everything, [("logged", 6)]), "under verl's own entry"
    early = {"resume_mode": "resume_path", "resume_from_path": str(tmp_path / "global_step_2")}
    assert begun(2, total=2, **early)[0] == everything, "it has no step to do"


def test_a_run_that_starts_anew_leaves_all(begun):
    assert begun(0, resume_mode="disable") == ([], [("left", 0)] * 3)


def test_last_errors(tmp_path):
    log = tmp_path / "train.log"
    log.write_text("ok\nA: ValueError: first\nzmq.error.Again: Resource\nB: ValueError: first\nRuntimeError: last\n")
    assert last_errors(log, most=2) == ["ValueError: first", "RuntimeError: last"]
    log.write_text(f"KeyError: long ago\n{' ' * 10**6}\nRuntimeError: last\n")
    assert last_errors(log) == ["RuntimeError: last"]
    assert last_errors(tmp_path / "gone.log") == []


@pytest.mark.parametrize("end", ["pipe", "terminal", "full disk"])
def test_a_run_outlives_its_terminal(tmp_path, end):
    ours, its = {
        "pipe": os.pipe,
        "terminal": os.openpty,
        "full disk": lambda: (os.open(os.devnull, os.O_RDONLY), os.open("/dev/full", os.O_WRONLY)),
    }[end]()
    program = (
        "from pathlib import Path; from dsdr_verl.console import divert_output\n"
        "console = divert_output(Path('train.log')); input()\n"
        "for _ in range(3): console.print('a line ' * 10_000)\n"
        "print('goes on')"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=its, cwd=tmp_path, text=True) as run:
        os.close(ours), os.close(its)
        run.communicate("now\n", timeout=60)
    assert run.returncode == 0
    assert (tmp_path / "train.log").read_text() == "goes on\n"


def test_short_names():
    assert short("val-core/dsdr/arithmetic/acc/pass@1") == "dsdr/arithmetic accuracy (pass@1)"
    assert short("val-core/gsm8k/acc/pass@4") == "gsm8k pass@4"


def test_all_responses_equal():
    """Nothing is distinctive: no diversity, no bonus, uniform weights, and a solved group without a signal."""
    trainer = SimpleNamespace(options=DSDROptions())
    batch = RolloutBatch(
        np.array(["p"] * 4, dtype=object), nested(*[[0.0, 1.0]] * 4), [info(1.0, 0, [7])] * 4, torch.ones(4).bool()
    )
    scores, _ = DSDRTrainer._score(trainer, batch, {})
    torch.testing.assert_close(scores.diversity, torch.zeros(4), atol=1e-6, rtol=0)
    torch.testing.assert_close(scores.weight, torch.full((4,), 0.25))
    rewards = scores.shaped_reward[:, None]
    advantages, _ = dsdr_advantage(rewards, torch.ones(4, 1), np.array(["p"] * 4, dtype=object), config={})
    torch.testing.assert_close(advantages, torch.zeros(4, 1), atol=1e-3, rtol=0)


def test_an_empty_response_is_half_way_from_everything():
    trainer = SimpleNamespace(options=DSDROptions())
    empty = info(0.0, 0, verdict="no_answer") | {EMBEDDING: np.zeros(8, np.float32)}
    rows = [info(1.0, 1, [1]), info(1.0, 1, [1]), empty]
    batch = RolloutBatch(np.array(["p"] * 3, dtype=object), nested([1.0], [1.0], [0.0]), rows, torch.ones(3).bool())
    scores, _ = DSDRTrainer._score(trainer, batch, {})
    assert scores.semantic[2] == pytest.approx(0.5) and scores.formula[2] == 0
    assert scores.semantic[0] == pytest.approx(0.25), "0 from its twin, one half from the empty one"


def test_kept_samples_are_without_what_would_be_most_of_the_file(monkeypatch):
    kept = {}
    monkeypatch.setattr(PPOTrainerSync, "_dump_generations", lambda self, *columns: kept.update(columns[4]))
    trainer = object.__new__(DSDRTrainer)
    trainer.options = DSDROptions()
    rows = {"acc": [1.0], "problem": ["id"], "uid": ["p_0_0"], EMBEDDING: [np.ones(8)], FORMULAS: [np.ones(3)]}
    trainer._dump_generations(["in"], ["out"], ["7"], [1.0], rows, "folder")
    assert {"acc": [1.0], "problem": ["id"], "weight": [1.0]}.items() <= kept.items()
    assert not {EMBEDDING, FORMULAS} & kept.keys()


def test_a_sample_says_whose_it_is():
    """The id that evaluation gives the same problem, from what verl hands to the reward manager."""

    class Client:
        async def score(self, response, truth):
            return RolloutScore("correct", 1.0, np.ones(2, np.float32), np.array([5]), 0.1)

    row = to_row(Item("What is 3 + 4?", "7"), "set", "test", 0)
    manager = SimpleNamespace(
        client=Client(), tokenizer=SimpleNamespace(decode=lambda ids, skip_special_tokens: "7"),
        max_response_length=8, overlong_penalty=lambda length: 0.0,
    )  # fmt: skip
    named = []
    for extra in (row["extra_info"], {"index": 3}):
        fields = {
            "reward_model": row["reward_model"], "data_source": "set", "extra_info": extra, "raw_prompt": row["prompt"],
        }  # fmt: skip
        data = DataProto.from_dict(
            {"responses": torch.ones(1, 4, dtype=torch.long), "attention_mask": torch.ones(1, 6, dtype=torch.long)},
            non_tensors={name: np.array([value]) for name, value in fields.items()},
        )
        result = asyncio.run(DSDRRewardManager.run_single(manager, data))
        named.append((result["reward_extra_info"]["data_source"], result["reward_extra_info"]["problem"]))
    assert named[0] == ("set", row["extra_info"]["id"])
    prompt = json.dumps(row["prompt"], ensure_ascii=False)
    assert named[1] == ("set", Item(prompt, "7").id), "without an id and a question, the prompt stands for it"


def test_validation_is_estimated_without_resampling(monkeypatch):
    from verl.trainer.ppo import metric_utils

    def resampled(**kwargs):
        raise AssertionError("verl has resampled")

    monkeypatch.setattr(metric_utils, "bootstrap_metric", resampled)
    trainer = object.__new__(DSDRTrainer)
    infos = {"reward": [1.0, 0.0, 0.0, 0.0, 1.0, 1.0], "acc": [1.0, 0.0, 0.0, 0.0, 1.0, 1.0], "text": ["x"] * 6}
    found = trainer._val_metrics_update(["s"] * 6, ["a", "a", "a", "b", "b", "b"], infos, [])
    assert found["val-core/s/acc/mean@3"] == pytest.approx(0.5)
    assert found["val-aux/s/acc/std@3"] == pytest.approx((np.std([1, 0, 0]) + np.std([0, 1, 1])) / 2)
    assert not [name for name in found if "best@" in name or "worst@" in name]
    # 1 - C(2, 2) / C(3, 2) of a, 1 of b
    assert found["val-core/s/acc/pass@2"] == pytest.approx((2 / 3 + 1) / 2)
