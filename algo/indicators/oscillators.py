"""Wilder's RSI and ATR."""

from __future__ import annotations

import numpy as np
from numba import njit

from algo.indicators.arrays import Series, as_series, check_period


def rsi(values: Series, period: int = 14) -> Series:
    """Wilder's relative strength index, 0 to 100, seeded by the plain mean of the first `period` changes.

    First value at index `period`. A market without any change is neither strong nor weak: 50 (TA-Lib says 0 there).
    A NaN inside the series starts it anew.
    """
    check_period(period)
    return _rsi(as_series(values), period)


def atr(high: Series, low: Series, close: Series, period: int = 14) -> Series:
    """Wilder's average true range, in price, seeded by the plain mean of the first `period` true ranges.

    The first candle has no true range (no close before it), so the first value stands at index `period`. A NaN
    inside the series starts it anew.
    """
    check_period(period)
    return _wilder(_true_range(as_series(high), as_series(low), as_series(close)), period)


@njit(cache=True, nogil=True)
def _rsi(values: Series, period: int) -> Series:
    out = np.full(values.size, np.nan)
    known = 0  # changes since the last NaN
    gain = loss = 0.0
    for i in range(1, values.size):
        change = values[i] - values[i - 1]
        if np.isnan(change):
            known, gain, loss = 0, 0.0, 0.0
            continue
        known += 1
        up, down = max(change, 0.0), max(-change, 0.0)
        if known <= period:
            gain += up / period
            loss += down / period
        else:
            gain = (gain * (period - 1) + up) / period
            loss = (loss * (period - 1) + down) / period
        if known >= period:
            out[i] = 50.0 if gain + loss == 0.0 else 100.0 * gain / (gain + loss)
    return out


@njit(cache=True, nogil=True)
def _true_range(high: Series, low: Series, close: Series) -> Series:
    out = np.full(close.size, np.nan)
    for i in range(1, close.size):
        span = high[i] - low[i]
        up, down = abs(high[i] - close[i - 1]), abs(low[i] - close[i - 1])
        if not (np.isnan(span) or np.isnan(up) or np.isnan(down)):
            out[i] = max(span, up, down)
    return out


@njit(cache=True, nogil=True)
def _wilder(values: Series, period: int) -> Series:
    out = np.full(values.size, np.nan)
    known = 0
    mean = 0.0
    for i in range(values.size):
        value = values[i]
        if np.isnan(value):
            known, mean = 0, 0.0
            continue
        known += 1
        mean = mean + value / period if known <= period else (mean * (period - 1) + value) / period
        if known >= period:
            out[i] = mean
    return out
