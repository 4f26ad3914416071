"""Hand-made pictures of deals, orders and markets for the tests of decisions."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from algo.execution.views import Budgets, Control, DealView, OrderView, Quote
from algo.models import DealStatus, Role
from providers.clock import AnchoredClock
from providers.types import Capabilities, MarketRules, OrderStatus, OrderType, ProtectionMode, Side

NOW = datetime(2026, 11, 2, 10, 0, tzinfo=UTC)
BUDGETS = Budgets.of(AnchoredClock())
FREELY = Control()
KILLED = Control(entries_allowed=False, reason="kill switch")
FLATTEN = Control(entries_allowed=False, flatten=True, reason="everything out")

RULES = MarketRules(
    provider="wallex",
    symbol="BTCUSDT",
    base="BTC",
    quote="USDT",
    tick_size=Decimal("0.01"),
    step_size=Decimal("0.0001"),
    min_quantity=Decimal("0.0001"),
    min_notional=Decimal(5),
    maker_fee_rate=Decimal("0.002"),
    taker_fee_rate=Decimal("0.003"),
    market_band=Decimal("0.02"),
)
ABILITIES = {
    ProtectionMode.NATIVE_OCO: Capabilities(oco=True, stop_market=True, stop_limit=True),
    ProtectionMode.FREE_STOPS: Capabilities(stop_market=True, stop_limit=True, stops_lock_balance=False),
    ProtectionMode.LOCKING_STOPS: Capabilities(stop_market=True, stop_limit=True),
    ProtectionMode.NO_STOPS: Capabilities(),
}


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


def ago(count: float) -> datetime:
    """`count` seconds before NOW."""
    return NOW - seconds(count)


def order(role: Role, status: OrderStatus, *, side: Side = Side.BUY, **fields: Any) -> OrderView:
    """An order of a deal entered on `side`: 1 BTC, entry at 100, stop at 99, target at 102 (mirrored for SELL); read
    back a second ago, where the exchange knows it."""
    number = fields.pop("id", {Role.ENTRY: 1, Role.STOP: 10, Role.TARGET: 20, Role.EXIT: 30}[role])
    quantity = Decimal(fields.pop("quantity", 1))
    known = status not in (OrderStatus.PENDING, OrderStatus.SUBMITTED, OrderStatus.REJECTED)
    filled = Decimal(fields.pop("filled", quantity if status is OrderStatus.FILLED else 0))
    values: dict[str, Any] = {
        "id": number,
        "role": role,
        "leg": number,
        "side": side if role is Role.ENTRY else side.opposite,
        "type": {Role.STOP: OrderType.STOP_MARKET, Role.TARGET: OrderType.LIMIT}.get(role, OrderType.MARKET),
        "status": status,
        "quantity": quantity,
        "client_order_id": f"P1{number}",
        "exchange_order_id": f"x{number}" if known else None,
        "created_at": ago(60),
        "filled": filled,
        "booked": filled,
        "submitted_at": None if status is OrderStatus.PENDING else ago(60),
        "accepted_at": ago(60) if known else None,
        "checked_at": ago(0.5) if known else None,
        "closed_at": ago(50) if status.is_final else None,
        "cancel_requested_at": ago(0.5) if status is OrderStatus.CANCELING else None,
        "average_price": Decimal(100) if filled else None,
        "stop_price": Decimal(100) - side.sign if role is Role.STOP else None,
        "price": Decimal(100) + 2 * side.sign if role is Role.TARGET else None,
    }
    return OrderView(**(values | fields))


def entry(side: Side = Side.BUY, **fields: Any) -> OrderView:
    """The entry, filled; a long one paid no fee in base unless `fee_base` says so."""
    return order(Role.ENTRY, fields.pop("status", OrderStatus.FILLED), side=side, **fields)


def stop(status: OrderStatus = OrderStatus.OPEN, **fields: Any) -> OrderView:
    return order(Role.STOP, status, **fields)


def target(status: OrderStatus = OrderStatus.OPEN, **fields: Any) -> OrderView:
    return order(Role.TARGET, status, **fields)


def leave(status: OrderStatus = OrderStatus.OPEN, **fields: Any) -> OrderView:
    """An order of role EXIT."""
    return order(Role.EXIT, status, **fields)


def pair(status: OrderStatus = OrderStatus.OPEN, *, side: Side = Side.BUY, **fields: Any) -> list[OrderView]:
    """Both legs of an OCO, target first, as they are planned."""
    return [
        target(status, side=side, pair_id=10, **fields),
        stop(status, side=side, pair_id=20, type=OrderType.STOP_LIMIT, price=Decimal(100) - 4 * side.sign, **fields),
    ]


def deal(*orders: OrderView, mode: int = 3, side: Side = Side.BUY, **fields: Any) -> DealView:
    """An open deal of 1 BTC at 100: stop 1 % behind, target 2 % ahead, no trailing."""
    mode = ProtectionMode(mode)
    values: dict[str, Any] = {
        "id": 7,
        "side": side,
        "status": DealStatus.OPEN,
        "mode": mode,
        "rules": RULES,
        "capabilities": ABILITIES[mode],
        "planned_quantity": Decimal(1),
        "planned_price": Decimal(100),
        "stop_percent": Decimal(1),
        "target_percent": Decimal(2),
        "initial_stop_price": Decimal(100) - side.sign,
        "stop_price": Decimal(100) - side.sign,
        "target_price": Decimal(100) + 2 * side.sign,
        "best_price": Decimal(100),
        "entry_price": Decimal(100),
        "created_at": ago(60),
        "orders": tuple(sorted(orders or (entry(side),), key=lambda each: (each.created_at, each.id))),
    }
    return DealView(**(values | fields))


def quote(price: str | float = 100, *, last: str | None = None) -> Quote:
    """A market around `price`, bid and ask equal to it (what closing gets is what there is)."""
    at = Decimal(str(price))
    return Quote(bid=at, ask=at, as_of=NOW, last=at if last is None else Decimal(last))


def later(view: OrderView, **fields: Any) -> OrderView:
    return replace(view, **fields)
