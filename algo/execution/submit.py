"""Putting orders on the wire. The row is committed as SUBMITTED before the first byte leaves, and whatever happens
after that, only the exchange's word changes it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta

from algo.execution.ledger import Ledger
from algo.execution.times import age, age_by_both, sent_at_exchange
from algo.execution.views import Budgets, DealView, OrderView
from algo.models import Role
from providers.budgets import Priority, budget_priority, send_within, without_waiting
from providers.clock import Clock
from providers.errors import (
    AuthFailed,
    BadPayload,
    OrderNotFound,
    OrderRejected,
    OutcomeUnknown,
    RejectReason,
    Unavailable,
)
from providers.interface import ExchangeProvider
from providers.types import OcoRequest, OrderRef, OrderReport, OrderRequest, OrderStatus

logger = logging.getLogger("algo.orders")


def order_submit(
    deal: DealView, order: OrderView, *, ledger: Ledger, provider: ExchangeProvider, clock: Clock, budgets: Budgets
) -> None:
    """Send a planned order (with its pair) at most once. Raises `Unavailable`, `AuthFailed` when nothing was sent."""
    began, claimed_at = clock.monotonic(), clock.now()
    ledger.note_baseline(deal, order, not_before=claimed_at - budgets.baseline_max_age, now=claimed_at)
    if not ledger.claim_send(order, now=claimed_at):
        return  # another worker got here first, or entries were switched off
    # Not by `now`: somebody may set that clock back while this process stalls, or forward while it does not.
    left = budgets.send_deadline - clock.wall(clock.monotonic() - began)
    if left < timedelta(0):
        # Too late to send, and provably not sent: what rests goes out at the next step, an entry is looked at again.
        ledger.release_send(order, reason="the process stalled before sending", now=clock.now())
        return
    urgency = Priority.NORMAL if order.role == Role.ENTRY else Priority.EXITS
    try:
        with budget_priority(urgency), send_within(left.total_seconds() / clock.speed):
            reports = _send(deal, order, provider)
    except OrderRejected as exc:
        ledger.end_order(order, OrderStatus.REJECTED, reason=f"{exc.reason}: {exc}", now=clock.now())
        if exc.reason is RejectReason.INSUFFICIENT_BALANCE and order.role != Role.ENTRY:
            _read_again(deal, ledger=ledger, provider=provider, clock=clock)
    except (Unavailable, AuthFailed) as exc:
        ledger.release_send(order, reason=str(exc), now=clock.now())
        raise
    except OutcomeUnknown as exc:
        ledger.note_unknown(order, reason=str(exc), now=clock.now())
    else:
        for leg, report in reports:
            order_take(deal.id, leg, report, ledger=ledger, provider=provider, clock=clock, read_back=False)


def _read_again(deal: DealView, *, ledger: Ledger, provider: ExchangeProvider, clock: Clock) -> None:
    """The balance is not what our books say: something was filled. Ask, never just try again: first what still works,
    which most likely was, then what we took for ended, until a fill shows. Where calls are few, each takes a second."""
    for order in sorted(deal.orders, key=lambda order: order.is_final):
        if order.exchange_order_id is None:
            continue
        order_ask(deal, order, ledger=ledger, provider=provider, clock=clock)
        if sum(each.filled for each in ledger.deal(deal.id).orders) != sum(each.filled for each in deal.orders):
            return


def _send(deal: DealView, order: OrderView, provider: ExchangeProvider) -> list[tuple[OrderView, OrderReport]]:
    symbol = deal.rules.symbol
    if order.pair_id is None:
        request = OrderRequest(
            client_order_id=order.client_order_id,
            symbol=symbol,
            side=order.side,
            type=order.type,
            quantity=order.quantity,
            price=order.price,
            stop_price=order.stop_price,
            may_repeat=order.role != Role.ENTRY,
        )
        return [(order, provider.create_order(request))]
    stop = pair_of(deal, order)
    if order.price is None or stop.price is None or stop.stop_price is None:
        raise ValueError(f"The OCO of order {order.client_order_id} lacks a price; it was not sent.")
    limit_report, stop_report = provider.create_oco(
        OcoRequest(
            client_order_id=order.client_order_id,
            symbol=symbol,
            side=order.side,
            quantity=order.quantity,
            price=order.price,
            stop_price=stop.stop_price,
            stop_limit_price=stop.price,
            may_repeat=True,
        )
    )
    return [(order, limit_report), (stop, stop_report)]


def pair_of(deal: DealView, order: OrderView) -> OrderView:
    """The other leg of an OCO."""
    return next(other for other in deal.orders if other.id == order.pair_id)


def order_take(
    deal_id: int,
    order: OrderView,
    report: OrderReport,
    *,
    ledger: Ledger,
    provider: ExchangeProvider,
    clock: Clock,
    adopting: bool = False,
    read_back: bool = True,
) -> None:
    """Record a report together with the fills behind it. Fills that cannot be read now are read next time: what the
    report says about the order counts at once."""
    fills = report.fills
    refused: AuthFailed | None = None
    if report.filled_quantity > order.booked and not report.fills_complete:
        try:
            with without_waiting():  # few such lists are allowed, and a position waits for its stop
                fills = tuple(provider.fetch_fills(report))
        except AuthFailed as exc:
            refused = exc
        except (Unavailable, BadPayload, OrderNotFound) as exc:
            logger.warning("fills of order=%s are not readable yet: %s", order.client_order_id, exc)
    ledger.apply_report(order, report, fills, now=clock.now(), adopting=adopting, read_back=read_back)
    if refused:
        raise refused


def is_as_known(order: OrderView, report: OrderReport) -> bool:
    """Whether a report of an order that rests tells no more than that it still rests, untouched: then nothing is to be
    recorded but that it was read."""
    untouched = not (report.filled_quantity or order.filled or order.booked or report.fee)
    return report.status is OrderStatus.OPEN and untouched and order.accepted_at is not None


def ref_of(deal: DealView, order: OrderView) -> OrderRef:
    """How to name an order to its exchange. The stop leg of an OCO has no client id there."""
    second_leg = order.pair_id is not None and order.role == Role.STOP
    return OrderRef(
        symbol=deal.rules.symbol,
        client_order_id=None if second_leg else order.client_order_id,
        exchange_order_id=order.exchange_order_id,
        submitted_at=order.submitted_at,
    )


def order_ask(deal: DealView, order: OrderView, *, ledger: Ledger, provider: ExchangeProvider, clock: Clock) -> None:
    """Read an order back. One that is not found keeps its state until it is not found a second time: absence from one
    answer is not an answer."""
    try:
        report = provider.fetch_order(ref_of(deal, order))
    except OrderNotFound:
        found = _find_in_history(deal, order, provider, clock)
        if found is None:
            _not_found(order, ledger=ledger, provider=provider, clock=clock)
            return
        report = found
    order_take(deal.id, order, report, ledger=ledger, provider=provider, clock=clock)


def _not_found(order: OrderView, *, ledger: Ledger, provider: ExchangeProvider, clock: Clock) -> None:
    now, budgets = clock.now(), Budgets.of(clock)
    if order.is_missing and order.negative_at is not None and age(order.negative_at, now) < budgets.negatives_apart:
        return  # too soon after the first look to count as a second
    if order.is_missing and age_by_both(provider, order.accepted_at or order.created_at, now) >= budgets.settle_other:
        logger.error("order=%s is lost: the exchange does not know it any more", order.client_order_id)
        ledger.lose_order(order, now=now)
        return
    logger.error("order=%s is not known to the exchange; it keeps its state for now", order.client_order_id)
    ledger.note_negative(order, now=now)


def history_of(deal: DealView, order: OrderView, provider: ExchangeProvider, clock: Clock) -> Sequence[OrderReport]:
    """The exchange's list of every status since shortly before the order was sent, by the exchange's clock."""
    sent = sent_at_exchange(provider, order.sent_at, clock.now())
    return provider.orders_since(deal.rules.symbol, sent - clock.wall(30))


def _find_in_history(deal: DealView, order: OrderView, provider: ExchangeProvider, clock: Clock) -> OrderReport | None:
    for report in history_of(deal, order, provider, clock):
        same_id = order.exchange_order_id is not None and report.exchange_order_id == order.exchange_order_id
        if same_id or report.client_order_id == order.client_order_id:
            return report
    return None


def order_cancel(
    deal: DealView, order: OrderView, reason: str, *, ledger: Ledger, provider: ExchangeProvider, clock: Clock
) -> None:
    """Ask for a cancel and read the answer: it may be that the order was filled."""
    ledger.request_cancel(order, reason=reason, now=clock.now())
    try:
        report = provider.cancel_order(ref_of(deal, order))
    except (OrderNotFound, OrderRejected, OutcomeUnknown) as exc:
        logger.info("cancel of order=%s gave no answer (%s); reading it back", order.client_order_id, exc)
        order_ask(deal, order, ledger=ledger, provider=provider, clock=clock)
        return
    order_take(deal.id, order, report, ledger=ledger, provider=provider, clock=clock)
    if order.pair_id is not None:
        partner = pair_of(deal, order)
        if not partner.is_final:  # cancelling one leg cancels both
            order_ask(deal, partner, ledger=ledger, provider=provider, clock=clock)
