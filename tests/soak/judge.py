"""What grows.

A soak has a hundred series, and of a hundred 95 % intervals a few miss the truth: a series is said to grow if its slope
is above 0 with the share of false alarms among all alarms kept to 5 % (Benjamini and Hochberg), and if more than what
nobody minds is not ruled out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from tests.soak.series import ALL, Series, TooFew
from tests.soak.slope import FEWEST, Slope, slope_of

HARMLESS = 0.005  # of the median, an hour: in a week it has not doubled
FALSE_ALARMS = 0.05

FLAT = "does not grow"  # more than what nobody minds is ruled out
UNSEEN = "no growth seen"  # a slope of 0 is not ruled out, and neither is more
GROWS = "**grows**"
NOT_JUDGED = "not judged"


@dataclass(frozen=True)
class Finding:
    """A series after its warm-up."""

    series: Series
    median: float
    slope: Slope
    harmless: float  # units an hour
    verdict: str


def judge(series: Sequence[Series]) -> list[Finding]:
    """A finding for each series that has enough samples.

    Raises:
        TooFew: none has.
    """
    enough = [each for each in series if len(each.after()[1]) >= FEWEST]
    if not enough:
        most = max(len(each.after()[1]) for each in series)
        raise TooFew(f"{most} samples after the warm-up, of which {FEWEST} are needed: it takes some six minutes")
    slopes = [slope_of(*each.after()) for each in enough]
    # what never changes can raise no alarm, true or false
    tried = [i for i, each in enumerate(enough) if each.quantity.judged and np.ptp(each.after()[1]) > 0]
    chance = dict(zip(tried, stats.false_discovery_control([slopes[i].p for i in tried]) if tried else [], strict=True))
    return [
        _finding(each, slope, chance.get(index, 1.0))
        for index, (each, slope) in enumerate(zip(enough, slopes, strict=True))
    ]


def totals_first(findings: Sequence[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda finding: finding.series.role != ALL)


def _finding(series: Series, slope: Slope, chance: float) -> Finding:
    median = float(np.median(series.after()[1]))
    harmless = max(series.quantity.harmless, HARMLESS * median)
    if not series.quantity.judged:
        verdict = NOT_JUDGED
    elif slope.high <= harmless:
        verdict = FLAT
    else:
        verdict = GROWS if chance < FALSE_ALARMS else UNSEEN
    return Finding(series, median, slope, harmless, verdict)
