"""Candles of a running strategy: closed, possible, stored once, and only what is missing is asked for."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from algo.models import Candle as StoredCandle
from algo.services.candles import candles_update
from providers.errors import BadPayload, Unavailable
from providers.types import Candle, Resolution
from tests.factories import make_market
from tests.market_data.exchange import FakeExchange, at, candle, candles

pytestmark = pytest.mark.django_db
M1 = Resolution.M1


@pytest.fixture
def market():
    return make_market(provider="nobitex")


def stored_minutes(market, resolution=M1):
    rows = StoredCandle.objects.filter(market=market, resolution=resolution).order_by("open_time")
    return [round((row.open_time - at(0)) / timedelta(minutes=1)) for row in rows]


def test_the_running_candle_is_never_stored(market):
    exchange = FakeExchange(candles(range(4)))
    assert candles_update(market, M1, exchange, now=at(3) + timedelta(seconds=59), bars=3) == 3
    assert stored_minutes(market) == [0, 1, 2]


def test_a_candle_counts_from_the_instant_it_closed(market):
    assert candles_update(market, M1, FakeExchange(candles([0])), now=at(1), bars=1) == 1


def test_a_candle_that_has_just_ended_is_not_stored_from_an_answer_of_before_its_end(market):
    # Half a second after its end a cache still answers as of 0.5 s before it: the last trade is missing.
    grace = timedelta(seconds=3)
    exchange = FakeExchange([candle(0), candle(1, "100")])
    early = at(2) + timedelta(seconds=0.5)
    assert candles_update(market, M1, exchange, now=early, bars=2, grace=grace) == 1
    exchange.held = [candle(0), candle(1, "105")]
    assert candles_update(market, M1, exchange, now=at(2) + grace, bars=2, grace=grace) == 1
    assert StoredCandle.objects.get(open_time=at(1)).close == Decimal(105)


def test_a_later_candle_in_the_answer_proves_that_the_one_before_is_over(market):
    exchange = FakeExchange(candles(range(3)))
    early = at(2) + timedelta(seconds=0.5)
    assert candles_update(market, M1, exchange, now=early, bars=2, grace=timedelta(seconds=3)) == 2
    assert stored_minutes(market) == [0, 1]


def test_amounts_are_stored_to_the_last_digit(market):
    exact = candle(0, "100", high="100.000000000000000001", volume="0.000000000000000001")
    candles_update(market, M1, FakeExchange([exact]), now=at(1), bars=1)
    row = StoredCandle.objects.get()
    assert (row.high, row.volume) == (Decimal("100.000000000000000001"), Decimal("0.000000000000000001"))


def test_repeated_runs_store_once_and_ask_nothing_while_nothing_is_due(market):
    exchange = FakeExchange(candles(range(3)))
    results = [candles_update(market, M1, exchange, now=at(3), bars=3) for _ in range(3)]
    assert results == [3, 0, 0]
    assert stored_minutes(market) == [0, 1, 2]
    assert len(exchange.asked) == 1


def test_the_next_minute_asks_from_the_last_stored_candle_on(market):
    exchange = FakeExchange(candles(range(-10, 12)))
    candles_update(market, M1, exchange, now=at(10), bars=10)
    exchange.asked.clear()
    assert candles_update(market, M1, exchange, now=at(11), bars=10) == 1
    assert exchange.asked == [(at(9), at(11))]


def test_a_gap_stays_a_gap(market):
    exchange = FakeExchange(candles([0, 1, 4]))
    assert candles_update(market, M1, exchange, now=at(5), bars=5) == 3
    assert stored_minutes(market) == [0, 1, 4]


def test_a_candle_that_is_published_late_is_picked_up(market):
    exchange = FakeExchange(candles([0, 1, 3]))
    candles_update(market, M1, exchange, now=at(4), bars=4)
    exchange.held = candles([0, 1, 2, 3, 4])
    assert candles_update(market, M1, exchange, now=at(5), bars=4) == 2
    assert stored_minutes(market) == [0, 1, 2, 3, 4]


def test_after_a_long_rest_only_the_window_is_asked_for(market):
    exchange = FakeExchange(candles(range(3)))
    candles_update(market, M1, exchange, now=at(3), bars=3)
    exchange.held, exchange.asked = candles(range(5000)), []
    assert candles_update(market, M1, exchange, now=at(5000), bars=3) == 3
    assert exchange.asked == [(at(4996) + timedelta(seconds=1), at(5000))]


def test_a_quiet_market_is_asked_further_back_until_there_are_enough_candles(market):
    exchange = FakeExchange(candles(range(0, 40, 4)))
    candles_update(market, M1, exchange, now=at(37), bars=8)
    assert len(stored_minutes(market)) >= 8


def test_a_young_market_does_not_ask_for_ever(market):
    exchange = FakeExchange(candles([0, 1]))
    candles_update(market, M1, exchange, now=at(2), bars=300)
    assert len(exchange.asked) == 2


def test_a_revised_candle_keeps_its_first_version_and_is_reported(market, caplog):
    exchange = FakeExchange([candle(0, "100")])
    candles_update(market, M1, exchange, now=at(1), bars=1)
    exchange.held = [candle(0, "101"), candle(1, "102")]
    with caplog.at_level(logging.WARNING):
        assert candles_update(market, M1, exchange, now=at(2), bars=2) == 1
    assert StoredCandle.objects.get(open_time=at(0)).close == 100
    assert "revised" in caplog.text


def test_a_candle_that_another_worker_stored_meanwhile_is_not_counted(market):
    exchange = FakeExchange(candles([0, 1]))
    exchange.before = lambda number: candles_update(market, M1, FakeExchange(candles([0])), now=at(1), bars=1)
    assert candles_update(market, M1, exchange, now=at(2), bars=2) == 1


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (candle(1, "100", high="99"), "impossible"),
        (candle(1, "100", low="101"), "impossible"),
        (candle(1, "0"), "impossible"),
        (candle(1, "100", volume="-1"), "impossible"),
        (candle(1, "NaN"), "impossible"),
        (candle(1, "1e30"), "impossible"),
        (candle(1, "1e-30"), "impossible"),
        (candle(1.5), "unaligned"),
    ],
)
def test_a_candle_that_cannot_be_is_left_out_and_counted(market, caplog, bad, reason):
    with caplog.at_level(logging.WARNING):
        assert candles_update(market, M1, FakeExchange([candle(0), bad]), now=at(3), bars=3) == 1
    assert stored_minutes(market) == [0]
    assert f"{reason}=1" in caplog.text


def test_of_two_candles_at_one_time_the_first_is_kept(market):
    candles_update(market, M1, FakeExchange([candle(0, "100"), candle(0, "200")]), now=at(1), bars=1)
    assert [row.close for row in StoredCandle.objects.all()] == [100]


def test_candles_out_of_order_are_stored_all_the_same(market):
    assert candles_update(market, M1, FakeExchange(candles([2, 0, 1])), now=at(3), bars=3) == 3


def test_candles_outside_of_what_was_asked_are_left_out(market, caplog):
    class Generous(FakeExchange):
        def candles(self, *args):
            super().candles(*args)
            return self.held

    with caplog.at_level(logging.WARNING):
        candles_update(market, M1, Generous(candles([-500, 0, 1])), now=at(2), bars=2)
    assert stored_minutes(market) == [0, 1]
    assert "not_asked_for=1" in caplog.text


def test_finer_candles_than_asked_for_are_refused_whole(market):
    exchange = FakeExchange(candles(range(60)))
    with pytest.raises(BadPayload, match="another length"):
        candles_update(market, Resolution.M15, exchange, now=at(60), bars=4)
    assert not StoredCandle.objects.exists()


def test_days_begin_at_the_midnight_of_tehran_and_have_no_gap_in_the_night_of_summer_time(market):
    # 22 March 2022: clocks went an hour forward, that day had 23 hours (contract: nobitex 4.5).
    opens = [datetime(2022, 3, 20, 20, 30), datetime(2022, 3, 21, 20, 30), datetime(2022, 3, 22, 19, 30)]
    one = Decimal(1)
    held = [Candle(each.replace(tzinfo=UTC), one, one, one, one, one) for each in opens]
    exchange = FakeExchange(held)
    now = datetime(2022, 3, 23, 20, 0, tzinfo=UTC)
    assert [candles_update(market, Resolution.D1, exchange, now=now, bars=2) for _ in range(2)] == [3, 0]
    assert len(exchange.asked) == 1


def test_an_unreachable_exchange_changes_nothing(market):
    def fail(number):
        raise Unavailable("no route")

    exchange = FakeExchange(candles([0]))
    exchange.before = fail
    with pytest.raises(Unavailable):
        candles_update(market, M1, exchange, now=at(1), bars=1)
    assert not StoredCandle.objects.exists()
