"""Indicators: arrays in, arrays of the same length out, NaN while unknown. TA-Lib's definitions, without TA-Lib."""

from algo.indicators.arrays import Mask, Series, as_series
from algo.indicators.averages import ema, sma
from algo.indicators.custom import calculate_custom_indicator, from_frame
from algo.indicators.oscillators import atr, rsi
from algo.indicators.windows import crossed_above, crossed_below, previous, rolling_max, rolling_min, shift

__all__ = [
    "Mask",
    "Series",
    "as_series",
    "atr",
    "calculate_custom_indicator",
    "crossed_above",
    "crossed_below",
    "ema",
    "from_frame",
    "previous",
    "rolling_max",
    "rolling_min",
    "rsi",
    "shift",
    "sma",
]
