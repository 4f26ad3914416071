"""What tickets say: what happened, what is safe, and what to do. The same words in every ledger."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from algo.execution.views import OrderView
from algo.models import Provider
from algo.models.fields import plain
from providers.types import Fill, OrderReport, Side

WAITING = "New entries on this market wait for the answer; positions stay protected."


def unknown_order(provider: str, report: OrderReport) -> str:
    exchange = Provider(provider).label
    return (
        f"{exchange} shows a {report.side} order of {_text(report.quantity)} {report.symbol} that the platform did not "
        "place, or cannot take into its books. It was left alone. Adopt it, close it, or ignore it where you placed "
        f"it. {WAITING}"
    )


def order_in_doubt(order: OrderView, reason: str) -> str:
    return (
        f"Our {order.role} order {order.client_order_id} is nowhere at the exchange, but {reason}. It counts as never "
        "arrived, and is taken back should it turn up. Look at the exchange, and ignore this with a note. "
        f"{WAITING}"
    )


def order_missing(order: OrderView) -> str:
    return (
        f"The exchange does not know our {order.role} order {order.client_order_id} any more. It counts cancelled, and "
        "its deal is protected anew. Look at the exchange whether it was filled, and ignore this with a note. "
        f"{WAITING}"
    )


def position_gone(deal_id: int, missing: Decimal, base: str) -> str:
    return (
        f"Deal {deal_id} was closed with {_text(missing)} {base} still open by our books: the account does not hold "
        "them. Somebody moved them by hand. Nothing was bought back. Find out who did, and ignore this with a note. "
        f"{WAITING}"
    )


def closed_too_much(deal_id: int, over: Decimal, base: str) -> str:
    return (
        f"Deal {deal_id} was closed with {_text(over)} {base} more than it had: two of its orders were filled where "
        "one would have done. No deal counts the difference. Settle it at the exchange, and ignore this with a note. "
        f"{WAITING}"
    )


def unlisted_trade(trade: Fill, symbol: str) -> str:
    return (
        f"The exchange shows a trade of {_text(trade.quantity)} {symbol} ({trade.side}) of an order that neither it "
        "nor the platform lists. Nothing was done about it. Find out whose it is, and ignore this with a note. "
        f"{WAITING}"
    )


def unexplained_trades(trades: Sequence[Fill], symbol: str, side: Side, explained: Decimal) -> str:
    total = sum((trade.quantity for trade in trades), Decimal(0))
    return (
        f"The exchange shows trades of {_text(total)} {symbol} ({side}), and all orders together explain "
        f"{_text(explained)}. Nothing was done about it. Find out whose the rest is, and ignore this with a note. "
        f"{WAITING}"
    )


def probe_executed(side: Side, filled: Decimal, symbol: str) -> str:
    return (
        f"A probe order executed: {side} {_text(filled)} {symbol}. It was meant to rest far away. Nothing else was "
        f"done. Settle the balance at the exchange, and ignore this with a note. {WAITING}"
    )


def _text(value: Decimal) -> str:
    return f"{plain(value):f}"
