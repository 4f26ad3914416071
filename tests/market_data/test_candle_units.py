"""Toman taken for rial: refused before it is stored. A flash of the market: stored and logged."""

from __future__ import annotations

import logging
from datetime import timedelta
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algo.models import Candle as StoredCandle
from algo.services.candle_checks import Jumps, UnitJump, unit_jumps
from algo.services.candles import PAGE_BARS, candles_fetch_range, candles_update
from providers.types import Resolution
from tests.factories import make_market
from tests.market_data.exchange import FakeExchange, at, candle

M1 = Resolution.M1


@pytest.fixture
def market(db):
    return make_market(provider="nobitex")


def series(closes, first=0):
    return [candle(first + n, str(close)) for n, close in enumerate(closes)]


def fetch(market, held, end, **options):
    times = {"start": at(0), "end": at(end), "now": at(100_000)}
    return candles_fetch_range(market, M1, FakeExchange(held), **{**times, **options})


def stored_closes():
    return list(StoredCandle.objects.order_by("open_time").values_list("close", flat=True))


@pytest.mark.parametrize(
    ("closes", "jumps"),
    [
        ([100, 101, 99], Jumps()),
        ([100, 1000, 1000], Jumps(lasting=(1,))),
        ([1000, 100, 100], Jumps(lasting=(1,))),
        ([100, 800, 800], Jumps(lasting=(1,))),
        ([100, 1250, 1250], Jumps(lasting=(1,))),
        ([100, 799, 799], Jumps()),  # a market may do that
        ([100, 1251, 1251], Jumps()),  # and this is no unit
        ([100, 1000, 100], Jumps(spikes=(1,))),
        ([100, 10, 100], Jumps(spikes=(1,))),
        ([100, 1000], Jumps(lasting=(1,))),  # nobody knows yet
        ([100, 1000, 1000, 100], Jumps(lasting=(1, 3))),  # two candles are no flash
        ([100, 1000, 10_000], Jumps(lasting=(1, 2))),
        ([100, 1000, 100, 1000, 1000], Jumps(lasting=(3,), spikes=(1,))),
        ([100, 1000, 100, 1000, 100, 1000, 100], Jumps(lasting=(1, 3, 5))),  # two units in turn
        ([100], Jumps()),
    ],
)
def test_what_lasts_and_what_is_a_flash(closes, jumps):
    assert unit_jumps(np.array(closes, dtype=np.float64)) == jumps


@given(
    moves=st.lists(st.floats(0.5, 2), min_size=4, max_size=40),
    cut=st.integers(1, 39),
    factor=st.sampled_from([10.0, 0.1]),
)
def test_any_series_that_changes_its_unit_for_good_is_found(moves, cut, factor):
    close = 100 * np.cumprod(np.array([1.0] * 2 + [1 + (move - 1) * 0.01 for move in moves] + [1.0] * 2))
    cut = min(cut, len(close) - 1)
    close[cut:] *= factor
    assert unit_jumps(close).lasting == (cut,)


@given(st.lists(st.floats(0.2, 5), max_size=60))
def test_a_market_that_moves_less_is_left_alone(moves):
    assert unit_jumps(np.cumprod(np.array([100.0, *moves]))) == Jumps()


def test_a_page_in_another_unit_than_what_is_stored_is_refused_whole(market):
    fetch(market, series([100] * 5), 5)
    with pytest.raises(UnitJump, match="from 2026-11-02 10:05 the prices differ by a factor near 10"):
        fetch(market, series([100] * 5 + [1000] * 5), 10)
    assert stored_closes() == [100] * 5


def test_a_page_before_what_is_stored_is_compared_too(market):
    candles_fetch_range(market, M1, FakeExchange(series([100] * 5, 5)), start=at(5), end=at(10), now=at(99))
    with pytest.raises(UnitJump):
        fetch(market, series([1000] * 5 + [100] * 5), 10)
    assert stored_closes() == [100] * 5


def test_a_change_inside_one_answer_is_refused_and_earlier_pages_are_kept(market):
    held = series([100] * (PAGE_BARS + 100) + [1000] * 200)
    with pytest.raises(UnitJump):
        fetch(market, held, len(held))
    assert stored_closes() == [100] * PAGE_BARS


def test_a_redenomination_is_stored_when_a_person_says_so_and_is_history_afterwards(market, caplog):
    with caplog.at_level(logging.WARNING):
        assert fetch(market, series([100] * 5 + [1000] * 5), 10, accept_unit_jump=True).new == 10
    assert "accepted=True" in caplog.text
    later = FakeExchange(series([100] * 5 + [1000] * 8))
    assert candles_update(market, M1, later, now=at(13), bars=13) == 3


def test_a_flash_is_stored_and_logged(market, caplog):
    with caplog.at_level(logging.WARNING):
        assert fetch(market, series([100, 100, 1000, 100, 100]), 5).new == 5
    assert "its neighbours agree" in caplog.text
    assert stored_closes()[2] == 1000


def test_a_flash_in_the_last_candle_of_a_page_is_judged_by_the_next(market):
    held = series([100] * (PAGE_BARS - 1) + [1000] + [100] * 50)
    assert fetch(market, held, len(held)).new == len(held)


def test_a_change_in_the_last_candle_of_a_page_is_judged_by_the_next(market):
    held = series([100] * (PAGE_BARS - 1) + [1000] * 50)
    with pytest.raises(UnitJump):
        fetch(market, held, len(held))
    assert stored_closes() == []


def test_live_a_candle_off_by_ten_waits_for_the_one_after_it(market):
    exchange = FakeExchange(series([100] * 5))
    candles_update(market, M1, exchange, now=at(5), bars=5)
    exchange.held = series([100] * 5 + [10])
    with pytest.raises(UnitJump):
        candles_update(market, M1, exchange, now=at(6), bars=5)
    assert len(stored_closes()) == 5
    exchange.held = series([100] * 5 + [10, 100])
    assert candles_update(market, M1, exchange, now=at(7), bars=5) == 2


def test_live_an_exchange_that_changes_its_unit_stays_refused(market):
    exchange = FakeExchange(series([100] * 5))
    candles_update(market, M1, exchange, now=at(5), bars=5)
    exchange.held = series([1000] * 9)
    for minute in (6, 7, 8, 9):
        with pytest.raises(UnitJump):
            candles_update(market, M1, exchange, now=at(minute), bars=5)
    assert stored_closes() == [100] * 5


def test_the_digits_of_a_price_do_not_matter(market):
    tiny = [candle(n, "0.00000010", high="0.00000011", low="0.00000009") for n in range(3)]
    assert fetch(market, tiny, 3).new == 3
    assert stored_closes() == [Decimal("0.0000001")] * 3


def test_a_gap_in_time_does_not_hide_a_change_of_unit(market):
    fetch(market, series([100] * 5), 5)
    far = series([1000] * 5, first=5000)
    with pytest.raises(UnitJump):
        candles_fetch_range(
            market, M1, FakeExchange(far), start=at(5000), end=at(5005), now=at(5005) + timedelta(seconds=1)
        )
