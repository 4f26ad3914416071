"""What an exchange tells without being asked: the vocabulary of streams, and the one protocol every stream keeps.

A stream is a hint, never the truth: no exchange here documents delivery, order or recovery. After every (re)connect a
REST snapshot is read, books that are crossed are dropped, and REST is asked again where a stream is silent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from providers.types import Candle, OrderBook, Resolution, Side


@dataclass(frozen=True, slots=True)
class BookUpdate:
    """The whole book of one market; prices in platform units, never crossed. `from_rest` marks a snapshot."""

    book: OrderBook
    received_at: datetime
    from_rest: bool = False


@dataclass(frozen=True, slots=True)
class TradeUpdate:
    """One public trade. `side` is the taker's, None where the exchange does not tell."""

    symbol: str
    price: Decimal
    quantity: Decimal
    side: Side | None
    executed_at: datetime
    received_at: datetime


@dataclass(frozen=True, slots=True)
class CandleUpdate:
    """A candle as it stands. `is_closed` only when the exchange itself stated it after its end (a REST snapshot, or a
    read-back): the last push before the end may be seconds old."""

    symbol: str
    resolution: Resolution
    candle: Candle
    is_closed: bool
    received_at: datetime


@dataclass(frozen=True, slots=True)
class OrderHint:
    """Something happened to an order of the account whose key opened the stream: look at it now. Nothing in a hint is
    ever booked."""

    symbol: str | None
    client_order_id: str | None
    exchange_order_id: str | None
    received_at: datetime


@dataclass(frozen=True, slots=True)
class StreamState:
    """The connection came up or went down. Between a `down` and the next snapshot, everything kept may be stale."""

    is_up: bool
    reason: str
    at: datetime


StreamEvent = BookUpdate | TradeUpdate | CandleUpdate | OrderHint | StreamState
Sink = Callable[[StreamEvent], None]


class MarketStream(Protocol):
    """Public market data of one exchange. `run` reconnects by itself, with jitter, until `stopping` is set."""

    name: str

    def watch(self, symbols: Collection[str], resolutions: Collection[Resolution]) -> None:
        """From now on, these markets (all at once; what is not named any more is dropped). May be called while
        running, from the loop's own thread."""
        ...

    async def run(self, sink: Sink, stopping: asyncio.Event) -> None:
        """Feed `sink`, which must not block, until `stopping`. Raises nothing but programming errors."""
        ...


class OrderStream(Protocol):
    """Hints about one account's orders. Ends by itself, with a reason in the last `StreamState`, when the exchange
    refuses the key: the caller must not start it again by itself."""

    name: str

    async def run(self, sink: Sink, stopping: asyncio.Event) -> None: ...
