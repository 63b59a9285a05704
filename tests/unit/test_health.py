"""When a step's numbers are an alarm, and which alarms end a run."""

import math

import pytest

from dsdr_verl.trainer.health import Health, HealthOptions

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
@pytest.mark.parametrize("name", ["actor/loss", "actor/grad_norm", "actor/entropy", "actor/kl_loss"])
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
