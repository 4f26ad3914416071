"""The vocabulary of the matching core: orders, trades, the book, and why an order is refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from providers.paper.ledger import EXACT, FEES, HOUSE, Posting, trader
from providers.types import ZERO, BookLevel, OrderType, Side


class State(StrEnum):
    """Where an order stands. A partly filled order stays OPEN; INACTIVE is a stop that has not triggered; NEW was
    accepted and is not in the market yet, which only a fault makes last."""

    NEW = "NEW"
    INACTIVE = "INACTIVE"
    OPEN = "OPEN"
    FILLED = "FILLED"
    CANCELED = "CANCELED"

    @property
    def is_working(self) -> bool:
        return self in (State.NEW, State.INACTIVE, State.OPEN)


class Refusal(StrEnum):
    """Why an order never came to be. Each face spells these as its exchange does."""

    UNKNOWN_PAIR = "unknown_pair"
    QUANTITY_PRECISION = "quantity_precision"
    PRICE_PRECISION = "price_precision"
    STOP_PRECISION = "stop_precision"
    BELOW_MIN_QUANTITY = "below_min_quantity"
    BELOW_MIN_NOTIONAL = "below_min_notional"
    INSUFFICIENT_BALANCE = "insufficient_balance"
    PRICE_MISSING = "price_missing"
    STOP_MISSING = "stop_missing"
    STOP_UNEXPECTED = "stop_unexpected"
    STOP_ALREADY_CROSSED = "stop_already_crossed"
    STOP_EQUALS_LAST = "stop_equals_last"
    LIMIT_BETTER_THAN_STOP = "limit_better_than_stop"
    OUTSIDE_PRICE_BAND = "outside_price_band"
    UNEXPECTED_MARKET_PRICE = "unexpected_market_price"
    OCO_CONDITION = "oco_condition"
    OCO_UNAVAILABLE = "oco_unavailable"
    DUPLICATE_CLIENT_ID = "duplicate_client_id"
    DUPLICATE_ORDER = "duplicate_order"
    NO_PRICE_YET = "no_price_yet"


class OrderRefused(Exception):
    """The order does not exist; nothing was booked."""

    def __init__(self, refusal: Refusal, message: str) -> None:
        super().__init__(message)
        self.refusal = refusal


class UnknownOrder(Exception):
    """No such order on this account."""


class NotCancelable(Exception):
    """The order is already filled or cancelled."""


@dataclass(frozen=True, slots=True)
class Book:
    """Depth to match against, best level first; `version` changes whenever the depth is refreshed."""

    bids: tuple[BookLevel, ...]
    asks: tuple[BookLevel, ...]
    version: int = 0


def without(levels: tuple[BookLevel, ...], used: dict[Decimal, Decimal]) -> tuple[BookLevel, ...]:
    """The levels less what was taken from them, by price."""
    left = (BookLevel(level.price, level.quantity - used.get(level.price, ZERO)) for level in levels)
    return tuple(level for level in left if level.quantity > 0)


@dataclass(frozen=True, slots=True)
class Instruction:
    """What a trader asks for, parsed and in platform units. `bypass_duplicate_guard` is Nobitex' `pro=yes`."""

    pair: str
    side: Side
    type: OrderType
    quantity: Decimal
    price: Decimal | None = None
    stop_price: Decimal | None = None
    client_id: str | None = None
    bypass_duplicate_guard: bool = False


@dataclass(frozen=True, slots=True)
class OcoInstruction:
    """Target (`price`) and stop (`stop_price`, then resting at `stop_limit_price`) that cancel each other."""

    pair: str
    side: Side
    quantity: Decimal
    price: Decimal
    stop_price: Decimal
    stop_limit_price: Decimal
    client_id: str | None = None
    bypass_duplicate_guard: bool = False


@dataclass(slots=True)
class Order:
    """One order and all that became of it. While it works it holds `lock_rate` x remaining of `lock_asset`."""

    id: int
    account: str
    pair: str
    side: Side
    type: OrderType
    quantity: Decimal
    price: Decimal | None
    stop_price: Decimal | None
    client_id: str | None
    created_at: datetime
    updated_at: datetime
    state: State
    trigger: str | None = None  # "<=" or ">=": how the last price has to stand to the stop
    filled: Decimal = ZERO
    filled_quote: Decimal = ZERO
    fee: Decimal = ZERO
    fee_asset: str = ""
    lock_rate: Decimal = ZERO
    lock_asset: str = ""
    triggered_at: datetime | None = None
    closed_at: datetime | None = None
    pair_id: int | None = None  # the other leg of an OCO
    reason: str = ""  # why it was cancelled
    trades: list[Trade] = field(default_factory=list)

    @property
    def lock(self) -> Decimal:
        return EXACT.multiply(self.lock_rate, self.remaining) if self.state.is_working else ZERO

    @property
    def remaining(self) -> Decimal:
        return EXACT.subtract(self.quantity, self.filled)

    @property
    def average_price(self) -> Decimal | None:
        """Mean fill price (not rounded to the tick); None while nothing is filled."""
        return self.filled_quote / self.filled if self.filled else None

    def is_triggered_by(self, price: Decimal) -> bool:
        if self.stop_price is None:
            return False
        return price <= self.stop_price if self.trigger == "<=" else price >= self.stop_price

    def is_crossed_by(self, price: Decimal) -> bool:
        """Whether a trade at `price` reaches this resting LIMIT."""
        if self.price is None:
            return False
        return price <= self.price if self.side is Side.BUY else price >= self.price


@dataclass(frozen=True, slots=True)
class Trade:
    """One execution of part of one order. The fee is in `fee_asset`, the asset that was received."""

    id: int
    order_id: int
    account: str
    pair: str
    side: Side
    price: Decimal
    quantity: Decimal
    fee: Decimal
    fee_asset: str
    fee_rate: Decimal
    is_maker: bool
    executed_at: datetime

    @property
    def total(self) -> Decimal:
        return EXACT.multiply(self.price, self.quantity)

    def postings(self) -> list[Posting]:
        """Base against quote with the house, then the fee out of what was received."""
        base, quote = self.pair.split("/")
        bought, paid = self.quantity * self.side.sign, self.total * self.side.sign
        owner = trader(self.account)
        return [
            Posting(owner, base, bought),
            Posting(HOUSE, base, -bought),
            Posting(owner, quote, -paid),
            Posting(HOUSE, quote, paid),
            Posting(owner, self.fee_asset, -self.fee),
            Posting(FEES, self.fee_asset, self.fee),
        ]
