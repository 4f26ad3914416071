"""Market data of the streams in Redis, for workers and web. The guardian reads none of it (see MarketQuote).

Keys begin with `algo:feed:1:PROVIDER:` and live at most as long as they may be of use:

    market:SYMBOL        book and last trade: prices as text, times as unix milliseconds, the epoch they came in
    candles:SYMBOL:RES   closed candles, an unbroken run from `complete_from` on, in one value: all of it or none
    candle:SYMBOL:RES    the candle that is still running
    health               the connection: up, epoch, last proof of life, counts

The same news is published on the channel `algo:feed:1:PROVIDER:SYMBOL` ("quote", "trade", "candle"), and the
connection's on `algo:feed:1:PROVIDER`.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, cast

import redis

from algo.live.board import HEARD_SECONDS, QUIET_SECONDS, Board, Changes, Connection, MarketPicture
from algo.live.redis_link import TROUBLE, CarefulAsker
from providers.clock import Clock
from providers.types import BookLevel, Candle, OrderBook, Resolution

logger = logging.getLogger("algo.feed")

PREFIX = "algo:feed:1"
FLUSH_SECONDS = 0.1
HEALTH_SECONDS = 0.5
READ_TIMEOUT, WRITE_TIMEOUT = 0.1, 1.0
LEFT_ALONE_SECONDS = 3.0  # after a failure, Redis is not asked for so long
MARKET_TTL, HEALTH_TTL, CANDLES_TTL = 120, 60, 3600
LEVELS = 50  # of a side of a book


def key(provider: str, *words: str) -> str:
    return ":".join((PREFIX, provider, *words))


# --- writing --------------------------------------------------------------------------------------------------------


class FeedWriter:
    """Writes what changed on a board, ten times a second, from a thread of its own. Without Redis it goes on trying,
    and then writes everything again."""

    def __init__(self, board: Board, server: redis.Redis, clock: Clock) -> None:
        self._board, self._redis, self._clock = board, server, clock
        self._everything = True
        self._is_down = False
        self._health_due = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"feed-{board.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, seconds: float = 0.5) -> None:
        """Write what is left, for at most so long."""
        self._stopping.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._stopping.wait(FLUSH_SECONDS if self.flush() else 1.0)
        self._health_due = 0.0
        self.flush()

    def flush(self) -> bool:
        """Write what changed; whether Redis took it."""
        changes = self._board.changes(everything=self._everything)
        try:
            self._write(changes)
        except TROUBLE as exc:
            self._everything = True  # some of it is lost, perhaps the server's memory too
            self._health_due = 0.0  # the next flush has something to ask Redis with
            self._note(exc)
            return False
        self._everything = False
        self._note(None)
        return True

    def _note(self, exc: Exception | None) -> None:
        """One line when Redis goes and one when it is back."""
        if exc is not None and not self._is_down:
            logger.warning("no Redis (%s): market data of %s waits, trying again", type(exc).__name__, self._board.name)
        elif exc is None and self._is_down:
            logger.info("Redis is back: all market data of %s written again", self._board.name)
        self._is_down = exc is not None

    def _write(self, changes: Changes) -> None:
        name = self._board.name
        pipe = self._redis.pipeline(transaction=False)
        if time.monotonic() >= self._health_due:
            self._health_due = time.monotonic() + HEALTH_SECONDS
            told = _health(changes, self._clock.now())
            pipe.set(key(name, "health"), told, ex=HEALTH_TTL)
            pipe.publish(key(name), told)
        for market in changes.markets:
            pipe.set(key(name, "market", market.symbol), _market(market), ex=MARKET_TTL)
            pipe.publish(key(name, market.symbol), _quote_news(market))
        for (symbol, resolution), (candle, received_at) in changes.running.items():
            row = json.dumps({"candle": _row(candle), "received": to_ms(received_at)})
            pipe.set(key(name, "candle", symbol, resolution), row, ex=MARKET_TTL)
            pipe.publish(key(name, symbol), _candle_news(resolution, candle, is_closed=False))
        for (symbol, resolution), closed in changes.closed.items():
            value = json.dumps(
                {"complete_from": to_ms(closed[0].open_time), "candles": [_row(each) for each in closed]}
            )
            pipe.set(key(name, "candles", symbol, resolution), value, ex=max(CANDLES_TTL, 3 * resolution.seconds))
            pipe.publish(key(name, symbol), _candle_news(resolution, closed[-1], is_closed=True))
        if len(pipe):
            pipe.execute()


def to_ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def from_ms(value: int | None) -> datetime | None:
    return None if value is None else datetime.fromtimestamp(value / 1000, UTC)


def _ms(moment: datetime | None) -> int | None:
    return None if moment is None else to_ms(moment)


def _health(changes: Changes, now: datetime) -> str:
    connection = changes.connection
    return json.dumps(
        {
            "up": connection.is_up,
            "epoch": connection.epoch,
            "since": _ms(connection.since),
            "alive": _ms(connection.alive_at),
            "reason": connection.reason,
            "reconnects": connection.reconnects,
            "counts": changes.counts,
            "written": to_ms(now),
        }
    )


def _market(market: MarketPicture) -> str:
    book = market.book
    return json.dumps(
        {
            "bids": _levels(book.bids) if book else [],
            "asks": _levels(book.asks) if book else [],
            "as_of": to_ms(book.as_of) if book else None,
            "received": _ms(market.received_at),
            "rest": market.from_rest,
            "epoch": market.epoch,
            "last": _text(market.last),
            "last_at": _ms(market.last_at),
            "last_received": _ms(market.last_received_at),
            "last_epoch": market.last_epoch,
        }
    )


def _quote_news(market: MarketPicture) -> str:
    book = market.book
    return json.dumps(
        {
            "type": "quote",
            "bid": _text(book.best_bid) if book else None,
            "ask": _text(book.best_ask) if book else None,
            "last": _text(market.last),
            "imbalance": _text(book.imbalance()) if book else None,
            "at": _ms(market.received_at or market.last_received_at),
        }
    )


def quote_news(symbol: str, value: str) -> str:
    """What is published of a market, from what is kept of it."""
    return _quote_news(_parsed(symbol, json.loads(value)))


def _candle_news(resolution: Resolution, candle: Candle, *, is_closed: bool) -> str:
    told = {"type": "candle", "resolution": resolution, "candle": _row(candle), "closed": is_closed}
    return json.dumps(told)


def _levels(levels: Sequence[BookLevel]) -> list[tuple[str, str]]:
    return [(format(level.price, "f"), format(level.quantity, "f")) for level in levels[:LEVELS]]


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else format(amount, "f")


def _row(candle: Candle) -> list[int | str]:
    amounts = (candle.open, candle.high, candle.low, candle.close, candle.volume)
    return [to_ms(candle.open_time), *(format(amount, "f") for amount in amounts)]


# --- reading --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StreamedBook:
    """A book whose `as_of` is until when it is proven; `received_at` is the last word on this very market."""

    book: OrderBook
    received_at: datetime


@dataclass(frozen=True, slots=True)
class FeedHealth:
    """A stream's connection. Times are platform time; `alive_at` is its last message."""

    is_up: bool
    since: datetime | None
    alive_at: datetime | None
    written_at: datetime
    reconnects: int
    reason: str
    counts: dict[str, int]


class FeedReader:
    """What the streams wrote, None where there is nothing of use. Never raises for Redis and never waits for it: after
    a failure it is not asked for a few seconds. Safe for threads."""

    def __init__(self, server: redis.Redis, clock: Clock, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._redis, self._clock = server, clock
        self._quiet, self._heard = clock.wall(QUIET_SECONDS), clock.wall(HEARD_SECONDS)
        self._asker = CarefulAsker(LEFT_ALONE_SECONDS, self._note_failure, monotonic)

    def book(self, provider: str, symbol: str) -> StreamedBook | None:
        """The book, however old: its times say so."""
        connection, picture = self._picture(provider, symbol)
        as_of = picture.proven_at(connection, self._quiet) if picture else None
        if picture is None or picture.book is None or picture.received_at is None or as_of is None:
            return None
        last = picture.known_last(connection, self._heard)
        book = OrderBook(symbol, picture.book.bids, picture.book.asks, as_of, last)
        return StreamedBook(book, picture.received_at)

    def last_price(self, provider: str, symbol: str) -> Decimal | None:
        """The price of the last public trade, where it came over the connection that is up, and not long ago."""
        connection, picture = self._picture(provider, symbol)
        return picture.known_last(connection, self._heard) if picture else None

    def candles(
        self, provider: str, symbol: str, resolution: Resolution, start: datetime, end: datetime
    ) -> list[Candle] | None:
        """The closed candles with start <= open_time < end; None unless every one of them is here for certain.

        No need to ask whether the stream is alive: an unbroken run that reaches the newest candle that can be closed
        now lacks nothing, and one that does not is not used."""
        run = self.closed_run(provider, symbol, resolution)
        if not run or not self._covers(run[0], run[-1], resolution, start, end):
            return None
        return [candle for candle in run if start <= candle.open_time < end]

    def closed_run(self, provider: str, symbol: str, resolution: Resolution) -> list[Candle]:
        """The closed candles that the feed vouches for: an unbroken run up to the newest it was told of."""
        value = self._get(key(provider, "candles", symbol, resolution))
        return [_candle(row) for row in value["candles"]] if value else []

    def _covers(self, first: Candle, last: Candle, resolution: Resolution, start: datetime, end: datetime) -> bool:
        step = resolution.duration
        before, after = first.open_time - step, last.open_time + step
        return before < start and (after >= end or after + step > self._clock.now())

    def running_candle(self, provider: str, symbol: str, resolution: Resolution) -> Candle | None:
        """The candle that has not ended yet, as last told."""
        value = self._get(key(provider, "candle", symbol, resolution))
        candle = _candle(value["candle"]) if value else None
        return candle if candle and candle.closed_at(resolution) > self._clock.now() else None

    def health(self, provider: str) -> FeedHealth | None:
        """None where no stream has written for a minute."""
        value = self._get(key(provider, "health"))
        if value is None:
            return None
        return FeedHealth(
            is_up=value["up"],
            since=from_ms(value["since"]),
            alive_at=from_ms(value["alive"]),
            written_at=cast(datetime, from_ms(value["written"])),
            reconnects=value["reconnects"],
            reason=value["reason"],
            counts=value["counts"],
        )

    def _note_failure(self, exc: Exception) -> None:
        logger.warning("no Redis (%s): market data by REST for %g s", type(exc).__name__, LEFT_ALONE_SECONDS)

    def _picture(self, provider: str, symbol: str) -> tuple[Connection, MarketPicture | None]:
        keys = [key(provider, "health"), key(provider, "market", symbol)]
        health, market = self._asker.ask(lambda: cast(list[Any], self._redis.mget(keys)), [None, None])
        connection = _connection(json.loads(health)) if health else Connection()
        return connection, _parsed(symbol, json.loads(market)) if market else None

    def _get(self, name: str) -> dict[str, Any] | None:
        value = self._asker.ask(lambda: cast(Any, self._redis.get(name)), None)
        return json.loads(value) if value else None


def _connection(value: dict[str, Any]) -> Connection:
    return Connection(value["up"], value["epoch"], from_ms(value["since"]), from_ms(value["alive"]))


def _parsed(symbol: str, value: dict[str, Any]) -> MarketPicture:
    as_of = from_ms(value["as_of"])
    book = OrderBook(symbol, _sides(value["bids"]), _sides(value["asks"]), as_of) if as_of else None
    return MarketPicture(
        symbol,
        book,
        from_ms(value["received"]),
        value["rest"],
        value["epoch"],
        Decimal(value["last"]) if value["last"] else None,
        from_ms(value["last_at"]),
        from_ms(value["last_received"]),
        value["last_epoch"],
    )


def _sides(rows: list[list[str]]) -> tuple[BookLevel, ...]:
    return tuple(BookLevel(Decimal(price), Decimal(quantity)) for price, quantity in rows)


def _candle(row: list[Any]) -> Candle:
    return Candle(datetime.fromtimestamp(row[0] / 1000, UTC), *map(Decimal, row[1:]))
