"""Small stream servers written from the contracts, on loopback, and what the stream tests share."""

from __future__ import annotations

import asyncio
import functools
import itertools
import json
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from providers.stream_link import StreamTiming
from providers.streams import BookUpdate, CandleUpdate, OrderHint, StreamEvent, StreamState, TradeUpdate
from providers.types import BookLevel, Candle, OrderBook, Resolution

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
QUICK = StreamTiming(
    open_timeout=2.0,
    silent_after=30.0,
    backoff_first=0.02,
    backoff_longest=0.1,
    rest_pause=0.0,
    rest_retry=0.05,
    check_every=0.02,
)

E = TypeVar("E", bound=StreamEvent)


def in_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """An asynchronous test, in a loop of its own, for at most twenty seconds."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(20):
                await test(*args, **kwargs)

        asyncio.run(bounded())

    return run


async def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.005)


@dataclass
class SteppedClock:
    """Market time that stands still until it is moved."""

    moment: datetime = NOW
    speed: float = 1.0

    def now(self) -> datetime:
        return self.moment

    def wall(self, seconds: float) -> timedelta:
        return timedelta(seconds=seconds)

    def monotonic(self) -> float:
        return self.moment.timestamp()

    def forward(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)


def book(symbol: str, bid: str, ask: str, as_of: datetime = NOW) -> OrderBook:
    one = Decimal(1)
    return OrderBook(symbol, (BookLevel(Decimal(bid), one),), (BookLevel(Decimal(ask), one),), as_of)


def candle(open_time: datetime, close: str = "100") -> Candle:
    price = Decimal(close)
    return Candle(open_time, price, price, price, price, Decimal(1))


@dataclass
class FakeRest:
    """The reads a stream leans on. `book_answers` and `candle_answers` hold exceptions to raise first."""

    books: dict[str, OrderBook] = field(default_factory=dict)
    series: list[Candle] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)
    asked_books: list[str] = field(default_factory=list)
    asked_candles: list[tuple[str, Resolution, datetime, datetime]] = field(default_factory=list)
    token_answers: list[str | Exception] = field(default_factory=lambda: ["token-1"])
    token_calls: int = 0
    thread: int | None = None

    def order_book(self, symbol: str) -> OrderBook:
        self.thread = threading.get_ident()
        self.asked_books.append(symbol)
        if self.errors:
            raise self.errors.pop(0)
        return self.books.get(symbol) or book(symbol, "10", "11")

    def candles(self, symbol: str, resolution: Resolution, start: datetime, end: datetime) -> Sequence[Candle]:
        self.asked_candles.append((symbol, resolution, start, end))
        if self.errors:
            raise self.errors.pop(0)
        return [candle for candle in self.series if start <= candle.open_time < end]

    def ws_token(self) -> str:
        self.token_calls += 1
        answer = self.token_answers.pop(0) if len(self.token_answers) > 1 else self.token_answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def websocket_auth_param(self) -> str:
        return "canary-param-0123456789"


@dataclass
class Heard:
    """What a sink was given."""

    events: list[StreamEvent] = field(default_factory=list)

    def __call__(self, event: StreamEvent) -> None:
        self.events.append(event)

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def books(self) -> list[BookUpdate]:
        return self.of(BookUpdate)

    @property
    def pushed(self) -> list[OrderBook]:
        return [update.book for update in self.books if not update.from_rest]

    @property
    def candles(self) -> list[CandleUpdate]:
        return self.of(CandleUpdate)

    @property
    def closed(self) -> list[datetime]:
        return [update.candle.open_time for update in self.candles if update.is_closed]

    @property
    def trades(self) -> list[TradeUpdate]:
        return self.of(TradeUpdate)

    @property
    def hints(self) -> list[OrderHint]:
        return self.of(OrderHint)

    @property
    def states(self) -> list[bool]:
        return [state.is_up for state in self.of(StreamState)]

    @property
    def last_reason(self) -> str:
        return self.of(StreamState)[-1].reason


@asynccontextmanager
async def running(stream: Any, heard: Heard | None = None) -> AsyncIterator[Heard]:
    """The stream at work; stopped at the end, when it must return within a moment."""
    heard = heard or Heard()
    stopping = asyncio.Event()
    task = asyncio.create_task(stream.run(heard, stopping))
    try:
        yield heard
    finally:
        stopping.set()
        await asyncio.wait_for(task, 3)


class FakeServer:
    """Connections in order of arrival, and everything that was said on each."""

    def __init__(self) -> None:
        self.connections: list[ServerConnection] = []
        self.received: list[tuple[int, Any]] = []
        self.welcome: list[str] = []
        self._server: Server | None = None

    async def __aenter__(self) -> FakeServer:
        self._server = await serve(self._handle, "127.0.0.1", 0, ping_interval=None)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        for connection in self.connections:
            connection.transport.abort()
        await self._server.wait_closed()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/some"

    @property
    def last(self) -> ServerConnection:
        return self.connections[-1]

    async def say(self, *frames: str | bytes) -> None:
        for frame in frames:
            await self.last.send(frame)

    def abort(self) -> None:
        """The cable is cut: no close frame."""
        self.last.transport.abort()

    async def _handle(self, connection: ServerConnection) -> None:
        number = len(self.connections)
        self.connections.append(connection)
        try:
            for frame in self.welcome:
                await connection.send(frame)
            async for frame in connection:
                for line in str(frame).split("\n"):
                    self.received.append((number, json.loads(line)))
                    await self.answer(connection, json.loads(line))
        except ConnectionClosed:
            return

    async def answer(self, connection: ServerConnection, message: Any) -> None:
        """Silent by default."""

    def said(self, number: int = -1) -> list[Any]:
        wanted = range(len(self.connections))[number] if self.connections else -1
        return [message for connection, message in self.received if connection == wanted]


class FakeCentrifugo(FakeServer):
    """The JSON protocol of contract: nobitex 7. `connect_reply` and `refusals` are what it answers."""

    def __init__(self) -> None:
        super().__init__()
        self.connect_reply: dict[str, Any] = {"client": "c1", "version": "5", "ping": 25, "pong": True}
        self.refusals: dict[str, dict[str, Any]] = {}
        self.connect_refusal: dict[str, Any] | None = None
        self.close_on_connect: int | None = None
        self._offsets = itertools.count(1)

    async def answer(self, connection: ServerConnection, message: Any) -> None:
        if "connect" in message and self.close_on_connect:
            await connection.close(self.close_on_connect, "invalid token")
        elif "connect" in message and self.connect_refusal:
            await self._reply(connection, message, error=self.connect_refusal)
        elif "connect" in message:
            await self._reply(connection, message, connect=self.connect_reply)
        elif "subscribe" in message:
            refusal = self.refusals.get(message["subscribe"]["channel"].partition("#")[0])
            await self._reply(connection, message, **({"error": refusal} if refusal else {"subscribe": {}}))
        elif "unsubscribe" in message:
            await self._reply(connection, message, unsubscribe={})
        elif "refresh" in message:
            await self._reply(connection, message, refresh=self.connect_reply)

    async def _reply(self, connection: ServerConnection, message: Any, **body: Any) -> None:
        await connection.send(json.dumps({"id": message["id"], **body}))

    def subscribed(self, number: int = -1) -> set[str]:
        channels: set[str] = set()
        for message in self.said(number):
            if "subscribe" in message:
                channels.add(message["subscribe"]["channel"])
            if "unsubscribe" in message:
                channels.discard(message["unsubscribe"]["channel"])
        return channels

    def frame(self, channel: str, data: Any, *, as_text: bool = True) -> str:
        payload = json.dumps(data) if as_text and not isinstance(data, str) else data
        return json.dumps({"push": {"channel": channel, "pub": {"data": payload, "offset": next(self._offsets)}}})

    async def push(self, channel: str, data: Any, *, as_text: bool = True) -> None:
        await self.say(self.frame(channel, data, as_text=as_text))


def rial_book(bid: str, ask: str, milliseconds: int = 1767268800000, last: str = "0") -> dict[str, Any]:
    """A Nobitex book; the default time is NOW."""
    return {"asks": [[ask, "1"]], "bids": [[bid, "1"]], "lastTradePrice": last, "lastUpdate": milliseconds}
