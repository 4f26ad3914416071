"""Reconciliation believes the exchange. It corrects what can be explained; the rest becomes a ticket for a person,
which blocks new entries on that market only. Running it twice changes nothing the second time."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import QuerySet

from algo.execution.identity import is_ours
from algo.execution.ledger import Ledger
from algo.execution.submit import order_ask, order_take
from algo.models import (
    FINISHED_DEALS,
    Account,
    CloseReason,
    Deal,
    DealStatus,
    Market,
    Order,
    Ticket,
    TicketKind,
)
from algo.services.outbox import event_record
from providers.clock import Clock
from providers.interface import ExchangeProvider
from providers.types import FINAL_STATUSES, OrderReport, OrderStatus

logger = logging.getLogger("algo.reconcile")

RECENT = timedelta(hours=1)


def reconcile(account: Account, ledger: Ledger, provider: ExchangeProvider, clock: Clock) -> None:
    """Compare our working orders with the exchange's, both ways, and recent own trades with our fills."""
    reports = provider.open_orders()
    for report in reports:
        _match_open(account, ledger, provider, clock, report)
    _ask_missing(account, ledger, provider, clock, reports)
    for market in _recent_markets(account, clock.now()):
        _match_history(account, ledger, provider, clock, market)
    Account.objects.filter(pk=account.pk).update(reconciled_at=clock.now())


def _match_open(
    account: Account, ledger: Ledger, provider: ExchangeProvider, clock: Clock, report: OrderReport
) -> None:
    row = _find(account, report)
    if row is None:
        _ticket_unknown_order(account, provider, report, clock.now())
    elif OrderStatus(row.status).is_final:
        _adopt(ledger, provider, clock, row, report)


def _find(account: Account, report: OrderReport) -> Order | None:
    orders = Order.objects.filter(account=account)
    if report.exchange_order_id:
        found = orders.filter(exchange_order_id=report.exchange_order_id).first()
        if found:
            return found
    return orders.filter(client_order_id=report.client_order_id).first() if report.client_order_id else None


def _ask_missing(
    account: Account, ledger: Ledger, provider: ExchangeProvider, clock: Clock, reports: Sequence[OrderReport]
) -> None:
    """Orders that work in our books but not in the exchange's list are asked for one by one."""
    listed = {report.exchange_order_id for report in reports}
    working = (OrderStatus.OPEN, OrderStatus.PARTIALLY_FILLED, OrderStatus.CANCELING)
    for row in Order.objects.filter(account=account, status__in=working).exclude(exchange_order_id__in=listed):
        deal = ledger.deal(row.deal_id)
        view = next(order for order in deal.orders if order.id == row.pk)
        order_ask(deal, view, ledger=ledger, provider=provider, clock=clock)


def _recent_markets(account: Account, now: datetime) -> QuerySet[Market]:
    """Markets where something of ours happened lately: history of the others cannot have changed through us."""
    return Market.objects.filter(orders__account=account, orders__created_at__gte=now - RECENT).distinct()


def _match_history(account: Account, ledger: Ledger, provider: ExchangeProvider, clock: Clock, market: Market) -> None:
    """Orders of every status in the last hour: what bears our name but has another end here is corrected."""
    for report in provider.orders_since(market.symbol, clock.now() - RECENT):
        row = _find(account, report)
        if row is None:
            if is_ours(report.client_order_id) or report.filled_quantity > 0:
                _ticket_unknown_order(account, provider, report, clock.now())
            continue
        given_up = row.status == OrderStatus.REJECTED and report.status is not OrderStatus.REJECTED
        grew = report.filled_quantity > row.filled_quantity and OrderStatus(row.status) in FINAL_STATUSES
        if given_up or grew:
            _adopt(ledger, provider, clock, row, report)


def _adopt(ledger: Ledger, provider: ExchangeProvider, clock: Clock, row: Order, report: OrderReport) -> None:
    """An order we had given up is alive, or was filled after its end: take it over and reopen its deal if needed."""
    deal = ledger.deal(row.deal_id)
    view = next(order for order in deal.orders if order.id == row.pk)
    logger.warning("adopting order=%s status=%s filled=%s", row.client_order_id, report.status, report.filled_quantity)
    _reopen(row.deal_id, clock.now())  # first: an open deal without a position closes itself, the reverse is naked
    order_take(deal.id, view, report, ledger=ledger, provider=provider, clock=clock, adopting=True)


@transaction.atomic
def _reopen(deal_id: int, now: datetime) -> None:
    deal = Deal.objects.select_for_update().get(pk=deal_id)
    if deal.status not in FINISHED_DEALS:
        return
    deal.status, deal.exit_reason, deal.close_reason = DealStatus.OPEN, CloseReason.EMERGENCY, ""
    deal.opened_at, deal.closed_at, deal.profit = deal.opened_at or now, None, None
    deal.note = "reopened: the exchange executed an order of this deal after its end"
    deal.save()
    event_record("deal.reopened", {"deal_id": deal.pk}, at=now)


def _ticket_unknown_order(account: Account, provider: ExchangeProvider, report: OrderReport, now: datetime) -> None:
    reference = report.exchange_order_id or report.client_order_id or "unknown"
    market = Market.objects.filter(provider=provider.name, symbol=report.symbol).first()
    _, created = Ticket.objects.get_or_create(
        account=account,
        kind=TicketKind.UNKNOWN_ORDER,
        reference=reference,
        defaults={
            "market": market,
            "summary": (
                f"{provider.name} shows a {report.side} order of {report.quantity} {report.symbol} that the platform "
                "did not place. It was left alone; new entries on this market wait until this is resolved."
            ),
            "details": dict(report.raw),
            "created_at": now,
        },
    )
    if created:
        logger.error("ticket: unknown order %s on account=%s market=%s", reference, account.name, report.symbol)
        event_record("ticket.opened", {"account": account.name, "reference": reference}, at=now)
