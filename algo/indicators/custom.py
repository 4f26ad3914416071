"""An indicator of your own: a function that takes the data frame of candles and gives a Series of the same length.

Write it as `calculate_custom_indicator` below, then use it in a strategy: `from_frame(my_indicator, candles.frame())`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from algo.indicators.arrays import Series, as_series

if TYPE_CHECKING:  # pandas costs half a second of every start: only those who use data frames pay it
    import pandas as pd


def calculate_custom_indicator(df: pd.DataFrame) -> pd.Series:
    """Example: how far the close stands above the 20-candle volume-weighted mean price, as a fraction of that mean.

    `df` has the columns open, high, low, close, volume and is indexed by open time (UTC), oldest first. A value may
    use its own row and earlier ones only: `shift(-1)` or a centred window would read the future.
    """
    typical = (df["high"] + df["low"] + df["close"]) / 3
    mean = (typical * df["volume"]).rolling(20).sum() / df["volume"].rolling(20).sum()
    return df["close"] / mean - 1


def from_frame(calculate: Callable[[pd.DataFrame], pd.Series], frame: pd.DataFrame) -> Series:
    """Run a custom indicator over the frame and give its values as an array.

    ValueError where the answer has not one value per candle: a shorter one would be read at the wrong time.
    """
    values = as_series(calculate(frame).to_numpy(dtype="float64", na_value=float("nan")))
    if values.size != len(frame):
        name = getattr(calculate, "__name__", repr(calculate))
        raise ValueError(f"{name} gave {values.size} values for {len(frame)} candles; it must give one per candle")
    return values
