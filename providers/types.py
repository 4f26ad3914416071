"""The exchange vocabulary: what every room of the house means by an order, a fill, a candle, a book.

Everything here is frozen, every amount is a Decimal born from text, every time is aware UTC. Prices of toman markets
are in toman, whatever the wire says: mapping converts at the edge and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, Decimal
from enum import IntEnum, StrEnum
from typing import Any

ZERO = Decimal(0)

# The same money under its exchanges' names. Inside, rial-quoted markets are quoted in toman.
_CANONICAL_ASSET = {"TMN": "IRT", "RLS": "IRT", "IRT": "IRT"}


class Side(StrEnum):
    """Direction of an order."""

    BUY = "BUY"
    SELL = "SELL"

    @property
    def opposite(self) -> Side:
        return Side.SELL if self is Side.BUY else Side.BUY

    @property
    def sign(self) -> int:
        """+1 for BUY, -1 for SELL: what the order does to the base balance."""
        return 1 if self is Side.BUY else -1


class OrderType(StrEnum):
    """How an order executes. STOP_* rest outside the book until the last trade price reaches `stop_price`."""

    MARKET = "MARKET"
    LIMIT = "LIMIT"
    STOP_MARKET = "STOP_MARKET"
    STOP_LIMIT = "STOP_LIMIT"

    @property
    def is_stop(self) -> bool:
        return self in (OrderType.STOP_MARKET, OrderType.STOP_LIMIT)


class OrderStatus(StrEnum):
    """Life of an order as we record it. The exchange itself only ever reports the statuses from OPEN on."""

    PENDING = "PENDING"  # committed here, not sent
    SUBMITTED = "SUBMITTED"  # sent, or about to be: its fate is the exchange's to tell
    OPEN = "OPEN"  # resting: in the book, or an untriggered stop
    PARTIALLY_FILLED = "PARTIALLY_FILLED"  # resting, some of it filled
    CANCELING = "CANCELING"  # we asked for a cancel and have no answer yet
    FILLED = "FILLED"
    CANCELED = "CANCELED"  # ended before all of it filled; the filled part counts
    REJECTED = "REJECTED"  # never accepted
    EXPIRED = "EXPIRED"

    @property
    def is_final(self) -> bool:
        return self in FINAL_STATUSES


FINAL_STATUSES = frozenset({OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.REJECTED, OrderStatus.EXPIRED})


class Resolution(StrEnum):
    """Length of a candle, spelled as both exchanges' chart APIs spell it: minutes, or days with a D."""

    M1 = "1"
    M5 = "5"
    M15 = "15"
    M30 = "30"
    H1 = "60"
    H3 = "180"
    H4 = "240"
    H6 = "360"
    H12 = "720"
    D1 = "D"
    D2 = "2D"
    D3 = "3D"

    @property
    def duration(self) -> timedelta:
        if self.value.endswith("D"):
            return timedelta(days=int(self.value[:-1] or 1))
        return timedelta(minutes=int(self.value))

    @property
    def seconds(self) -> int:
        return int(self.duration.total_seconds())


@dataclass(frozen=True, slots=True)
class Candle:
    """One bar. `open_time` is its start; it may be used once `closed_at(resolution) <= now`. Volume is in base."""

    open_time: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal

    def closed_at(self, resolution: Resolution) -> datetime:
        return self.open_time + resolution.duration


@dataclass(frozen=True, slots=True)
class BookLevel:
    price: Decimal
    quantity: Decimal


@dataclass(frozen=True, slots=True)
class OrderBook:
    """Bids best (highest) first, asks best (lowest) first. `as_of` is the exchange's time, or ours of receipt."""

    symbol: str
    bids: tuple[BookLevel, ...]
    asks: tuple[BookLevel, ...]
    as_of: datetime
    last_price: Decimal | None = None

    @property
    def best_bid(self) -> Decimal | None:
        return self.bids[0].price if self.bids else None

    @property
    def best_ask(self) -> Decimal | None:
        return self.asks[0].price if self.asks else None

    @property
    def is_usable(self) -> bool:
        """Both sides present and not crossed."""
        return bool(self.bids and self.asks) and self.bids[0].price < self.asks[0].price

    @property
    def mid_price(self) -> Decimal | None:
        return (self.bids[0].price + self.asks[0].price) / 2 if self.bids and self.asks else None

    def imbalance(self, levels: int = 5) -> Decimal | None:
        """Quantity of the best bids over that of the best asks, to three digits: above 1 buyers are the heavier side.
        None without asks."""
        bids, asks = (sum((level.quantity for level in side[:levels]), ZERO) for side in (self.bids, self.asks))
        return (bids / asks).quantize(Decimal("0.001")) if asks else None


@dataclass(frozen=True, slots=True)
class MarketRules:
    """What an exchange allows on one market. Sizes are grids (0.01), never numbers of decimals; rates are fractions."""

    provider: str
    symbol: str
    base: str
    quote: str
    tick_size: Decimal
    step_size: Decimal
    min_quantity: Decimal
    min_notional: Decimal
    maker_fee_rate: Decimal
    taker_fee_rate: Decimal
    market_band: Decimal  # a MARKET order fills at most this far from the last trade; the rest is cancelled
    price_band: Decimal | None = None  # LIMIT prices further than this from the market are refused
    is_open: bool = True
    allows_market_orders: bool = True

    @property
    def pair(self) -> str:
        """The canonical pair, equal for the same pair on every exchange: BTCTMN and BTCIRT are both `BTC/IRT`."""
        return f"{self.base}/{canonical_asset(self.quote)}"

    def round_quantity(self, quantity: Decimal) -> Decimal:
        """Down to the step grid; never enlarges."""
        return round_down(quantity, self.step_size)

    def round_limit(self, price: Decimal, side: Side) -> Decimal:
        """To the tick grid, never to a worse price than was asked for: BUY down, SELL up."""
        return round_to(price, self.tick_size, ROUND_FLOOR if side is Side.BUY else ROUND_CEILING)

    def round_stop(self, price: Decimal, side: Side) -> Decimal:
        """To the tick grid, toward safety: the stop that sells rounds up, the one that buys back rounds down."""
        return round_to(price, self.tick_size, ROUND_CEILING if side is Side.SELL else ROUND_FLOOR)


@dataclass(frozen=True, slots=True)
class Balance:
    """`total` includes what is locked in orders; `available` is what a new order may use."""

    asset: str
    total: Decimal
    locked: Decimal

    @property
    def available(self) -> Decimal:
        return max(self.total - self.locked, ZERO)


@dataclass(frozen=True, slots=True)
class OrderRequest:
    """One instruction, already on the market's grids. `price` of a MARKET order is an estimate, where an exchange
    takes one to bound the fill; `stop_price` belongs to STOP_* only. `may_repeat`: one just like it may have ended
    moments ago, so an exchange's guard against identical orders is not wanted (contract: nobitex 6.1)."""

    client_order_id: str
    symbol: str
    side: Side
    type: OrderType
    quantity: Decimal
    price: Decimal | None = None
    stop_price: Decimal | None = None
    may_repeat: bool = False


@dataclass(frozen=True, slots=True)
class OcoRequest:
    """Target and stop as one pair: `price` is the LIMIT leg, `stop_price` triggers the other, which then rests at
    `stop_limit_price`. The exchange cancels one when the other executes."""

    client_order_id: str
    symbol: str
    side: Side
    quantity: Decimal
    price: Decimal
    stop_price: Decimal
    stop_limit_price: Decimal
    may_repeat: bool = False


@dataclass(frozen=True, slots=True)
class OrderRef:
    """How to name an order to its exchange. `submitted_at` bounds history look-ups."""

    symbol: str
    client_order_id: str | None = None
    exchange_order_id: str | None = None
    submitted_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Fill:
    """One execution of part of an order. `trade_id` is unique within an account. The fee is in `fee_asset`."""

    trade_id: str
    symbol: str
    side: Side
    price: Decimal
    quantity: Decimal
    fee: Decimal
    fee_asset: str
    executed_at: datetime
    exchange_order_id: str | None = None
    client_order_id: str | None = None


@dataclass(frozen=True, slots=True)
class OrderReport:
    """The exchange's word on one order at one moment. Quantities are cumulative. `fills` is complete when
    `fills_complete`; otherwise ask `fetch_fills`."""

    symbol: str
    side: Side
    status: OrderStatus
    quantity: Decimal
    filled_quantity: Decimal
    client_order_id: str | None = None
    exchange_order_id: str | None = None
    type: OrderType | None = None
    price: Decimal | None = None
    stop_price: Decimal | None = None
    average_price: Decimal | None = None
    fee: Decimal | None = None
    created_at: datetime | None = None
    pair_id: str | None = None  # the exchange id of the other leg of an OCO
    fills: tuple[Fill, ...] = ()
    fills_complete: bool = False
    raw: Mapping[str, Any] = field(default_factory=dict)


class ProtectionMode(IntEnum):
    """How a position can be protected on an account, best first (DESIGN.md section 4)."""

    NATIVE_OCO = 1
    FREE_STOPS = 2
    LOCKING_STOPS = 3
    NO_STOPS = 4


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an account can really do. Defaults are the worse value: what is not known is not assumed."""

    oco: bool = False
    stop_market: bool = False
    stop_limit: bool = False
    stops_lock_balance: bool = True
    finds_closed_by_client_id: bool = False
    market_takes_price: bool = False  # a MARKET order accepts a bounding price

    @property
    def protection_mode(self) -> ProtectionMode:
        if self.oco:
            return ProtectionMode.NATIVE_OCO
        if not self.stop_market and not self.stop_limit:
            return ProtectionMode.NO_STOPS
        return ProtectionMode.LOCKING_STOPS if self.stops_lock_balance else ProtectionMode.FREE_STOPS


@dataclass(frozen=True, slots=True)
class KeyDetails:
    """What an exchange tells about the key in use. None: it does not tell."""

    scopes: frozenset[str] | None = None  # of "read", "trade", "withdraw"
    expires_at: datetime | None = None


def canonical_asset(asset: str) -> str:
    """TMN and RLS are both IRT (quoted in toman); every other asset is itself."""
    return _CANONICAL_ASSET.get(asset, asset)


def round_to(value: Decimal, grid: Decimal, rounding: str) -> Decimal:
    """`value` on `grid` (a tick or step size greater than zero), in the direction of `rounding`."""
    return (value / grid).to_integral_value(rounding) * grid


def round_down(value: Decimal, grid: Decimal) -> Decimal:
    return round_to(value, grid, ROUND_DOWN)
