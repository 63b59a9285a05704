"""The page, its plots, what it says of broken folders, and what it makes of hostile text."""

from __future__ import annotations

import io
import json
import os
import re
import struct
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_module
from rich.console import Console

from dsdr_verl.console import MetricsLog
from dsdr_verl.evaluation.estimators import pass_at_ks
from dsdr_verl.evaluation.intervals import mean_interval
from dsdr_verl.report.__main__ import main, read_runs, summary
from dsdr_verl.report.page import points, write_report
from dsdr_verl.report.plots import QUANTITIES
from dsdr_verl.report.problems import judge
from dsdr_verl.report.runs import OPTIONS, caveats, read_run
from dsdr_verl.report.samples import read_all_problems, read_problems

TRAINING = [quantity.name for quantity in QUANTITIES]
VALIDATION = ["pass-at-k", "pass-at-1", "pass-at-4"]
HOSTILE = "$\\frac{$<script>x('y')<!-- & \"q\" [red]x[bold] {{ runs }} \x1b[31m_é漢"


class Page(HTMLParser):
    """What a browser would find: elements, their attributes, tables as rows of text, and figures."""

    VOID = ("meta", "br")

    def __init__(self, path: Path):
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.figures: dict[str, str] = {}
        self.text = ""
        self._open: list[str] = []
        self._table = self._figure = None
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert not self._open, f"left open: {self._open}"

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        if tag not in self.VOID:
            self._open.append(tag)
        if tag == "table":
            self._table = self.tables.setdefault(attributes["id"], [])
        elif tag == "tr":
            self._table.append([])
        elif tag in ("th", "td"):
            self._table[-1].append("")
        elif tag == "figure":
            self._figure = attributes["id"]
            self.figures[self._figure] = ""

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag
        if tag == "table":
            self._table = None
        elif tag == "figure":
            self._figure = None

    def handle_data(self, data):
        if "style" in self._open:
            return
        self.text += data
        if self._figure:
            self.figures[self._figure] += data
        elif self._table and self._table[-1]:
            self._table[-1][-1] += data

    def column(self, table: str, index: int) -> dict[str, str]:
        return {row[0].strip(): " ".join(row[index].split()) for row in self.tables[table]}


@pytest.fixture
def page(tmp_path):
    def make(*folders: Path) -> Page:
        out = tmp_path / "pages" / "report.html"
        assert main([*map(str, folders), "--out", str(out)]) == 0
        return Page(out)

    return make


def test_two_runs_on_one_page(run_folder, page, tmp_path, capsys):
    first = run_folder("grpo", solved=6, algorithm_name="grpo", algorithm__dsdr__lambda_d=0.0)
    found = page(first, run_folder("dsdr", solved=9))
    assert list(found.figures) == VALIDATION + TRAINING
    for text in found.figures.values():
        assert "1  grpo" in text and "2  dsdr" in text, "a legend"
    for name in VALIDATION + TRAINING:
        png = (tmp_path / "pages" / f"report-{name}.png").read_bytes()
        assert png[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">I", png[16:20])[0] == 168, "4.2 inches"
    one, two = found.column("runs", 1), found.column("runs", 2)
    assert (one["algorithm"], two["algorithm"]) == ("grpo", "dsdr")
    assert (one["λ_d"], two["λ_d"]) == ("0.0", "0.001")
    assert (one["model"], one["task"], one["steps"]) == ("tiny", "tiny_arithmetic", "6")
    shared = found.column("settings", 1)
    assert (shared["λ_ℓ"], shared["learning rate"]) == ("0.001", "0.0001") and "λ_ℓ" not in one
    assert "clip low" not in {*one, *shared}, "neither config has it"
    # 6 and 9 of 12 problems with 3 of 4 samples correct, the rest with 1
    accuracy = "dsdr/tiny_arithmetic accuracy (pass@1)"
    assert found.column("comparison", 1)[accuracy] == "50.0%"
    assert found.column("comparison", 2)[accuracy] == "62.5% +12.5"
    assert "nothing to take an interval over" in found.text
    printed = capsys.readouterr().out
    assert "62.5% (+12.5)" in printed and "report.html" in printed


def test_one_run(run_folder, page):
    found = page(run_folder("alone"))
    assert list(found.figures) == VALIDATION + TRAINING
    assert not any("1  alone" in text for text in found.figures.values()), "one run needs no legend"
    assert found.column("comparison", 1)["at step"] == "6"
    assert found.column("settings", 1)["λ_d"] == "0.001"


def test_the_page_loads_nothing(run_folder, page):
    found = page(run_folder("a"), run_folder("b"))
    assert {tag for tag, _ in found.elements}.isdisjoint({"script", "link", "img", "iframe", "image", "object", "a"})
    ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in found.elements:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        assert "http:" not in json.dumps(attributes) and "https:" not in json.dumps(attributes)
        for name in ("href", "src"):
            assert attributes.get(name, "#").startswith("#")
        for target in (*re.findall(r"url\(([^)]*)\)", str(attributes)), attributes.get("href", "")):
            assert not target or target.removeprefix("#") in ids


@pytest.mark.usefixtures("few_plots")
def test_plots_take_the_colours_of_the_page(run_folder, page, tmp_path):
    page(*[run_folder(name) for name in "abcdefgh"])
    html = (tmp_path / "pages" / "report.html").read_text()
    style, body = html.split("</style>", 1)
    assert not re.search(r"#[0-9a-fA-F]{6}", body), "a colour that stays as it is in the dark"
    used = set(re.findall(r"var\((--[\w-]+)\)", html))
    assert {"--run-0", "--run-5", "--grid", "--ink"} <= used
    for scheme in re.findall(r":root \{(.*?)\}", style, re.DOTALL):
        assert used <= set(re.findall(r"(--[\w-]+):", scheme))
    assert len(re.findall(r":root \{", style)) == 3, "light, dark and paper"


@pytest.mark.usefixtures("few_plots")
@pytest.mark.filterwarnings("ignore:Glyph")
def test_hostile_text_is_text(run_folder, page, tmp_path, capsys):
    hostile = "<img src=x onerror=alert(1)>"
    source = "<b>${oc.env:HOME}</b>"
    folder = run_folder(
        HOSTILE,
        algorithm_name=hostile,
        actor_rollout_ref__model__path=f"{hostile}\n\x00",
        data__task=None,
        data__train_files=[f"/x/{hostile}"],
    )
    MetricsLog(folder / "metrics.jsonl").append("validation", 9, {f"val-core/{source}/acc/pass@1": 0.5})
    found = page(folder, run_folder("plain", pass_rate=0.6))
    assert {tag for tag, _ in found.elements}.isdisjoint({"script", "img", "b"})
    assert "<script>x('y')<!--" in found.text and "{{ runs }}" in found.text
    one = found.column("runs", 1)
    assert one["algorithm"] == hostile and one["task"] == hostile
    assert one["model"] == f"{hostile}\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}"
    assert f"{source} accuracy (pass@1)" in found.column("comparison", 1)
    assert f"1  {HOSTILE[:23]}…" in found.figures["entropy"]
    assert "\x1b" not in capsys.readouterr().out + found.text
    terminal = Console(width=300, file=io.StringIO())
    terminal.print(summary(read_runs([folder])))
    assert HOSTILE.replace("\x1b", "\N{REPLACEMENT CHARACTER}") in terminal.file.getvalue()


@pytest.mark.usefixtures("few_plots")
def test_a_config_is_not_resolved_again(run_folder, page, monkeypatch):
    monkeypatch.setenv("SECRET_OF_THIS_MACHINE", "hidden-value")
    folder = run_folder("a")
    text = (folder / "config.yaml").read_text().replace("path: tiny", "path: ${oc.env:SECRET_OF_THIS_MACHINE}")
    (folder / "config.yaml").write_text(text)
    found = page(folder)
    assert "hidden-value" not in found.text
    assert found.column("runs", 1)["model"] == "${oc.env:SECRET_OF_THIS_MACHINE}"


BROKEN = [
    b'{"step": 7, "kind": "step", "metr',
    b"[]",
    b'{"step": "7", "kind": "step", "metrics": {}}',
    b'{"step": 7, "kind": "epoch", "metrics": {}}',
    b'{"step": 7, "kind": "step", "metrics": {"a": "b"}}',
    b'{"step": -1, "kind": "step", "metrics": {}}',
    b'{"step": 1e999, "kind": "step", "metrics": {}}',
    b"\xff\xfe",
]


@pytest.mark.parametrize("line", BROKEN)
def test_a_broken_line_is_left_out_and_counted(line, run_folder):
    folder = run_folder("a")
    whole = read_run(folder)
    path = folder / "metrics.jsonl"
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([lines[0], line, *lines[1:], b"", line]))
    run = read_run(folder)
    assert run.notes == ("metrics.jsonl: 2 of 11 lines are broken and were left out (line 2, 12)",)
    assert run.series.last_validation() == whole.series.last_validation()
    np.testing.assert_array_equal(run.series.steps, whole.series.steps)


@pytest.mark.usefixtures("few_plots")
def test_broken_lines_are_told_on_the_page(run_folder, page, capsys):
    folder = run_folder("a")
    with open(folder / "metrics.jsonl", "a") as file:
        file.write("<b>{")
    note = "a: metrics.jsonl: 1 of 10 lines are broken and were left out (line 10)"
    assert note in page(folder).text
    assert note in capsys.readouterr().out


@pytest.mark.usefixtures("few_plots")
def test_values_that_are_not_numbers_are_not_drawn(run_folder, page):
    folder = run_folder("a")
    log = MetricsLog(folder / "metrics.jsonl")
    log.append("step", 7, {"actor/entropy": float("nan"), "critic/score/mean": float("inf")})
    log.append("validation", 7, {"val-core/s/acc/pass@1": float("nan")})
    found = page(folder)
    assert "entropy" in found.figures and "nan" not in found.text.split()
    assert "comparison" not in found.tables and "No validation was logged" in found.text


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda folder: folder / "nowhere", "nowhere: no such folder; name a run's folder"),
        (lambda folder: folder / "config.yaml", "config.yaml: no such folder"),
        (lambda folder: (folder / "metrics.jsonl").unlink() or folder, "metrics.jsonl: no such file; a run writes it"),
        (lambda folder: (folder / "metrics.jsonl").write_text("\n") and folder, "none of its 0 lines is a step"),
        (lambda folder: (folder / "metrics.jsonl").write_text("x\ny\n") and folder, "none of its 2 lines is a step"),
        (lambda folder: (folder / "metrics.jsonl").write_text('{"step": 1, "kind": "step", "metrics": {}}') and folder,
         "no metric that the report draws"),
    ],
)  # fmt: skip
def test_a_folder_that_is_no_run(prepare, message, run_folder, tmp_path, capsys):
    folder = prepare(run_folder("a"))
    assert main([str(folder), "--out", str(tmp_path / "report.html")]) == 2
    captured = capsys.readouterr()
    assert message in captured.err and str(folder.parent if folder.suffix else folder) in captured.err
    assert not captured.out and not list(tmp_path.glob("report*"))


def test_runs_that_cannot_be_put_beside_each_other(run_folder, tmp_path, capsys):
    trained, validated = run_folder("trained"), run_folder("validated")
    for folder, kind in ((trained, "step"), (validated, "validation")):
        path = folder / "metrics.jsonl"
        path.write_text("".join(row + "\n" for row in path.read_text().splitlines() if f'"kind": "{kind}"' in row))
    assert main([str(trained), str(validated), "--out", str(tmp_path / "report.html")]) == 2
    error = capsys.readouterr().err
    assert "no metric in common" in error and str(trained) in error and str(validated) in error
    with pytest.raises(ValueError, match="named twice"):
        read_runs([trained, tmp_path / "outputs" / "validated" / ".." / "trained"])
    assert main([str(trained), "--out", str(tmp_path / "report.pdf")]) == 2
    assert "must end in .html" in capsys.readouterr().err


@pytest.mark.usefixtures("few_plots")
def test_training_only_and_validation_only(run_folder, page):
    trained = run_folder("trained")
    path = trained / "metrics.jsonl"
    path.write_text("".join(row + "\n" for row in path.read_text().splitlines() if '"validation"' not in row))
    found = page(trained, run_folder("both"))
    assert found.column("comparison", 1)["at step"] == "–"
    assert found.column("comparison", 2)["dsdr/tiny_arithmetic pass@2"] == "75.0%", "there is nothing to compare to"


@pytest.mark.parametrize(
    ("text", "note"),
    [(None, "config.yaml is missing"), ("a: [", "config.yaml cannot be read"), ("- 1", "config.yaml is not a mapping"),
     ("a: !!python/object/apply:os.getcwd []", "config.yaml cannot be read")],
)  # fmt: skip
def test_a_run_without_a_config_is_read_all_the_same(text, note, run_folder):
    folder = run_folder("a")
    (folder / "config.yaml").unlink()
    if text:
        (folder / "config.yaml").write_text(text)
    run = read_run(folder)
    assert run.notes[0].startswith(note) and run.algorithm == run.task == "–" and run.steps == "6"


def test_runs_of_other_tasks_and_steps_are_pointed_out(run_folder):
    other = run_folder("other")
    MetricsLog(other / "metrics.jsonl").append("validation", 8, {"val-core/math/acc/pass@1": 0.5})
    sources, steps = caveats(read_runs([run_folder("a"), other]))
    assert "validated on different sources" in sources and "a on dsdr/tiny_arithmetic; other on math" in sources
    assert steps == "The last validations are of different steps."


def test_options_are_keys_of_the_config():
    with initialize_config_module("dsdr_verl.conf", version_base=None):
        tree = compose("dsdr_trainer", overrides=["+algorithm=dapo"])
    for key in (*(key for _, key in OPTIONS), "algorithm_name", "actor_rollout_ref.model.path", "data.task",
                "data.train_files", "trainer.total_training_steps", "trainer.validation_data_dir"):  # fmt: skip
        node = tree
        for part in key.split("."):
            assert part in node, key
            node = node[part]


# ------------------------------------------------------------------------------------------------ intervals


def judged_of(folder):
    runs = read_runs([folder])
    return judge(runs, read_all_problems(runs)[0])


@pytest.mark.usefixtures("few_plots")
def test_kept_problems_give_intervals_and_tests(run_folder, page):
    first, second = run_folder("a", solved=3, keep=True), run_folder("b", solved=9, keep=True)
    found = page(first, second)
    expected = mean_interval(pass_at_ks([[1, 1, 1, 0]] * 9 + [[1, 0, 0, 0]] * 3, [1])[:, 0])
    assert expected.estimate == 0.625
    shown = f"62.5% [{100 * expected.low:.1f}, {100 * expected.high:.1f}]"
    assert found.column("intervals", 2)["pass@1"] == shown
    assert found.column("intervals", 2)["problems"] == "12"
    head, *rows = [[" ".join(cell.split()) for cell in row] for row in found.tables["tests"]]
    assert head[1:3] == ["k", "difference, points"]
    # six problems differ, all in one direction: 2 of the 2^6 sign flips are as extreme; Holm doubles it
    assert rows[0][:3] == ["2 b", "1", "+25.0"] and rows[0][4:] == ["0.0312", "0.0625"]
    assert rows[1][:3] == ["2 b", "4", "+0.0"] and rows[1][4:] == ["1.0000", "1.0000"]
    assert "nothing to take an interval over" not in found.text


def test_intervals_are_over_the_last_validation_wherever_the_folder_is_now(run_folder):
    folder = run_folder("a", solved=6, keep=True)
    moved = folder.rename(folder.parent / "moved")
    judged = judged_of(moved)
    assert judged.intervals[0][1].estimate == 0.5 and judged.bands == judged.intervals
    os.remove(moved / "validation" / "6.jsonl")
    assert judged_of(moved).intervals == [{}]


def test_samples_are_read_as_verl_writes_them(run_folder):
    from verl.trainer.ppo.v1.trainer_base import PPOTrainer

    folder = run_folder("a", keep=True)
    (folder / "validation" / "6.jsonl").unlink()
    PPOTrainer._write_generations(
        inputs=["p", "p", "q", "q"],
        outputs=["…"] * 4,
        gts=["1", "1", "2", "2"],
        scores=[1.0, 0.0, 1.0, 1.0],
        reward_extra_infos_dict={
            "acc": [1.0, 0.0, 1.0, None],
            "verdict": ["correct", "incorrect", "correct", None],
            "embedding": [np.ones(3, dtype=np.float32)] * 4,
            "uid": ["u_0_0", "u_1_0", "v_0_0", "v_1_0"],
        },
        dump_path=str(folder / "validation"),
        global_steps=6,
    )
    found = read_problems(read_run(folder)).values()
    assert [[sample.correct for sample in samples] for samples in found] == [[True, False], [True, False]]


@pytest.mark.usefixtures("few_plots")
def test_problems_that_cannot_be_used_are_said_to_be(run_folder, page):
    a, b, c = (run_folder(name, keep=True) for name in "abc")
    kept = b / "validation" / "6.jsonl"
    kept.write_text(kept.read_text() + '{"input": ')
    other = c / "validation" / "6.jsonl"
    other.write_text(other.read_text().replace("What is 3", "Which is 3"))
    found = page(a, b, c)
    assert "b: line 49 of 6.jsonl of its samples is broken, so none is used" in found.text
    assert "c: not tested against a, whose problems or prompts are others" in found.text
    assert "tests" not in found.tables and found.column("intervals", 2)["pass@1"] == "–"


def test_no_band_where_the_plot_is_a_mean_over_sources(run_folder):
    folder = run_folder("a", keep=True)
    rows = MetricsLog(folder / "metrics.jsonl").rows()
    last = {**rows[-1]["metrics"], "val-core/math/acc/pass@1": 0.1}
    MetricsLog(folder / "metrics.jsonl").append("validation", 6, last)
    judged = judged_of(folder)
    assert judged.intervals[0] and judged.bands == [{}]


@pytest.mark.usefixtures("few_plots")
def test_equal_runs_give_equal_pages(run_folder, tmp_path):
    runs = read_runs([run_folder("a"), run_folder("b")])
    pages = []
    for name in ("one", "two"):
        write_report(runs, tmp_path / name / "report.html")
        pages.append((tmp_path / name / "report.html").read_text())
    assert pages[0] == pages[1]


def test_points():
    assert [points(x) for x in (0.125, -0.0004, 0.0, -0.5)] == ["+12.5", "+0.0", "+0.0", "-50.0"]
