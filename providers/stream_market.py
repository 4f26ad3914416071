"""The market stream of any exchange: as many links as its channels need, one feed behind them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import datetime
from typing import TypeVar

from providers.clock import Clock
from providers.errors import BadPayload
from providers.stream_feed import MarketData, MarketFeed
from providers.stream_link import Drops, Link, StreamTiming, Wire
from providers.streams import Sink, StreamState
from providers.types import OrderBook, Resolution

logger = logging.getLogger("providers.streams")

T = TypeVar("T")

UNREADABLE = (BadPayload, ValueError, ArithmeticError, RecursionError)  # what a damaged frame can raise


class LinkedMarketStream:
    """`MarketStream` over several connections. A subclass names its channels, opens a wire and reads its frames."""

    name: str
    most_channels: int  # on one connection
    timed_books: bool
    renews: bool

    def __init__(self, url: str, rest: MarketData, clock: Clock, timing: StreamTiming) -> None:
        self.url, self.rest, self.clock, self.timing = url, rest, clock, timing
        self.drops = Drops(self.name)
        self._symbols: tuple[str, ...] = ()
        self._resolutions: tuple[Resolution, ...] = ()
        self._rewatched: asyncio.Event | None = None
        self._feed: MarketFeed | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url})"

    # --- for subclasses ---

    def channels(self, symbol: str, resolutions: Collection[Resolution]) -> list[str]:
        raise NotImplementedError

    async def open_wire(self, link: Link) -> Wire:
        raise NotImplementedError

    def snapshot_taken(self, book: OrderBook) -> None:
        """A REST book was accepted."""

    @property
    def feed(self) -> MarketFeed:
        if self._feed is None:
            raise RuntimeError("a frame came in while the stream was not running")
        return self._feed

    def readable(self, kind: str, read: Callable[[], T]) -> T | None:
        """What `read` makes of a frame; None for one that cannot be read, which is counted, and the stream goes on.
        Nothing is delivered inside `read`: a sink's error is not a damaged frame."""
        try:
            return read()
        except UNREADABLE as exc:
            self.drops.count(kind, str(exc) if isinstance(exc, BadPayload) else type(exc).__name__)
            return None

    # --- the protocol ---

    def watch(self, symbols: Collection[str], resolutions: Collection[Resolution]) -> None:
        self._symbols = tuple(sorted(set(symbols)))
        self._resolutions = tuple(sorted(set(resolutions), key=lambda resolution: resolution.seconds))
        if self._rewatched is not None:
            self._rewatched.set()

    async def run(self, sink: Sink, stopping: asyncio.Event) -> None:
        supervisor = asyncio.create_task(self._supervise(sink))
        stopped = asyncio.create_task(stopping.wait())
        try:
            await asyncio.wait({supervisor, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            supervisor.cancel()
            with suppress(asyncio.CancelledError):
                await supervisor
            self._rewatched = self._feed = None

    async def _supervise(self, sink: Sink) -> None:
        rewatched = self._rewatched = asyncio.Event()
        feed = self._feed = MarketFeed(
            self.rest,
            self.clock,
            self.timing,
            self.drops,
            sink,
            timed_books=self.timed_books,
            on_snapshot=self.snapshot_taken,
        )
        links = _Links(self, _Health(sink, self.clock.now))
        tasks = {asyncio.create_task(feed.run())}
        try:
            while True:
                rewatched.clear()
                feed.watch(self._symbols, self._resolutions)
                await links.spread(self._symbols, lambda symbol: self.channels(symbol, self._resolutions))
                waiting = asyncio.create_task(rewatched.wait())
                watched = tasks | links.tasks | {waiting}
                done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                for task in done:
                    task.result()  # only programming errors end the others
        finally:
            await _cancel(tasks | links.tasks)
            links.stopped()


class _Links:
    """Which symbols go over which connection: a symbol keeps its own as long as there is room."""

    def __init__(self, stream: LinkedMarketStream, health: _Health) -> None:
        self._stream, self._health = stream, health
        self._made = 0
        self._links: dict[Link, tuple[set[str], asyncio.Task[None]]] = {}

    @property
    def tasks(self) -> set[asyncio.Task[None]]:
        return {task for _, task in self._links.values()}

    async def spread(self, symbols: Collection[str], channels: Callable[[str], list[str]]) -> None:
        each = max((len(channels(symbol)) for symbol in symbols), default=1)
        room = max(self._stream.most_channels // max(each, 1), 1)
        homeless = set(symbols)
        for kept, _ in self._links.values():
            kept.intersection_update(sorted(kept & homeless)[:room])
            homeless -= kept
        for symbol in sorted(homeless):
            self._with_room(room).add(symbol)
        await self._drop_empty()
        for link, (kept, _) in self._links.items():
            link.want({channel for symbol in kept for channel in channels(symbol)})

    def stopped(self) -> None:
        self._health.all_down("stopped")

    def _with_room(self, room: int) -> set[str]:
        for kept, _ in self._links.values():
            if len(kept) < room:
                return kept
        link, symbols = self._new(), set[str]()
        self._links[link] = (symbols, asyncio.create_task(link.run()))
        return symbols

    def _new(self) -> Link:
        self._made += 1
        name = f"{self._stream.name}-{self._made}"
        self._health.expect(name)
        return Link(
            name,
            self._stream.open_wire,
            self._stream.timing,
            on_up=lambda: self._health.up(name),
            on_down=lambda reason: self._health.down(name, reason),
            renews=self._stream.renews,
        )

    async def _drop_empty(self) -> None:
        empty = [link for link, (kept, _) in self._links.items() if not kept]
        for link in empty:
            _, task = self._links.pop(link)
            await _cancel({task})
            self._health.forget(link.name)


class _Health:
    """One state for all connections of a stream: up when every one is."""

    def __init__(self, sink: Sink, now: Callable[[], datetime]) -> None:
        self._sink, self._now = sink, now
        self._up: dict[str, bool] = {}
        self._told: bool | None = None

    def expect(self, name: str) -> None:
        self._up[name] = False

    def up(self, name: str) -> None:
        self._up[name] = True
        if all(self._up.values()):
            self._tell(True, "connected")

    def down(self, name: str, reason: str) -> None:
        self._up[name] = False
        self._tell(False, f"{name}: {reason}")

    def forget(self, name: str) -> None:
        del self._up[name]
        if self._up and all(self._up.values()):
            self._tell(True, "connected")

    def all_down(self, reason: str) -> None:
        self._up = {}
        self._tell(False, reason)

    def _tell(self, is_up: bool, reason: str) -> None:
        if self._told is not is_up:
            self._told = is_up
            self._sink(StreamState(is_up, reason, self._now()))


async def _cancel(tasks: Collection[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
