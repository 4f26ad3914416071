"""Looking back: extremes of a window, earlier values, crossings."""

from __future__ import annotations

import numpy as np
from numba import njit

from algo.indicators.arrays import Mask, Series, as_series, check_period


def rolling_max(values: Series, period: int) -> Series:
    """Highest of the last `period` values, this one included; NaN until there are that many or while one is NaN."""
    check_period(period)
    return _rolling_max(as_series(values), period)


def rolling_min(values: Series, period: int) -> Series:
    """Lowest of the last `period` values, this one included; NaN until there are that many or while one is NaN."""
    check_period(period)
    return -_rolling_max(-as_series(values), period)


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


@njit(cache=True)
def _rolling_max(values: Series, period: int) -> Series:
    out = np.full(values.size, np.nan)
    best = -1  # index of the highest value of the window; the latest of equals stays longest
    known = 0  # values since the last NaN
    for i in range(values.size):
        if np.isnan(values[i]):
            known, best = 0, -1
            continue
        known += 1
        if best < 0 or values[i] >= values[best]:
            best = i
        elif best <= i - period:
            best = i - period + 1
            for j in range(i - period + 2, i + 1):
                if values[j] >= values[best]:
                    best = j
        if known >= period:
            out[i] = values[best]
    return out
