"""One price per market and moment, shared by every account that is looked after in this process.

Two sources: the exchange's REST, and what its stream left in PostgreSQL (MarketQuote). A stream that is fresh saves the
call. Else REST is asked and believed; where it fails, or answers with a book that has not changed for long, a stream
that still vouches for its price stands in. Where both are old there is no price.

One market is asked for by itself, for its book comes at once and small. Of several that no stream tells, the books are
read in one call, which counts as one: calls are few, and fifty would take a minute of what the guardian may use.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

from algo.execution.times import age, lead
from algo.execution.views import Quote
from algo.models import MarketQuote
from algo.selectors.streams import streamed_quotes
from providers.budgets import Priority, budget_priority, without_waiting
from providers.clock import Clock
from providers.errors import ProviderError, RateLimited, Unavailable
from providers.interface import ExchangeProvider
from providers.types import OrderBook

logger = logging.getLogger("algo.quotes")

# All in wall seconds.
STREAM_SAVES_CALL = 2.0  # proven so recently, and
STREAM_HEARD = 15.0  # this very market spoken of so recently: a subscription can be lost while its connection lives
OLDEST = 10.0  # a price older than this is none
LAST_LEFT_ALONE = (
    3.0  # a last price that could not be had is not asked for again: each step of an exit would wait for it
)
AHEAD = 1.0  # a time further in the future was stamped by a clock that lies
MANY = 4  # markets: from so many on, the books of all are read in one call
MOST_IN_TURN = 5  # of them; more would make a price older than it may be
MANY_AGE = 1.9  # how long they are good for: the answer is heavy, and nobody is to ask for it every second
WANTED_FOR = 5.0  # a market that nobody asked for during that is not read along
LEFT_ALONE = 30.0  # how long books are read one by one where that call does not work, or does not show them

Key = tuple[str, str]  # the exchange's name, and the market's there


@dataclass(frozen=True, slots=True)
class _Streamed:
    quote: Quote
    heard_at: datetime


@dataclass(frozen=True, slots=True)
class _Kept:
    quote: Quote | None
    read_at: datetime
    good_for: timedelta


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
        self._quotes: dict[Key, _Kept] = {}
        self._wanted: dict[Key, datetime] = {}
        self._alone: dict[Key, datetime] = {}  # since when a market is read by itself; "" stands for all of an exchange
        self._no_last: dict[Key, datetime] = {}
        self._streamed: dict[Key, _Streamed] = {}
        self._streamed_at: datetime | None = None
        self._many = threading.Lock()

    def expect(self, provider: ExchangeProvider, symbols: Collection[str]) -> None:
        """The prices of these markets will be asked for at once: several of them may be read together."""
        now = self._clock.now()
        self._wanted.update(((provider.name, symbol), now) for symbol in symbols)

    def quote(self, provider: ExchangeProvider, symbol: str) -> Quote | None:
        """The current quote, None when neither exchange nor stream gives a usable one now."""
        key, now = (provider.name, symbol), self._clock.now()
        self._wanted[key] = now
        if kept := self._kept(key, now):
            return kept.quote
        streamed = self._streams(now).get(key)
        if streamed and self._saves_call(streamed, now):
            return self._keep(key, streamed.quote, now, self._max_age)
        if together := self._read_together(provider, key, now):
            return together.quote
        good_for = self._max_age * self._in_turn(provider.name, now)
        return self._keep(key, self._read(provider, symbol, now, _quote_of(streamed)), now, good_for)

    def _in_turn(self, exchange: str, now: datetime) -> int:
        """How many markets of an exchange are read by themselves, one after the other: the guardian has about one call
        a second for all of them."""
        untold = self._untold(exchange, now)
        if len(untold) >= MANY and not self._is_alone((exchange, ""), now):
            untold = [key for key in untold if self._is_alone(key, now)]
        return min(max(len(untold), 1), MOST_IN_TURN)

    def _untold(self, exchange: str, now: datetime) -> list[Key]:
        """The markets of an exchange that were asked for just now, and that no stream tells."""
        streams, recent = self._streams(now), self._clock.wall(WANTED_FOR)
        return [
            key
            for key, asked_at in list(self._wanted.items())
            if key[0] == exchange
            and age(asked_at, now) <= recent
            and not (key in streams and self._saves_call(streams[key], now))
        ]

    def _kept(self, key: Key, now: datetime) -> _Kept | None:
        kept = self._quotes.get(key)
        return kept if kept and age(kept.read_at, now) <= kept.good_for else None

    def _keep(self, key: Key, quote: Quote | None, now: datetime, good_for: timedelta) -> Quote | None:
        self._quotes[key] = _Kept(quote, now, good_for)
        return quote

    # --- many at once ---

    def _read_together(self, provider: ExchangeProvider, key: Key, now: datetime) -> _Kept | None:
        """What one call for the books of all markets says of `key`; None where it is read by itself. Threads that come
        here together take what the first of them is told."""
        if len(self._old(provider.name, key, now)) < MANY:
            return None
        with self._many:
            if kept := self._kept(key, self._clock.now()):
                return kept
            if len(keys := self._old(provider.name, key, now)) >= MANY:
                self._read_all(provider, keys, now)
            return self._kept(key, self._clock.now())

    def _old(self, exchange: str, key: Key, now: datetime) -> Sequence[Key]:
        """Markets that were asked for just now, of which no price is known that is fresh, and no stream tells one;
        none where `key` is read by itself."""
        if self._is_alone((exchange, ""), now) or self._is_alone(key, now):
            return ()
        return [
            each for each in self._untold(exchange, now) if not self._kept(each, now) and not self._is_alone(each, now)
        ]

    def _is_alone(self, key: Key, now: datetime) -> bool:
        since = self._alone.get(key)
        return since is not None and age(since, now) <= self._clock.wall(LEFT_ALONE)

    def _read_all(self, provider: ExchangeProvider, keys: Sequence[Key], now: datetime) -> None:
        try:
            with budget_priority(Priority.EXITS), without_waiting():
                books = provider.order_books({symbol for _, symbol in keys})
        except Unavailable as exc:  # then none of them can be had by itself now either
            logger.warning("no prices exchange=%s why=%s", provider.name, exc)
            if not isinstance(exc, RateLimited):
                self._alone[provider.name, ""] = now  # it may be this call alone that does not answer
            for key in keys:
                known = _quote_of(self._streams(now).get(key)) or self._last_known(key)
                self._keep(key, known, now, self._max_age)
            return
        except ProviderError as exc:
            logger.warning("prices are read one by one exchange=%s why=%s", provider.name, exc)
            self._alone[provider.name, ""] = now
            return
        for key in keys:
            if (book := books.get(key[1])) is None:
                self._alone[key] = now
            else:
                quote = self._judged(provider, book, now, _quote_of(self._streams(now).get(key)))
                self._keep(key, quote, now, self._clock.wall(MANY_AGE))

    # --- one ---

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
        if kept := self._quotes.get(key):
            self._quotes[key] = replace(kept, quote=full)
        return full

    def _read(self, provider: ExchangeProvider, symbol: str, now: datetime, streamed: Quote | None) -> Quote | None:
        try:
            # Whether to exit hangs on it; whoever waited for it would hold the account and look after nobody.
            with budget_priority(Priority.EXITS), without_waiting():
                book = provider.order_book(symbol)
        except RateLimited:
            return streamed or self._last_known((provider.name, symbol))
        except ProviderError as exc:
            stands_in = "none" if streamed is None else "the stream's"
            logger.warning("no price market=%s:%s why=%s price=%s", provider.name, symbol, exc, stands_in)
            return streamed
        return self._judged(provider, book, now, streamed)

    def _last_known(self, key: Key) -> Quote | None:
        """What it was when it was last read: its own time says how old that is."""
        kept = self._quotes.get(key)
        return kept.quote if kept else None

    def _judged(
        self, provider: ExchangeProvider, book: OrderBook, now: datetime, streamed: Quote | None
    ) -> Quote | None:
        as_of = book.as_of - lead(provider)  # by our clock
        if book.is_usable and now - as_of <= self._clock.wall(OLDEST):
            return Quote(bid=book.bids[0].price, ask=book.asks[0].price, as_of=as_of, last=book.last_price)
        # The exchange says that nothing changed for long. A live stream that says the same is the second witness; one
        # that says something else proves that one of them is wrong.
        if streamed and book.is_usable and (book.best_bid, book.best_ask) == (streamed.bid, streamed.ask):
            return streamed
        logger.warning("unusable book market=%s:%s", provider.name, book.symbol)
        return None

    # --- what the streams told ---

    def _saves_call(self, streamed: _Streamed, now: datetime) -> bool:
        fresh, heard = self._clock.wall(STREAM_SAVES_CALL), self._clock.wall(STREAM_HEARD)
        return now - streamed.quote.as_of <= fresh and now - streamed.heard_at <= heard

    def _streams(self, now: datetime) -> dict[Key, _Streamed]:
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


def _quote_of(streamed: _Streamed | None) -> Quote | None:
    return streamed.quote if streamed else None


def _of(row: MarketQuote) -> _Streamed:
    last: Decimal | None = row.last
    return _Streamed(Quote(bid=row.bid, ask=row.ask, as_of=row.as_of, last=last), row.received_at)
