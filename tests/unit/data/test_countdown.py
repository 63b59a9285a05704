"""Countdown problems are deterministic, distinct, disjoint between splits, solvable in enough ways, and verl's rows."""

import dataclasses
import random
import re

import pytest

from dsdr_verl.data import tasks
from dsdr_verl.data.countdown import COUNTDOWN_3, COUNTDOWN_4, TINY_COUNTDOWN, in_split
from dsdr_verl.scoring.arithmetic import read, value
from dsdr_verl.scoring.countdown import judge, mode_of_response, read_truth
from dsdr_verl.scoring.modes import modes
from dsdr_verl.scoring.verdict import Verdict
from recipe.countdown_model.train import show, solved_problems

LEVELS = [COUNTDOWN_3, COUNTDOWN_4, TINY_COUNTDOWN]


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
        assert f"make {problem.target}." in question or question.startswith(f"{problem.target}:")
        assert all(str(n) in question for n in problem.numbers)
        assert row["data_source"] == f"dsdr/{level.name}" and row["extra_info"]["index"] == i
        for mode in modes(problem.numbers, problem.target):
            assert judge(rf"\boxed{{{mode}}}", truth) is Verdict.correct


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
def test_there_are_as_many_problems_as_the_task_takes(level):
    assert len(level.problems("train", level.train_size)) == level.train_size
    assert len(level.problems("val", level.val_size)) == level.val_size


def test_the_tiny_models_question_is_short():
    (row,) = TINY_COUNTDOWN.rows("val", 1)
    assert re.fullmatch(r"\d+:\d,\d,\d,\d", row["prompt"][0]["content"])


def test_what_the_tiny_model_is_taught_is_right_in_every_mode_and_wrong_by_noise():
    solved = solved_problems()[::97]
    rng = random.Random(0)
    for one in solved:
        question, response = show(one, rng, noise=0.0)
        target, numbers = question[0]["content"].split(":")
        assert sorted(map(int, numbers.split(","))) == list(one.problem.numbers) and in_split(
            one.problem.numbers, "train"
        )
        assert int(target) == one.problem.target and judge(response, one.problem.truth) is Verdict.correct
        assert mode_of_response(response, one.problem.truth) == one.mode
        steps = [line.split("=") for line in response.splitlines()[:-1]]
        assert len(steps) == 3 and all(value(read(left)) == int(right) for left, right in steps)
    wrong = [judge(show(one, rng, noise=1.0)[1], one.problem.truth) for one in solved]
    assert set(wrong) <= {Verdict.correct, Verdict.incorrect} and wrong.count(Verdict.incorrect) > 0.8 * len(wrong)


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
