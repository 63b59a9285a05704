"""Paired comparisons: the p-value's distribution under the null and under an effect, and the exact test by hand."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsdr_verl.evaluation.comparison import compare, holm, sign_flip_p
from dsdr_verl.evaluation.intervals import mean_interval


def p_values(effect, n_problems, experiments, n_resamples):
    """Avg@8 of two checkpoints on shared problems, again and again."""
    rng = np.random.default_rng(0)
    found = []
    for seed in range(experiments):
        rate = rng.beta(1, 1.5, n_problems)
        before = rng.binomial(8, rate) / 8
        after = rng.binomial(8, np.minimum(rate + effect, 1)) / 8
        found.append(sign_flip_p(after - before, n_resamples, seed))
    return np.array(found)


def test_p_is_uniform_under_the_null():
    found = p_values(effect=0.0, n_problems=40, experiments=600, n_resamples=499)
    for level in (0.05, 0.1, 0.25, 0.5, 0.75):
        assert np.mean(found <= level) == pytest.approx(level, abs=3.5 * (level * (1 - level) / 600) ** 0.5), level


def test_p_is_small_under_an_effect():
    found = p_values(effect=0.15, n_problems=60, experiments=100, n_resamples=499)
    assert np.mean(found <= 0.05) > 0.9


@given(st.lists(st.integers(-8, 8), min_size=1, max_size=8))
def test_few_problems_are_tested_exactly(eighths):
    differences = np.array(eighths) / 8
    flips = [abs(np.dot(signs, differences)) for signs in product((-1, 1), repeat=len(eighths))]
    expected = np.mean(np.array(flips) >= abs(differences.sum()))
    assert sign_flip_p(differences) == pytest.approx(expected)
    assert sign_flip_p(-differences) == pytest.approx(expected)


def test_problems_without_a_difference_do_not_change_p():
    differences = np.array([0.5, 0.25, 0.25, -0.125])
    assert sign_flip_p(np.concatenate([differences, np.zeros(500)])) == sign_flip_p(differences) == 0.25


def test_p_is_never_zero():
    assert sign_flip_p(np.full(100, 0.5), n_resamples=999) == pytest.approx(2 / 1000)


def test_seeds():
    differences = np.random.default_rng(6).normal(0.1, 1, 30)
    found = [sign_flip_p(differences, 999, seed) for seed in (0, 0, 2)]
    assert found[0] == found[1] != found[2] and found[0] == pytest.approx(found[2], abs=0.06)


def test_compare_pairs_by_problem_not_by_order():
    baseline = {"p1": 0.25, "p2": 0.5, "p3": 0.0, "p4": 0.75}
    candidate = {"p4": 1.0, "p3": 0.0, "p2": 1.0, "p1": 0.5}
    found = compare(baseline, candidate)
    assert (found.baseline, found.candidate) == (0.375, 0.625)
    assert found.difference == mean_interval([0.25, 0.5, 0.0, 0.25], bounds=(-1, 1))
    assert found.difference.estimate == pytest.approx(0.25) and found.p_value == 0.25
    back = compare(candidate, baseline)
    assert back.p_value == found.p_value and back.difference.estimate == -found.difference.estimate


def test_pairing_is_worth_something():
    rng = np.random.default_rng(5)
    before = rng.random(100) * 0.8
    after = before + 0.05 + rng.normal(0, 0.02, 100)
    found = compare(dict(enumerate(before)), dict(enumerate(after)))
    assert 0.04 < found.difference.low < found.difference.high < 0.06 and found.p_value < 0.001
    assert found.difference.high - found.difference.low < 0.1 * (mean_interval(before).high - mean_interval(before).low)


def test_a_checkpoint_against_itself():
    same = compare(dict.fromkeys(range(20), 0.5), dict.fromkeys(range(20), 0.5))
    assert same.p_value == 1 and same.difference.estimate == 0 and same.difference.low < 0 < same.difference.high


def test_values_beyond_one_need_their_bounds():
    baseline, candidate = {"p": 1.0, "q": 2.0}, {"p": 3.0, "q": 2.5}
    with pytest.raises(ValueError, match="outside bounds"):
        compare(baseline, candidate)
    assert compare(baseline, candidate, bounds=(0, 4)).difference.estimate == 1.25


def test_other_problems_are_refused_by_name():
    message = r"2 only in the baseline \(p1, p2\); 7 only in the candidate \(q0, q1, q2, q3, q4 and 2 more\)"
    with pytest.raises(ValueError, match=message):
        compare({"p1": 0.0, "p2": 0.0, "x": 1.0}, {**{f"q{i}": 0.0 for i in range(7)}, "x": 1.0})
    with pytest.raises(ValueError, match=r"the problems differ: 1 only in the candidate \(y\)\. Evaluate"):
        compare({"x": 1.0}, {"x": 1.0, "y": 1.0})


def test_holm_of_a_worked_example():
    # 4 × 0.005, 3 × 0.01, 2 × 0.03, and 0.04, which may not fall below the one before it
    adjusted = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert list(adjusted) == ["a", "b", "c", "d"]
    assert adjusted == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_lies_between_no_correction_and_bonferronis(p):
    adjusted = holm(dict(enumerate(p)))
    for i, value in enumerate(p):
        assert value <= adjusted[i] <= min(1.0, len(p) * value)
