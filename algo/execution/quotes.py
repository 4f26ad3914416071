"""One price per market and moment, shared by every account that is looked after in this process.

Two sources: the exchange's REST, and what its stream left in PostgreSQL (MarketQuote). A stream that is fresh saves the
call. Else REST is asked and believed; where it fails, or answers with a book that has not changed for long, a stream
that still vouches for its price stands in. Where both are old there is no price.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from algo.execution.times import age, lead
from algo.execution.views import Quote
from algo.models import MarketQuote
from algo.selectors.streams import streamed_quotes
from providers.budgets import Priority, budget_priority
from providers.clock import Clock
from providers.errors import ProviderError
from providers.interface import ExchangeProvider

logger = logging.getLogger("algo.quotes")

# All in wall seconds.
STREAM_SAVES_CALL = 2.0  # proven so recently, and
STREAM_HEARD = 15.0  # this very market spoken of so recently: a subscription can be lost while its connection lives
OLDEST = 10.0  # a price older than this is none
LAST_LEFT_ALONE = (
    3.0  # a last price that could not be had is not asked for again: each step of an exit would wait for it
)
AHEAD = 1.0  # a time further in the future was stamped by a clock that lies


@dataclass(frozen=True, slots=True)
class _Streamed:
    quote: Quote
    heard_at: datetime


class Quotes:
    """Reads a market's price at most once per `max_age` of wall time, and all streamed quotes in one query at most as
    often. A price that cannot be had is None."""

    def __init__(
        self,
        clock: Clock,
        *,
        max_age: float = 0.9,
        streamed: Callable[[datetime], Iterable[MarketQuote]] = streamed_quotes,
    ) -> None:
        self._clock, self._streamed_since = clock, streamed
        self._max_age: timedelta = clock.wall(max_age)
        self._quotes: dict[tuple[str, str], tuple[datetime, Quote | None]] = {}
        self._no_last: dict[tuple[str, str], datetime] = {}
        self._streamed: dict[tuple[str, str], _Streamed] = {}
        self._streamed_at: datetime | None = None

    def quote(self, provider: ExchangeProvider, symbol: str) -> Quote | None:
        """The current quote, None when neither exchange nor stream gives a usable one now."""
        key, now = (provider.name, symbol), self._clock.now()
        kept = self._quotes.get(key)
        if kept and age(kept[0], now) <= self._max_age:
            return kept[1]
        streamed = self._streams(now).get(key)
        if streamed and self._saves_call(streamed, now):
            quote: Quote | None = streamed.quote
        else:
            quote = self._read(provider, symbol, now, streamed.quote if streamed else None)
        self._quotes[key] = (now, quote)
        return quote

    def with_last(self, provider: ExchangeProvider, symbol: str, quote: Quote) -> Quote:
        """The quote with the last trade price, read where the book did not carry it."""
        key = (provider.name, symbol)
        failed_at = self._no_last.get(key)
        is_left_alone = failed_at is not None and age(failed_at, self._clock.now()) <= self._clock.wall(LAST_LEFT_ALONE)
        if quote.last is not None or is_left_alone:
            return quote
        try:
            with budget_priority(Priority.EXITS):
                last = provider.last_price(symbol)
        except ProviderError as exc:
            logger.warning("no last price market=%s:%s why=%s", provider.name, symbol, exc)
            self._no_last[key] = self._clock.now()
            return quote
        full = Quote(bid=quote.bid, ask=quote.ask, as_of=quote.as_of, last=last)
        self._quotes[key] = (self._quotes[key][0], full)
        return full

    def _read(self, provider: ExchangeProvider, symbol: str, now: datetime, streamed: Quote | None) -> Quote | None:
        try:
            with budget_priority(Priority.EXITS):  # whether to exit hangs on it
                book = provider.order_book(symbol)
        except ProviderError as exc:
            stands_in = "none" if streamed is None else "the stream's"
            logger.warning("no price market=%s:%s why=%s price=%s", provider.name, symbol, exc, stands_in)
            return streamed
        as_of = book.as_of - lead(provider)  # by our clock
        if book.is_usable and now - as_of <= self._clock.wall(OLDEST):
            return Quote(bid=book.bids[0].price, ask=book.asks[0].price, as_of=as_of, last=book.last_price)
        # The exchange says that nothing changed for long. A live stream that says the same is the second witness; one
        # that says something else proves that one of them is wrong.
        if streamed and book.is_usable and (book.best_bid, book.best_ask) == (streamed.bid, streamed.ask):
            return streamed
        logger.warning("unusable book market=%s:%s", provider.name, symbol)
        return None

    # --- what the streams told ---

    def _saves_call(self, streamed: _Streamed, now: datetime) -> bool:
        fresh, heard = self._clock.wall(STREAM_SAVES_CALL), self._clock.wall(STREAM_HEARD)
        return now - streamed.quote.as_of <= fresh and now - streamed.heard_at <= heard

    def _streams(self, now: datetime) -> dict[tuple[str, str], _Streamed]:
        if self._streamed_at is None or age(self._streamed_at, now) > self._max_age:
            rows = self._streamed_since(now - self._clock.wall(OLDEST))
            self._streamed = {
                (row.market.provider, row.market.symbol): _of(row) for row in rows if self._is_sane(row, now)
            }
            self._streamed_at = now
        return self._streamed

    def _is_sane(self, row: MarketQuote, now: datetime) -> bool:
        latest = now + self._clock.wall(AHEAD)
        return row.as_of <= latest and row.received_at <= latest and row.bid < row.ask


def _of(row: MarketQuote) -> _Streamed:
    last: Decimal | None = row.last
    return _Streamed(Quote(bid=row.bid, ask=row.ask, as_of=row.as_of, last=last), row.received_at)
