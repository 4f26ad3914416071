"""Wallex' streams: plain JSON over one WebSocket (contract: wallex 9).

Choices where the contract knows nothing: a subscription is neither acknowledged nor refused, and nothing is told until
something changes; a pong keeps the stream alive for 30 seconds from then on; too many messages about a channel close it
with 1008, the end of its life with 1001. Private channels are not offered: no API key can get their name.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from providers.paper.engine import Exchange, from_ms
from providers.paper.faces import wallex_wire as wire
from providers.paper.faces.charts import DayFigures, day_figures
from providers.paper.faces.common import places
from providers.paper.faces.stream_hub import (
    TRADES_LOOK,
    Changes,
    Connection,
    PublicTrade,
    PublicTrades,
    Source,
    StreamHub,
    dumped,
)
from providers.types import ZERO, BookLevel

VENUE = "wallex"
END_OF_LIFE = (1001, "end of life")
NO_PONG = (1001, "no pong")
TOO_MANY = (1008, "too many messages")

_PRICES_LOOK = 1.0  # seconds of wall time between two looks
_STATS_LOOK = 5.0
_DAY_KEPT = 10.0  # the day's figures may be this old where only its change is told
_CHANNEL = re.compile(r"([A-Z0-9_]+)@(buyDepth|sellDepth|trade|marketCap)")
_ALL_PRICES = "all@price"


class WallexStream:
    """The route and the channels."""

    def __init__(self, exchange: Exchange, hub: StreamHub) -> None:
        self.exchange = exchange
        self.hub = hub
        self._venue = exchange.venues[VENUE]
        self._pairs = {wire.symbol_of(pair): pair for pair in self._venue.profile.markets}
        self._days: dict[str, tuple[float, DayFigures | None]] = {}
        self._created = datetime(2020, 10, 1, tzinfo=UTC)

    def routes(self) -> list[WebSocketRoute]:
        return [WebSocketRoute("/ws", self._endpoint)]

    def switch(self, name: str) -> Any:
        return self._venue.profile.switch(f"stream_{name}")

    async def _endpoint(self, socket: WebSocket) -> None:
        await WallexConnection(self, socket).serve()

    # -- channels ------------------------------------------------------------------------------------------------

    def source(self, name: str) -> tuple[Callable[[], Source], float] | None:
        """What a channel tells, and how often to look; None where there is no such channel."""
        if name == _ALL_PRICES:
            return lambda: AllPrices(self), _PRICES_LOOK
        match = _CHANNEL.fullmatch(name)
        pair = self._pairs.get(match[1]) if match else None
        if match is None or pair is None:
            return None
        if match[2] == "trade":
            return lambda: PublicTrades(self.exchange, VENUE, pair, trade_row), TRADES_LOOK
        if match[2] == "marketCap":
            return lambda: Changes(lambda now: self._stats(pair, now)), _STATS_LOOK
        is_buy = match[2] == "buyDepth"
        return lambda: Changes(lambda now: self._side(pair, now, is_buy=is_buy)), self.switch("book_seconds")

    def _side(self, pair: str, now: datetime, *, is_buy: bool) -> list[dict[str, Any]]:
        book, _ = self._venue.look(pair, now)
        return [level_row(level) for level in (book.bids if is_buy else book.asks)]

    def _stats(self, pair: str, now: datetime) -> dict[str, Any]:
        day = day_figures(self.exchange, VENUE, pair, now)
        book, _ = self._venue.look(pair, now)
        row = wire.market_row(self._venue.profile.markets[pair], book, day, self._created)
        return {"symbol": row["symbol"], **row["stats"], "createdAt": row["createdAt"]}

    def prices(self) -> dict[str, Decimal]:
        """Last prices by symbol."""
        return {symbol: self._venue.last[pair] for symbol, pair in self._pairs.items() if pair in self._venue.last}

    def change_percent(self, symbol: str, price: Decimal, now: datetime) -> float:
        """How far the price is from that of a day ago; the latter may be some seconds old."""
        at = self.hub.monotonic()
        looked_at, day = self._days.get(symbol, (-_DAY_KEPT, None))
        if at - looked_at >= _DAY_KEPT:
            day = day_figures(self.exchange, VENUE, self._pairs[symbol], now)
            self._days[symbol] = at, day
        return float(round((price / day.open - 1) * 100 if day and day.open else ZERO, 2))


class WallexConnection(Connection):
    """One client. Hears what it asked for until its time is over."""

    venue = VENUE

    def __init__(self, face: WallexStream, socket: WebSocket) -> None:
        super().__init__(face.hub, socket)
        self._face = face
        self._messages: Counter[str] = Counter()
        self._pongs = 0
        self._lives_until = self.hub.monotonic() + face.switch("pong_adds_seconds")
        if self.line is not None:
            self.line.on_pong = self._ponged
        self.offer(dumped({"sid": uuid4().hex}))

    def received(self, text: str) -> None:
        """`["subscribe", {"channel": name}]`; everything else is passed over in silence, but counted."""
        message = _parsed(text)
        if isinstance(message, dict):
            if "pong" in message:
                self._ponged()
            return
        name = _subscribed(message)
        found = self._face.source(name) if name is not None else None
        self._count(name if name is not None and found is not None else "")
        if name is not None and found is not None and name not in self.lanes:
            self.join(name, lambda payload, offset: dumped([name, payload]), *found)

    def _count(self, name: str) -> None:
        self._messages[name] += 1
        if self._messages[name] > self._face.switch("messages_per_channel"):
            self.end(*TOO_MANY)

    # -- while it lasts ------------------------------------------------------------------------------------------

    async def watch(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._live_out())
            if self.line is not None or self._face.switch("json_pings"):
                tasks.create_task(self._ping())
                tasks.create_task(self._wait_for_pongs())

    async def _live_out(self) -> None:
        await asyncio.sleep(self._face.switch("life_seconds"))
        self.end(*END_OF_LIFE)

    async def _ping(self) -> None:
        while True:
            await asyncio.sleep(self._face.switch("ping_seconds"))
            for _ in range(self.pings()):
                if self._face.switch("json_pings"):
                    self.offer(dumped({"ping": int(time.time() * 1000)}))
                elif self.line is not None:
                    self.line.ping()

    def _ponged(self) -> None:
        """Each pong up to the hundredth gives some more time."""
        self._pongs += 1
        if self._pongs <= self._face.switch("most_pongs"):
            self._lives_until = self.hub.monotonic() + self._face.switch("pong_adds_seconds")

    async def _wait_for_pongs(self) -> None:
        """A client that is not pinged any more (a fault) is not blamed for it."""
        while True:
            left = self._lives_until - self.hub.monotonic()
            if left <= 0 and self.is_pinged:
                self.end(*NO_PONG)
                return
            await asyncio.sleep(max(left, 0.1))


class AllPrices:
    """`all@price`: every market whose price is another than at the last look."""

    def __init__(self, face: WallexStream) -> None:
        self._face = face
        self._last: dict[str, Decimal] | None = None

    def look(self, now: datetime) -> list[Any]:
        before, self._last = self._last, self._face.prices()
        if before is None:
            return []
        return [
            {"symbol": symbol, "price": places(price), "24h_ch": self._face.change_percent(symbol, price, now)}
            for symbol, price in self._last.items()
            if before.get(symbol) != price
        ]


def trade_row(trade: PublicTrade) -> dict[str, Any]:
    """One message of `SYM@trade`."""
    return {
        "isBuyOrder": trade.is_buy,
        "quantity": places(trade.quantity),
        "price": places(trade.price),
        "timestamp": wire.iso(from_ms(trade.at_ms)),
    }


def level_row(level: BookLevel) -> dict[str, Any]:
    """One level of a side: JSON numbers, unlike in REST."""
    return {
        "quantity": float(level.quantity),
        "price": _number(level.price),
        "sum": float(level.price * level.quantity),
    }


def _number(value: Decimal) -> int | float:
    return int(value) if value == value.to_integral_value() else float(value)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _subscribed(message: Any) -> str | None:
    """The channel a message asks for; None where it asks for none."""
    if not isinstance(message, list) or len(message) != 2 or message[0] != "subscribe":
        return None
    name = message[1].get("channel") if isinstance(message[1], dict) else None
    return name if isinstance(name, str) else None
