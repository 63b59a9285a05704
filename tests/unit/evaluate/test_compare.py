"""Two finished folders against each other."""

import json

import pytest

from dsdr_verl.evaluate.compare import PROBLEMS, main, paired, read_evaluation
from dsdr_verl.evaluate.manifest import FILE, write_json
from dsdr_verl.evaluate.results import per_problem
from dsdr_verl.evaluation.comparison import holm
from tests.unit.evaluate.conftest import problem, rollout

MANIFEST = {"n": 4, "decides": {"max_tokens": 10, "seed": 0, "model": "a"}}


@pytest.fixture
def folder(tmp_path, frame):
    """Makes a finished one, of problems of which so many of four samples are right."""

    def make(name, right, source="set", ks=(1, 4), **decides):
        path = tmp_path / name
        problems = [problem(i, source=source) for i in range(len(right))]
        rows = [
            rollout(p, i, acc=float(i < correct), answer="7" if i < correct else "9", formula_ids=[i])
            for p, correct in zip(problems, right, strict=True)
            for i in range(4)
        ]
        path.mkdir()
        per_problem(frame(rows), problems, list(ks)).to_parquet(path / PROBLEMS)
        write_json(path / FILE, MANIFEST | {"decides": MANIFEST["decides"] | decides})
        return path

    return make


def test_gains_are_found_and_adjusted(folder, capsys):
    a, b = folder("a", [0, 1, 1, 2, 0, 1, 0, 1, 0, 2]), folder("b", [2, 3, 3, 4, 2, 3, 2, 3, 2, 4], model="b", seed=1)
    rows = paired(read_evaluation(a), read_evaluation(b))
    by_name = {row.quantity: row for row in rows}
    assert list(by_name) == ["pass@1", "pass@4", "maj@4", "semantic", "formula"]
    gain = by_name["pass@1"]
    assert gain.comparison.difference.estimate == pytest.approx(0.5)
    assert gain.comparison.p_value == pytest.approx(2 / 2**10)
    family = {name: by_name[name].comparison.p_value for name in ("pass@1", "pass@4")}
    assert {name: by_name[name].adjusted_p for name in family} == holm(family)

    out = a.parent / "tests.json"
    assert main([str(a), str(b), "--json", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "+50.0" in printed and "seed is 0 in the baseline and 1 in the candidate" in printed
    assert "model is" not in printed, "two models are what is compared"
    assert len(json.loads(out.read_text())) == 5


def test_chosen_ks_are_fewer_tests(folder):
    a, b = folder("a", [0, 2, 1], ks=(1, 2, 4)), folder("b", [1, 3, 2], ks=(1, 2, 4))
    names = [row.quantity for row in paired(read_evaluation(a), read_evaluation(b), [1])]
    assert names == ["pass@1", "semantic", "formula"]


def test_diversity_is_compared_where_both_have_it(folder):
    a, b = folder("a", [0, 2, 3, 4]), folder("b", [4, 4, 1, 4])
    (semantic,) = [r for r in paired(read_evaluation(a), read_evaluation(b)) if r.quantity == "semantic"]
    assert semantic.comparison.difference.n_problems == 2


@pytest.mark.parametrize(
    ("right", "source", "arguments", "says"),
    [
        ([1, 2], "set", [], "the problems differ: 1 only in the baseline"),
        ([1, 2, 3], "other", [], "the problems differ"),
        ([1, 2, 3], "set", ["--ks", "1,2"], "--ks 2: not in both"),
        ([1, 2, 3], "set", ["--ks", "1;4"], "write whole numbers with commas"),
    ],
)
def test_what_cannot_be_compared(folder, capsys, right, source, arguments, says):
    assert main([str(folder("a", [1, 2, 3])), str(folder("b", right, source)), *arguments]) == 2
    assert says in capsys.readouterr().err


def test_unfinished_and_absent_folders(folder, capsys):
    a, b = folder("a", [1]), folder("b", [1])
    (b / PROBLEMS).unlink()
    assert main([str(a), str(b)]) == 2 and "is not finished" in capsys.readouterr().err
    assert main([str(a), str(a.parent / "c")]) == 2 and "no such folder" in capsys.readouterr().err
