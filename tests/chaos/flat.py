"""Whether a figure stays what it was over a run. Pure: readings with their moments in, verdicts out."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from tests.chaos.judge import percentile

Readings = Sequence[tuple[float, float]]  # (seconds, value), in the order of time
MEGABYTE = 1024 * 1024
GROWTH_SHARE, GROWTH_BYTES = 0.05, 10 * MEGABYTE  # of memory, between the first and the last quarter
SLOWER_SHARE, SLOWER_SECONDS = 0.25, 0.25  # of latency, the same
FEWEST = 8  # readings: of fewer nothing can be said


@dataclass(frozen=True, slots=True)
class Trend:
    """A figure in the first and in the last quarter of a run, and what a straight line through all of it gains in an
    hour."""

    first: float
    last: float
    per_hour: float

    @property
    def growth(self) -> float:
        return self.last - self.first


def quarters(readings: Readings) -> tuple[list[float], list[float]]:
    """The values of the first and of the last quarter of the time."""
    begin, end = readings[0][0], readings[-1][0]
    quarter = (end - begin) / 4
    return (
        [value for at, value in readings if at <= begin + quarter],
        [value for at, value in readings if at >= end - quarter],
    )


def trend(readings: Readings, share: float = 0.5) -> Trend | None:
    """Of the median, or of the value that `share` of all do not exceed; None of too few readings."""
    if len(readings) < FEWEST:
        return None
    first, last = (percentile(values, share) for values in quarters(readings))
    return Trend(first, last, slope(readings) * 3600)


def slope(readings: Readings) -> float:
    """Of the straight line with the least squares, per second; 0 where all are of one moment."""
    times = [at for at, _ in readings]
    if len(set(times)) < 2:
        return 0.0
    return statistics.linear_regression(times, [value for _, value in readings]).slope


def memory_grows(trend: Trend) -> bool:
    """By more than five per cent and by more than 10 MB."""
    return trend.growth > max(trend.first * GROWTH_SHARE, GROWTH_BYTES)


def latency_grows(trend: Trend) -> bool:
    """By more than a quarter and by more than a quarter of a second."""
    return trend.growth > max(trend.first * SLOWER_SHARE, SLOWER_SECONDS)


def spread(values: Sequence[float], digits: int = 3) -> dict[str, float]:
    """How many, and where they lie; seconds or whatever else was measured."""
    if not values:
        return {"count": 0}
    figures = {f"p{share:g}": percentile(values, share / 100) for share in (50, 95, 99)} | {"max": max(values)}
    return {"count": len(values)} | {name: round(value, digits) for name, value in figures.items()}
