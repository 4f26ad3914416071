"""Nobitex' streams (contract: nobitex 7): public books, candles and trades, and hints about an account's own orders."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection
from contextlib import suppress
from datetime import datetime
from typing import Any, Protocol

from centrifuge import UnauthorizedError

from providers.clock import AnchoredClock, Clock
from providers.errors import AuthFailed, BadPayload, ProviderError, RateLimited
from providers.nobitex import mapping
from providers.nobitex.centrifugo import CentrifugoWire, payload, refuses_us
from providers.nobitex.schemas import OrderBookSchema
from providers.nobitex.stream_schemas import CandleDataSchema, OrderEventSchema, PublicTradeSchema
from providers.redaction import register_secret
from providers.stream_feed import MarketData
from providers.stream_link import Drops, Link, Lost, Refused, StreamTiming, Wire, websocket_url
from providers.stream_market import UNREADABLE, LinkedMarketStream
from providers.streams import OrderHint, Sink, StreamState, TradeUpdate
from providers.types import Candle, OrderBook, Resolution
from providers.wire import from_seconds, parse

_PATH = "/connection/websocket"
_HOSTS = {  # the stream lives on a host of its own (contract: nobitex 1)
    "https://apiv2.nobitex.ir": "https://ws.nobitex.ir",
    "https://testnetapiv2.nobitex.ir": "https://testnetws.nobitex.ir",
}
_BOOK, _TRADES, _CANDLE = "public:orderbook-", "public:trades-", "public:candle-"
_MOST_CHANNELS = 250  # documented: 300 on one connection
_REMEMBERED_TRADES = 256
_TOKENS_REFUSED = 3  # fresh tokens in a row that the stream called invalid, before we take it as a refusal


def stream_url(base_url: str) -> str:
    """The stream that belongs to a REST base URL; for hosts we do not know, beside it."""
    base = base_url.rstrip("/")
    return websocket_url(_HOSTS.get(base, base), _PATH)


class OrderStreamRest(Protocol):
    """What an order stream needs of `NobitexClient`. Both raise `AuthFailed` for a key that is refused."""

    def ws_token(self) -> str: ...

    def websocket_auth_param(self) -> str: ...


class NobitexMarketStream(LinkedMarketStream):
    """`MarketStream` of Nobitex; prices come out in toman for IRT markets."""

    name = "nobitex"
    most_channels = _MOST_CHANNELS
    timed_books = True
    renews = False

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
        self._trades_seen: dict[str, deque[tuple[object, ...]]] = {}

    def channels(self, symbol: str, resolutions: Collection[Resolution]) -> list[str]:
        candles = [f"{_CANDLE}{symbol}-{resolution.value}" for resolution in resolutions]
        return [_BOOK + symbol, _TRADES + symbol, *candles]

    async def open_wire(self, link: Link) -> Wire:
        wire = CentrifugoWire(
            self.url,
            link,
            self.timing,
            self.drops,
            on_data=self._receive,
            on_subscribed=self._subscribed,
            on_refused=lambda channel, code: self.drops.count("channel_refused", f"{channel} code {code}"),
        )
        await wire.open()
        return wire

    def _subscribed(self, channel: str) -> None:
        """From here on nothing is missed: what came before is read by REST."""
        if channel.startswith(_BOOK):
            self.feed.doubt_book(channel.removeprefix(_BOOK))
        elif channel.startswith(_CANDLE):
            self.feed.doubt_candles(*_series(channel))

    def _receive(self, channel: str, data: Any) -> None:
        if channel.startswith(_BOOK):
            symbol = channel.removeprefix(_BOOK)
            if book := self.readable("book_unreadable", lambda: _book(symbol, data)):
                self.feed.book(book)
        elif channel.startswith(_CANDLE):
            if candle := self.readable("candle_unreadable", lambda: _candle(data)):
                self.feed.candle(*_series(channel), candle)
        elif channel.startswith(_TRADES):
            symbol = channel.removeprefix(_TRADES)
            if trade := self.readable("trade_unreadable", lambda: _trade(symbol, data, self.clock.now())):
                self._deliver(trade)

    def _deliver(self, trade: TradeUpdate) -> None:
        """No id on this wire: two that are equal in time, price, volume and type are one (contract: nobitex 4.3)."""
        seen = self._trades_seen.setdefault(trade.symbol, deque(maxlen=_REMEMBERED_TRADES))
        mark = (trade.executed_at, trade.price, trade.quantity, trade.side)
        if mark in seen:
            self.drops.count("trade_repeated", trade.symbol)
            return
        seen.append(mark)
        self.feed.trade(trade)


class NobitexOrderStream:
    """`OrderStream` of Nobitex: one account's hints. After an `up`, hints may have been missed: look at every order."""

    name = "nobitex"

    def __init__(
        self,
        base_url: str,
        *,
        rest: OrderStreamRest,
        clock: Clock | None = None,
        ws_url: str | None = None,
        timing: StreamTiming | None = None,
    ) -> None:
        self.url = ws_url or stream_url(base_url)
        self._rest = rest
        self._clock = clock or AnchoredClock()
        self._timing = timing or StreamTiming()
        self._drops = Drops(f"{self.name} orders")
        self._wire: CentrifugoWire | None = None
        self._invalid_tokens = 0

    def __repr__(self) -> str:
        return f"NobitexOrderStream({self.url})"

    async def run(self, sink: Sink, stopping: asyncio.Event) -> None:
        self._sink = sink
        self._invalid_tokens = 0
        self._told: bool | None = None
        link = self._link = Link(
            f"{self.name}-orders",
            self._open,
            self._timing,
            on_up=self._up,
            on_down=lambda reason: self._tell(False, reason),
        )
        living = asyncio.create_task(link.run())
        stopped = asyncio.create_task(stopping.wait())
        reason = "stopped"
        try:
            await asyncio.wait({living, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            living.cancel()
            try:
                with suppress(asyncio.CancelledError):
                    await living
            except Refused as exc:
                reason = str(exc)
        self._told = None  # the last word is always said
        self._tell(False, reason)

    async def _open(self, link: Link) -> Wire:
        self._judge_last_token()
        param = await self._ask("websocket_auth_param")
        register_secret(param)
        wire = self._wire = CentrifugoWire(
            self.url,
            link,
            self._timing,
            self._drops,
            on_data=self._receive,
            on_subscribed=lambda channel: None,
            on_refused=self._refused,
            get_token=self._token,
        )
        await wire.open()
        link.want({f"private:orders#{param}", f"private:trades#{param}"})
        return wire

    def _judge_last_token(self) -> None:
        if self._wire is not None and self._wire.invalid_token:
            self._invalid_tokens += 1
        if self._invalid_tokens >= _TOKENS_REFUSED:
            raise Refused("the stream refuses the tokens that the exchange itself gave: hints are off, REST goes on")

    async def _token(self) -> str:
        """For the library, at connect and before the end of the token's life."""
        try:
            return await self._ask("ws_token")
        except Refused as exc:
            self._link.end(exc)
            raise UnauthorizedError(str(exc)) from None
        except Lost as exc:
            if self._wire is not None and not self._wire.connected.is_set():
                self._link.end(exc)
            raise

    async def _ask(self, name: str) -> str:
        """One of the two REST calls, in a thread. Raises `Refused` or `Lost`."""
        call = self._rest.ws_token if name == "ws_token" else self._rest.websocket_auth_param
        try:
            answer = await asyncio.to_thread(call)
        except AuthFailed as exc:
            raise Refused(f"the exchange refuses the key: no {name}, not asking again: {exc}") from None
        except RateLimited as exc:
            raise Lost(f"no {name}: called too often", wait=exc.retry_after) from None
        except ProviderError as exc:
            raise Lost(f"no {name}: {exc}") from None
        return answer

    def _refused(self, channel: str, code: int) -> None:
        kind = channel.partition("#")[0]
        if refuses_us(code):
            raise Refused(f"the exchange refuses {kind} to this key (code {code}): not asking again")
        raise Lost(f"the exchange does not give {kind} (code {code})", blunt=True)

    def _receive(self, channel: str, data: Any) -> None:
        """Both channels name the order; what happened to it is for REST to say."""
        try:
            event = parse(OrderEventSchema, payload(data))
        except UNREADABLE as exc:
            self._drops.count("hint_unreadable", str(exc) if isinstance(exc, BadPayload) else type(exc).__name__)
            return
        self._sink(OrderHint(_market(event), event.clientOrderId, str(event.orderId), self._clock.now()))

    def _up(self) -> None:
        self._invalid_tokens = 0
        self._tell(True, "connected")

    def _tell(self, is_up: bool, reason: str) -> None:
        if self._told is not is_up:
            self._told = is_up
            self._sink(StreamState(is_up, reason, self._clock.now()))


def _book(symbol: str, data: Any) -> OrderBook:
    return mapping.to_book(symbol, parse(OrderBookSchema, payload(data)))


def _candle(data: Any) -> Candle:
    """Toman already: nothing is converted (contract: nobitex 4.5)."""
    wire = parse(CandleDataSchema, payload(data))
    return Candle(from_seconds(wire.t), wire.o, wire.h, wire.l, wire.c, wire.v)


def _trade(symbol: str, data: Any, received_at: datetime) -> TradeUpdate:
    wire = parse(PublicTradeSchema, payload(data))
    trade = mapping.to_public_trade(symbol, wire)
    return TradeUpdate(symbol, trade.price, wire.volume, trade.side, trade.executed_at, received_at)


def _series(channel: str) -> tuple[str, Resolution]:
    symbol, _, resolution = channel.removeprefix(_CANDLE).rpartition("-")
    return symbol, Resolution(resolution)


def _market(event: OrderEventSchema) -> str | None:
    """`btc` and `rls` are BTCIRT; None where the event does not say."""
    if not event.srcCurrency or not event.dstCurrency:
        return None
    quote = {"RLS": "IRT"}.get(event.dstCurrency.upper(), event.dstCurrency.upper())
    return event.srcCurrency.upper() + quote
