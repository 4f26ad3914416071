"""Wallex' stream (contract: wallex 9): the two sides of each book, and trades. Candles have no channel there: they are
read by REST at their end. An account's own events need an interactive login: there is no order stream.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.frames import Frame

from providers.clock import AnchoredClock, Clock
from providers.http import CLIENT_VERSION, to_json_number
from providers.stream_feed import MarketData
from providers.stream_link import Link, Lost, StreamTiming, Wire, uses_proxy, websocket_url
from providers.stream_market import LinkedMarketStream
from providers.streams import TradeUpdate
from providers.types import BookLevel, OrderBook, Resolution, Side
from providers.wallex import mapping
from providers.wallex.schemas import DepthSchema
from providers.wallex.stream_schemas import DepthSideSchema, StreamTradeSchema
from providers.wire import parse

logger = logging.getLogger("providers.streams")

_BUYS, _SELLS, _TRADES = "@buyDepth", "@sellDepth", "@trade"
_MOST_CHANNELS = 40  # in practice (contract: wallex 9)
_LARGEST_FRAME = 4 * 1024 * 1024
_CLOSE_TIMEOUT = 1.0


def stream_url(base_url: str) -> str:
    """The stream that belongs to a REST base URL: beside it."""
    return websocket_url(base_url, "/ws")


@dataclass(slots=True)
class _Sides:
    """The newest of each side; None until one was heard."""

    bids: tuple[BookLevel, ...] | None = None
    asks: tuple[BookLevel, ...] | None = None


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
        """Nothing confirms a subscription. What came before is read by REST, and old sides are not trusted."""
        symbol, _, kind = channel.partition("@")
        if f"@{kind}" == _SELLS:
            self._sides[symbol] = _Sides()
            self.feed.doubt_book(symbol)
            self.feed.doubt_every_candle(symbol)

    def receive(self, link: Link, text: str | bytes) -> None:
        self.read("frame_unreadable", lambda: self._receive(link, text))

    def snapshot_taken(self, book: OrderBook) -> None:
        self._sides[book.symbol] = _Sides(book.bids, book.asks)

    def _receive(self, link: Link, text: str | bytes) -> None:
        frame = json.loads(text, parse_float=to_json_number)
        if not isinstance(frame, list):
            return  # {"sid": …} at the beginning; pings are the wire's to answer
        if len(frame) != 2 or not isinstance(frame[0], str):
            self.drops.count("frame_unreadable", "not [channel, payload]")
            return
        link.heard(data=True)
        symbol, _, kind = frame[0].partition("@")
        if f"@{kind}" in (_BUYS, _SELLS):
            self._side(symbol, f"@{kind}", frame[1])
        elif f"@{kind}" == _TRADES:
            self._trade(symbol, frame[1])

    # --- payloads ---

    def _side(self, symbol: str, kind: str, payload: Any) -> None:
        levels = parse(DepthSideSchema, {"levels": payload}).levels
        sides = self._sides.setdefault(symbol, _Sides())
        is_bid = kind == _BUYS
        depth = DepthSchema(bid=levels if is_bid else [], ask=[] if is_bid else levels)
        half = mapping.to_book(symbol, depth, self.clock.now())
        if is_bid:
            sides.bids = half.bids
        else:
            sides.asks = half.asks
        if sides.bids is not None and sides.asks is not None:
            self.feed.book(OrderBook(symbol, sides.bids, sides.asks, half.as_of))

    def _trade(self, symbol: str, payload: Any) -> None:
        """Repeats cannot be told from equal trades of one second: all are passed on."""
        wire = parse(StreamTradeSchema, payload)
        side = {True: Side.BUY, False: Side.SELL, None: None}[wire.isBuyOrder]
        self.feed.trade(TradeUpdate(symbol, wire.price, wire.quantity, side, wire.timestamp, self.clock.now()))


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


def _ping(frame: str | bytes) -> dict[str, Any] | None:
    """The answer to a ping that is JSON (contract: wallex 9: seen by one reader); None for every other frame."""
    if len(frame) > 200 or not frame.lstrip()[:1] in ("{", b"{"):
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
