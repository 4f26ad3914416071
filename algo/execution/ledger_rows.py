"""Rows of the ledger: how an order is planned, how a report changes it, and what a deal adds up to."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db.models import Sum

from algo.execution.identity import client_order_id
from algo.execution.views import Control, DealView, OrderView
from algo.models import (
    Account,
    AccountState,
    CloseReason,
    Deal,
    DealStatus,
    Fill,
    KillSwitch,
    Order,
    OrderEvent,
    Role,
)
from algo.selectors.halts import Standing, halt_for
from algo.selectors.statement import changes_of
from algo.services.deal_events import amount_text, deal_detail, deal_payload, record_deal_event
from providers import types
from providers.types import ZERO, Capabilities, OrderReport, OrderStatus, OrderType, ProtectionMode, Side

__all__ = ["amount_text", "deal_detail", "deal_payload", "record_deal_event"]  # for both ledgers, beside what is here

orders_log = logging.getLogger("algo.orders")
deals_log = logging.getLogger("algo.deals")

FORGIVEN = Decimal("0.005")  # of what was entered: fees that are charged otherwise than expected
_FREE = Control()
MOST_FEE_RATE = Decimal("0.02")  # a fee above this share of the quantity is not in base, whatever the report implies


def order_plan(
    deal: Deal,
    *,
    role: Role,
    leg: int,
    side: Side,
    kind: OrderType,
    quantity: Decimal,
    price: Decimal | None,
    stop_price: Decimal | None,
    reason: str,
    now: datetime,
) -> Order:
    """The intent row, with its name at the exchange, before the first byte is sent."""
    account = deal.account
    order = Order.objects.create(
        deal=deal,
        account=account,
        market_id=deal.market_id,
        role=role,
        leg=leg,
        client_order_id=client_order_id(account.environment, account.public_id, *intent_key(deal), role, leg),
        side=side,
        type=kind,
        quantity=quantity,
        price=price,
        stop_price=stop_price,
        reason=reason[:200],
        created_at=now,
    )
    record_event(order.pk, "", OrderStatus.PENDING, now, reason)
    return order


def intent_key(deal: Any) -> tuple[object, ...]:
    """What the deal was decided on, not its row number: after a restore from a backup, numbers repeat."""
    return deal.config_id, deal.market_id, int(deal.bar_open_at.timestamp()), deal.side


def control_of(account_id: int, config_id: int, market_id: int, *, lock: bool = False) -> Control:
    """What the switches over an account, a strategy and a market allow now. `lock`: see `halt_for`."""
    standing = halt_for(account_id, config_id, market_id, lock=lock)
    return control_under(standing, Account.objects.values_list("state", flat=True).get(pk=account_id))


def control_under(standing: Standing, state: str) -> Control:
    """What a switch and the state of the account allow together."""
    if standing.stops_entries:
        cancel = standing.level.severity >= KillSwitch.CANCEL.severity
        return Control(False, cancel, standing.level == KillSwitch.FLATTEN, standing.reason)
    return _FREE if state == AccountState.ACTIVE else Control(False, reason=f"the account is {state}")


def urgency(deal: Any) -> tuple[int, datetime, int]:
    """Sorts live deals: those in danger first, then the others with a position, then those still to enter."""
    in_danger = bool(deal.exit_reason) or deal.unprotected_since is not None
    rank = 2 if deal.status in (DealStatus.PLANNED, DealStatus.ENTERING) else 0 if in_danger else 1
    return rank, deal.created_at, deal.pk


def with_pair(order: OrderView) -> list[int]:
    return [order.id, order.pair_id] if order.pair_id else [order.id]


def deal_view(deal: Any, rules: types.MarketRules, capabilities: Capabilities, orders: Iterable[OrderView]) -> DealView:
    """`orders` oldest first."""
    return DealView(
        id=deal.pk,
        side=Side(deal.side),
        status=DealStatus(deal.status),
        mode=ProtectionMode(deal.protection_mode),
        rules=rules,
        capabilities=capabilities,
        planned_quantity=deal.planned_quantity,
        planned_price=deal.planned_price,
        stop_percent=Decimal(str(deal.rules["stop_loss_percent"])),
        target_percent=Decimal(str(deal.rules["take_profit_percent"])),
        trailing_percent=Decimal(str(deal.rules.get("trailing_stop_percent", 0))),
        trailing_step_percent=Decimal(str(deal.rules.get("trailing_step_percent", 0))),
        initial_stop_price=deal.initial_stop_price,
        stop_price=deal.stop_price,
        target_price=deal.target_price,
        best_price=deal.best_price,
        created_at=deal.created_at,
        exit_reason=CloseReason(deal.exit_reason) if deal.exit_reason else None,
        entry_price=deal.entry_price,
        swapped_at=deal.swapped_at,
        crossed_at=deal.crossed_at,
        trailed_at=deal.trailed_at,
        opened_at=deal.opened_at,
        unprotected_since=deal.unprotected_since,
        look_asked_at=deal.look_asked_at,
        orders=tuple(orders),
    )


def order_view(order: Any, rules: types.MarketRules) -> OrderView:
    return OrderView(
        id=order.pk,
        role=Role(order.role),
        leg=order.leg,
        side=Side(order.side),
        type=OrderType(order.type),
        status=OrderStatus(order.status),
        quantity=order.quantity,
        client_order_id=order.client_order_id,
        exchange_order_id=order.exchange_order_id,
        price=order.price,
        stop_price=order.stop_price,
        filled=order.filled_quantity,
        booked=order.booked or ZERO,
        fee_base=fee_base(order, rules),
        average_price=order.average_price,
        attempts=order.attempts,
        pair_id=order.pair_id,
        reason=order.reason,
        cancel_asked_at=order.cancel_asked_at,
        cancel_requested_at=order.cancel_requested_at,
        unknown_since=order.unknown_since,
        negative_at=order.negative_at,
        created_at=order.created_at,
        submitted_at=order.submitted_at,
        accepted_at=order.accepted_at,
        checked_at=order.checked_at,
        closed_at=order.closed_at,
        balance_before=order.balance_before,
        locked_before=order.locked_before,
        balance_read_at=order.balance_read_at,
    )


def fee_base(order: Any, rules: types.MarketRules) -> Decimal:
    """What the fee took out of the base that was bought: as booked, and for fills that are not booked yet, as the
    exchange's report says (its fees may be missing, or in another asset) or else as the account's rate makes it."""
    known, unbooked = order.booked_fee_base or ZERO, order.filled_quantity - (order.booked or ZERO)
    if unbooked <= 0 or order.side != Side.BUY:
        return known
    estimate = known + unbooked * rules.taker_fee_rate
    plausible = order.fee_asset == rules.base and order.fee <= order.filled_quantity * MOST_FEE_RATE
    return max(estimate, order.fee) if plausible else estimate


def closed_too_much(deal: DealView) -> Decimal:
    """By how much a deal closed more than it had entered; zero where fees and grids explain it."""
    entered = sum((order.filled for order in deal.orders if order.role == Role.ENTRY), ZERO)
    return -deal.position if -deal.position > max(deal.rules.step_size, entered * FORGIVEN) else ZERO


def came_after(fill: Any, since: datetime) -> bool:
    """Whether a fill came after a moment of our clock. The exchange's stamp may be of a clock that was wrong: our own
    times have the last word."""
    sent, booked = fill.order.submitted_at, fill.booked_at
    if sent is not None and sent >= since:
        return True
    return fill.executed_at >= since and (booked is None or booked >= since)


def is_ambiguous(fill: Any, since: datetime, reading: timedelta) -> bool:
    """Whether nobody can say that balances hold a fill which were read from `since` on, for `reading` at most: it came
    meanwhile, or was booked since with an earlier stamp, which may be of a clock that was wrong."""
    sent, booked = fill.order.submitted_at, fill.booked_at
    if sent is not None and sent >= since:
        return False
    return booked is not None and booked >= since and fill.executed_at < since + reading


def effect_on(asset: str, fill: Any) -> Decimal:
    """What a booked fill did to the account's total of `asset`."""
    return sum((change for _, name, change in changes_of(fill) if name == asset), ZERO)


def lock_change(asset: str, order: Any, since: datetime, capabilities: Capabilities) -> Decimal:
    """How much more of `asset` one of our orders holds now than at `since`. An OCO holds once, with its target leg."""
    kind, selling = OrderType(order.type), order.side == Side.SELL
    second_leg = order.pair_id is not None and order.role == Role.STOP
    free = kind is OrderType.MARKET or (kind.is_stop and not capabilities.stops_lock_balance and not order.pair_id)
    if second_leg or free or (order.market.base if selling else order.market.quote) != asset:
        return ZERO
    rate = Decimal(1) if selling else order.price or order.stop_price or ZERO
    now = ZERO if OrderStatus(order.status).is_final else order.quantity - order.filled_quantity
    then = order.quantity if order.accepted_at <= since else ZERO
    return (now - then) * rate


def record_event(
    order_id: int, old: str, new: str, now: datetime, reason: str = "", raw: dict[str, Any] | None = None
) -> None:
    OrderEvent.objects.create(
        order_id=order_id, at=now, from_status=old, to_status=new, reason=reason[:400], raw=raw or {}
    )


def take_identity(row: Any, report: OrderReport, now: datetime) -> None:
    if row.exchange_order_id is None and report.exchange_order_id is not None:
        row.exchange_order_id = report.exchange_order_id
    if row.accepted_at is None:
        row.accepted_at = now


def take_amounts(row: Any, report: OrderReport) -> None:
    """Cumulative amounts are assignments, and never go back: a stale read cannot undo a fill."""
    filled = min(report.filled_quantity, row.quantity)
    if filled < row.filled_quantity:
        return
    row.filled_quantity = filled
    row.average_price = report.average_price or row.average_price
    received = row.market.base if row.side == Side.BUY else row.market.quote
    row.fee_asset = row.fee_asset or received
    if report.fee is not None and report.fee >= row.fee:
        row.fee = report.fee


def fills_to_book(row: Any, known: Collection[str], booked: Decimal, fills: Sequence[types.Fill]) -> list[types.Fill]:
    """Those of `fills` that are not `known`, as long as they make no more of the order than the exchange says was
    filled: the same execution under another name is no second one (contract: wallex 5.3: fills have no id)."""
    new: dict[str, types.Fill] = {}
    for fill in fills:
        if fill.trade_id in known or fill.trade_id in new:
            continue
        if booked + fill.quantity > row.filled_quantity:
            orders_log.error("fill=%s order=%s is more than was filled: not booked", fill.trade_id, row.client_order_id)
            continue
        booked += fill.quantity
        new[fill.trade_id] = fill
    return list(new.values())


def take_fees(row: Order) -> None:
    """Fees as the fills state them, where the exchange's order says nothing (contract: nobitex 6.6)."""
    booked = Fill.objects.filter(order=row, fee_asset=row.fee_asset).aggregate(total=Sum("fee"))["total"] or ZERO
    if booked > row.fee:
        row.fee = booked
        row.save(update_fields=["fee"])


def status_after(old: OrderStatus, reported: OrderStatus, row: Any, adopting: bool) -> OrderStatus:
    """What a report makes of a status; a stale one makes nothing of it."""
    if reported is OrderStatus.REJECTED and row.filled_quantity > 0:
        reported = OrderStatus.CANCELED  # refused after a part of it was filled: the part counts
    if adopting or old is OrderStatus.REJECTED:
        return reported
    if old.is_final:
        return OrderStatus.FILLED if reported is OrderStatus.FILLED else old
    if not reported.is_final and old is OrderStatus.CANCELING:
        return old  # still working: the cancel has not taken effect yet
    if old is OrderStatus.PARTIALLY_FILLED and reported is OrderStatus.OPEN:
        return old
    return reported


def outran_cancel(old: OrderStatus, new: OrderStatus) -> bool:
    """A fill that came after the end, told by a plain look at the order: no adoption."""
    return old in (OrderStatus.CANCELED, OrderStatus.EXPIRED) and new is OrderStatus.FILLED


def end_unprotected(row: Any, now: datetime) -> Decimal:
    """Close the interval; how long it was, in seconds."""
    if row.unprotected_since is None:
        return ZERO
    gap = Decimal(max(now - row.unprotected_since, timedelta(0)) // timedelta(microseconds=1)) / 1_000_000
    row.unprotected_seconds += gap
    row.unprotected_since = None
    return gap


def begin_unprotected(row: Order, now: datetime) -> None:
    """From the moment its cover is asked to go, a position counts as bare."""
    if is_cover(row):
        bare = Deal.objects.filter(pk=row.deal_id, opened_at__isnull=False, unprotected_since=None)
        bare.update(unprotected_since=now)


def is_cover(row: Any) -> bool:
    """Whether a position may be bare once this order of its deal is gone."""
    beside = row.role == Role.TARGET and row.deal.protection_mode == ProtectionMode.FREE_STOPS
    return row.role != Role.ENTRY and not beside


def refresh_totals(deal: Deal) -> None:
    """Average prices, quantities and fees of a deal, from its booked fills."""
    add_up(deal, fills_of(deal))
    deal.save(update_fields=["entry_quantity", "entry_price", "exit_quantity", "exit_price", "fees_quote"])


def fills_of(deal: Deal) -> list[Fill]:
    return list(Fill.objects.filter(order__deal=deal).select_related("order"))


def add_up(deal: Any, fills: Sequence[Any]) -> None:
    base = deal.market.base
    entry = [fill for fill in fills if fill.order.role == Role.ENTRY]
    exits = [fill for fill in fills if fill.order.role != Role.ENTRY]
    deal.entry_quantity, deal.entry_price = weighted(entry)
    deal.exit_quantity, deal.exit_price = weighted(exits)
    deal.fees_quote = sum((fill.fee * fill.price if fill.fee_asset == base else fill.fee for fill in fills), ZERO)


def weighted(fills: Sequence[Any]) -> tuple[Decimal, Decimal | None]:
    quantity = sum((fill.quantity for fill in fills), ZERO)
    if not quantity:
        return ZERO, None
    notional = sum((fill.quantity * fill.price for fill in fills), ZERO)
    return quantity, (notional / quantity).quantize(Decimal("1e-12"))


def realised_profit(deal: Any, fills: Sequence[Any]) -> Decimal:
    """Quote received minus quote paid, minus fees taken in quote; what is left in base is valued at the exit price.

    A long deal that bought q, paid fee f in base and sold q - f - dust has the fee and the dust inside its quantities:
    profit = Σ exit notional − Σ entry notional − quote fees + dust × exit price. A short deal mirrors it.
    """
    base = deal.market.base
    cash = held = ZERO
    for fill in fills:
        sign = Side(fill.order.side).sign
        cash -= sign * fill.quantity * fill.price
        held += sign * fill.quantity
        if fill.fee_asset == base:
            held -= fill.fee
        else:
            cash -= fill.fee
    price = deal.exit_price or deal.entry_price or ZERO
    return (cash + held * price).quantize(Decimal("1e-12"))


def log_order(row: Any) -> None:
    orders_log.info(
        "%s%s order=%s cid=%s role=%s side=%s type=%s filled=%s/%s average=%s",
        settings.ORDER_MANAGEMENT_LOG_PREFIX,
        row.status.lower(),
        row.pk,
        row.client_order_id,
        row.role,
        row.side,
        row.type,
        row.filled_quantity,
        row.quantity,
        row.average_price,
    )


def log_deal(row: Any, what: str) -> None:
    deals_log.info("%sdeal=%s market=%s %s", settings.DEAL_PROCESSING_LOG_PREFIX, row.pk, row.market.symbol, what)


def log_stop(row: Any, what: str) -> None:
    deals_log.info("%sdeal=%s market=%s %s", settings.STOP_ORDER_MONITOR_LOG_PREFIX, row.pk, row.market.symbol, what)
