"""Streams of both faces: connections, who listens to what, and the one producer that turns market changes into frames.

A frame is made once for all who listen, of channels somebody listens to, at most every so often on the wall. Each
connection has a queue of bounded size: who reads too slowly is dropped, nobody else waits for him. Faults of streams
(`faults.py`, moment `WS`) are decided for each frame and connection, just before the frame would be queued.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple, NoReturn, Protocol

from starlette.websockets import WebSocket, WebSocketDisconnect

from providers.paper.engine import Exchange, to_ms
from providers.paper.faces.stream_line import line_of
from providers.paper.faults import Fault, FaultKind
from providers.paper.ledger import LedgerError

logger = logging.getLogger(__name__)

QUEUE_BYTES = 1 << 20  # what may wait for one connection
TRADES_LOOK = 0.5  # seconds of wall time between two looks for public trades
MOST_TRADES = 10  # told at one look
_BEAT = 0.1  # seconds of wall time between two looks for channels that are due
_GOODBYE = 1.0  # seconds of wall time to get rid of what waits, and of the close frame
PING = "ping"  # the name pings have where faults ask for a channel


class Source(Protocol):
    """What one channel tells: everything since the last look, oldest first. The first look sets the beginning."""

    def look(self, now: datetime) -> list[Any]: ...


class Changes:
    """A source that tells a value whenever it is another than at the last look."""

    def __init__(
        self, read: Callable[[datetime], Any], dress: Callable[[Any, datetime], Any] = lambda value, now: value
    ) -> None:
        self._read = read
        self._dress = dress
        self._last: Any = None

    def look(self, now: datetime) -> list[Any]:
        value = self._read(now)
        if value is None or value == self._last:
            return []
        self._last = value
        return [self._dress(value, now)]


class PublicTrades:
    """Every trade of a market, one by one; where the market is too fast for that, the newest few of each look."""

    def __init__(self, exchange: Exchange, venue: str, pair: str, row: Callable[[PublicTrade], Any]) -> None:
        self._exchange = exchange
        self._venue = venue
        self._pair = pair
        self._row = row
        self._until: int | None = None

    def look(self, now: datetime) -> list[Any]:
        after, self._until = self._until, to_ms(now)
        if after is None:
            return []
        spec = self._exchange.feed.specs[self._pair]
        ticks = self._exchange.feed.ticks(self._venue, self._pair, after, self._until)
        newest = range(max(len(ticks) - MOST_TRADES, 0), len(ticks))
        return [
            self._row(
                PublicTrade(
                    int(ticks.times[i]), spec.price(ticks.prices[i]), spec.volume(ticks.volumes[i]), bool(ticks.buys[i])
                )
            )
            for i in newest
        ]


class PublicTrade(NamedTuple):
    """In platform units; the time in unix milliseconds."""

    at_ms: int
    price: Decimal
    quantity: Decimal
    is_buy: bool


def dumped(value: Any) -> str:
    """Compact JSON, Persian left readable."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


class ChannelKey(NamedTuple):
    venue: str
    name: str


@dataclass(slots=True)
class Channel:
    """One channel somebody listens to. `source` is None where others publish."""

    key: ChannelKey
    encode: Callable[[Any, int], str]  # payload and offset to frame
    source: Source | None
    every: float  # seconds of wall time between two looks
    due: float = 0.0
    listeners: set[Connection] = field(default_factory=set)


class StreamHub:
    """All stream connections of the exchange. Lives in the event loop's thread."""

    def __init__(self, exchange: Exchange, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.exchange = exchange
        self.faults = exchange.faults
        self.monotonic = monotonic
        self.connections: set[Connection] = set()
        self._channels: dict[ChannelKey, Channel] = {}
        self._offsets: dict[ChannelKey, int] = {}

    # -- who listens ---------------------------------------------------------------------------------------------

    def count(self, venue: str, address: str) -> int:
        """Open connections to one exchange from one address."""
        return sum(each.venue == venue and each.address == address for each in self.connections)

    def join(
        self,
        connection: Connection,
        name: str,
        encode: Callable[[Any, int], str],
        source: Callable[[], Source] | None = None,
        every: float = 0.0,
    ) -> None:
        """Let a connection listen. `source` is asked for only by the first who does."""
        key = ChannelKey(connection.venue, name)
        channel = self._channels.get(key)
        if channel is None:
            channel = self._channels[key] = Channel(key, encode, source() if source else None, every)
            if channel.source is not None:
                channel.source.look(self.exchange.advance())  # what was before is not told
                channel.due = self.monotonic() + every
        channel.listeners.add(connection)

    def leave(self, connection: Connection, name: str) -> None:
        """Nobody left: the channel costs nothing any more. Its offset goes on where it was."""
        key = ChannelKey(connection.venue, name)
        channel = self._channels.get(key)
        if channel is None:
            return
        channel.listeners.discard(connection)
        if not channel.listeners:
            del self._channels[key]

    def has_listeners(self, venue: str, name: str) -> bool:
        return ChannelKey(venue, name) in self._channels

    def disconnect(self, venue: str | None = None) -> int:
        """Cut all connections (of one exchange), without a close frame; how many there were."""
        cut = [each for each in self.connections if venue in (None, each.venue)]
        for connection in cut:
            connection.cut()
        return len(cut)

    # -- what is told --------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """The producer; for ever."""
        while True:
            await asyncio.sleep(_BEAT)
            for channel in self._due():
                try:
                    self._look(channel)
                except LedgerError:
                    return  # the exchange is going down; who moves the market says why
                except Exception:  # one channel that fails must not silence the others
                    logger.exception("the channel %s could not be told; trying again", channel.key.name)
                await asyncio.sleep(0)  # requests first

    def _due(self) -> list[Channel]:
        now = self.monotonic()
        return [each for each in self._channels.values() if each.source is not None and each.due <= now]

    def _look(self, channel: Channel) -> None:
        if channel.source is None or self._channels.get(channel.key) is not channel:
            return
        channel.due = self.monotonic() + channel.every
        self._tell(channel, channel.source.look(self.exchange.advance()))

    def publish(self, venue: str, name: str, payloads: Iterable[Any]) -> None:
        """Tell what happened, if somebody listens."""
        channel = self._channels.get(ChannelKey(venue, name))
        if channel is not None:
            self._tell(channel, payloads)

    def _tell(self, channel: Channel, payloads: Iterable[Any]) -> None:
        for payload in payloads:
            offset = self._offsets[channel.key] = self._offsets.get(channel.key, 0) + 1
            frame = channel.encode(payload, offset)
            for connection in tuple(channel.listeners):
                connection.deliver(channel.key.name, frame)


class Over(Exception):
    """This connection is to end."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a connection ends: with a close frame, or (code None) as if a cable had been cut."""

    code: int | None
    reason: str = ""


CUT = Ending(None)


class Connection:
    """One client of one exchange. A face says what it hears (`received`) and what happens meanwhile (`watch`)."""

    venue: str
    too_slow: Ending = CUT
    batch = 1  # frames that may share one WebSocket message

    def __init__(self, hub: StreamHub, socket: WebSocket) -> None:
        self.hub = hub
        self.socket = socket
        self.line = line_of(socket)
        self.address = socket.client.host if socket.client else ""
        self.account: str | None = None
        self.lanes: dict[str, Lane] = {}
        self._ping_lane = Lane(self, PING)
        self.is_pinged = True
        self._queue: deque[str] = deque()
        self._queued_bytes = 0
        self._waiting = asyncio.Event()
        self._over = asyncio.Event()
        self._ending = CUT

    # -- for faces -----------------------------------------------------------------------------------------------

    def received(self, text: str) -> None:
        """A message came. Must not block."""
        raise NotImplementedError

    def received_bytes(self) -> None:
        """A binary message came; both exchanges speak text."""

    async def watch(self) -> None:
        """Pings and deadlines, as long as the connection lasts."""
        raise NotImplementedError

    def join(
        self,
        name: str,
        encode: Callable[[Any, int], str],
        source: Callable[[], Source] | None = None,
        every: float = 0.0,
    ) -> None:
        self.hub.join(self, name, encode, source, every)
        self.lanes[name] = Lane(self, name)

    def leave(self, name: str) -> None:
        self.hub.leave(self, name)
        self.lanes.pop(name, None)

    def pings(self) -> int:
        """How many pings to send at this moment: 1, or what faults make of it."""
        if not self.is_pinged:
            return 0
        frames = self._ping_lane.through("")
        return len(frames) if self.is_pinged else 0

    def end(self, code: int, reason: str) -> None:
        """Send what waits and close."""
        self._finish(Ending(code, reason))

    def cut(self) -> None:
        """End without a close frame."""
        self._finish(CUT)

    def _finish(self, ending: Ending) -> None:
        if not self._over.is_set():
            self._ending = ending
            self._over.set()

    # -- frames --------------------------------------------------------------------------------------------------

    def deliver(self, name: str, frame: str) -> None:
        """A frame of a channel, as faults let it through."""
        lane = self.lanes.get(name)
        for each in lane.through(frame) if lane is not None else ():
            self.offer(each)

    def offer(self, frame: str) -> None:
        """Queue a frame. Never blocks; a client that lets too much pile up is dropped."""
        if self._over.is_set():
            return
        self._queue.append(frame)
        self._queued_bytes += len(frame)
        self._waiting.set()
        if self._queued_bytes > QUEUE_BYTES:
            self._queue.clear()
            self._finish(self.too_slow)

    # -- the life of the connection ------------------------------------------------------------------------------

    async def serve(self) -> None:
        await self.socket.accept()
        self.hub.connections.add(self)
        try:
            await self._live()
        finally:
            self.hub.connections.discard(self)
            for name in tuple(self.lanes):
                self.leave(name)
        await self._say_goodbye()

    async def _live(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                for work in (self._read(), self._write(), self.watch(), self._wait_for_the_end()):
                    tasks.create_task(work)
        except* (Over, WebSocketDisconnect):
            pass

    async def _wait_for_the_end(self) -> NoReturn:
        await self._over.wait()
        raise Over

    async def _read(self) -> NoReturn:
        while True:
            message = await self.socket.receive()
            if message["type"] == "websocket.disconnect":
                self._finish(CUT)
                raise Over
            text = message.get("text")
            if text is not None:
                self.received(text)
            else:
                self.received_bytes()

    async def _write(self) -> NoReturn:
        while True:
            await self._waiting.wait()
            await self._send()

    async def _send(self) -> None:
        frames = [self._queue.popleft() for _ in range(min(self.batch, len(self._queue)))]
        self._queued_bytes -= sum(map(len, frames))
        if not self._queue:
            self._waiting.clear()
        if frames:
            await self.socket.send_text("\n".join(frames))

    async def _say_goodbye(self) -> None:
        ending = self._ending
        if ending.code is not None:
            try:
                async with asyncio.timeout(_GOODBYE):
                    while self._queue:
                        await self._send()
                    await self.socket.close(ending.code, ending.reason)
                return
            except (TimeoutError, WebSocketDisconnect, RuntimeError):  # RuntimeError: closed by the client already
                pass
        if self.line is not None:
            self.line.cut()


class Lane:
    """One channel on one connection, as the fault plan lets it pass."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self._name = name
        self._silent_until = 0.0
        self._silent_rule = 0
        self._held: str | None = None

    def through(self, frame: str) -> list[str]:
        """What is to be sent now instead of `frame`."""
        if self._is_silent():
            return []
        connection = self._connection
        faults = connection.hub.faults.decide(connection.venue, "WS", self._name, connection.account)
        return self._changed(frame, {fault.kind: fault for fault in faults})

    def _is_silent(self) -> bool:
        hub = self._connection.hub
        return hub.monotonic() < self._silent_until and hub.faults.has(self._silent_rule)

    def _changed(self, frame: str, faults: dict[FaultKind, Fault]) -> list[str]:
        if FaultKind.STREAM_NO_PING in faults:
            self._connection.is_pinged = False
        if FaultKind.STREAM_DISCONNECT in faults:
            self._connection.cut()
            return []
        if (silent := faults.get(FaultKind.STREAM_SILENT)) is not None:
            self._silent_until = self._connection.hub.monotonic() + float(silent.params["seconds"])
            self._silent_rule = silent.rule_id
            return []
        if FaultKind.STREAM_GAP in faults:
            return []
        if FaultKind.STREAM_OUT_OF_ORDER in faults and self._held is None:
            self._held = frame
            return []
        frames = [frame] * (2 if FaultKind.STREAM_DUPLICATE in faults else 1)
        if self._held is not None:
            frames.append(self._held)
            self._held = None
        return frames
