"""Runs of several seeds: which are one arm, and what is said of arms."""

import json
import math
import shutil

import numpy as np
import pytest
from scipy import stats

from dsdr_verl.report.__main__ import read_runs
from dsdr_verl.report.arms import arms_of, compare_arms, ends, last_validations, mean_over_seeds, seeded, sweeps_of
from dsdr_verl.report.evaluations import read_evaluations
from dsdr_verl.report.page import evaluation_tables, write_report
from dsdr_verl.report.plots import drawing, evaluation_plots, over_seeds, training_plots, validation_plots

DSDR = {"algorithm_name": "dsdr", "algorithm__dsdr__lambda_d": 0.001}
GRPO = {"algorithm_name": "grpo", "algorithm__dsdr__lambda_d": 0.0}


@pytest.fixture
def study(run_folder):
    """Two arms of three seeds; of 12 problems each run's pass@1 is (n + 2 · solved) / 4 n."""

    def make(solved: dict[str, list[int]], **changes):
        folders = []
        for name, each in solved.items():
            for seed, value in enumerate(each, start=1):
                keys = {"grpo": GRPO, "dsdr": DSDR}[name] | {"data__seed": seed} | changes.get(name, {})
                folders.append(run_folder(f"{name}-{seed}", solved=value, **keys))
        return read_runs(folders)

    return make


def compared(runs):
    arms = arms_of(runs)
    return compare_arms(arms, last_validations(arms), ["pass@1", "pass@4"])


def pass_at_1(solved: int) -> float:
    return (3 * solved + (12 - solved)) / 48


def test_runs_that_differ_in_their_seed_alone_are_one_arm(study):
    runs = study({"grpo": [3, 4, 5], "dsdr": [6, 8, 7]})
    arms = arms_of(runs)
    assert [(arm.name, len(arm.runs)) for arm in arms] == [("grpo", 3), ("dsdr", 3)] and seeded(arms)
    alone = arms_of(runs[2:4])
    assert [arm.name for arm in alone] == ["grpo-3", "dsdr-1"] and not seeded(alone)


def test_arms_of_one_algorithm_are_named_by_what_differs(run_folder):
    folders = [
        run_folder(f"tau-{tau}-{seed}", algorithm__dsdr__tau=tau, data__seed=seed)
        for tau in (1.0, 5.0)
        for seed in (1, 2)
    ]
    assert [arm.name for arm in arms_of(read_runs(folders))] == ["dsdr, τ 1.0", "dsdr, τ 5.0"]


def test_runs_that_differ_in_anything_else_are_not_one_arm(run_folder):
    """Whether or not the report shows the option; and two runs of one seed are no two seeds."""
    one = run_folder("1", data__seed=1)
    other = run_folder("2", data__seed=2, actor_rollout_ref__actor__entropy_coeff=0.1)
    twin = run_folder("3", data__seed=1)
    assert not seeded(arms_of(read_runs([one, other]))) and not seeded(arms_of(read_runs([one, twin])))
    third = run_folder("4", data__seed=4)
    names = [arm.name for arm in arms_of(read_runs([one, other, third]))]
    assert names == ["dsdr", "dsdr, actor_rollout_ref.actor.entropy_coeff 0.1"]


def test_how_a_run_is_run_makes_no_arm(run_folder):
    """A dashboard, checkpoints that are kept, alarms: they may change between the seeds of a study of days."""
    one = run_folder("1", data__seed=1, ray_kwargs__ray_init__include_dashboard=False)
    other = run_folder("2", data__seed=2, checkpoints__keep_best=True, health__no_signal_steps=5)
    assert seeded(arms_of(read_runs([one, other])))


def test_means_and_paired_tests_over_seeds(study):
    before, after = [3, 4, 5], [6, 8, 7]
    first, second = compared(study({"grpo": before, "dsdr": after}))
    x, y = (np.array([pass_at_1(s) for s in each]) for each in (before, after))
    assert first.values["pass@1"].mean == pytest.approx(x.mean()) and not first.differences
    # a t interval by hand
    half = stats.t.ppf(0.975, 2) * x.std(ddof=1) / math.sqrt(3)
    assert first.values["pass@1"].low == pytest.approx(x.mean() - half) and first.values[
        "pass@1"
    ].high == pytest.approx(x.mean() + half)
    found, d = second.differences["pass@1"], y - x
    t = d.mean() / (d.std(ddof=1) / math.sqrt(3))
    assert found.paired and found.mean.mean == pytest.approx(d.mean())
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(t), 2))
    # at k = 4 every problem is solved: no difference, no spread; Holm over the two
    assert second.differences["pass@4"].p_value == 1.0 and found.adjusted_p == pytest.approx(
        min(1.0, 2 * found.p_value)
    )


def test_seeds_are_paired_by_their_number_and_not_by_their_place(study, run_folder):
    runs = study({"grpo": [3, 4, 5], "dsdr": [6, 8, 7]})
    shuffled = [*runs[:3], runs[4], runs[5], runs[3]]
    one, other = (compared(each)[1].differences["pass@1"] for each in (runs, shuffled))
    assert other.paired and other.p_value == pytest.approx(one.p_value)
    welch = compared(runs[:5])[1].differences["pass@1"]
    x, y = [pass_at_1(s) for s in (3, 4, 5)], [pass_at_1(s) for s in (6, 8)]
    assert not welch.paired and welch.p_value == pytest.approx(stats.ttest_ind(y, x, equal_var=False).pvalue)


def test_one_seed_has_no_interval_and_no_test(study):
    rows = compared(study({"grpo": [3, 4], "dsdr": [6]}))
    assert rows[1].values["pass@1"].low is None and rows[1].differences["pass@1"].p_value is None
    assert rows[1].differences["pass@1"].adjusted_p is None and mean_over_seeds([0.5]).high is None


def test_curves_over_seeds_are_where_all_have_a_point():
    curve = over_seeds([([1, 2, 3], [0.0, 1.0, 2.0]), ([2, 3, 4], [3.0, 4.0, 5.0])])
    assert curve.x.tolist() == [2, 3] and curve.y.tolist() == [2, 3]
    assert curve.low.tolist() == [1, 2] and curve.high.tolist() == [3, 4]
    assert len(over_seeds([([1], [0.0]), ([2], [3.0])]).x) == 0


@pytest.mark.usefixtures("few_plots")
def test_a_sweep_with_seeds_on_the_page(run_folder, tmp_path):
    folders = [
        run_folder(f"tau-{tau}-{seed}", algorithm__dsdr__tau=tau, data__seed=seed, solved=int(tau) + seed)
        for tau in (10.0, 1.0, 5.0)
        for seed in (1, 2)
    ]
    runs = read_runs(folders)
    (sweep,) = sweeps_of(arms_of(runs))
    assert (sweep.label, sweep.algorithm, list(sweep.points)) == ("τ", "dsdr", [1.0, 5.0, 10.0])
    pictures = write_report(runs, tmp_path / "report.html")
    assert "report-sensitivity-1.png" in {picture.name for picture in pictures}
    page = (tmp_path / "report.html").read_text()
    assert "Sensitivity to τ (dsdr)" in page and 'id="arms"' in page and "paired by seed" in page
    assert page.count('id="entropy"') == 1, "plots are of arms, once"
    table = (tmp_path / "report-arms.md").read_text().splitlines()
    assert table[0] == "| last validation, means over seeds | seeds | pass@1 | pass@4 |"
    assert table[2].startswith("| 1 dsdr, τ 10.0 | 2 | 72.9%") and len(table) == 5
    assert r"\toprule" in (tmp_path / "report-arms.tex").read_text()


def evaluate(folder, right: float, modes: float, **manifest):
    """What an evaluation leaves, of two sources."""
    (folder / "evaluation").mkdir()
    sources = {
        source: {
            "problems": 9,
            "semantic": None,
            **{
                name: {"estimate": value + shift}
                for name, value in {"pass@1": right, "pass@8": 0.8, "modes@8": modes, "modes_share": 0.25}.items()
            },
        }
        for source, shift in (("easy", 0.1), ("hard", -0.1))
    }
    (folder / "evaluation/summary.json").write_text(json.dumps({"n": 8, "sources": sources}))
    decides = {"model": folder.name, "seed": 0} | manifest
    (folder / "evaluation/manifest.json").write_text(json.dumps({"decides": decides}))


@pytest.fixture
def evaluated(study):
    runs = study({"grpo": [3, 4, 5], "dsdr": [6, 8, 7]})
    for index, run in enumerate(runs):
        evaluate(run.folder, right=0.3 + index / 50, modes=1.5 + (index % 3) / 10 + index // 3)
    return runs


@pytest.mark.usefixtures("few_plots")
def test_evaluations_of_arms(evaluated, tmp_path):
    arms = arms_of(evaluated)
    measured, notes = read_evaluations(arms)
    assert not notes and measured[0][0][1] == {
        "pass@1": pytest.approx(0.3), "pass@8": pytest.approx(0.8), "modes@8": pytest.approx(1.5),
        "modes_share": pytest.approx(0.25), "entropy": pytest.approx(sum(1 / step for step in range(1, 7)) / 6),
    }  # fmt: skip
    means, tests = evaluation_tables(arms, measured)
    assert means.heads[2:] == ["pass@1", "pass@8", "modes in 8", "share of all modes", "entropy, nats a token"]
    assert [cells[0] for _, cells in means.rows] == ["1 grpo", "2 dsdr"]
    # grpo has 0.30, 0.32, 0.34: a half-width of 4.303 · 0.02 / √3
    assert means.rows[0][1][1:3] == ["3", "32.0% [27.0, 37.0]"] and means.rows[1][1][4] == "2.60 [2.35, 2.85]"
    assert [cells[1:3] for _, cells in tests.rows] == [
        ["pass@1", "+6.0 [+6.0, +6.0]"], ["pass@8", "+0.0 [+0.0, +0.0]"], ["modes in 8", "+1.00 [+1.00, +1.00]"],
    ]  # fmt: skip
    pictures = write_report(evaluated, tmp_path / "report.html")
    assert {"report-evaluation-pass.png", "report-evaluation-modes.png"} <= {picture.name for picture in pictures}
    page = (tmp_path / "report.html").read_text()
    assert "<td>32.0% <span>[27.0, 37.0]</span></td>" in page, "may go into two lines, between mean and interval alone"
    assert 'id="evaluation"' in page and 'id="tests-of-evaluation"' in page and 'id="evaluation-modes"' in page


def test_sampling_with_another_seed_is_the_same_evaluation(evaluated):
    path = evaluated[5].folder / "evaluation/manifest.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    assert not read_evaluations(arms_of(evaluated))[1]


def test_titles_are_within_their_plots(evaluated):
    arms = arms_of(evaluated)
    with drawing():
        plots = training_plots(arms) + validation_plots(arms) + evaluation_plots(arms, read_evaluations(arms)[0])
        for plot in plots:
            plot.figure.canvas.draw()
            axes = plot.figure.axes[0]
            texts = [axes._left_title, axes.xaxis.label, axes.yaxis.label, *plot.figure.legends[0].get_texts()]
            for text in texts:
                box = text.get_window_extent()
                assert box.x0 >= 0 and box.x1 <= plot.figure.bbox.x1 and box.y1 <= plot.figure.bbox.y1, text.get_text()
    assert {"evaluation-modes", "pass-at-1", "entropy"} <= {plot.name for plot in plots}


def test_evaluations_that_are_missing_broken_or_others(evaluated):
    (evaluated[0].folder / "evaluation/summary.json").write_text("{")
    shutil.rmtree(evaluated[4].folder / "evaluation")
    path = evaluated[5].folder / "evaluation/manifest.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1, "n": 4'))
    measured, notes = read_evaluations(arms_of(evaluated))
    assert [len(each) for each in measured] == [2, 2]
    broken, lacking, others = notes
    assert broken.startswith("grpo-1: its evaluation is not finished") and others.startswith("The evaluations differ")
    assert lacking == "2 of 6 runs were not evaluated"


def test_without_evaluations_there_is_no_table(study):
    arms = arms_of(study({"grpo": [3, 4], "dsdr": [6]}))
    measured, notes = read_evaluations(arms)
    assert not notes and not evaluation_tables(arms, measured)


def test_ends():
    assert ends([]) == [] and ends([4]) == [4] and ends({2, 8, 1}) == [1, 8]
