"""What strategies and backtests read: arrays of closed candles, and what is missing among them."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algo.selectors.candles import Coverage, Gap, candles_coverage, candles_range, candles_window, find_gaps
from algo.services.candles import candles_fetch_range
from providers.types import Resolution
from tests.factories import make_market
from tests.market_data.exchange import START, FakeExchange, at, candle

M1 = Resolution.M1


@pytest.fixture
def market(db):
    market = make_market(provider="nobitex")
    held = [candle(i, str(100 + i), high=str(200 + i), low="0.5", volume=f"0.{i + 1}") for i in (0, 1, 2, 5)]
    candles_fetch_range(market, M1, FakeExchange(held), start=at(0), end=at(9), now=at(9))
    return market


def minutes(candles):
    return ((candles.open_time - int(START.timestamp())) // 60).tolist()


def test_the_window_ends_with_the_last_closed_candle_and_counts_candles_not_minutes(market):
    window = candles_window(market, M1, bars=3, until=at(6))
    assert minutes(window) == [1, 2, 5]
    assert window.open_time.dtype == np.int64
    assert window.close.tolist() == [101, 102, 105]
    assert window.high.tolist() == [201, 202, 205]
    assert window.low.tolist() == [0.5, 0.5, 0.5]
    assert window.open.tolist() == [101, 102, 105]
    assert window.volume.tolist() == [0.2, 0.3, 0.6]


def test_a_candle_that_was_still_running_at_that_moment_is_not_in_the_window(market):
    assert minutes(candles_window(market, M1, bars=3, until=at(6) - timedelta(seconds=1))) == [0, 1, 2]


def test_a_window_over_less_history_is_shorter_and_one_over_none_is_empty(market):
    assert len(candles_window(market, M1, bars=50, until=at(6))) == 4
    assert len(candles_window(market, Resolution.H1, bars=50, until=at(6))) == 0


def test_markets_and_resolutions_do_not_mix(market):
    other = make_market("ETHUSDT", provider="nobitex")
    assert len(candles_window(other, M1, bars=5, until=at(6))) == 0


def test_a_range_holds_its_start_but_not_its_end(market):
    assert minutes(candles_range(market, M1, at(1), at(5))) == [1, 2]


def test_arrays_may_be_written_to_without_touching_anything_shared(market):
    assert candles_range(market, M1, at(0), at(9)).close.flags.writeable


def test_coverage_counts_what_is_there_and_what_is_not(market):
    assert candles_coverage(market, M1, at(-2), at(8)) == Coverage(
        4, at(0), at(5), (Gap(at(-2), at(0), 2), Gap(at(3), at(5), 2), Gap(at(6), at(8), 2))
    )


def test_nothing_stored_is_one_gap(market):
    empty = candles_coverage(market, Resolution.M5, at(0), at(60))
    assert empty == Coverage(0, None, None, (Gap(at(0), at(60), 12),))
    assert empty.missing == 12


@given(present=st.sets(st.integers(0, 60)))
def test_gaps_and_candles_together_make_the_whole_range(present):
    opens = np.array([int(at(minute).timestamp()) for minute in sorted(present)], dtype=np.int64)
    gaps = list(find_gaps(opens, M1, at(0), at(61)))
    absent = {minute for gap in gaps for minute in range(61) if gap.start <= at(minute) < gap.end}
    assert absent == set(range(61)) - present
    assert sum(gap.bars for gap in gaps) == len(absent)
