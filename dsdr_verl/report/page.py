"""The page: tables and plots in one HTML file that loads nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from dsdr_verl.console import short
from dsdr_verl.evaluation.curves import PASS_AT
from dsdr_verl.report.arms import Arm, Measured, arms_of, compare_arms, ends, last_validations, seeded
from dsdr_verl.report.cases import case_studies
from dsdr_verl.report.evaluations import read_evaluations
from dsdr_verl.report.plots import COLOURS, Plot, drawing, evaluation_plots, training_plots, validation_plots
from dsdr_verl.report.problems import Judged, judge
from dsdr_verl.report.runs import OPTIONS, Run, caveats, shown
from dsdr_verl.report.samples import read_all_problems
from dsdr_verl.report.svg import inline_svg
from dsdr_verl.report.tables import Table, means_table, tests_table

PNG_DPI = 200
COLUMNS_AT = (1, 4, 16)  # the k of pass@k that a table of arms shows, besides the largest
MORE = ("modes_share", "semantic", "formula", "entropy")
FIRST = ("algorithm", "model", "task", "steps")  # settings to start with, whether the runs differ in them or not


@dataclass(frozen=True)
class Cell:
    """A last value of a run, and how far it is from the first run's."""

    value: str
    change: str = ""


@dataclass(frozen=True)
class Line:
    """A row of a table: a cell for each run."""

    head: str
    cells: list[Cell]
    differs: bool = False


def write_report(runs: Sequence[Run], path: Path) -> list[Path]:
    """Write the page to `path`, and beside it each plot as `<name of the page>-<name of the plot>.png` and each table
    of arms as `….md` and `….tex`.

    Returns:
        The PNGs.
    """
    found, notes = read_all_problems(runs)
    judged, arms = judge(runs, found), arms_of(runs)
    if grouped := seeded(arms):
        judged = replace(judged, tests=[])  # arms are tested, not each seed
    evaluated, more_notes = read_evaluations(arms)
    tables = [*(validation_tables(arms) if grouped else []), *evaluation_tables(arms, evaluated)]
    with drawing():
        training, validation = training_plots(arms), validation_plots(arms, () if grouped else judged.bands)
        evaluation = evaluation_plots(arms, evaluated)
        page = _render(
            runs,
            judged=judged,
            grouped=grouped,
            tables=tables,
            swatches=[next(i for i, arm in enumerate(arms) if run in arm.runs) for run in runs],
            notes=[*notes, *judged.notes, *more_notes],
            cases=case_studies(found),
            validation=_inlined(validation),
            evaluation=_inlined(evaluation),
            training=_inlined(training),
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
        pictures = []
        for plot in (*validation, *evaluation, *training):
            pictures.append(path.with_name(f"{path.stem}-{plot.name}.png"))
            plot.figure.savefig(pictures[-1], dpi=PNG_DPI)
    for table in tables:
        for suffix, text in ((".md", table.markdown), (".tex", table.latex)):
            path.with_name(f"{path.stem}-{table.name}{suffix}").write_text(text, encoding="utf-8")
    return pictures


def validation_tables(arms: Sequence[Arm]) -> list[Table]:
    """Of the last validations: pass@1 and the largest pass@k that all have."""
    measured = last_validations(arms)
    shown = [f"pass@{k}" for k in ends(common_ks(measured, "pass"))]
    rows = compare_arms(arms, measured, shown)
    return [
        means_table("arms", "last validation, means over seeds", rows, shown),
        tests_table("tests-of-arms", rows),
    ]


def evaluation_tables(arms: Sequence[Arm], measured: Measured) -> list[Table]:
    """Of what was evaluated; none where nothing was. Tested are pass@1, the largest pass@k, and modes in as many."""
    passes, modes = (common_ks(measured, kind) for kind in ("pass", "modes"))
    if not passes:
        return []
    tested = [*(f"pass@{k}" for k in ends(passes)), *(f"modes@{k}" for k in ends(modes)[-1:])]
    rows = compare_arms(arms, measured, tested)
    shown = [f"pass@{k}" for k in sorted(passes) if k in (*COLUMNS_AT, max(passes))]
    shown += [*tested[len(ends(passes)) :], *(q for q in MORE if any(q in row.values for row in rows))]
    return [
        means_table("evaluation", "evaluation, means over seeds", rows, shown),
        tests_table("tests-of-evaluation", rows),
    ]


def common_ks(measured: Measured, kind: str) -> set[int]:
    """The k of `<kind>@k` that all measured runs have."""
    each = []
    for values in (values for arm in measured for _, values in arm):
        parts = (name.partition("@") for name in values)
        each.append({int(k) for head, _, k in parts if head == kind and k})
    return set.intersection(*each) if each else set()


def _render(runs: Sequence[Run], judged: Judged, **parts) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"shown": shown, "points": points}
    return environment.get_template("page.html").render(
        runs=runs,
        colours=len(COLOURS),
        caveats=caveats(runs),
        header=[line for line in settings(runs) if line.differs or line.head in FIRST],
        shared=[line for line in settings(runs) if not line.differs and line.head not in FIRST],
        comparison=comparison(runs),
        last_steps=[last[0] if (last := run.series.last_validation()) else None for run in runs],
        judged=judged,
        ks=sorted({k for points in judged.intervals for k in points}),
        **parts,
    )


def _inlined(plots: Sequence[Plot]) -> list[dict]:
    return [{"name": plot.name, "svg": Markup(inline_svg(plot.figure, plot.title))} for plot in plots]


def settings(runs: Sequence[Run]) -> list[Line]:
    """What each run was: a line a setting, without the settings that no config has."""
    lines = {
        "algorithm": [run.algorithm for run in runs],
        "model": [run.option("actor_rollout_ref.model.path") for run in runs],
        "task": [run.task for run in runs],
        "steps": [run.steps for run in runs],
        **{label: [run.option(key) for run in runs] for label, key in OPTIONS},
    }
    return [
        Line(head, [Cell(value) for value in values], differs=len(set(values)) > 1)
        for head, values in lines.items()
        if set(values) != {"–"} or head in FIRST
    ]


def comparison(runs: Sequence[Run]) -> list[Line]:
    """pass@k of each source at the last validation, with the difference to the first run in points."""
    last = []
    for run in runs:
        _, metrics = run.series.last_validation() or (0, {})
        last.append({name: x for name, x in metrics.items() if PASS_AT.fullmatch(name) and math.isfinite(x)})
    names = dict.fromkeys(name for metrics in last for name in metrics)
    return [Line(short(name), [_cell(metrics, last[0], name) for metrics in last]) for name in names]


def _cell(metrics: dict[str, float], first: dict[str, float], name: str) -> Cell:
    if name not in metrics:
        return Cell("–")
    compared = metrics is not first and name in first
    return Cell(f"{metrics[name]:.1%}", points(metrics[name] - first[name]) if compared else "")


def points(difference: float) -> str:
    """Of shares, in percentage points: `+1.5`, never `-0.0`."""
    return f"{round(100 * difference, 1) + 0.0:+.1f}"
