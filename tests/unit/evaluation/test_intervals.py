"""Intervals against simulated benchmarks whose truth is known, and where resampling has nothing to say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from dsdr_verl.evaluation.estimators import pass_at_ks
from dsdr_verl.evaluation.intervals import mean_interval, mean_intervals

BENCHMARKS = 1500  # as columns, so that one call makes all intervals


def coverage(values_PS, truth, **options):
    intervals = mean_intervals(values_PS, n_resamples=999, **options)
    return np.mean([interval.low <= truth <= interval.high for interval in intervals])


def avg_at_16(n_problems, a, b, seed=0):
    """Avg@16 of problems whose pass rates are Beta(a, b); the truth is a / (a + b)."""
    rng = np.random.default_rng(seed)
    return rng.binomial(16, rng.beta(a, b, (n_problems, BENCHMARKS))) / 16


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_holds_the_truth_as_often_as_it_says(level):
    # the standard error of a coverage over 1500 benchmarks is 0.006 at 0.95, 0.010 at 0.8
    assert coverage(avg_at_16(40, 0.4, 0.8), 1 / 3, level=level) == pytest.approx(level, abs=0.025)


def test_holds_a_rare_success_nearly_as_often():
    assert coverage(avg_at_16(30, 0.1, 2.0), 0.1 / 2.1) > 0.88, "percentile intervals come to 0.87"


def test_too_narrow_below_ten_problems_as_documented():
    assert 0.82 < coverage(avg_at_16(5, 0.4, 0.8), 1 / 3) < 0.9


def test_as_wide_as_the_normal_interval_where_that_is_right():
    values = np.random.default_rng(1).uniform(0, 1, 400)
    interval = mean_interval(values)
    half = norm.ppf(0.975) * values.std(ddof=1) / 20
    assert interval.estimate == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half, abs=0.05 * half)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.05 * half)
    assert (interval.level, interval.n_problems) == (0.95, 400)


def test_a_curve_shares_its_resamples_and_equals_its_points():
    correct = np.random.default_rng(2).random((50, 16)) < np.linspace(0, 0.6, 50)[:, None]
    ks = [1, 2, 4, 8, 16]
    curve_PK = pass_at_ks(correct, ks)
    curve = mean_intervals(curve_PK)
    for point, values in zip(curve, curve_PK.T, strict=True):
        alone = mean_interval(values)  # same seed, same resamples for every k
        assert (point.low, point.high) == pytest.approx((alone.low, alone.high), abs=1e-9)
    assert curve == mean_intervals(curve_PK) and curve != mean_intervals(curve_PK, seed=1)
    assert all(point.low < point.estimate < point.high for point in curve)
    for name in ("estimate", "low", "high"):  # a shared resample of monotone curves is monotone
        assert (np.diff([getattr(point, name) for point in curve]) > 0).all()


def test_large_tables_are_resampled_in_parts(monkeypatch):
    values = np.random.default_rng(3).random((30, 4))
    whole = mean_intervals(values)
    monkeypatch.setattr("dsdr_verl.evaluation.intervals.NUMBERS_AT_ONCE", 120 * 7)
    for part, interval in zip(mean_intervals(values), whole, strict=True):
        assert part.low == pytest.approx(interval.low, abs=0.01) and part.high == pytest.approx(interval.high, abs=0.01)


# ------------------------------------------------------------------------------------------------ nothing to resample


def test_all_equal_is_the_rule_of_three():
    none_of_30 = mean_interval([0.0] * 30)
    assert (none_of_30.estimate, none_of_30.low) == (0, 0) and none_of_30.high == pytest.approx(1 - 0.05 ** (1 / 30))
    all_of_30 = mean_interval([1.0] * 30)
    assert (all_of_30.high, all_of_30.low) == (1, pytest.approx(0.05 ** (1 / 30)))


@pytest.mark.parametrize(("n_problems", "rate"), [(10, 0.25), (10, 0.27), (3, 0.6)])
def test_all_equal_holds_rates_from_which_it_is_likely_enough(n_problems, rate):
    likely = (1 - rate) ** n_problems >= 0.05
    assert (rate <= mean_interval([0.0] * n_problems).high) == likely


def test_one_problem_tells_next_to_nothing():
    only = mean_interval([0.5])
    assert (only.low, only.high, only.n_problems) == (pytest.approx(0.025), pytest.approx(0.975), 1)


def test_all_equal_up_to_rounding_and_to_what_is_no_news():
    assert mean_interval([0.3, 0.1 + 0.2]).high > 0.8
    easy = pass_at_ks([[True] * 14 + [False] * 50, [True] * 16 + [False] * 48] * 10, [32])[:, 0]
    assert 0 < np.ptp(easy) < 1e-4 and mean_interval(easy).low == pytest.approx(0.05 ** (1 / 20), abs=1e-4)


@given(st.lists(st.sampled_from([0, 1e-5, 0.1, 0.3, 1 - 1e-5, 1]), min_size=1, max_size=12))
def test_any_values_have_an_interval_within_the_bounds(values):
    found = mean_interval(values, n_resamples=999)
    assert 0 <= found.low <= found.estimate + 1e-9 and found.estimate - 1e-9 <= found.high <= 1


def test_bounds_of_each_column():
    ks = np.array([1, 4])
    at_one, at_four = mean_intervals([[0.0, 0.0]] * 10, bounds=(0, ks))
    assert at_four.high == pytest.approx(4 * at_one.high)


def test_a_constant_column_beside_one_that_varies():
    values = np.random.default_rng(4).random(20)
    constant, varying = mean_intervals(np.stack([np.zeros(20), values], axis=1))
    assert constant == mean_interval([0.0] * 20) and varying == mean_interval(values)


def test_two_problems_have_an_interval():
    two = mean_interval([0.0, 1.0])
    assert two.low == 0 and two.high == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean_interval([]), "at least one"),
        (lambda: mean_intervals([0.5, 0.5]), r"\[problems, columns\]"),
        (lambda: mean_interval([0.5, float("nan")]), "problem 1 .* nan"),
        (lambda: mean_interval([0.5, 2.0]), "problem 1 .* 2.0, outside bounds of 0.0 to 1.0"),
        (lambda: mean_interval([0.5], level=95), "level is 95; set it between 0 and 1"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()
