"""The slope of a series whose values depend on the ones before them, with an interval that knows of it.

Means of thirty blocks of time, a line through them by least squares, and an error widened by how much neighbours
resemble each other: with an autocorrelation ρ of the residuals, n blocks tell as much as n (1 − ρ) / (1 + ρ) that are
independent (Santer et al. 2000, as is usual for trends of temperatures). tests/unit/test_soak.py has the coverage.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

BLOCKS = 30
FEWEST = 20  # values
FEWEST_INDEPENDENT = 4.0  # blocks: two are used up by the line
LEVEL = 0.95


@dataclass(frozen=True)
class Slope:
    """Units an hour."""

    estimate: float
    low: float
    high: float
    p: float  # of a slope that is no more than 0


def slope_of(hours: np.ndarray, values: np.ndarray) -> Slope:
    """The trend of a series, with a 95 % interval.

    Args:
        hours: [T], rising.
        values: [T].

    Raises:
        ValueError: fewer than 20 values.
    """
    if len(values) < FEWEST:
        raise ValueError(f"{len(values)} values are too few for a slope: at least {FEWEST} are needed")
    if np.ptp(values) == 0:
        return Slope(0.0, 0.0, 0.0, 1.0)
    n = min(BLOCKS, len(values))
    x_N = np.array([block.mean() for block in np.array_split(hours, n)])
    y_N = np.array([block.mean() for block in np.array_split(values, n)])
    line = stats.linregress(x_N, y_N)
    independent = max(FEWEST_INDEPENDENT, n * _share(y_N - line.intercept - line.slope * x_N))
    free = independent - 2
    error = line.stderr * np.sqrt((n - 2) / free)
    reach = stats.t.ppf((1 + LEVEL) / 2, free) * error
    p = float(stats.t.sf(line.slope / error, free)) if error else float(line.slope <= 0)
    return Slope(float(line.slope), float(line.slope - reach), float(line.slope + reach), p)


def _share(residuals_N: np.ndarray) -> float:
    """Independent values per value."""
    squares = np.sum(residuals_N**2)
    if not squares:
        return 1.0
    rho = np.sum(residuals_N[1:] * residuals_N[:-1]) / squares
    rho += (2 + 4 * rho) / len(residuals_N)  # residuals of a line are less alike than what they are estimates of
    rho = min(max(rho, 0.0), 0.99)
    return (1 - rho) / (1 + rho)
