"""One price per market and moment, shared by every account that is looked after in this process."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from algo.execution.views import Quote
from providers.clock import Clock
from providers.errors import ProviderError
from providers.interface import ExchangeProvider

logger = logging.getLogger("algo.quotes")


class Quotes:
    """Reads a market's book at most once per `max_age` of wall time. A price that cannot be had is None."""

    def __init__(self, clock: Clock, *, max_age: float = 0.9) -> None:
        self._clock = clock
        self._max_age: timedelta = clock.wall(max_age)
        self._quotes: dict[tuple[str, str], tuple[datetime, Quote | None]] = {}

    def quote(self, provider: ExchangeProvider, symbol: str) -> Quote | None:
        """The current quote, None when the exchange gives no usable book now."""
        key, now = (provider.name, symbol), self._clock.now()
        kept = self._quotes.get(key)
        if kept and now - kept[0] <= self._max_age:
            return kept[1]
        quote = self._read(provider, symbol, now)
        self._quotes[key] = (now, quote)
        return quote

    def with_last(self, provider: ExchangeProvider, symbol: str, quote: Quote) -> Quote:
        """The quote with the last trade price, read where the book did not carry it."""
        if quote.last is not None:
            return quote
        try:
            last = provider.last_price(symbol)
        except ProviderError as exc:
            logger.warning("no last price market=%s:%s why=%s", provider.name, symbol, exc)
            return quote
        full = Quote(bid=quote.bid, ask=quote.ask, as_of=quote.as_of, last=last)
        self._quotes[provider.name, symbol] = (self._quotes[provider.name, symbol][0], full)
        return full

    def _read(self, provider: ExchangeProvider, symbol: str, now: datetime) -> Quote | None:
        try:
            book = provider.order_book(symbol)
        except ProviderError as exc:
            logger.warning("no price market=%s:%s why=%s", provider.name, symbol, exc)
            return None
        if not book.is_usable or now - book.as_of > self._clock.wall(10):
            logger.warning("unusable book market=%s:%s", provider.name, symbol)
            return None
        return Quote(bid=book.bids[0].price, ask=book.asks[0].price, as_of=book.as_of, last=book.last_price)
