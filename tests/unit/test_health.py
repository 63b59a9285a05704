"""When a step's numbers are an alarm, which alarms end a run, and what is left of it then."""

import io
import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf
from rich.console import Console
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync

from dsdr_verl.console import RunConsole
from dsdr_verl.trainer.checkpoints import flaw, rows_of, steps_in
from dsdr_verl.trainer.dsdr_trainer import DSDRTrainer
from dsdr_verl.trainer.health import Health, HealthOptions, Unhealthy

FINE = {
    "actor/loss": 0.1, "actor/pg_loss": 0.1, "actor/grad_norm": 0.3, "actor/entropy": 0.2,
    "critic/advantages/min": -1.0, "critic/advantages/max": 1.0,
}  # fmt: skip
FLAT = {"critic/advantages/min": 0.0, "critic/advantages/max": 0.0}


def alarms_of(*steps: dict, **options) -> list[dict[str, str]]:
    health = Health(HealthOptions(**options))
    return [health.alarms(FINE | step) for step in steps]


def test_a_sound_step_is_quiet():
    assert alarms_of({}, {}, {"actor/grad_norm": 0.9}) == [{}, {}, {}]
    assert Health(HealthOptions()).alarms({}) == {}, "metrics that are not logged are not missed"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "name",
    ["actor/loss", "actor/pg_loss", "actor/grad_norm", "actor/entropy", "actor/kl_loss", "actor/reward_kl_penalty"],
)
def test_what_is_no_number_is_named(name, value):
    (found,) = alarms_of({name: value})
    assert found["not_finite"] == f"{name} is {value}"


def test_an_exploding_gradient():
    quiet = [{"actor/grad_norm": 0.2 + step / 100} for step in range(10)]
    assert not any(alarms_of({"actor/grad_norm": 50.0}, *quiet[:5])), "too few steps to compare with"
    *before, last = alarms_of(*quiet, {"actor/grad_norm": 6.0})
    assert not any(before) and last == {"gradient": "the gradient's norm is 6, and was 0.245 of late"}
    assert not any(alarms_of(*quiet, {"actor/grad_norm": 6.0}, gradient_factor=30.0))


def test_zero_gradients_before_the_first_signal_are_no_measure():
    assert not any(alarms_of(*[{"actor/grad_norm": 0.0}] * 10, {"actor/grad_norm": 0.3}))


def test_steps_without_a_signal_do_not_hide_an_exploding_gradient():
    steps = [{"actor/grad_norm": 0.3 if step % 3 == 0 else 0.0} for step in range(30)]
    *before, last = alarms_of(*steps, {"actor/grad_norm": 30.0})
    assert not any(before) and "gradient" in last


def test_a_gradient_is_compared_with_those_of_late():
    grown = [{"actor/grad_norm": 0.1}] * 50 + [{"actor/grad_norm": 1.5}] * 50
    *before, last = alarms_of(*grown, {"actor/grad_norm": 20.0})
    assert not any(before) and not last
    *before, last = alarms_of(*grown[:60], {"actor/grad_norm": 20.0})
    assert not any(before) and "gradient" in last


def test_a_collapsed_entropy():
    (found,) = alarms_of({"actor/entropy": 0.001})
    assert found["entropy"].startswith("the policy's entropy is 0.001 nats")
    assert not any(alarms_of({"actor/entropy": 0.001}, entropy_floor=0))


def test_no_signal_for_many_steps():
    found = alarms_of(FLAT, FLAT, {}, FLAT, FLAT, FLAT, no_signal_steps=3)
    assert [set(each) for each in found] == [set(), set(), set(), set(), set(), {"no_signal"}]
    assert "0 for 3 steps" in found[-1]["no_signal"]


def test_what_ends_a_run():
    health = Health(HealthOptions())
    bad = FINE | {"actor/grad_norm": math.nan}
    ends = [health.deadly(health.alarms(step)) for step in (bad, bad, FINE, bad, bad, bad)]
    assert ends[:5] == [None] * 5 and "actor/grad_norm is nan (health.stop_on has not_finite)" in ends[5]
    low = health.alarms(FINE | {"actor/entropy": 0.0})
    assert low and health.deadly(low) is None
    assert "entropy" in Health(HealthOptions(stop_on=("entropy",))).deadly(low)
    assert Health(HealthOptions(stop_on=())).deadly(low) is None
    assert health.counts(low) == {
        "health/not_finite": 0.0, "health/gradient": 0.0, "health/entropy": 1.0, "health/no_signal": 0.0,
    }  # fmt: skip


# --------------------------------------------------------------------------------------------- in the trainer

# Of each kind: steps that raise it, each but the last a sound one or not enough by itself.
BAD = {
    "not_finite": [{"actor/loss": math.nan}] * 3,
    "gradient": [{}] * 8 + [{"actor/grad_norm": 60.0}],
    "entropy": [{}, {"actor/entropy": 0.001}],
    "no_signal": [FLAT] * 10,
}


class Trained:
    """The trainer without verl: steps have the numbers that they are given, and a checkpoint is a file."""

    def __init__(self, monkeypatch, folder: Path, resume: bool = False, **options):
        self.told: list[tuple[str, dict]] = []
        self.trainer = trainer = object.__new__(DSDRTrainer)
        trainer.config = OmegaConf.create(
            {"trainer": {"default_local_dir": str(folder), "save_freq": 1, "resume_mode": "auto"}}
        )
        trainer.events = SimpleNamespace(send=lambda kind, **content: self.told.append((kind, content)))
        trainer.gauges = SimpleNamespace(set=lambda numbers: None)
        trainer.health = Health(HealthOptions(**options))
        trainer._rows, trainer._resumed_rows, trainer._keep_last = [], [], 1
        trainer._resumed, trainer.total_training_steps = None, 1000
        trainer.global_steps = int(steps_in(folder)[-1].name.removeprefix("global_step_")) if resume else 0
        monkeypatch.setattr(PPOTrainerSync, "_compute_metrics", lambda self, batch, metrics, *rest: None)
        monkeypatch.setattr(PPOTrainerSync, "_save_checkpoint", lambda self: (self._folder() / "weights").touch())
        monkeypatch.setattr(PPOTrainerSync, "_load_checkpoint", lambda self: None)
        trainer._load_checkpoint()

    def steps(self, changes: list[dict]) -> Iterator[dict]:
        for change in changes:
            self.trainer.global_steps += 1
            self.trainer._save_checkpoint()
            metrics = FINE | change
            self.trainer._compute_metrics(None, metrics, {}, self.trainer.global_steps, 0)
            yield metrics

    def of(self, kind: str) -> list[dict]:
        return [content for what, content in self.told if what == kind]


@pytest.mark.parametrize("kind", BAD)
def test_a_kind_that_ends_the_run(monkeypatch, tmp_path, kind):
    run = Trained(monkeypatch, tmp_path, stop_on=(kind,))
    last = len(BAD[kind]) + 1
    with pytest.raises(Unhealthy, match=rf"step {last}: .*health.stop_on has {kind}\).* are kept"):
        list(run.steps([{}, *BAD[kind], {}]))
    assert run.of("step")[-1]["step"] == last and run.of("step")[-1]["metrics"][f"health/{kind}"] == 1, "it is logged"
    assert run.of("alarm")[-1]["step"] == last
    (kept,) = steps_in(tmp_path)
    good = 1 if kind == "not_finite" else last - 1
    assert kept.name == f"global_step_{good}" and flaw(kept) is None


@pytest.mark.parametrize("kind", BAD)
def test_a_kind_that_does_not(monkeypatch, tmp_path, kind):
    others = tuple(set(BAD) - {kind})
    run = Trained(monkeypatch, tmp_path, stop_on=others)
    *before, found = run.steps([{}, *BAD[kind]])
    last = len(BAD[kind]) + 1
    assert found[f"health/{kind}"] == 1 and not any(found[f"health/{other}"] for other in others)
    assert not before[0][f"health/{kind}"]
    assert run.of("alarm")[-1]["step"] == last
    kept = steps_in(tmp_path)[-1]
    assert kept.name == f"global_step_{1 if kind == 'not_finite' else last}" and flaw(kept) is None
    list(run.steps([{}]))
    kept = steps_in(tmp_path)[-1]
    assert kept.name == f"global_step_{last + 1}" and flaw(kept) is None, "with rows that have NaN in them"
    values = [row["metrics"]["actor/loss"] for row in rows_of(kept)]
    assert len(values) == last + 1 and sum(map(math.isnan, values)) == (3 if kind == "not_finite" else 0)


def test_weights_that_give_no_numbers_are_not_gone_on_from(monkeypatch, tmp_path):
    """A checkpoint is written before anybody has seen what its weights do."""
    run = Trained(monkeypatch, tmp_path)
    nan = {"actor/entropy": math.nan}
    list(run.steps([{}, {}, nan, {}]))
    assert [path.name for path in steps_in(tmp_path)] == ["global_step_2", "global_step_4"], "2 until 4 is known"
    with pytest.raises(Unhealthy):
        list(run.steps([nan] * 3))
    assert [path.name for path in steps_in(tmp_path)] == ["global_step_2"]
    left = str(tmp_path / "left_global_step_4")
    assert run.of("suspect") == [{"step": 4, "folder": left}] and flaw(Path(left)) is None


def test_the_last_step_is_not_waited_for(monkeypatch, tmp_path):
    run = Trained(monkeypatch, tmp_path)
    run.trainer.total_training_steps = 2
    list(run.steps([{}, {}]))
    assert [path.name for path in steps_in(tmp_path)] == ["global_step_2"]


@pytest.mark.parametrize("kind", ["gradient", "no_signal"])
def test_a_resumed_run_remembers(monkeypatch, tmp_path, kind):
    *before, last = BAD[kind]
    list(Trained(monkeypatch, tmp_path).steps(before))
    resumed = Trained(monkeypatch, tmp_path, resume=True)
    (found,) = resumed.steps([last])
    assert found[f"health/{kind}"] == 1
    again = Trained(monkeypatch, tmp_path, resume=True)
    (found,) = again.steps([last])
    assert found["health/no_signal"] == (kind == "no_signal"), "twice resumed, a step after the other"
    assert len(rows_of(steps_in(tmp_path)[-1])) == len(before) + 2


def test_an_alarm_is_a_line_on_the_console(tmp_path):
    written = io.StringIO()
    console = RunConsole(Console(file=written, width=110), tmp_path)
    console.on_event({"kind": "alarm", "step": 7, "text": "actor/loss is nan"})
    assert written.getvalue() == "step    7  ALARM: actor/loss is nan\n"
