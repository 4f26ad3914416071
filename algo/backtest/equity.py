"""What the account was worth at each candle, out of what the kernel wrote: for whoever wants to see the curve.

Compiled apart from the kernel, which it neither calls nor is called by.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from algo.indicators import Series


@njit(cache=True, nogil=True)
def marks_of(closes: Series, first: float) -> Series:
    """The last known close of each candle, which values what the account holds; `first` until there is one."""
    missing = 0
    for t in range(closes.size):
        missing += np.isnan(closes[t])
    if missing == 0:
        return closes
    marks, mark = closes.copy(), first
    for t in range(marks.size):
        if np.isnan(marks[t]):
            marks[t] = mark
        mark = marks[t]
    return marks


@njit(cache=True, nogil=True)
def equity_of(
    deals: NDArray[np.float64], balances: NDArray[np.float64], quote: float, base: float, marks: Series
) -> Series:
    """Worth in quote after each candle, by rows of DEAL_COLUMNS and BALANCE_COLUMNS and what there was at first."""
    equity, done = np.empty(marks.size), 0
    for i in range(deals.shape[0]):
        opened, closed = int(deals[i, 1]), int(deals[i, 2])
        equity[done:opened] = quote + base * marks[done:opened]
        equity[opened:closed] = balances[i, 0] + balances[i, 1] * marks[opened:closed]
        done, quote, base = closed, balances[i, 2], balances[i, 3]
    equity[done:] = quote + base * marks[done:]
    return equity
