"""Countdown problems are deterministic, distinct, disjoint between splits, solvable in enough ways, and verl's rows."""

import dataclasses

import pytest

from dsdr_verl.data import tasks
from dsdr_verl.data.countdown import COUNTDOWN_3, COUNTDOWN_4
from dsdr_verl.scoring.countdown import judge, read_truth
from dsdr_verl.scoring.modes import modes
from dsdr_verl.scoring.verdict import Verdict

LEVELS = [COUNTDOWN_3, COUNTDOWN_4]


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
def test_deterministic_and_seeded(level):
    assert level.rows("train", 30, seed=1) == level.rows("train", 30, seed=1)
    assert level.rows("train", 30, seed=1) == level.rows("train", 50, seed=1)[:30]
    assert level.problems("train", 30, seed=1) != level.problems("train", 30, seed=2)


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
def test_no_problem_twice_nor_in_both_splits(level):
    drawn = {split: level.problems(split, 80, seed) for split, seed in (("train", 3), ("val", 0))}
    for problems in drawn.values():
        assert len({(p.target, *sorted(p.numbers)) for p in problems}) == 80
    numbers = [{tuple(sorted(p.numbers)) for p in problems} for problems in drawn.values()]
    assert not numbers[0] & numbers[1]  # not even with another target


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
def test_problems_are_of_their_level(level):
    for problem in level.problems("train", 40):
        assert len(problem.numbers) == level.numbers
        assert all(2 <= number <= level.largest_number for number in problem.numbers)
        assert 1 <= problem.target <= level.largest_target
        assert len(modes(problem.numbers, problem.target, level.operators)) >= level.least_modes


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
def test_rows(level):
    assert tasks.TASKS[level.name] is level
    for i, row in enumerate(tasks.make_arithmetic("val", 20, task=level.name)):
        truth = row["reward_model"]["ground_truth"]
        problem = read_truth(truth)
        question = row["prompt"][0]["content"]
        assert f"make {problem.target}." in question and all(str(n) in question for n in problem.numbers)
        assert row["data_source"] == f"dsdr/{level.name}" and row["extra_info"]["index"] == i
        for mode in modes(problem.numbers, problem.target):
            assert judge(rf"\boxed{{{mode}}}", truth) is Verdict.correct


def test_more_operators_and_modes_can_be_asked_for():
    sums = dataclasses.replace(COUNTDOWN_3, operators="+-", least_modes=1)
    for problem in sums.problems("train", 30):
        assert modes(problem.numbers, problem.target, "+-")


def test_wrong_arguments_are_refused():
    few = dataclasses.replace(COUNTDOWN_3, largest_number=3)
    with pytest.raises(ValueError, match=r"size 1000 needs more problems than the \d+ .* ask for fewer"):
        few.problems("train", 1000)
    with pytest.raises(ValueError, match="choose one of train, val"):
        COUNTDOWN_3.problems("test", 1)
