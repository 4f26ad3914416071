"""Market data, the same promises from every exchange."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest

from providers.errors import ProviderError
from providers.interface import ExchangeProvider
from providers.types import Resolution
from tests.contract.conftest import SYMBOL, Wire

TOMAN = {"wallex": "BTCTMN", "nobitex": "BTCIRT"}


def noon_of_yesterday() -> datetime:
    return datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=1)


def test_it_keeps_the_protocol(wire: Wire):
    assert isinstance(wire.client, ExchangeProvider)


def test_markets_state_grids_minimums_and_fees(wire: Wire):
    rules = {rule.pair: rule for rule in wire.client.markets()}
    assert len(rules) >= 20
    for each in rules.values():
        assert each.tick_size > 0
        assert each.step_size > 0
        assert each.min_notional > 0
        assert 0 < each.taker_fee_rate < Decimal("0.01")
        assert 0 < each.market_band <= Decimal("0.02")
    assert rules["BTC/IRT"].symbol == TOMAN[wire.name]


def test_books_are_sorted_and_not_crossed_and_of_now(wire: Wire):
    book = wire.client.order_book(SYMBOL)
    bids, asks = [level.price for level in book.bids], [level.price for level in book.asks]
    assert bids == sorted(bids, reverse=True)
    assert asks == sorted(asks)
    assert book.is_usable
    assert abs(datetime.now(UTC) - book.as_of) < timedelta(seconds=10)


@pytest.mark.parametrize("quote", ["USDT", "toman"])
def test_book_last_price_and_candles_are_in_one_unit(wire: Wire, quote: str):
    symbol = SYMBOL if quote == "USDT" else TOMAN[wire.name]
    now = datetime.now(UTC)
    last = wire.client.last_price(symbol)
    candles = wire.client.candles(symbol, Resolution.M1, now - timedelta(minutes=5), now)
    for price in (candles[-1].close, wire.client.order_book(symbol).mid_price):
        assert abs(price / last - 1) < Decimal("0.03")


@pytest.mark.parametrize("resolution", [Resolution.M1, Resolution.M5, Resolution.M15, Resolution.H1, Resolution.H4])
def test_candles_are_those_that_open_in_the_interval_oldest_first(wire: Wire, resolution: Resolution):
    end = noon_of_yesterday()
    start = end - 30 * resolution.duration
    candles = wire.client.candles(SYMBOL, resolution, start, end)
    assert [candle.open_time for candle in candles] == [start + n * resolution.duration for n in range(30)]
    assert all(candle.low <= min(candle.open, candle.close) for candle in candles)
    assert all(candle.high >= max(candle.open, candle.close) for candle in candles)


def test_candles_of_more_than_one_page_have_no_seam(wire: Wire):
    end = noon_of_yesterday()
    start = end - timedelta(minutes=1700)
    whole = wire.client.candles(SYMBOL, Resolution.M1, start, end)
    assert [candle.open_time for candle in whole] == [start + timedelta(minutes=n) for n in range(1700)]
    edges = [*(start + timedelta(minutes=n) for n in range(0, 1700, 333)), end]
    parts = [wire.client.candles(SYMBOL, Resolution.M1, *window) for window in pairwise(edges)]
    assert [candle for part in parts for candle in part] == list(whole)


def test_an_unknown_market_is_an_error_of_ours(wire: Wire):
    with pytest.raises(ProviderError):
        wire.client.order_book("NOSUCHCOIN")


def test_the_clocks_agree_to_about_a_second(wire: Wire):
    wire.client.order_book(SYMBOL)
    assert abs(wire.client.clock_difference) < timedelta(seconds=2)
