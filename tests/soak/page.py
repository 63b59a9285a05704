"""soak.md."""

from __future__ import annotations

from collections.abc import Sequence

from tests.bench.report import table
from tests.soak.judge import FLAT, HARMLESS, Finding, totals_first
from tests.soak.series import ALL
from tests.soak.watch import EVERY, End

HEADINGS = ("what", "of", "unit", "median", "an hour", "95 % interval", "% an hour", "verdict")


def report(findings: Sequence[Finding], end: End | None) -> str:
    """Markdown: all totals, and of the roles those that are not known to be flat."""
    shown = [each for each in findings if each.series.role == ALL or each.verdict != FLAT]
    hidden = len(findings) - len(shown)
    hours, _ = findings[0].series.after()
    lines = [
        "# Soak",
        "",
        f"{findings[0].series.hours[-1]:.2f} hours of the tiny profile from the first step on, looked at every "
        f"{EVERY:.0f} s; slopes are of the {hours[-1] - hours[0]:.2f} hours after the warm-up.",
        *table(HEADINGS, map(_row, totals_first(shown))),
        f"Not shown: {hidden} more series of single roles, which do not grow. *Does not grow*: more than "
        f"{HARMLESS:.1%} of the median an hour (or 1 MiB, descriptor, thread or process) is ruled out. *No growth "
        "seen*: neither growth nor a slope of 0 is ruled out. Logs are to grow, and are not judged.",
        "",
    ]
    if end is None:
        lines += ["The soak was killed: how the run would have ended is not known.", ""]
    elif problems := end.problems():
        lines += [*(f"- **{problem}**" for problem in problems), ""]
    else:
        lines += [f"Stopped by SIGINT, the run ended in {end.seconds:.0f} s and left nothing behind.", ""]
    return "\n".join(lines)


def _row(finding: Finding) -> list[str]:
    quantity, slope = finding.series.quantity, finding.slope
    interval = f"{_number(slope.low)} to {_number(slope.high)}"
    share = f"{100 * slope.estimate / finding.median:+.2f}" if finding.median else ""
    return [
        quantity.name, finding.series.role, quantity.unit, _number(finding.median, sign=""), _number(slope.estimate),
        interval, share, finding.verdict,
    ]  # fmt: skip


def _number(value: float, sign: str = "+") -> str:
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    text = f"{value:{sign}.{digits}f}"
    return "0" if not float(text) else text
