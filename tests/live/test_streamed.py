"""A client that reads its stream while that is fresh."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from algo import exchanges
from algo.live.streamed import StreamedProvider, streamed
from algo.models import Candle as StoredCandle
from algo.services.candles import candles_update
from providers.interface import ExchangeProvider
from providers.types import OrderBook, Resolution
from tests.factories import make_market
from tests.live.streams import at, book, candle, closed, down, pushed, trade, up
from tests.live.test_market_feed import Feed, feed  # noqa: F401 - a fixture


class Rest:
    """An exchange at 7 / 8 that counts what it is asked."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.asked: list[str] = []
        self.held: list[Any] = []

    def order_book(self, symbol: str) -> OrderBook:
        self.asked.append("book")
        return book(symbol, "7", "8", as_of=at(0))

    def last_price(self, symbol: str) -> Decimal:
        self.asked.append("last")
        return Decimal("7.5")

    def candles(self, symbol: str, resolution: Resolution, start: Any, end: Any) -> list[Any]:
        self.asked.append("candles")
        return [each for each in self.held if start <= each.open_time < end]

    def markets(self) -> list[Any]:
        return ["markets"]


@pytest.fixture
def rest(feed: Feed) -> Rest:  # noqa: F811
    return Rest(feed.name)


@pytest.fixture
def provider(feed: Feed, rest: Rest) -> Any:  # noqa: F811
    return StreamedProvider(rest, feed.reader, feed.clock)  # type: ignore[arg-type]


def test_a_fresh_book_and_last_price_cost_no_call(feed, rest, provider):  # noqa: F811
    feed.tell(up(0), pushed(1), trade(2, "100.5"))
    assert provider.order_book("BTCUSDT").best_bid == 100
    assert provider.last_price("BTCUSDT") == Decimal("100.5")
    assert rest.asked == []


@pytest.mark.parametrize(
    ("events", "seconds"),
    [
        ((up(0), pushed(1)), 4.1),  # old
        ((up(0), pushed(1), down(2), up(3)), 4.1),  # from before a disconnect
        ((up(0), pushed(1), *(pushed(s, "ETHUSDT") for s in range(2, 18))), 17),  # nobody spoke of it for 16 s
        ((up(0), pushed(9)), 7.9),  # stamped by a clock that lies
        ((), 1),
    ],
    ids=["old", "disconnected", "unheard", "future", "nothing"],
)
def test_rest_is_asked_where_the_stream_is_silent_or_stale(feed, rest, provider, events, seconds):  # noqa: F811
    feed.tell(*events, seconds=seconds)
    assert provider.order_book("BTCUSDT").best_bid == 7
    assert provider.last_price("BTCUSDT") == Decimal("7.5")
    assert rest.asked == ["book", "last"]


def test_a_last_price_that_nobody_told_is_asked_for(feed, rest, provider):  # noqa: F811
    feed.tell(up(0), pushed(1))
    assert provider.last_price("BTCUSDT") == Decimal("7.5")


def test_everything_else_passes_through(rest, provider):
    assert provider.name == rest.name
    assert provider.markets() == ["markets"]
    assert not hasattr(provider, "no_such_thing")


@pytest.mark.django_db
def test_candles_are_brought_up_to_date_without_a_call_while_the_feed_is_complete(feed, rest, provider):  # noqa: F811
    market = make_market()
    rest.held = [candle(minute) for minute in range(10)]
    feed.clock.at = at(600)
    assert candles_update(market, Resolution.M1, provider, now=at(600), bars=10) == 10
    calls = len(rest.asked)
    for minute in range(10, 20):
        now = (minute + 1) * 60 + 4
        feed.tell(*(closed(each) for each in range(9, minute + 1)), seconds=now)
        assert candles_update(market, Resolution.M1, provider, now=at(now), bars=10) == 1
    assert len(rest.asked) == calls
    assert StoredCandle.objects.count() == 20


@pytest.mark.django_db
def test_a_candle_that_the_stream_has_not_told_yet_is_read_by_rest(feed, rest, provider):  # noqa: F811
    market = make_market()
    rest.held = [candle(minute) for minute in range(3)]
    feed.tell(closed(0), closed(1), seconds=181)
    assert candles_update(market, Resolution.M1, provider, now=at(181), bars=2) == 3 - 1
    assert rest.asked == ["candles"]


def test_the_hook_wraps_public_clients_only(monkeypatch, feed):  # noqa: F811
    monkeypatch.setattr(exchanges, "_wrap_public", None)
    monkeypatch.setattr(exchanges, "_clients", {})
    plain = exchanges.public_provider("wallex")
    exchanges.prefer_streams(streamed(feed.reader, feed.clock))
    wrapped = exchanges.public_provider("wallex")
    assert isinstance(wrapped, StreamedProvider)
    assert isinstance(wrapped, ExchangeProvider)
    assert wrapped.capabilities() == plain.capabilities()
