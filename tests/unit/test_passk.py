"""pass@k against exact enumeration, and the validation metrics made of it."""

from itertools import combinations

import pytest

from dsdr_verl.evaluation.passk import pass_at_k, powers_of_two, validation_metrics


@pytest.mark.parametrize("n", range(1, 9))
def test_equals_enumeration(n):
    for c in range(n + 1):
        samples = [True] * c + [False] * (n - c)
        for k in range(1, n + 1):
            draws = list(combinations(samples, k))
            assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, draws)) / len(draws), abs=1e-12)


def test_verls_best_at_k_is_not_this():
    assert pass_at_k(4, 1, 4) == 1.0, "all four samples hold the correct one; resampling would say 0.68"


@pytest.mark.parametrize(("n", "c", "k"), [(4, 5, 1), (4, -1, 1), (4, 2, 0), (4, 2, 5)])
def test_refuses_the_impossible(n, c, k):
    with pytest.raises(ValueError, match="pass@k needs"):
        pass_at_k(n, c, k)


def test_powers_of_two():
    assert powers_of_two(1) == [1] and powers_of_two(8) == [1, 2, 4, 8] and powers_of_two(6) == [1, 2, 4, 6]


def test_validation_metrics_group_by_problem_whatever_the_order():
    metrics = validation_metrics(["a", "b", "a", "a", "a"], ["p", "x", "q", "p", "q"], [1.0, 0.0, 0.0, 0.0, None])
    assert metrics == {
        "val-core/a/acc/pass@1": pytest.approx(0.25),  # p: 1 of 2, q: 0 of 2
        "val-core/a/acc/pass@2": pytest.approx(0.5),
        "val-core/b/acc/pass@1": 0.0,
    }
