"""Does the exchange's ledger equal ours? Asked of the paper exchange, which tells the whole truth of an account."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from algo.models import Account, Fill, Order, ProbeOrder
from providers.types import ZERO, Side, canonical_asset


def ledger_difference(account: Account, truth: Mapping[str, Any]) -> Decimal:
    """Sum of everything that differs between `truth` (one venue of the paper exchange's account) and the database.

    Balances must be deposits plus our booked fills to the last digit; each order of the exchange must be ours with the
    same filled quantity; an order unknown to either side counts as 1. Zero means that the books agree.
    """
    return _balance_difference(account, truth) + _order_difference(account, truth["orders"])


def _balance_difference(account: Account, truth: Mapping[str, Any]) -> Decimal:
    expected = {asset: Decimal(amount) for asset, amount in truth["deposits"].items()}
    for fill in Fill.objects.filter(account=account).select_related("order__market"):
        market, sign = fill.order.market, Side(fill.order.side).sign
        for asset, change in (
            (market.base, sign * fill.quantity),
            (market.quote, -sign * fill.quantity * fill.price),
            (fill.fee_asset, -fill.fee),
        ):
            name = canonical_asset(asset)
            expected[name] = expected.get(name, ZERO) + change
    totals = {asset: Decimal(balance["total"]) for asset, balance in truth["balances"].items()}
    assets = expected.keys() | totals.keys()
    return sum((abs(expected.get(asset, ZERO) - totals.get(asset, ZERO)) for asset in assets), ZERO)


def _order_difference(account: Account, listed: list[Mapping[str, Any]]) -> Decimal:
    ours = {
        order.exchange_order_id: order.filled_quantity
        for order in Order.objects.filter(account=account, exchange_order_id__isnull=False)
    }
    probes = ProbeOrder.objects.filter(account=account, exchange_order_id__isnull=False)
    ours |= dict(probes.values_list("exchange_order_id", "filled_quantity"))
    theirs = {order["exchange_order_id"]: Decimal(order["filled_quantity"]) for order in listed}
    unknown = len(ours.keys() ^ theirs.keys())
    return sum((abs(ours[key] - theirs[key]) for key in ours.keys() & theirs.keys()), Decimal(unknown))
