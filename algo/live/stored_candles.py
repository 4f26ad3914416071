"""What a market stream reads beside its connection: closed candles from the database where workers have stored them,
everything else from the exchange.

At the end of a candle the workers ask for it first, for every market at once; the stream reads it back three seconds
later. Calls for charts are few: asking twice would leave the next minute's strategies without theirs. What workers do
not store, the stream asks for like a download, with the calls that strategies leave.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

from django.db import DatabaseError, InterfaceError, close_old_connections, connection

from algo.models import Candle as StoredCandle
from providers.budgets import Priority, budget_priority
from providers.clock import Clock
from providers.errors import RateLimited, Unavailable
from providers.stream_feed import MarketData
from providers.types import Candle, OrderBook, Resolution

logger = logging.getLogger("algo.feed")

PATIENCE = 15.0  # wall seconds that workers may take for all candles that ended together


class StoredFirst:
    """`MarketData` of the exchange named `provider`. Used from the threads of a stream process."""

    def __init__(self, inside: MarketData, provider: str, clock: Clock) -> None:
        self._inside, self._provider, self._clock = inside, provider, clock

    def order_book(self, symbol: str) -> OrderBook:
        return self._inside.order_book(symbol)

    def candles(self, symbol: str, resolution: Resolution, start: datetime, end: datetime) -> Sequence[Candle]:
        """Raises `Unavailable` where only the newest is missing and workers may still bring it, or where strategies
        need the calls: the stream reads something else first, and tries again in a second, then later."""
        stored, until = self._stored(symbol, resolution, start, end), min(end, self._clock.now())
        if _is_whole(stored, resolution, start, until):
            return stored
        if _is_whole(stored, resolution, start, until - self._clock.wall(PATIENCE)):
            raise Unavailable(f"the newest candle of {symbol} is about to be stored")
        try:
            with budget_priority(Priority.DOWNLOADS):
                return self._inside.candles(symbol, resolution, start, end)
        except RateLimited as exc:  # of books there is another budget: they must not wait for this one
            raise Unavailable(f"no call to spare for the candles of {symbol}: {exc}") from exc

    def _stored(self, symbol: str, resolution: Resolution, start: datetime, end: datetime) -> list[Candle]:
        """None of them where the database does not answer: then the exchange is asked."""
        rows = StoredCandle.objects.filter(market__provider=self._provider, market__symbol=symbol)
        rows = rows.filter(resolution=resolution.value, open_time__gte=start, open_time__lt=end).order_by("open_time")
        try:
            close_old_connections()
            return [Candle(*row) for row in rows.values_list("open_time", "open", "high", "low", "close", "volume")]
        except (DatabaseError, InterfaceError) as exc:
            logger.info("stored candles not read, asking the exchange: %s", exc)
            connection.close()
            return []


def _is_whole(candles: Sequence[Candle], resolution: Resolution, start: datetime, until: datetime) -> bool:
    """Whether these are all candles that opened at or after `start` and have closed by `until`: an unbroken run from
    the first that can be to the last."""
    length = resolution.duration
    if not candles or candles[0].open_time - length >= start or candles[-1].open_time + 2 * length <= until:
        return False
    return all(later.open_time - candle.open_time == length for candle, later in pairwise(candles))
