"""A stream takes from the database what workers have stored, and asks the exchange for the rest."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from django.db import OperationalError

from algo.live import stored_candles
from algo.live.stored_candles import StoredFirst
from algo.models import Candle as StoredCandle
from providers.budgets import Priority, current_priority
from providers.errors import RateLimited, Unavailable
from providers.types import Candle, OrderBook, Resolution
from tests.factories import make_market
from tests.live.streams import HandClock

M1 = Resolution.M1
MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def one_session(monkeypatch) -> None:
    monkeypatch.setattr(stored_candles, "close_old_connections", lambda: None)  # the test's transaction lives on it


class Exchange:
    def __init__(self) -> None:
        self.asked = 0

    def order_book(self, symbol: str) -> OrderBook:
        raise NotImplementedError

    def candles(self, symbol: str, resolution: Resolution, start: datetime, end: datetime) -> Sequence[Candle]:
        self.asked += 1
        return []


def candle(at: datetime) -> Candle:
    return Candle(at, *map(Decimal, ("1", "3", "1", "2", "7")))


def read(stored: Sequence[int], *, from_: float = 0, second: int = 20) -> tuple[list[Candle], int]:
    """At so many seconds past minute 3, of the candles of minutes 0 to 2: what is read when those of these minutes are
    stored, and how often the exchange was asked."""
    clock, exchange, market = HandClock(), Exchange(), make_market("BTCUSDT", provider="nobitex")
    begin = clock.at.replace(second=0, microsecond=0)
    clock.at = begin + 3 * MINUTE + timedelta(seconds=second)
    StoredCandle.objects.bulk_create(
        StoredCandle(
            market=market, resolution="1", open_time=begin + number * MINUTE, open=1, high=3, low=1, close=2, volume=7
        )
        for number in stored
    )
    start = begin + timedelta(minutes=from_)
    found = StoredFirst(exchange, "nobitex", clock).candles("BTCUSDT", M1, start, clock.at + timedelta(seconds=5))
    return list(found), exchange.asked


@pytest.mark.django_db
def test_what_is_stored_is_not_asked_for():
    found, asked = read([0, 1, 2])
    begin = found[0].open_time
    assert (found, asked) == ([candle(begin + number * MINUTE) for number in range(3)], 0)


@pytest.mark.django_db
def test_a_start_between_two_candles_asks_for_those_that_opened_later():
    found, asked = read([0, 1, 2], from_=0.5)
    assert (len(found), asked) == (2, 0)


@pytest.mark.django_db
@pytest.mark.parametrize("stored", [[], [0, 1], [1, 2], [0, 2]], ids=["nothing", "no newest", "no first", "a gap"])
def test_where_one_is_missing_the_exchange_is_asked(stored):
    assert read(stored)[1] == 1


@pytest.mark.django_db
def test_the_newest_is_left_to_the_workers_for_a_while():
    with pytest.raises(Unavailable, match="about to be stored"):
        read([0, 1], second=14)


@pytest.mark.django_db
def test_the_calls_that_strategies_need_are_left_to_them_and_books_do_not_wait_for_them(monkeypatch):
    seen = []

    def refuse(*asked: object) -> Sequence[Candle]:
        seen.append(current_priority(Priority.NORMAL))
        raise RateLimited("the call budget udf is spent", retry_after=50)

    monkeypatch.setattr(Exchange, "candles", refuse)
    with pytest.raises(Unavailable, match="no call to spare"):
        read([])
    assert seen == [Priority.DOWNLOADS]


def test_a_database_that_does_not_answer_costs_one_call(monkeypatch, django_db_blocker):
    def dead() -> None:
        raise OperationalError("server closed the connection")

    class Session:
        @staticmethod
        def close() -> None: ...

    monkeypatch.setattr(stored_candles, "close_old_connections", dead)
    monkeypatch.setattr(stored_candles, "connection", Session)
    clock, exchange = HandClock(), Exchange()
    assert StoredFirst(exchange, "nobitex", clock).candles("BTCUSDT", M1, clock.at - 3 * MINUTE, clock.at) == []
    assert exchange.asked == 1
