"""Looking back: extremes of a window, earlier values, crossings."""

from __future__ import annotations

import numpy as np
from numba import njit

from algo.indicators.arrays import BLOCK, Mask, Series, as_series, check_period


def rolling_max(values: Series, period: int) -> Series:
    """Highest of the last `period` values, this one included; NaN until there are that many or while one is NaN."""
    check_period(period)
    return _rolling_extreme(as_series(values), period, 1.0)


def rolling_min(values: Series, period: int) -> Series:
    """Lowest of the last `period` values, this one included; NaN until there are that many or while one is NaN."""
    check_period(period)
    return _rolling_extreme(as_series(values), period, -1.0)


def shift(values: Series, periods: int) -> Series:
    """The value of `periods` candles ago; NaN where there is none. Looking into the future is refused."""
    if periods < 0:
        raise ValueError("shift looks back: a negative number of candles would read the future")
    series = as_series(values)
    out = np.full(series.size, np.nan)
    if periods < series.size:
        out[periods:] = series[: series.size - periods]
    return out


def crossed_above(first: Series, second: Series) -> Mask:
    """True on the candle where `first` is above `second` and was not on the one before; False while unknown."""
    a, b = as_series(first), as_series(second)
    return (a > b) & (shift(a, 1) <= shift(b, 1))


def crossed_below(first: Series, second: Series) -> Mask:
    """True on the candle where `first` is below `second` and was not on the one before; False while unknown."""
    a, b = as_series(first), as_series(second)
    return (a < b) & (shift(a, 1) >= shift(b, 1))


def previous(mask: Mask) -> Mask:
    """What was true one candle ago; False on the first."""
    out = np.zeros(mask.size, dtype=np.bool_)
    out[1:] = mask[:-1]
    return out


@njit(cache=True, nogil=True)
def _rolling_extreme(values: Series, period: int, sign: float) -> Series:
    """The highest (`sign` 1) or lowest (-1) of each window, by windows of 1, 2, 4 ... values; the last two overlap."""
    out = np.full(values.size, np.nan)
    windows = max(values.size - period + 1, 0)
    scratch = np.empty(BLOCK + period)
    for start in range(0, windows, BLOCK):
        size = min(BLOCK, windows - start)
        count, width = size + period - 1, 1
        for i in range(count):
            scratch[i] = values[start + i] * sign
        while width * 2 <= period:
            count -= width
            _keep_higher(scratch[:count], scratch[width : width + count])
            width *= 2
        best = scratch[:size]
        _keep_higher(best, scratch[period - width : period - width + size])
        for i in range(size):
            out[start + period - 1 + i] = best[i] * sign
    return out


@njit(cache=True, nogil=True)
def _keep_higher(into: Series, other: Series) -> None:
    """The higher of each pair; NaN where one is."""
    for i in range(into.size):
        a, b = into[i], other[i]
        into[i] = a if a > b or np.isnan(a) else b
