"""Nobitex' streams: Centrifugo's JSON protocol over one WebSocket (contract: nobitex 7).

Choices where the contract knows nothing: the connection over the limit of an address is refused with HTTP 429; a client
that has not said `connect` when the first ping is due is closed with 3502; no position or recovery is offered. Several
changes of an order in one moment are one event, with the last fill; every fill is told in `private:trades`.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import uuid4

from starlette.responses import PlainTextResponse
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from providers.paper.engine import Exchange, to_ms
from providers.paper.faces import nobitex_tokens as tokens
from providers.paper.faces import nobitex_wire as wire
from providers.paper.faces.charts import chart, day_figures
from providers.paper.faces.common import plain
from providers.paper.faces.stream_hub import (
    TRADES_LOOK,
    Changes,
    Connection,
    Ending,
    PublicTrade,
    PublicTrades,
    Source,
    StreamHub,
    dumped,
)
from providers.paper.orders import Order, Trade
from providers.paper.records import Changes as Kept
from providers.types import OrderType, Resolution

VENUE = "nobitex"
VERSION = "paper"

EXPIRED = (3005, "connection expired")
SLOW = (3008, "slow")
NO_PONG = (3012, "no pong")
INVALID_TOKEN = (3500, "invalid token")
BAD_REQUEST = (3501, "bad request")
STALE = (3502, "stale")

ERRORS = {
    101: "unauthorized",
    102: "unknown channel",
    103: "permission denied",
    104: "method not found",
    105: "already subscribed",
    106: "limit exceeded",
    107: "bad request",
    109: "token expired",
}

_STATS_SECONDS = 2.0  # least wall time between two pushes
_ALL_STATS_SECONDS = 5.0
_CANDLE_LOOK = 1.0
_CHANNEL = re.compile(r"public:(orderbook|trades|market-stats)-([A-Z0-9_]+|all)")
_CANDLES = re.compile(r"public:candle-([A-Z0-9_]+)-([0-9A-Z]+)")
_PRIVATE = re.compile(r"private:(orders|trades)#(.*)", re.DOTALL)


class Refused(Exception):
    """A command is answered with an error."""

    def __init__(self, code: int) -> None:
        super().__init__(ERRORS[code])
        self.code = code


class Fatal(Exception):
    """The connection is closed instead of an answer."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class NobitexStream:
    """The route, the channels, and what happens to accounts."""

    def __init__(self, exchange: Exchange, hub: StreamHub) -> None:
        self.exchange = exchange
        self.hub = hub
        self._venue = exchange.venues[VENUE]
        self._pairs = {wire.symbol_of(pair): pair for pair in self._venue.profile.markets}
        exchange.listeners.append(self._account_events)

    def routes(self) -> list[WebSocketRoute]:
        return [WebSocketRoute("/connection/websocket", self._endpoint)]

    def switch(self, name: str) -> Any:
        return self._venue.profile.switch(f"stream_{name}")

    async def _endpoint(self, socket: WebSocket) -> None:
        connection = NobitexConnection(self, socket)
        if self.hub.count(VENUE, connection.address) >= self.switch("connections"):
            await socket.send_denial_response(PlainTextResponse("Too many connections.", 429))
            return
        await connection.serve()

    # -- channels ------------------------------------------------------------------------------------------------

    def source(self, name: str) -> tuple[Callable[[], Source], float]:
        """What a public channel tells, and how often to look. Raises `Refused`."""
        if match := _CANDLES.fullmatch(name):
            pair, resolution = self._pair(match[1]), _resolution(match[2])
            return lambda: RunningCandle(self, pair, resolution.seconds), _CANDLE_LOOK
        match = _CHANNEL.fullmatch(name)
        if match is None:
            raise Refused(102)
        if match[2] == "all":
            return self._all_stats(match[1]), _ALL_STATS_SECONDS
        pair = self._pair(match[2])
        if match[1] == "orderbook":
            return lambda: Changes(lambda now: self._book(pair, now), self._dated(pair)), self.switch("book_seconds")
        if match[1] == "trades":
            row = partial(trade_row, quote=pair.split("/")[1])
            return lambda: PublicTrades(self.exchange, VENUE, pair, row), TRADES_LOOK
        return lambda: Changes(lambda now: self._stats(pair, now)), _STATS_SECONDS

    def _pair(self, symbol: str) -> str:
        if symbol not in self._pairs:
            raise Refused(102)
        return self._pairs[symbol]

    def _all_stats(self, kind: str) -> Callable[[], Source]:
        if kind != "market-stats":
            raise Refused(102)
        return lambda: Changes(
            lambda now: {_irt(wire.stats_key(pair)): self._stats(pair, now) for pair in self._pairs.values()}
        )

    def _book(self, pair: str, now: datetime) -> dict[str, Any]:
        """The book without its time, which is no change."""
        book, _ = self._venue.look(pair, now)
        row = wire.book_row(book, self._venue.last.get(pair), pair.split("/")[1], 0)
        return {name: row[name] for name in ("asks", "bids", "lastTradePrice")}

    def _dated(self, pair: str) -> Callable[[Any, datetime], Any]:
        return lambda row, now: {**row, "lastUpdate": to_ms(now)}

    def _stats(self, pair: str, now: datetime) -> dict[str, Any]:
        book, _ = self._venue.look(pair, now)
        return wire.stats_row(book, day_figures(self.exchange, VENUE, pair, now), pair.split("/")[1])

    # -- accounts ------------------------------------------------------------------------------------------------

    def _account_events(self, changes: Mapping[str, Kept]) -> None:
        kept = changes.get(VENUE)
        if kept is None:
            return
        for order in kept.orders.values():
            self._publish("orders", order.account, partial(order_event, order))
        for trade in kept.trades:
            self._publish("trades", trade.account, partial(trade_event, trade))

    def _publish(self, kind: str, owner: str, payload: Callable[[], dict[str, Any]]) -> None:
        account = self.exchange.accounts.get(owner)
        if account is None:
            return
        name = f"private:{kind}#{tokens.auth_param(account)}"
        if self.hub.has_listeners(VENUE, name):
            self.hub.publish(VENUE, name, [payload()])


class NobitexConnection(Connection):
    """One client. Speaks only after `connect`; what it may hear of accounts is decided by its token."""

    venue = VENUE
    too_slow = Ending(*SLOW)
    batch = 16

    def __init__(self, face: NobitexStream, socket: WebSocket) -> None:
        super().__init__(face.hub, socket)
        self._face = face
        self._is_connected = False
        self._expires_at = math.inf  # unix seconds of wall time
        self._pong = asyncio.Event()
        self._commands: dict[str, Callable[[dict[str, Any]], Any]] = {
            "subscribe": self._subscribe,
            "unsubscribe": self._unsubscribe,
            "refresh": self._refresh,
        }

    # -- commands ------------------------------------------------------------------------------------------------

    def received(self, text: str) -> None:
        """Commands, one to a line. `{}` is a pong."""
        try:
            for line in text.split("\n"):
                if line.strip():
                    self._obey(_command(line))
        except Fatal as fatal:
            self.end(fatal.code, str(fatal))

    def received_bytes(self) -> None:
        self.end(*BAD_REQUEST)

    def _obey(self, command: dict[str, Any]) -> None:
        if not command:
            self._pong.set()
            return
        number = command.pop("id", None)
        if not isinstance(number, int) or isinstance(number, bool) or number < 1 or len(command) != 1:
            raise Fatal(*BAD_REQUEST)
        name, body = next(iter(command.items()))
        try:
            self._answer({"id": number, name: self._act(name, body)})
        except Refused as refused:
            self._answer({"id": number, "error": {"code": refused.code, "message": str(refused)}})

    def _act(self, name: str, body: Any) -> dict[str, Any]:
        """Only `connect` comes first, and only once."""
        if not isinstance(body, dict):
            raise Refused(107)
        if (name == "connect") == self._is_connected:
            raise Fatal(*BAD_REQUEST)
        if name == "connect":
            return self._connect(body)
        if name not in self._commands:
            raise Refused(104)
        return self._commands[name](body) or {}

    def _answer(self, reply: dict[str, Any]) -> None:
        self.offer(dumped(reply))

    def _connect(self, body: dict[str, Any]) -> dict[str, Any]:
        token = body.get("token") or None
        told = self._admit(token) if token is not None else {}
        self._is_connected = True
        ping = math.ceil(self._face.switch("ping_seconds"))
        return {"client": str(uuid4()), "version": VERSION, "ping": ping, "pong": True, **told}

    def _admit(self, token: object) -> dict[str, Any]:
        """Take a token for this connection; what is told about its life."""
        now = datetime.now(UTC)
        try:
            ticket = tokens.verify(token if isinstance(token, str) else "", now, self._face.exchange.accounts)
        except tokens.TokenInvalid:
            raise Fatal(*INVALID_TOKEN) from None
        except tokens.TokenExpired:
            raise Refused(109) from None
        if self.account not in (None, ticket.account.name):
            raise Fatal(*INVALID_TOKEN)
        self.account = ticket.account.name
        self._expires_at = ticket.expires_at
        return {"expires": True, "ttl": max(int(ticket.expires_at - now.timestamp()), 1)}

    def _refresh(self, body: dict[str, Any]) -> dict[str, Any]:
        if self.account is None:
            raise Refused(101)
        if not body.get("token"):
            raise Refused(107)
        return {"client": str(uuid4()), "version": VERSION, **self._admit(body["token"])}

    def _subscribe(self, body: dict[str, Any]) -> dict[str, Any]:
        """`delta` is allowed and not granted: the frames stay whole."""
        name = body.get("channel")
        if not isinstance(name, str) or not name:
            raise Refused(107)
        if name in self.lanes:
            raise Refused(105)
        if len(self.lanes) >= self._face.switch("channels"):
            raise Refused(106)
        if name.startswith("private:"):
            self._subscribe_private(name)
        else:
            source, every = self._face.source(name)
            self.join(name, _push(name), source, every)
        return {}

    def _subscribe_private(self, name: str) -> None:
        match = _PRIVATE.fullmatch(name)
        if match is None:
            raise Refused(102)
        account = self._face.exchange.accounts.get(self.account or "")
        if account is None or match[2] != tokens.auth_param(account):
            raise Refused(103)
        self.join(name, _push(name))

    def _unsubscribe(self, body: dict[str, Any]) -> dict[str, Any]:
        name = body.get("channel")
        if not isinstance(name, str) or not name:
            raise Refused(107)
        self.leave(name)
        return {}

    # -- while it lasts ------------------------------------------------------------------------------------------

    async def watch(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._ping())
            tasks.create_task(self._wait_for_expiry())

    async def _ping(self) -> None:
        """The first pause is also how long a silent newcomer is tolerated."""
        while True:
            await asyncio.sleep(self._face.switch("ping_seconds"))
            if not self._is_connected:
                self.end(*STALE)
                return
            count = self.pings()
            if not count:
                continue
            self._pong.clear()
            for _ in range(count):
                self.offer("{}")
            try:
                async with asyncio.timeout(self._face.switch("pong_seconds")):
                    await self._pong.wait()
            except TimeoutError:
                self.end(*NO_PONG)
                return

    async def _wait_for_expiry(self) -> None:
        """A token that is not renewed in time, and some grace, ends the connection."""
        while True:
            left = self._expires_at + self._face.switch("expired_seconds") - time.time()
            if left <= 0:
                self.end(*EXPIRED)
                return
            await asyncio.sleep(min(left, 1.0))


class RunningCandle:
    """The candle that is being made, every ten seconds or so of market time, in toman (nobitex 7, 4.5)."""

    def __init__(self, face: NobitexStream, pair: str, seconds: int) -> None:
        self._face = face
        self._pair = pair
        self._seconds = seconds
        self._slot = -1

    def look(self, now: datetime) -> list[Any]:
        slot = to_ms(now) // max(int(self._face.switch("candle_seconds") * 1000), 1)
        if slot == self._slot:
            return []
        self._slot = slot
        at = int(now.timestamp())
        found = chart(self._face.exchange, VENUE, self._pair, self._seconds, at - self._seconds + 1, at, now)
        if not len(found):
            return []  # nobody traded in it yet
        row = wire.chart_row(found)
        return [{name: row[name][-1] for name in "tohlcv"}]


def trade_row(trade: PublicTrade, quote: str) -> dict[str, Any]:
    """One message of `public:trades`."""
    return {
        "price": wire.money(trade.price, quote),
        "time": trade.at_ms,
        "type": "buy" if trade.is_buy else "sell",
        "volume": plain(trade.quantity),
    }


def order_event(order: Order) -> dict[str, Any]:
    """One message of `private:orders`: sides capitalised, no price on market orders, the last fill only."""
    base, quote = order.pair.split("/")
    fill = order.trades[-1] if order.trades else None
    average = order.average_price
    has_price = order.type in (OrderType.LIMIT, OrderType.STOP_LIMIT) and order.price is not None
    return {
        "orderId": order.id,
        "clientOrderId": order.client_id,
        "srcCurrency": wire.code_of(base),
        "dstCurrency": wire.code_of(quote),
        "marketType": "Spot",
        "orderType": wire.LABELS[order.type],
        "side": order.side.value.capitalize(),
        "status": wire.STATUS[order.state],
        "amount": plain(order.quantity),
        "filledAmount": plain(order.filled),
        "price": wire.money(order.price, quote) if has_price and order.price is not None else None,
        "param1": wire.money(order.stop_price, quote) if order.stop_price is not None else None,
        "avgFilledPrice": plain(round(average * wire.unit(quote), 10)) if average is not None else "0",
        "fee": wire.money(order.fee, order.fee_asset),
        "eventTime": to_ms(order.updated_at),
        "lastFillTime": to_ms(fill.executed_at) if fill else None,
        "tradeId": fill.id if fill else None,
        "tradeAmount": plain(fill.quantity) if fill else None,
        "tradePrice": wire.money(fill.price, quote) if fill else None,
    }


def trade_event(trade: Trade) -> dict[str, Any]:
    """One message of `private:trades`: codes where REST has names."""
    base, quote = trade.pair.split("/")
    return {
        "id": trade.id,
        "orderId": trade.order_id,
        "srcCurrency": wire.code_of(base),
        "dstCurrency": wire.code_of(quote),
        "timestamp": wire.iso(trade.executed_at),
        "type": trade.side.value.lower(),
        "price": wire.money(trade.price, quote),
        "amount": plain(trade.quantity),
        "total": wire.money(trade.total, quote),
        "fee": wire.money(trade.fee, trade.fee_asset),
    }


def _push(name: str) -> Callable[[Any, int], str]:
    """`data` is text that holds JSON."""
    return lambda payload, offset: dumped(
        {"push": {"channel": name, "pub": {"data": dumped(payload), "offset": offset}}}
    )


def _command(line: str) -> dict[str, Any]:
    try:
        command = json.loads(line)
    except (ValueError, RecursionError):
        raise Fatal(*BAD_REQUEST) from None
    if not isinstance(command, dict):
        raise Fatal(*BAD_REQUEST)
    return command


def _resolution(text: str) -> Resolution:
    try:
        return Resolution(text)
    except ValueError:
        raise Refused(102) from None


def _irt(key: str) -> str:
    """`btc-rls` in REST is `btc-irt` here."""
    return f"{key.removesuffix('-rls')}-irt" if key.endswith("-rls") else key
