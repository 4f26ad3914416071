"""Wallex' stream (contract: wallex 9): the two sides of each book, and trades. Candles have no channel there: they are
read by REST at their end. An account's own events need an interactive login: there is no order stream.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.frames import Frame

from providers.clock import AnchoredClock, Clock
from providers.errors import BadPayload
from providers.http import CLIENT_VERSION, to_json_number
from providers.stream_feed import MarketData
from providers.stream_link import Link, Lost, StreamTiming, Wire, uses_proxy, websocket_url
from providers.stream_market import LinkedMarketStream
from providers.streams import TradeUpdate
from providers.types import BookLevel, OrderBook, Resolution
from providers.wallex import mapping
from providers.wallex.schemas import DepthSchema
from providers.wallex.stream_schemas import DepthSideSchema, StreamTradeSchema
from providers.wire import parse

_BUYS, _SELLS, _TRADES = "@buyDepth", "@sellDepth", "@trade"
_MOST_CHANNELS = 40  # in practice (contract: wallex 9)
_LARGEST_FRAME = 4 * 1024 * 1024
_CLOSE_TIMEOUT = 1.0
_NO_TIME = datetime.min.replace(tzinfo=UTC)


def stream_url(base_url: str) -> str:
    """The stream that belongs to a REST base URL: beside it."""
    return websocket_url(base_url, "/ws")


@dataclass(slots=True)
class _Sides:
    """The newest of each side, and when it was heard (monotonic); None until one was."""

    bids: tuple[BookLevel, ...] | None = None
    asks: tuple[BookLevel, ...] | None = None
    bids_at: float = 0.0
    asks_at: float = 0.0


class WallexMarketStream(LinkedMarketStream):
    """`MarketStream` of Wallex. The sides of a book come apart and not at one time: a combination that crosses is
    dropped and the other side waited for."""

    name = "wallex"
    most_channels = _MOST_CHANNELS
    timed_books = False
    renews = True  # the exchange ends every connection after 30 minutes

    def __init__(
        self,
        base_url: str,
        *,
        rest: MarketData,
        clock: Clock | None = None,
        ws_url: str | None = None,
        timing: StreamTiming | None = None,
    ) -> None:
        """`base_url` is that of REST; `ws_url` says where the stream is, when it is not where it belongs."""
        super().__init__(ws_url or stream_url(base_url), rest, clock or AnchoredClock(), timing or StreamTiming())
        self._sides: dict[str, _Sides] = {}

    def channels(self, symbol: str, resolutions: Collection[Resolution]) -> list[str]:
        return [symbol + _BUYS, symbol + _SELLS, symbol + _TRADES]

    async def open_wire(self, link: Link) -> Wire:
        try:
            connection = await connect(
                self.url,
                create_connection=_heard_by(link),
                open_timeout=self.timing.open_timeout,
                close_timeout=_CLOSE_TIMEOUT,
                ping_interval=None,  # the server pings; the link's watch over silence does the rest
                max_size=_LARGEST_FRAME,
                user_agent_header=f"algo_trade/{CLIENT_VERSION}",
                proxy=True if uses_proxy(self.url) else None,
            )
        except (OSError, TimeoutError, WebSocketException, ImportError) as exc:
            raise Lost(f"{type(exc).__name__}: {exc}") from None
        return _WallexWire(connection, link, self)

    # --- for the wire ---

    def subscribed(self, channel: str) -> None:
        """Nothing confirms a subscription. Old sides are not trusted; what came before is read by REST."""
        symbol, kind = _split(channel)
        if kind == _BUYS:
            self._sides[symbol] = _Sides()
        elif kind == _SELLS:
            self.feed.doubt_book(symbol)
            self.feed.doubt_every_candle(symbol)

    def receive(self, link: Link, text: str | bytes) -> None:
        frame = self.readable("frame_unreadable", lambda: _frame(text))
        if frame is None:
            return
        link.heard(data=True)
        symbol, kind = _split(frame[0])
        if kind in (_BUYS, _SELLS):
            levels = self.readable("book_unreadable", lambda: _levels(symbol, kind, frame[1]))
            if levels is not None and symbol in self._sides:
                self._side(symbol, kind, levels)
        elif kind == _TRADES:
            trade = self.readable("trade_unreadable", lambda: _trade(symbol, frame[1], self.clock.now()))
            if trade is not None:
                self.feed.trade(trade)

    def snapshot_taken(self, book: OrderBook) -> None:
        now = time.monotonic()
        self._sides[book.symbol] = _Sides(book.bids, book.asks, now, now)

    def _side(self, symbol: str, kind: str, levels: tuple[BookLevel, ...]) -> None:
        """One side spoke. Where the other has been silent for long, its subscription may be lost, unnoticed while this
        one speaks: REST is asked before the two are called a book."""
        sides, now = self._sides[symbol], time.monotonic()
        if kind == _BUYS:
            sides.bids, sides.bids_at = levels, now
        else:
            sides.asks, sides.asks_at = levels, now
        if sides.bids is None or sides.asks is None:
            return
        if now - min(sides.bids_at, sides.asks_at) > self.timing.refresh_after:
            self.feed.doubt_book(symbol)
        else:
            self.feed.book(OrderBook(symbol, sides.bids, sides.asks, self.clock.now()))


class _WallexWire:
    """A `Wire` over one WebSocket. There is no unsubscribing there: channels are shed by coming back without them."""

    def __init__(self, connection: ClientConnection, link: Link, stream: WallexMarketStream) -> None:
        self._connection, self._link, self._stream = connection, link, stream
        self._listening = asyncio.create_task(self._listen())

    async def subscribe(self, channel: str) -> None:
        await self._send(["subscribe", {"channel": channel}])
        self._stream.subscribed(channel)

    async def unsubscribe(self, channel: str) -> None:
        raise Lost("markets were dropped", planned=True)

    async def close(self) -> None:
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)
        await self._connection.close()

    async def _listen(self) -> None:
        try:
            async for frame in self._connection:
                if (number := _ping(frame)) is not None:
                    await self._send(number)
                else:
                    self._stream.receive(self._link, frame)
        except ConnectionClosed as exc:
            self._link.end(Lost(f"closed: {exc}"))
        except Exception as exc:  # noqa: BLE001 - handed on whole: the link raises it where its owner sees it
            self._link.end(exc)
        else:
            self._link.end(Lost("closed by the exchange"))

    async def _send(self, message: Sequence[Any] | dict[str, Any]) -> None:
        try:
            await self._connection.send(json.dumps(message))
        except ConnectionClosed as exc:
            raise Lost(f"closed: {exc}") from None


def _split(channel: str) -> tuple[str, str]:
    symbol, at, kind = channel.partition("@")
    return symbol, at + kind


def _frame(text: str | bytes) -> tuple[str, Any] | None:
    """(channel, payload); None for an object, such as the first frame's {"sid": …}. Raises ValueError and the like."""
    frame = json.loads(text, parse_float=to_json_number)
    if isinstance(frame, dict):
        return None
    if not isinstance(frame, list) or len(frame) != 2 or not isinstance(frame[0], str):
        raise BadPayload("not [channel, payload]")
    return frame[0], frame[1]


def _levels(symbol: str, kind: str, payload: Any) -> tuple[BookLevel, ...]:
    """One side, best first."""
    levels = parse(DepthSideSchema, {"levels": payload}).levels
    is_bid = kind == _BUYS
    book = mapping.to_book(symbol, DepthSchema(bid=levels if is_bid else [], ask=[] if is_bid else levels), _NO_TIME)
    return book.bids if is_bid else book.asks


def _trade(symbol: str, payload: Any, received_at: datetime) -> TradeUpdate:
    """Repeats cannot be told from equal trades of one second: all are passed on."""
    trade = mapping.to_public_trade(symbol, parse(StreamTradeSchema, payload))
    return TradeUpdate(symbol, trade.price, trade.quantity, trade.side, trade.executed_at, received_at)


def _ping(frame: str | bytes) -> dict[str, Any] | None:
    """The answer to a ping that is JSON (contract: wallex 9: seen by one reader); None for every other frame."""
    if len(frame) > 200 or frame.lstrip()[:1] not in ("{", b"{"):
        return None
    try:
        ping = json.loads(frame)
    except (ValueError, RecursionError):
        return None
    return {"pong": ping["ping"]} if isinstance(ping, dict) and "ping" in ping else None


def _heard_by(link: Link) -> type[ClientConnection]:
    """A connection that tells `link` of every frame, pings and pongs too, which the library answers by itself."""

    class Heard(ClientConnection):
        def process_event(self, event: Any) -> None:
            if isinstance(event, Frame):
                link.heard()
            super().process_event(event)

    return Heard
