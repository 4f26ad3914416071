"""The last rung of the recovery ladder: did the account's balance move as only this order could have moved it? Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from algo.execution.views import DealView, OrderView
from providers.types import ZERO, Balance, MarketRules, OrderReport, OrderType, Side

LEAST_FILL = Decimal("0.01")  # of the order's size: what a market order may have got at least, to be worth a doubt
MOST_OF_LOCK = Decimal("0.9")  # of the order's size: locks are whole, less what an exchange computes differently


@dataclass(frozen=True, slots=True)
class Change:
    """What known orders did to one asset since a baseline was read."""

    total: Decimal = ZERO
    locked: Decimal = ZERO

    def __add__(self, other: Change) -> Change:
        return Change(self.total + other.total, self.locked + other.locked)


def asset_spent(deal: DealView, order: OrderView) -> str:
    """The asset that an order takes from the account, or holds while it rests."""
    return deal.rules.base if order.side is Side.SELL else deal.rules.quote


def movement(deal: DealView, order: OrderView, now: Balance, explained: Change) -> str:
    """A sentence where the balance says that the order may have arrived; empty where it says nothing, which is no
    proof either. Without a baseline it says nothing."""
    if order.balance_before is None or order.locked_before is None:
        return ""
    size = _size(deal, order)
    spent = order.balance_before + explained.total - now.total
    # What a known order let go may have been gone before the baseline: an order never holds more than is held at all.
    held = min(now.locked - order.locked_before - explained.locked, now.locked)
    if spent >= size * LEAST_FILL:
        return f"{_text(spent)} {now.asset} left the account since, and no known order spent it"
    if held >= size * MOST_OF_LOCK:
        return f"{_text(held)} {now.asset} more are locked than known orders hold"
    return ""


def change_by(report: OrderReport, rules: MarketRules, asset: str, since: datetime) -> Change:
    """What somebody else's order on a market did to `asset`, as far as the exchange's list tells. Its fee is left out
    where it is not told: it is within what is forgiven."""
    if report.created_at is not None and report.created_at < since and not report.fills_complete:
        return Change()  # nobody can say which part of it came after the baseline
    price = report.average_price or report.price or ZERO
    filled, paid = filled_since(report, since), report.fee or ZERO
    gives = rules.base if report.side is Side.SELL else rules.quote
    total = ZERO
    if asset == rules.base:
        total = report.side.sign * filled
    elif asset == rules.quote:
        total = -report.side.sign * filled * price
    total -= paid if asset != gives and filled else ZERO
    is_new = report.created_at is None or report.created_at >= since
    rests = is_new and asset == gives and not report.status.is_final and report.type is not OrderType.MARKET
    rate = Decimal(1) if report.side is Side.SELL else report.price or report.stop_price or ZERO
    return Change(total, (report.quantity - report.filled_quantity) * rate if rests else ZERO)


def filled_since(report: OrderReport, since: datetime) -> Decimal:
    """How much of an order was filled at or after `since`; all of it where its fills are not told."""
    return filled_between(report, since, None)


def filled_between(report: OrderReport, since: datetime, until: datetime | None) -> Decimal:
    """How much of an order was filled from `since` on and before `until`; all of it where its fills are not told."""
    if not report.fills_complete:
        return report.filled_quantity
    times = (fill for fill in report.fills if since <= fill.executed_at and (until is None or fill.executed_at < until))
    return sum((fill.quantity for fill in times), ZERO)


def _size(deal: DealView, order: OrderView) -> Decimal:
    """How much of the asset the whole order would spend or hold."""
    price = order.price or order.stop_price or deal.planned_price
    return order.quantity if order.side is Side.SELL else order.quantity * price


def _text(value: Decimal) -> str:
    return format(value.normalize(), "f")
