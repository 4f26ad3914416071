"""The one protocol every exchange client keeps. Paper is no special case: it answers the real clients on the wire."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Protocol, runtime_checkable

from providers.types import (
    Balance,
    Candle,
    Capabilities,
    Fill,
    KeyDetails,
    MarketRules,
    OcoRequest,
    OrderBook,
    OrderRef,
    OrderReport,
    OrderRequest,
    Resolution,
)


@runtime_checkable
class ExchangeProvider(Protocol):
    """Market data, balances and spot orders of one exchange for one key. Synchronous; every call has a deadline.

    Reads raise `Unavailable`, `RateLimited`, `AuthFailed` or `BadPayload`. Writes raise, besides, `OrderRejected`
    (a definite no) or `OutcomeUnknown` (ask before doing anything else).
    """

    name: str

    def markets(self) -> Sequence[MarketRules]:
        """All spot markets with their grids, minimums and (with a key) this account's fees."""
        ...

    def candles(self, symbol: str, resolution: Resolution, start: datetime, end: datetime) -> Sequence[Candle]:
        """Candles with `start <= open_time < end`, oldest first, gaps left as gaps; the last may still be running.
        Pages as the exchange needs it. Raises `Unavailable` when the exchange does not offer the resolution."""
        ...

    def order_book(self, symbol: str) -> OrderBook: ...

    def order_books(self, symbols: Collection[str] | None = None) -> dict[str, OrderBook]:
        """The books of these markets, of all where none are named, in one call. One that cannot be read is left out:
        ask for it alone. May be a heavy answer: worth it for several markets at once."""
        ...

    def last_price(self, symbol: str) -> Decimal:
        """Price of the last public trade: what triggers stops."""
        ...

    def balances(self) -> dict[str, Balance]:
        """Non-zero balances by asset, under the exchange's own asset names (toman is `TMN` or `IRT`, never rial)."""
        ...

    def capabilities(self) -> Capabilities:
        """What this exchange's documents promise; a probe of the account may know better."""
        ...

    def key_details(self) -> KeyDetails:
        """What the exchange tells about the key in use. Raises `AuthFailed` for a key that it refuses."""
        ...

    @property
    def clock_difference(self) -> timedelta | None:
        """The exchange's clock minus ours, by its last answer, to about a second; None before the first answer."""
        ...

    def can_place(self, orders: int = 1) -> bool:
        """Whether so many protective orders could be sent now without waiting for a call budget. Sends nothing: asked
        before a stop that rests is taken down to be replaced."""
        ...

    def can_list(self, lists: int = 1) -> bool:
        """Whether so many lists of orders could be read now without waiting for a call budget. Asks nothing: a
        comparison that gets only the first of its lists has spent it for nothing."""
        ...

    def can_ask(self, orders: int = 1) -> bool:
        """Whether so many orders could be read back now without waiting for a call budget. Asks nothing."""
        ...

    def create_order(self, request: OrderRequest) -> OrderReport: ...

    def create_oco(self, request: OcoRequest) -> tuple[OrderReport, OrderReport]:
        """(limit leg, stop leg). Raises `OrderRejected` where the exchange has no OCO."""
        ...

    def fetch_order(self, ref: OrderRef) -> OrderReport:
        """Where the order stands. By exchange id when known, else by client id. Raises `OrderNotFound`."""
        ...

    def fetch_fills(self, report: OrderReport) -> Sequence[Fill]:
        """Every fill of one order, with fees."""
        ...

    def cancel_order(self, ref: OrderRef) -> OrderReport:
        """Ask for a cancel; the report may show a fill that won the race. Raises `OrderNotFound` for an unknown or
        already closed order, `OutcomeUnknown` when the answer was lost."""
        ...

    def open_orders(self, symbol: str | None = None) -> Sequence[OrderReport]:
        """Everything still working, untriggered stops included, all pages."""
        ...

    def orders_since(self, symbol: str, since: datetime) -> Sequence[OrderReport]:
        """Orders of every status created at or after `since`, oldest first, all pages."""
        ...

    def own_trades(self, symbol: str, since: datetime) -> Sequence[Fill]:
        """Own fills at or after `since`, oldest first, as far back as the exchange keeps them."""
        ...
