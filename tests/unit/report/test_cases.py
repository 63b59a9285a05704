"""Which problems and solutions are shown side by side."""

import json

import pytest

from dsdr_verl.report.cases import CASES, SOLUTIONS, case_studies
from dsdr_verl.report.page import write_report
from dsdr_verl.report.runs import read_run
from dsdr_verl.report.samples import Sample


def sample(output: str, acc: float | None = 1.0, **keys) -> Sample:
    return Sample(input=keys.pop("input", "What?"), output=output, gts="7", acc=acc, **keys)


def test_solutions_are_told_apart_by_their_formulas():
    one = [
        sample("$3+4=7$", weight=0.1), sample("so $3+4=7$ it is", weight=0.2, diversity=0.5),
        sample("$8-1=7$", weight=0.6), sample("$3+4=8$", acc=0.0), sample("$9-2=7$", acc=None),
        sample("seven", weight=0.1), sample("seven ", weight=0.1),
    ]  # fmt: skip
    (case,) = case_studies([{"p": one}, {"p": [sample("$3+4=7$")]}])
    first, second = case.found
    assert (first.run, first.samples, first.correct, first.distinct) == (0, 7, 5, 3)
    assert [(s.text, s.copies) for s in first.solutions] == [("$8-1=7$", 1), ("so $3+4=7$ it is", 2), ("seven", 2)]
    assert first.solutions[0].formulas == ["8-1=7"] and first.solutions[1].diversity == 0.5
    assert (second.run, second.distinct) == (1, 1)


def test_the_most_diverse_problems_come_first_and_single_ways_are_no_case():
    def problem(ways: int) -> list[Sample]:
        return [sample(f"${way}+1={way + 1}$") for way in range(ways)]

    cases = case_studies([{f"p{ways}": problem(ways) for ways in (1, 2, 6, 3, 5)}])
    assert [case.found[0].distinct for case in cases] == [6, 5, 3] and CASES == 3
    assert len(cases[0].found[0].solutions) == SOLUTIONS
    assert case_studies([{"p": problem(1)}, {}]) == []


def test_a_problem_that_one_run_lacks():
    (case,) = case_studies([{}, {"p": [sample("$1+1=2$"), sample("$2=2$")]}])
    assert [found.run for found in case.found] == [1]


def test_long_and_odd_texts_are_cut():
    (case,) = case_studies([{"p": [sample("x" * 5000 + "\x1b[31m $1=1$"), sample("\x00 $2=2$"), sample("$3=3$ " * 9)]}])
    texts = [solution.text for solution in case.found[0].solutions]
    assert all(len(text) <= 1200 and (text.isprintable()) for text in texts)
    many = " ".join(f"${n}={n}$" for n in range(20))
    (case,) = case_studies([{"p": [sample(many), sample("$1=1$")]}])
    assert [(len(s.formulas), s.more_formulas) for s in case.found[0].solutions] == [(8, 12), (1, 0)]


@pytest.mark.usefixtures("few_plots")
def test_case_studies_on_the_page(run_folder, tmp_path):
    folder = run_folder("a", keep=True)
    hostile = "<script>alert(1)</script> {{ runs }} $1+1=2$"
    lines = [
        {
            "input": "1 + 1?",
            "output": output,
            "gts": "2",
            "acc": 1.0,
            "data_source": "s",
            "diversity": 0.25,
            "weight": 0.5,
        }
        for output in (hostile, "$4-2=2$")
    ]
    (folder / "validation" / "6.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_report([read_run(folder)], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "2 of 2 samples correct, in 2 distinct ways" in page and "w 0.50 · d̄ 0.25" in page
    assert "<script>" not in page and "&lt;script&gt;alert(1)&lt;/script&gt; {{ runs }}" in page
