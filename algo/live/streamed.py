"""An exchange client whose market data comes from its stream while that is fresh, and from REST otherwise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, cast

from django.conf import settings

from algo import exchanges
from algo.live.board import HEARD_SECONDS
from algo.live.market_feed import READ_TIMEOUT, FeedReader
from algo.live.redis_link import connect
from providers.clock import Clock
from providers.interface import ExchangeProvider
from providers.types import Candle, OrderBook, Resolution

BOOK_SECONDS = 3.0  # wall: a streamed book older than this is asked for again
AHEAD_SECONDS = 1.0  # wall: one from further in the future was stamped by a clock that lies


class StreamedProvider:
    """An `ExchangeProvider`: order books, last prices and closed candles from the feed where it can vouch for them;
    everything else, and all of it where it cannot, from the client inside."""

    def __init__(
        self, inside: ExchangeProvider, feed: FeedReader, clock: Clock, *, max_age: float = BOOK_SECONDS
    ) -> None:
        self._inside, self._feed, self._clock = inside, feed, clock
        self._max_age, self._heard, self._ahead = map(clock.wall, (max_age, HEARD_SECONDS, AHEAD_SECONDS))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inside, name)

    def order_book(self, symbol: str) -> OrderBook:
        streamed = self._feed.book(self._inside.name, symbol)
        if streamed and streamed.book.is_usable and self._is_fresh(streamed.book.as_of, streamed.received_at):
            return streamed.book
        return self._inside.order_book(symbol)

    def last_price(self, symbol: str) -> Decimal:
        streamed = self._feed.book(self._inside.name, symbol)
        if streamed and streamed.book.last_price and self._is_fresh(streamed.book.as_of, streamed.received_at):
            return streamed.book.last_price
        return self._inside.last_price(symbol)

    def candles(self, symbol: str, resolution: Resolution, start: datetime, end: datetime) -> Sequence[Candle]:
        streamed = self._feed.candles(self._inside.name, symbol, resolution, start, end)
        return self._inside.candles(symbol, resolution, start, end) if streamed is None else streamed

    def _is_fresh(self, as_of: datetime, received_at: datetime) -> bool:
        now = self._clock.now()
        return -self._ahead <= now - as_of <= self._max_age and now - received_at <= self._heard


def streamed(feed: FeedReader, clock: Clock) -> Callable[[ExchangeProvider], ExchangeProvider]:
    """Wraps a client in its stream."""
    return lambda inside: cast(ExchangeProvider, StreamedProvider(inside, feed, clock))


def prefer_streams() -> None:
    """From now on this process (a worker, the web) reads public market data from the streams where they are fresh."""
    reader = FeedReader(connect(settings.REDIS_URL, READ_TIMEOUT), exchanges.CLOCK)
    exchanges.prefer_streams(streamed(reader, exchanges.CLOCK))
