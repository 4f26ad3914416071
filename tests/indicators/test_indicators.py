"""Indicators against TA-Lib's values, against hand-worked ones, and against themselves on shorter series."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from algo.indicators import atr, crossed_above, crossed_below, ema, previous, rolling_max, rolling_min, rsi, shift, sma

NAN = np.nan
SOME_PRICES = arrays(np.float64, st.integers(1, 60), elements=st.floats(1, 1000))


def same(got, expected):
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)


@pytest.fixture(scope="module")
def vectors(shared):
    data = json.loads((shared / "oracle" / "indicator_vectors.json").read_text())
    columns = np.array(data["candles"], dtype=np.float64).T.copy()
    return dict(zip(data["columns"], columns, strict=True)), data["talib"]


@pytest.mark.parametrize(
    ("name", "calculate"),
    [
        ("ema_5", lambda c: ema(c["close"], 5)),
        ("ema_13", lambda c: ema(c["close"], 13)),
        ("ema_50", lambda c: ema(c["close"], 50)),
        ("rsi_14", lambda c: rsi(c["close"], 14)),
        ("rsi_7", lambda c: rsi(c["close"], 7)),
        ("atr_14", lambda c: atr(c["high"], c["low"], c["close"], 14)),
        ("sma_vol_20", lambda c: sma(c["volume"], 20)),
        ("max_high_20", lambda c: rolling_max(c["high"], 20)),
        ("min_low_20", lambda c: rolling_min(c["low"], 20)),
    ],
)
def test_equals_talib(vectors, name, calculate):
    candles, talib = vectors
    expected = np.array([NAN if value is None else value for value in talib[name]])
    # The file keeps eight decimals: half of the last one, and 1e-9 of our own on top.
    np.testing.assert_allclose(calculate(candles), expected, rtol=0, atol=0.5e-8 + 1e-9)


def test_sma_is_unknown_until_its_window_is_full():
    same(sma(np.array([1.0, 2.0, 3.0, 7.0]), 3), [NAN, NAN, 2.0, 4.0])


def test_ema_is_seeded_by_the_mean_of_its_first_values():
    # weight 2/4: seed (1+2+3)/3 = 2, then 2 + (7-2)/2 = 4.5
    same(ema(np.array([1.0, 2.0, 3.0, 7.0]), 3), [NAN, NAN, 2.0, 4.5])


def test_ema_starts_anew_behind_a_missing_value():
    same(ema(np.array([1.0, 3.0, NAN, 5.0, 7.0]), 2), [NAN, 2.0, NAN, NAN, 6.0])


def test_rsi_by_hand():
    # changes +2 -1 +3: seed gain 1, loss 0.5 -> 66.67; then gain (1+3)/2 = 2, loss 0.25 -> 88.89
    same(rsi(np.array([10.0, 12.0, 11.0, 14.0]), 2), [NAN, NAN, 100 * 2 / 3, 100 * 8 / 9])


@pytest.mark.parametrize(
    ("closes", "expected"),
    [([5, 5, 5, 5], 50.0), ([1, 2, 3, 4], 100.0), ([4, 3, 2, 1], 0.0)],
    ids=["flat", "up", "down"],
)
def test_rsi_of_a_market_that_only_does_one_thing(closes, expected):
    assert rsi(np.array(closes, dtype=float), 3)[-1] == expected


def test_atr_counts_the_gap_to_the_close_before():
    high, low, close = np.array([[10.0, 12.0, 9.0], [9.0, 11.0, 8.0], [9.5, 11.5, 8.5]])
    # true ranges: max(1, 2.5, 1.5) = 2.5 and max(1, 2.5, 3.5) = 3.5; their mean is 3
    same(atr(high, low, close, 2), [NAN, NAN, 3.0])


def test_extremes_of_a_window():
    values = np.array([3.0, 1.0, 2.0, 5.0, 4.0, 0.0])
    same(rolling_max(values, 3), [NAN, NAN, 3.0, 5.0, 5.0, 5.0])
    same(rolling_min(values, 3), [NAN, NAN, 1.0, 1.0, 2.0, 0.0])


@given(SOME_PRICES, st.integers(1, 12))
def test_rolling_max_is_the_maximum_of_each_window(values, period):
    expected = [values[i + 1 - period : i + 1].max() if i + 1 >= period else NAN for i in range(values.size)]
    same(rolling_max(values, period), expected)


def test_rolling_max_forgets_what_stood_before_a_missing_value():
    same(rolling_max(np.array([9.0, NAN, 1.0, 2.0]), 2), [NAN, NAN, NAN, 2.0])


def test_shift_looks_back_and_never_forward():
    same(shift(np.array([1.0, 2.0, 3.0]), 1), [NAN, 1.0, 2.0])
    same(shift(np.array([1.0]), 5), [NAN])
    with pytest.raises(ValueError, match="future"):
        shift(np.array([1.0]), -1)


def test_a_cross_is_the_candle_where_it_happens():
    first, second = np.array([1.0, 2.0, 3.0, 1.0, 2.0]), np.array([2.0, 2.0, 2.0, 2.0, 2.0])
    assert crossed_above(first, second).tolist() == [False, False, True, False, False]
    assert crossed_below(first, second).tolist() == [False, False, False, True, False]
    assert previous(crossed_above(first, second)).tolist() == [False, False, False, True, False]


def test_the_first_candle_crosses_nothing():
    assert not crossed_above(np.array([NAN, 3.0]), np.array([2.0, 2.0])).any()


@pytest.mark.parametrize("period", [0, -1, 2.5])
def test_a_period_is_a_whole_number_from_one(period):
    with pytest.raises(ValueError, match="period"):
        sma(np.array([1.0]), period)


def test_two_dimensions_are_refused():
    with pytest.raises(ValueError, match="one-dimensional"):
        ema(np.ones((2, 2)), 2)


@given(SOME_PRICES, st.integers(1, 60))
def test_no_indicator_changes_its_past_when_the_future_is_cut_off(values, cut):
    for calculate in (
        lambda v: ema(v, 5),
        lambda v: sma(v, 5),
        lambda v: rsi(v, 5),
        lambda v: atr(v + 1, v - 1, v, 5),
        lambda v: rolling_max(v, 5),
        lambda v: rolling_min(v, 5),
    ):
        np.testing.assert_array_equal(calculate(values)[:cut], calculate(values[:cut]))
