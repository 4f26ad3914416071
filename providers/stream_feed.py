"""From what a market stream hears to what its sink may know: books in order and never crossed, candles closed by the
exchange's own word, and REST asked wherever a stream may have left something out.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from providers.clock import Clock
from providers.errors import ProviderError, RateLimited
from providers.stream_link import Drops, StreamTiming
from providers.streams import BookUpdate, CandleUpdate, Sink, TradeUpdate
from providers.types import Candle, OrderBook, Resolution

logger = logging.getLogger("providers.streams")

REREAD_CANDLES = 3  # closed candles read again after every (re)connect, at least
_CHUNK = 450  # candles asked for at once (contract: nobitex 4.5 answers at most 500)
_LATE = 10  # a closed candle that appears more than so many candles late is left to whoever fills histories
_READ_BACKS = 6  # attempts at a candle that was pushed and does not show in REST
_STALE_ANSWER = timedelta(seconds=5)  # REST may be this much older than the last push: a cache, not a clock set back
_FUTURE = timedelta(minutes=5)  # a push further ahead of our clock is damaged
_LONGEST_RETRY = 60.0


class MarketData(Protocol):
    """The two reads of an exchange client that a stream leans on."""

    def order_book(self, symbol: str) -> OrderBook: ...

    def candles(self, symbol: str, resolution: Resolution, start: datetime, end: datetime) -> Sequence[Candle]: ...


# --- REST at one gentle pace ------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Read:
    """`call` runs in a thread; `done` gets its result in the loop and returns seconds after which to read again."""

    call: Callable[[], Any]
    done: Callable[[Any], float | None]
    due: float
    order: int
    failures: int = 0


class RestReader:
    """Reads one after the other, each key at most once in the queue. A read that fails is tried again until it
    succeeds or is forgotten; one that was refused for calling too often makes all of them wait."""

    def __init__(self, timing: StreamTiming) -> None:
        self._timing = timing
        self._queue: dict[Hashable, _Read] = {}
        self._news = asyncio.Event()

    def ask(
        self,
        key: Hashable,
        call: Callable[[], Any],
        done: Callable[[Any], float | None],
        *,
        order: int,
        after: float = 0.0,
    ) -> None:
        """Lower `order` first among the reads that are due. The newest request for a key replaces an earlier one, in
        its place of the line: else whoever stands at the end would be asked for again before he is ever read."""
        due = time.monotonic() + after
        waiting = self._queue.get(key)
        self._queue[key] = _Read(call, done, min(due, waiting.due) if waiting else due, order)
        self._news.set()

    def forget(self, keep: Callable[[Hashable], bool]) -> None:
        self._queue = {key: read for key, read in self._queue.items() if keep(key)}

    async def run(self) -> None:
        while True:
            key, wait = self._next()
            if key is None:
                self._news.clear()
                await _first(self._news, wait)
                continue
            pause = await self._read(key, self._queue.pop(key))
            await asyncio.sleep(pause)

    def _next(self) -> tuple[Hashable, float]:
        now = time.monotonic()
        ready = [(read.order, read.due, key) for key, read in self._queue.items() if read.due <= now]
        if ready:
            return min(ready, key=lambda entry: entry[:2])[2], 0.0
        return None, min((read.due - now for read in self._queue.values()), default=_LONGEST_RETRY)

    async def _read(self, key: Hashable, read: _Read) -> float:
        """One read; returns the pause before the next one, of whatever key."""
        try:
            result = await asyncio.to_thread(read.call)
        except RateLimited as exc:
            self._queue[key] = replace(self._queue.get(key, read), due=read.due)  # its turn is still to come
            return max(exc.retry_after, self._timing.rest_pause)
        except ProviderError as exc:  # the client logged it
            wait = min(self._timing.rest_retry * 2 ** min(read.failures, 10), _LONGEST_RETRY)
            logger.info("stream read failed key=%s retry_in_s=%.1f outcome=%s", key, wait, type(exc).__name__)
            self._again(key, replace(read, failures=read.failures + 1), wait)
        else:
            again = read.done(result)
            if again is not None:
                self._again(key, replace(read, failures=0), again)
        return self._timing.rest_pause

    def _again(self, key: Hashable, read: _Read, after: float) -> None:
        if key not in self._queue:  # asked for anew meanwhile
            self._queue[key] = replace(read, due=time.monotonic() + after)


async def _first(event: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return


# --- what is known of each market -------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Market:
    newest: OrderBook | None = None
    is_current: bool = False  # a book was delivered since the last reason to doubt
    spoken_of: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class _Series:
    symbol: str
    resolution: Resolution
    settled: datetime | None = None  # open time of the newest candle that was delivered as closed
    latest: Candle | None = None  # the newest candle seen, usually running
    read_from: datetime | None = None  # where a look back begins, or goes on
    read_until: datetime | None = None  # the market time of the last complete read
    due: datetime | None = None  # market time of the next read; None while one is queued
    misses: int = 0

    @property
    def key(self) -> tuple[str, Resolution]:
        return self.symbol, self.resolution


class MarketFeed:
    """Everything a market stream knows and may tell. Lives in the loop; only REST calls leave it, one at a time.

    `timed_books`: the exchange's books carry its own time (else `as_of` is our time of receipt). `on_snapshot` sees
    each REST book that was accepted, before the sink does.
    """

    def __init__(
        self,
        rest: MarketData,
        clock: Clock,
        timing: StreamTiming,
        drops: Drops,
        sink: Sink,
        *,
        timed_books: bool,
        on_snapshot: Callable[[OrderBook], None] = lambda book: None,
    ) -> None:
        self._rest, self._clock, self._timing, self._drops, self._sink = rest, clock, timing, drops, sink
        self._timed_books, self._on_snapshot = timed_books, on_snapshot
        self._markets: dict[str, _Market] = {}
        self._series: dict[tuple[str, Resolution], _Series] = {}
        self._reader = RestReader(timing)

    def watch(self, symbols: Collection[str], resolutions: Collection[Resolution]) -> None:
        """These markets and no others. New ones are read by REST soon, if no subscription asks for it before."""
        new = [symbol for symbol in symbols if symbol not in self._markets]
        self._markets = {symbol: self._markets.get(symbol) or _Market() for symbol in symbols}
        series = [(symbol, resolution) for symbol in symbols for resolution in resolutions]
        fresh = [key for key in series if key not in self._series]
        self._series = {key: self._series.get(key) or _Series(*key) for key in series}
        self._reader.forget(lambda key: key in self._markets or key in self._series)
        patience = self._timing.open_timeout / 2
        for symbol in new:
            self.doubt_book(symbol, after=patience)
        for symbol, resolution in fresh:
            self.doubt_candles(symbol, resolution, after=patience)

    async def run(self) -> None:
        """Read and look at the time, until cancelled."""
        reading = asyncio.create_task(self._reader.run())
        try:
            while not reading.done():
                self._look_at_the_time()
                await asyncio.wait({reading}, timeout=self._timing.check_every)
            await reading
        finally:
            reading.cancel()

    # --- what came over the stream ---

    def book(self, book: OrderBook) -> None:
        """A pushed book. Crossed, empty, older and repeated ones go no further."""
        market = self._markets.get(book.symbol)
        if market is None:
            return
        if self._is_acceptable(book, market):
            self._deliver_book(market, book, from_rest=False)

    def trade(self, trade: TradeUpdate) -> None:
        if trade.symbol in self._markets:
            self._sink(trade)

    def candle(self, symbol: str, resolution: Resolution, candle: Candle) -> None:
        """A pushed, running candle. The first of a new period is the sign to read the one before it back."""
        series = self._series.get((symbol, resolution))
        now = self._clock.now()
        if series is None or not self._is_news(series, candle, now):
            return
        if self._is_over(series, candle):
            self._read_at(series, now + self._clock.wall(self._timing.cache_age))
        self._deliver_running(series, candle)
        self._read_at(series, candle.closed_at(resolution) + self._clock.wall(self._timing.close_grace))

    # --- reasons to ask REST ---

    def doubt_book(self, symbol: str, *, after: float = 0.0) -> None:
        """Something may have been missed: a snapshot is read, and nothing older is believed to be current."""
        if (market := self._markets.get(symbol)) is not None:
            market.is_current = False
            market.spoken_of = time.monotonic()
            self._reader.ask(symbol, lambda: self._read_book(symbol), self._book_read, order=0, after=after)

    def doubt_candles(self, symbol: str, resolution: Resolution, *, after: float = 0.0) -> None:
        """The closed candles since the last good moment, and at least three, are read again."""
        if (series := self._series.get((symbol, resolution))) is not None:
            length = resolution.duration
            known = series.settled or self._clock.now() - length
            series.read_from = known - (REREAD_CANDLES - 1) * length - timedelta(seconds=1)
            if series.settled is None:
                series.read_from -= length
            self._ask_candles(series, after)

    def doubt_every_candle(self, symbol: str) -> None:
        for market, resolution in list(self._series):
            if market == symbol:
                self.doubt_candles(symbol, resolution)

    def _look_at_the_time(self) -> None:
        wall, now = time.monotonic(), self._clock.now()
        for symbol, market in self._markets.items():
            if wall - market.spoken_of > self._timing.refresh_after:
                self.doubt_book(symbol)
        for series in self._series.values():
            if series.due is not None and series.due <= now:
                self._ask_candles(series)

    # --- books ---

    def _is_acceptable(self, book: OrderBook, market: _Market) -> bool:
        if not book.is_usable:
            return self._drop("book_crossed_or_empty", book.symbol)
        if book.as_of > self._clock.now() + _FUTURE:
            return self._drop("book_of_the_future", book.symbol)
        if market.newest is None:
            return True
        if book.as_of < market.newest.as_of:
            return self._drop("book_out_of_order", book.symbol)
        if book == market.newest and market.is_current:
            market.spoken_of = time.monotonic()
            return self._drop("book_repeated", book.symbol)
        return True

    def _deliver_book(self, market: _Market, book: OrderBook, *, from_rest: bool) -> None:
        market.newest, market.is_current, market.spoken_of = book, True, time.monotonic()
        self._sink(BookUpdate(book, self._clock.now(), from_rest))

    def _read_book(self, symbol: str) -> OrderBook:
        return self._rest.order_book(symbol)

    def _book_read(self, book: OrderBook) -> float | None:
        """A REST answer came. Where a push was quicker, the push stands."""
        market = self._markets.get(book.symbol)
        if market is None or market.is_current:
            return None
        if not book.is_usable:
            self._drop("book_crossed_or_empty", book.symbol)
            return self._timing.refresh_after
        older = market.newest.as_of - book.as_of if market.newest and self._timed_books else timedelta()
        if timedelta() < older <= _STALE_ANSWER:
            return self._timing.rest_retry  # a cached answer: the next one will do
        if older > _STALE_ANSWER:
            logger.warning("the exchange's clock went back by %s symbol=%s: its word is taken", older, book.symbol)
        self._on_snapshot(book)
        self._deliver_book(market, book, from_rest=True)
        return None

    # --- candles ---

    def _is_news(self, series: _Series, candle: Candle, now: datetime) -> bool:
        detail = f"{series.symbol} {series.resolution}"
        if candle.open_time > now + _FUTURE:
            return self._drop("candle_of_the_future", detail)
        if series.settled is not None and candle.open_time <= series.settled:
            return self._drop("candle_out_of_order", detail)
        if series.latest is not None and candle.open_time < series.latest.open_time:
            return self._drop("candle_out_of_order", detail)
        if candle == series.latest:
            return self._drop("candle_repeated", detail)
        return True

    def _is_over(self, series: _Series, later: Candle) -> bool:
        """Whether `later` shows that the newest candle has ended, and nobody has read it back yet."""
        latest = series.latest
        if latest is None or later.open_time <= latest.open_time:
            return False
        return series.settled is None or series.settled < latest.open_time

    def _read_at(self, series: _Series, moment: datetime) -> None:
        if series.due is None or moment < series.due:
            series.due = moment

    def _ask_candles(self, series: _Series, after: float = 0.0) -> None:
        series.due = None
        self._reader.ask(series.key, lambda: self._read_candles(series), self._candles_read, order=1, after=after)

    def _read_candles(self, series: _Series) -> tuple[_Series, datetime, datetime, Sequence[Candle]]:
        """In a thread: reads fields, changes none."""
        asked_at = self._clock.now()
        start = self._read_start(series, asked_at)
        end = min(asked_at + self._clock.wall(5.0), start + _CHUNK * series.resolution.duration)
        return series, asked_at, end, self._rest.candles(series.symbol, series.resolution, start, end)

    def _read_start(self, series: _Series, now: datetime) -> datetime:
        length = series.resolution.duration
        if series.read_from is not None:
            return series.read_from
        start = (series.settled or now - REREAD_CANDLES * length) + timedelta(seconds=1)
        return start if series.read_until is None else max(start, series.read_until - _LATE * length)

    def _candles_read(self, answer: tuple[_Series, datetime, datetime, Sequence[Candle]]) -> float | None:
        series, asked_at, end, candles = answer
        if self._series.get(series.key) is not series:
            return None
        for candle in candles:
            if self._is_closed(series, candle, candles[-1], asked_at):
                self._deliver_closed(series, candle)
        if candles:
            self._note_running(series, candles[-1])
        if end < asked_at:
            series.read_from = end
            return 0.0
        series.read_from, series.read_until = None, asked_at
        return self._what_next(series, asked_at)

    def _is_closed(self, series: _Series, candle: Candle, last: Candle, asked_at: datetime) -> bool:
        """The exchange's word that it is over: a later candle in the same answer. Else the time: a little after the
        end when a later candle was pushed, a little longer when not."""
        if candle.open_time < last.open_time:
            return True
        pushed_later = series.latest is not None and candle.open_time < series.latest.open_time
        patience = self._timing.cache_age if pushed_later else self._timing.close_grace
        return candle.closed_at(series.resolution) + self._clock.wall(patience) <= asked_at

    def _deliver_closed(self, series: _Series, candle: Candle) -> None:
        if series.settled is None or candle.open_time > series.settled:
            series.settled = candle.open_time
        self._sink(CandleUpdate(series.symbol, series.resolution, candle, True, self._clock.now()))

    def _note_running(self, series: _Series, last: Candle) -> None:
        """The last candle of an answer, where the stream has not told of it yet."""
        if series.latest is not None and last.open_time <= series.latest.open_time:
            return
        if series.settled is not None and last.open_time <= series.settled:
            series.latest = last
        else:
            self._deliver_running(series, last)

    def _deliver_running(self, series: _Series, candle: Candle) -> None:
        series.latest = candle
        self._sink(CandleUpdate(series.symbol, series.resolution, candle, False, self._clock.now()))

    def _what_next(self, series: _Series, asked_at: datetime) -> float | None:
        """Seconds until the same read again when a candle that was pushed is not there yet; else None, with `due` at
        the end of the next candle."""
        length, grace = series.resolution.duration, self._clock.wall(self._timing.close_grace)
        latest = series.latest
        if latest is None:
            self._read_at(series, asked_at + length)
            return None
        ends = latest.closed_at(series.resolution) + grace
        is_missing = ends <= asked_at and (series.settled is None or series.settled < latest.open_time)
        if is_missing and series.misses < _READ_BACKS:
            series.misses += 1
            return self._timing.rest_retry * 2 ** (series.misses - 1)
        if is_missing:
            logger.warning("a pushed candle never appeared in REST symbol=%s resolution=%s", *series.key)
        series.misses = 0
        self._read_at(series, ends if ends > asked_at else asked_at + length)
        return None

    def _drop(self, kind: str, detail: str) -> bool:
        self._drops.count(kind, detail)
        return False
