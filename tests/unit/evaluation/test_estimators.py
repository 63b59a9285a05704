"""Estimators of a problem against every subset of its samples, closed forms, and what must hold for any samples."""

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import hypergeom

from dsdr_verl.evaluation.estimators import avg_at_n, distinct_modes_at_ks, label_shares, majority_at_ks, pass_at_ks

TRUTH = "truth"
ANSWERS = [TRUTH, "a", "b", "c", None]


def samples_of(answers):
    return [answer == TRUTH for answer in answers]


def mean_over_subsets(samples, k, value):
    return np.mean([value(subset) for subset in combinations(samples, k)])


def vote(subset):
    """The chance that a uniform pick among the most frequent answers is right; subset of (answer, right)."""
    votes = Counter(answer for answer, _ in subset if answer is not None)
    winners = [answer for answer, count in votes.items() if count == max(votes.values())]
    rights = [np.mean([right for answer, right in subset if answer == winner]) for winner in winners]
    return np.mean(rights) if rights else 0.0


# ------------------------------------------------------------------------------------------------ enumeration


@given(st.lists(st.sampled_from(ANSWERS), min_size=1, max_size=8))
def test_majority_is_the_mean_over_all_subsets(answers):
    correct, ks = samples_of(answers), range(1, len(answers) + 1)
    expected = [mean_over_subsets(list(zip(answers, correct, strict=True)), k, vote) for k in ks]
    assert majority_at_ks([correct], [answers], ks)[0] == pytest.approx(expected, abs=1e-12)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.booleans()), min_size=1, max_size=7))
def test_majority_where_equal_answers_have_unequal_verdicts(samples):
    answers, correct = zip(*samples, strict=True)
    ks = range(1, len(samples) + 1)
    expected = [mean_over_subsets(samples, k, vote) for k in ks]
    assert majority_at_ks([correct], [answers], ks)[0] == pytest.approx(expected, abs=1e-12)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), min_size=1, max_size=8))
def test_modes_and_pass_are_means_over_all_subsets(samples):
    correct, modes = zip(*samples, strict=True)
    ks = range(1, len(samples) + 1)

    def distinct(subset):
        return len({mode for right, mode in subset if right})

    expected = [mean_over_subsets(samples, k, distinct) for k in ks]
    assert distinct_modes_at_ks([correct], [modes], ks)[0] == pytest.approx(expected, abs=1e-12)
    expected = [mean_over_subsets(samples, k, lambda subset: distinct(subset) > 0) for k in ks]
    assert pass_at_ks([correct], ks)[0] == pytest.approx(expected, abs=1e-12)


# ------------------------------------------------------------------------------------------------ closed forms


@pytest.mark.parametrize("n", [65, 1000])
def test_majority_of_two_answers_is_a_hypergeometric_tail(n):
    for c in (1, n // 3, n // 2, n - 2):
        correct = [True] * c + [False] * (n - c)
        ks = [1, 3, 15, 65]  # odd: no ties
        expected = [hypergeom.sf(k // 2, n, c, k) for k in ks]
        assert majority_at_ks([correct], [correct], ks)[0] == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_majority_of_many_answers_agrees_with_drawing_them():
    answers = [TRUTH] * 14 + ["a"] * 14 + ["b"] * 9 + ["c"] * 9 + [f"once{i}" for i in range(10)] + [None] * 8
    assert len(answers) == 64
    ks, draws = [2, 8, 32], 4000
    names = {name: i for i, name in enumerate(dict.fromkeys(answers))}
    ids = np.array([names[answer] for answer in answers])
    ids_DN = np.random.default_rng(0).permuted(np.tile(ids, (draws, 1)), axis=1)
    exact = majority_at_ks([samples_of(answers)], [answers], ks)[0]
    for k, value in zip(ks, exact, strict=True):
        votes_DA = np.stack([(ids_DN[:, :k] == i).sum(axis=1) for name, i in names.items() if name is not None], axis=1)
        top_DA = (votes_DA == votes_DA.max(axis=1, keepdims=True)) & (votes_DA > 0)
        won = top_DA[:, 0] / np.maximum(top_DA.sum(axis=1), 1)
        assert value == pytest.approx(won.mean(), abs=4 * won.std() / draws**0.5), k


def test_modes_of_one_sample_each_grow_by_the_pass_rate():
    correct = [True] * 12 + [False] * 52
    ks = [1, 2, 16, 64]
    assert distinct_modes_at_ks([correct], [range(64)], ks)[0] == pytest.approx([k * 12 / 64 for k in ks])


def test_pass_at_k_of_humaneval():
    # Chen et al. 2021, Eq. 1, by hand: 1 − (3·2)/(5·4) with n = 5, c = 2, k = 2
    assert pass_at_ks([[1, 1, 0, 0, 0]], [2]) == pytest.approx(np.array([[0.7]]))


# ------------------------------------------------------------------------------------------------ what must hold


@given(st.lists(st.lists(st.sampled_from(ANSWERS), min_size=1, max_size=40), min_size=1, max_size=4))
def test_what_holds_for_any_samples(answers):
    correct = [samples_of(row) for row in answers]
    n = min(map(len, correct))
    ks = range(1, n + 1)
    passed, majority = pass_at_ks(correct, ks), majority_at_ks(correct, answers, ks)
    modes = [[len(str(answer)) + i % 3 for i, answer in enumerate(row)] for row in answers]
    distinct = distinct_modes_at_ks(correct, modes, ks)
    average = avg_at_n(correct)
    assert passed.shape == majority.shape == distinct.shape == (len(correct), n)
    assert (np.diff(passed) >= -1e-12).all() and (np.diff(distinct) >= -1e-12).all()
    for at_one in (passed, majority, distinct):
        assert at_one[:, 0] == pytest.approx(average)
    assert (majority <= passed + 1e-12).all() and (passed <= distinct + 1e-12).all(), "a vote cannot beat any"
    for row, of_problem, passed_K, distinct_K in zip(correct, modes, passed, distinct, strict=True):
        if len(row) == n:
            assert passed_K[-1] == any(row)
            assert distinct_K[-1] == len({mode for mode, right in zip(of_problem, row, strict=True) if right})


def test_order_of_samples_and_names_of_answers_do_not_matter():
    answers = [TRUTH, "a", "a", None, TRUTH, "b"]
    value = majority_at_ks([samples_of(answers)], [answers], [4])
    assert majority_at_ks([samples_of(answers)[::-1]], [answers[::-1]], [4]) == pytest.approx(value)
    renamed = [{TRUTH: "b", "b": TRUTH}.get(answer, answer) for answer in answers]
    assert majority_at_ks([samples_of(answers)], [renamed], [4]) == pytest.approx(value)


def test_shares():
    shares = label_shares([["correct", "timeout"], ["correct", "correct", "incorrect"]])
    assert list(shares) == ["correct", "incorrect", "timeout"]
    assert shares["correct"] == pytest.approx([0.5, 2 / 3]) and sum(shares.values()) == pytest.approx([1, 1])


def test_a_missing_verdict_counts_as_wrong():
    assert avg_at_n([[1.0, None, 0.0, True]]) == pytest.approx([0.5])


# ------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: avg_at_n([]), "no problem"),
        (lambda: avg_at_n([[True], []]), "problem 1 .* no samples"),
        (lambda: avg_at_n([[0.5, 1]]), "problem 0 .* other than True"),
        (lambda: avg_at_n([[float("nan")]]), "other than True"),
        (lambda: avg_at_n([["False"]]), "other than True"),
        (lambda: pass_at_ks([[True] * 4, [True]], [2]), "k = 2: .* 1 to 1, the samples of problem 1"),
        (lambda: pass_at_ks([[True]], [0]), "k = 0"),
        (lambda: pass_at_ks([[True]], []), "k = nothing"),
        (lambda: pass_at_ks([[True, True]], [1.5]), r"k = 1\.5"),
        (lambda: majority_at_ks([[True]], [["1"], ["2"]], [1]), "answers are of 2 problems, the outcomes of 1"),
        (lambda: majority_at_ks([[True]], [["1", "2"]], [1]), "problem 0 .* 2 answers and 1 outcomes"),
        (lambda: majority_at_ks([[True]], [[None]], [1]), "correct sample whose entry in answers is None"),
        (lambda: majority_at_ks([[True] * 1001], [["1"] * 1001], [1]), "1001 samples; maj@k takes 1000"),
        (lambda: distinct_modes_at_ks([[True]], [[None]], [1]), "entry in modes is None"),
        (lambda: label_shares([["correct"], []]), "at least one sample"),
    ],
)
def test_refuses_with_the_problem_and_the_fix(call, message):
    with pytest.raises(ValueError, match=message):
        call()
