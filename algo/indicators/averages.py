"""Moving averages."""

from __future__ import annotations

import numpy as np
from numba import njit

from algo.indicators.arrays import BLOCK, Series, as_series, check_period


def sma(values: Series, period: int) -> Series:
    """Simple mean of the last `period` values; NaN until there are that many, and while one of them is NaN.

    Every window is summed afresh: a running sum would carry rounding from the past, and a live window could then
    disagree with the whole history in the last digit.
    """
    check_period(period)
    return _sma(as_series(values), period)


def ema(values: Series, period: int) -> Series:
    """Exponential mean, weight 2/(period+1), seeded by the SMA of the first `period` values (TA-Lib's definition).

    NaN while unknown. A NaN inside the series ends what is known: the mean is seeded anew behind it.
    """
    check_period(period)
    return _ema(as_series(values), period)


@njit(cache=True, nogil=True)
def _sma(values: Series, period: int) -> Series:
    out = np.full(values.size, np.nan)
    windows = max(values.size - period + 1, 0)
    for start in range(0, windows, BLOCK):
        # A block of windows at once, each from its oldest value on: the processor adds several side by side.
        size = min(BLOCK, windows - start)
        total = out[start + period - 1 : start + period - 1 + size]
        total[:] = values[start : start + size]
        for j in range(start + 1, start + period):
            newer = values[j : j + size]
            for i in range(size):
                total[i] += newer[i]
        total /= period
    return out


@njit(cache=True, nogil=True)
def _ema(values: Series, period: int) -> Series:
    out = np.full(values.size, np.nan)
    weight = 2.0 / (period + 1)
    known = 0  # values since the last NaN
    total = 0.0
    for i in range(values.size):
        value = values[i]
        if np.isnan(value):
            known, total = 0, 0.0
            continue
        known += 1
        if known <= period:
            total += value
            if known == period:
                out[i] = total / period
        else:
            out[i] = out[i - 1] + weight * (value - out[i - 1])
    return out
