"""What one exchange's stream has told so far, in memory: the one picture behind Redis and the quotes in PostgreSQL.

How old is a book? An exchange that speaks only when something changes leaves a quiet book unsaid, and it is still the
truth: as long as the connection it came over is proven alive, the book holds. The proof is a book or a trade pushed
over that connection (pings are not seen here; answers by REST prove nothing, nor do candles, which may be such
answers). So a book's time is

    when the connection was last proven alive  -  how late the book was when it came

never beyond QUIET_SECONDS after the last word on that very market (a subscription can be lost while the connection
lives), and never across a disconnect: what was known before one keeps its own time until it is said again.
A stream that spreads its markets over several connections is one connection here: it is down when any of them is, but
a push over one is taken as proof of all; what that may hide ends with HEARD_SECONDS, and with QUIET_SECONDS at last.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal

from providers.clock import Clock
from providers.streams import BookUpdate, CandleUpdate, StreamEvent, StreamState, TradeUpdate
from providers.types import Candle, OrderBook, Resolution

QUIET_SECONDS = 75.0  # wall; a stream asks REST about a book that nobody spoke of for a minute
HEARD_SECONDS = 15.0  # wall; for so long after its last word a market needs no second witness
CLOSED_KEPT = 600  # candles of one series: more than one answer of an exchange

Series = tuple[str, Resolution]


@dataclass(frozen=True, slots=True)
class StreamedQuote:
    """Where one market is. `as_of`: until when it is proven; `received_at`: the last word on the market itself."""

    symbol: str
    bid: Decimal
    ask: Decimal
    last: Decimal | None
    as_of: datetime
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Connection:
    """The stream's connection. `epoch` names the stretch since it came up; "" while it is down."""

    is_up: bool = False
    epoch: str = ""
    since: datetime | None = None
    alive_at: datetime | None = None
    reason: str = "not connected yet"
    reconnects: int = 0


@dataclass(frozen=True, slots=True)
class MarketPicture:
    """One market as last told; `epoch` and `last_epoch` name the stretch in which book and last trade came."""

    symbol: str
    book: OrderBook | None = None
    received_at: datetime | None = None
    from_rest: bool = False
    epoch: str = ""
    last: Decimal | None = None
    last_at: datetime | None = None  # when the trade was executed
    last_received_at: datetime | None = None
    last_epoch: str = ""

    def proven_at(self, connection: Connection, quiet: timedelta) -> datetime | None:
        """Until when the book is known to have stood; None without one."""
        if self.book is None or self.received_at is None:
            return None
        return proven_at(
            self.book.as_of,
            self.received_at,
            stated_now=self.from_rest and self.epoch == connection.epoch != "",
            alive_at=connection.alive_at if self.epoch == connection.epoch != "" else None,
            quiet=quiet,
        )

    def known_last(self, connection: Connection, heard: timedelta) -> Decimal | None:
        """The last trade's price: told with the book, or not long ago over the connection that is up."""
        if self.last_received_at is None or self.last_received_at == self.received_at:
            return self.last
        if self.last_epoch != connection.epoch or not connection.epoch:
            return None
        alive_at = connection.alive_at or self.last_received_at
        return self.last if alive_at - self.last_received_at <= heard else None


def proven_at(
    as_of: datetime, received_at: datetime, *, stated_now: bool, alive_at: datetime | None, quiet: timedelta
) -> datetime:
    """The time of a book: see the top of this file. `stated_now`: an answer to our question, as good as its receipt."""
    late = timedelta(0) if stated_now else max(received_at - as_of, timedelta(0))
    seen = max(received_at, min(alive_at, received_at + quiet)) if alive_at else received_at
    return seen - late


@dataclass(slots=True)
class Changes:
    """What is to be written: the pictures themselves, which nobody changes any more."""

    connection: Connection
    counts: dict[str, int]
    markets: list[MarketPicture] = field(default_factory=list)
    running: dict[Series, tuple[Candle, datetime]] = field(default_factory=dict)
    closed: dict[Series, list[Candle]] = field(default_factory=dict)


@dataclass(slots=True)
class _Dirty:
    markets: set[str] = field(default_factory=set)
    running: set[Series] = field(default_factory=set)
    closed: set[Series] = field(default_factory=set)


class Board:
    """Takes a stream's events in its loop; read from other threads. Nothing here waits for anything."""

    def __init__(self, name: str, clock: Clock) -> None:
        self.name = name
        self._quiet, self._heard = clock.wall(QUIET_SECONDS), clock.wall(HEARD_SECONDS)
        self._begun = int(clock.now().timestamp() * 1000)
        self._lock = threading.Lock()
        self._connection = Connection()
        self._ups = 0
        self._counts: Counter[str] = Counter()
        self._markets: dict[str, MarketPicture] = {}
        self._running: dict[Series, tuple[Candle, datetime]] = {}
        self._closed: dict[Series, dict[datetime, Candle]] = {}
        self._dirty = _Dirty()
        self._quoted: dict[str, StreamedQuote] = {}

    # --- told by the stream ---

    def apply(self, event: StreamEvent) -> None:
        with self._lock:
            self._counts[type(event).__name__] += 1
            match event:
                case BookUpdate():
                    self._book(event)
                case TradeUpdate():
                    self._trade(event)
                case CandleUpdate():
                    self._candle(event)
                case StreamState():
                    self._state(event)

    def watch(self, symbols: Iterable[str], resolutions: Iterable[Resolution]) -> None:
        """Forget what is not watched any more: nobody would tell us when it changes."""
        with self._lock:
            symbols, lengths = set(symbols), set(resolutions)
            self._markets = {name: row for name, row in self._markets.items() if name in symbols}
            self._running = {key: row for key, row in self._running.items() if key[0] in symbols and key[1] in lengths}
            self._closed = {key: row for key, row in self._closed.items() if key[0] in symbols and key[1] in lengths}

    def _book(self, event: BookUpdate) -> None:
        book, symbol = event.book, event.book.symbol
        if not event.from_rest:
            self._alive(event.received_at)
        if not book.is_usable:
            return
        now = replace(
            self._market(symbol),
            book=book,
            received_at=event.received_at,
            from_rest=event.from_rest,
            epoch=self._connection.epoch,
        )
        if book.last_price is not None:
            now = self._with_last(now, book.last_price, now.last_at, event.received_at)
        self._markets[symbol] = now
        self._dirty.markets.add(symbol)

    def _trade(self, event: TradeUpdate) -> None:
        self._alive(event.received_at)
        market = self._market(event.symbol)
        executed_at = min(event.executed_at, event.received_at)  # a clock ahead of ours must not win for ever
        if market.last_at and executed_at < market.last_at:
            return
        self._markets[event.symbol] = self._with_last(market, event.price, executed_at, event.received_at)
        self._dirty.markets.add(event.symbol)

    def _with_last(
        self, market: MarketPicture, price: Decimal, executed_at: datetime | None, received_at: datetime
    ) -> MarketPicture:
        return replace(
            market,
            last=price,
            last_at=executed_at,
            last_received_at=received_at,
            last_epoch=self._connection.epoch,
        )

    def _candle(self, event: CandleUpdate) -> None:
        series = (event.symbol, event.resolution)
        if not event.is_closed or event.candle.closed_at(event.resolution) > event.received_at:
            self._running[series] = (event.candle, event.received_at)
            self._dirty.running.add(series)
            return
        closed = self._closed.setdefault(series, {})
        if closed.get(event.candle.open_time) == event.candle:
            return
        closed[event.candle.open_time] = event.candle
        for old in sorted(closed)[:-CLOSED_KEPT]:
            del closed[old]
        self._dirty.closed.add(series)

    def _state(self, event: StreamState) -> None:
        before = self._connection
        if event.is_up:
            self._ups += 1
            self._connection = Connection(
                True, f"{self._begun}-{self._ups}", event.at, event.at, event.reason, self._ups - 1
            )
        else:
            self._connection = replace(before, is_up=False, epoch="", since=event.at, reason=event.reason)

    def _alive(self, at: datetime) -> None:
        known = self._connection.alive_at
        if self._connection.is_up and (known is None or at > known):
            self._connection = replace(self._connection, alive_at=at)

    def _market(self, symbol: str) -> MarketPicture:
        return self._markets.get(symbol) or MarketPicture(symbol)

    # --- read by others ---

    @property
    def connection(self) -> Connection:
        return self._connection

    @property
    def counts(self) -> dict[str, int]:
        with self._lock:
            return dict(self._counts)

    def changes(self, *, everything: bool = False) -> Changes:
        """What changed since the last call, or all of it."""
        with self._lock:
            dirty, self._dirty = self._dirty, _Dirty()
            markets = self._markets.keys() if everything else dirty.markets & self._markets.keys()
            running = self._running.keys() if everything else dirty.running & self._running.keys()
            closed = self._closed.keys() if everything else dirty.closed & self._closed.keys()
            return Changes(
                self._connection,
                dict(self._counts),
                [self._markets[name] for name in markets],
                {series: self._running[series] for series in running},
                {series: unbroken(self._closed[series], series[1]) for series in closed},
            )

    def quotes(self) -> list[StreamedQuote]:
        """Quotes that changed, or whose time has advanced, since the last call."""
        with self._lock:
            quotes = [quote for quote in map(self._quote, self._markets.values()) if quote]
            news = [quote for quote in quotes if self._quoted.get(quote.symbol) != quote]
            self._quoted = {quote.symbol: quote for quote in quotes}
            return news

    def unwritten(self) -> None:
        """The quotes of the last call did not arrive: they are news again."""
        with self._lock:
            self._quoted = {}

    def _quote(self, market: MarketPicture) -> StreamedQuote | None:
        as_of = market.proven_at(self._connection, self._quiet)
        if as_of is None or market.book is None or market.received_at is None:
            return None
        last = market.known_last(self._connection, self._heard)
        bid, ask = market.book.bids[0].price, market.book.asks[0].price
        return StreamedQuote(market.symbol, bid, ask, last, as_of, market.received_at)


def unbroken(candles: dict[datetime, Candle], resolution: Resolution) -> list[Candle]:
    """The longest run without a hole that ends at the newest candle, oldest first. A minute missing in a stream may
    have been quiet or lost, and only REST can tell: so nothing before a hole is vouched for."""
    run: list[Candle] = []
    for open_time in sorted(candles, reverse=True):
        if run and run[-1].open_time - open_time != resolution.duration:
            break
        run.append(candles[open_time])
    return run[::-1]
