"""The rules of BreakoutStrategy, candle by candle, compiled: which conditions hold, as bits, and what they make."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from algo.indicators import Series

# A candle that closes unchanged leaves the RSI where it was, and a flat market brings both EMAs to one value. Floats
# then differ in their last digits, by where the series began. Differences this small are none: otherwise a live window
# and the whole history would disagree on noise.
SAME_RSI = 1e-6  # in RSI points
SAME_EMA = 1e-9  # as a share of the price

# Each rule holds where all of its conditions do. A condition's bit is its place in this list.
RULES: dict[str, tuple[str, ...]] = {
    "breakout_buy": ("close_above_highest", "ema_fast_above_slow", "rsi_below_overbought", "volume_enough"),
    "breakout_sell": ("close_below_lowest", "ema_fast_below_slow", "rsi_above_oversold", "volume_enough"),
    "momentum_buy": ("ema_crossed_above", "move_up_enough", "rsi_rising", "rsi_from_50_to_overbought"),
    "momentum_sell": ("ema_crossed_below", "move_down_enough", "rsi_falling", "rsi_from_oversold_to_50"),
}
_A_RULE = 4  # conditions
_ALL = 2**_A_RULE - 1

Bits = NDArray[np.uint16]


class SignalReason(IntEnum):
    """Which rule spoke, first before last; the code in `SignalArrays.reason`."""

    NONE = 0
    BREAKOUT = 1
    MOMENTUM = 2
    ORDER_BOOK = 3


class Indicators(NamedTuple):
    """Arrays of one length, each value with its own candle included. The rules compare a candle with `highest`,
    `lowest` and `mean_volume` of the one before."""

    close: Series
    volume: Series
    highest: Series
    lowest: Series
    ema_fast: Series
    ema_slow: Series
    rsi: Series
    atr: Series
    mean_volume: Series


class Limits(NamedTuple):
    """Parameters of the rules, as plain floats."""

    rsi_overbought: float
    rsi_oversold: float
    volume_threshold: float
    momentum_atr: float
    momentum_period: int


@njit(cache=True, nogil=True)
def ema_gap(fast: float, slow: float) -> float:
    """How far the fast average is above the slow one; 0 where that is nothing but rounding."""
    return 0.0 if abs(fast - slow) <= SAME_EMA * slow else fast - slow


@njit(cache=True, nogil=True)
def rsi_change(now: float, before: float) -> float:
    """Change of the RSI since the candle before; 0 where that is nothing but rounding."""
    return 0.0 if abs(now - before) <= SAME_RSI else now - before


@njit(cache=True, nogil=True)
def volume_ratio(volume: float, mean: float) -> float:
    """Volume over the mean of the candles before. Without any volume before it there is none: unknown, not infinite."""
    return volume / mean if mean > 0.0 else np.nan


@njit(cache=True, nogil=True)
def conditions(v: Indicators, limits: Limits) -> Bits:
    """The conditions that hold at each candle, as bits in the order of RULES. Nothing is compared with NaN: what is
    unknown holds nowhere."""
    close, volume, highest, lowest, ema_fast, ema_slow, strength, true_range, mean_volume = v
    bits = np.zeros(close.size, dtype=np.uint16)
    gap, strength_before, top, bottom, usual = np.nan, np.nan, np.nan, np.nan, np.nan
    crossed_up = crossed_down = False
    for i in range(close.size):
        before, gap = gap, ema_gap(ema_fast[i], ema_slow[i])
        was_up, crossed_up = crossed_up, gap > 0.0 and before <= 0.0
        was_down, crossed_down = crossed_down, gap < 0.0 and before >= 0.0
        loud = volume_ratio(volume[i], usual) >= limits.volume_threshold
        below, above = strength[i] < limits.rsi_overbought, strength[i] > limits.rsi_oversold
        change, strength_before = rsi_change(strength[i], strength_before), strength[i]
        move = close[i] - close[i - limits.momentum_period] if i >= limits.momentum_period else np.nan
        needed = limits.momentum_atr * true_range[i]
        bits[i] = (
            (close[i] > top) * 0x1
            + (gap > 0.0) * 0x2
            + below * 0x4
            + loud * 0x8
            + (close[i] < bottom) * 0x10
            + (gap < 0.0) * 0x20
            + above * 0x40
            + loud * 0x80
            + ((crossed_up or was_up) and gap > 0.0) * 0x100
            + (move > needed) * 0x200
            + (change > 0.0) * 0x400
            + (strength[i] >= 50.0 and below) * 0x800
            + ((crossed_down or was_down) and gap < 0.0) * 0x1000
            + (-move > needed) * 0x2000
            + (change < 0.0) * 0x4000
            + (above and strength[i] <= 50.0) * 0x8000
        )
        top, bottom, usual = highest[i], lowest[i], mean_volume[i]
    return bits


def named(bits: int) -> dict[str, dict[str, bool]]:
    """The conditions of one candle by rule and name."""
    return {
        rule: {name: bool(bits >> (_A_RULE * r + c) & 1) for c, name in enumerate(names)}
        for r, (rule, names) in enumerate(RULES.items())
    }


def _decided() -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """Side and reason for every combination of conditions: a breakout before momentum; where both sides speak, nobody
    does."""
    bits = np.arange(2 ** (_A_RULE * len(RULES)))
    breakout_buy, breakout_sell, momentum_buy, momentum_sell = (
        bits >> _A_RULE * place & _ALL == _ALL for place in range(len(RULES))
    )
    buy, sell = breakout_buy | momentum_buy, breakout_sell | momentum_sell
    side = np.where(buy & sell, 0, buy.astype(np.int8) - sell)
    spoken = np.where(breakout_buy != breakout_sell, SignalReason.BREAKOUT, SignalReason.MOMENTUM)
    return side.astype(np.int8), np.where(side != 0, spoken, SignalReason.NONE).astype(np.int8)


# Looking a combination up is quicker than asking again for each candle.
SIDES, REASONS = _decided()
