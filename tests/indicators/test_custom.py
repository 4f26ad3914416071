"""An indicator of one's own over a data frame."""

from __future__ import annotations

import numpy as np
import pytest

from algo.indicators import calculate_custom_indicator, from_frame
from tests.strategies.tables import candles_of


def test_the_example_is_known_from_its_twentieth_candle():
    candles = candles_of([100.0] * 20 + [110.0], spread=0.0)
    values = from_frame(calculate_custom_indicator, candles.frame())
    assert np.isnan(values[:19]).all()
    assert values[19] == pytest.approx(0.0)
    # twenty equal volumes: the mean is (19 x 100 + 110) / 20 = 100.5
    assert values[20] == pytest.approx(110 / 100.5 - 1)


def test_an_indicator_that_drops_candles_is_refused():
    frame = candles_of([1.0, 2.0, 3.0]).frame()
    with pytest.raises(ValueError, match="2 values for 3 candles"):
        from_frame(lambda df: df["close"].pct_change().dropna(), frame)


def test_the_frame_is_indexed_by_utc_time():
    frame = candles_of([1.0, 2.0]).frame()
    assert list(frame.columns) == ["open", "high", "low", "close", "volume"]
    assert str(frame.index[1]) == "2025-01-01 00:01:00+00:00"
    assert frame["close"].tolist() == [1.0, 2.0]
