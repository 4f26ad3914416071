"""Reconciliation believes the exchange. It corrects what can be explained; the rest becomes a ticket for a person,
which blocks new entries on that market only. Running it twice changes nothing the second time."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

from django.db import IntegrityError, InterfaceError, OperationalError, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from algo.execution.identity import is_ours
from algo.execution.ledger import Ledger
from algo.execution.probe import probe_close, probe_of, probe_remove, probe_sweep
from algo.execution.submit import order_ask, order_take
from algo.execution.views import DealView, OrderView
from algo.models import (
    FINISHED_DEALS,
    Account,
    AccountState,
    CloseReason,
    Deal,
    DealStatus,
    Market,
    Order,
    ProbeOrder,
    Role,
    Ticket,
    TicketKind,
)
from algo.services.accounts import balances_note
from algo.services.outbox import event_record
from providers.budgets import Priority, budget_priority
from providers.clock import Clock
from providers.errors import AuthFailed, BadPayload, ProviderError, Unavailable
from providers.interface import ExchangeProvider
from providers.types import FINAL_STATUSES, OrderRef, OrderReport, OrderStatus

logger = logging.getLogger("algo.reconcile")

RECENT = timedelta(hours=1)
EVERY = 60.0  # wall seconds between two comparisons
BASELINE_EVERY = 45.0  # wall seconds between two readings of balances: reconciliations in doubt come oftener
EVERY_IN_DOUBT = 10.0  # while an order that was given up is young: it may still turn up
QUARANTINE = 150.0  # wall seconds during which it is young, and without entries on its market
IN_BETWEEN = (OrderStatus.SUBMITTED, OrderStatus.PENDING)


def reconcile_due(account: Account, clock: Clock) -> bool:
    """Whether it is time: often while an order that was given up may still turn up, else once a minute."""
    now = clock.now()
    last = Account.objects.values_list("reconciled_at", flat=True).get(pk=account.pk)
    young = Order.objects.filter(account=account, negative_at__gte=now - clock.wall(QUARANTINE))
    return last is None or now - last >= clock.wall(EVERY_IN_DOUBT if young.exists() else EVERY)


def accounts_due(clock: Clock) -> QuerySet[Account]:
    """Accounts to look after now: with a live deal, or with something to reconcile."""
    now = clock.now()
    live = Deal.objects.filter(account=OuterRef("pk")).exclude(status__in=FINISHED_DEALS)
    doubt = Order.objects.filter(account=OuterRef("pk"), negative_at__gte=now - clock.wall(QUARANTINE))
    stale = Q(reconciled_at=None) | Q(reconciled_at__lt=now - clock.wall(EVERY))
    return Account.objects.exclude(state=AccountState.STOPPED).filter(Q(Exists(live)) | Q(Exists(doubt)) | stale)


def reconcile(account: Account, ledger: Ledger, provider: ExchangeProvider, clock: Clock) -> None:
    """Compare our working orders with the exchange's, both ways, and its recent orders of every status with ours.
    Errors of the exchange's lists travel up; what is wrong with one order is logged and does not hide the others."""
    reports = provider.open_orders()
    for report in reports:
        with _one_order(report.exchange_order_id):
            _match_open(account, ledger, provider, clock, report)
    _ask_missing(account, ledger, provider, clock, reports)
    for market in _recent_markets(account, clock.now()):
        _match_history(account, ledger, provider, clock, market)
    _sweep_probes(account, provider, clock)
    _read_balances(account, provider, clock)
    Account.objects.filter(pk=account.pk).update(reconciled_at=clock.now())


def _clear_probe(probe: ProbeOrder, provider: ExchangeProvider, clock: Clock) -> None:
    """Whoever placed it is gone: a living prober would hold the account's lock."""
    end = probe_remove(probe, provider)
    if end is not None:
        probe_close(probe, end, now=clock.now())


def _sweep_probes(account: Account, provider: ExchangeProvider, clock: Clock) -> None:
    try:
        for sentence in probe_sweep(account, provider, clock):
            logger.error("account=%s %s", account.name, sentence)
    except (Unavailable, BadPayload) as exc:
        logger.warning("probes not cleared away account=%s why=%s", account.name, exc)


def _read_balances(account: Account, provider: ExchangeProvider, clock: Clock) -> None:
    """A baseline for the orders of the next minute, where there is a deal to place them; an entry brings its own. Only
    evidence: doing without it costs nothing, while exits and the recovery ladder need the few calls that balances
    allow (contract: nobitex 2.2). So it never touches their reserve, and is not read again while it is young."""
    read_at = clock.now()
    known_at = Account.objects.values_list("balances_read_at", flat=True).get(pk=account.pk)
    is_young = known_at is not None and read_at - known_at < clock.wall(BASELINE_EVERY)
    if is_young or not Deal.objects.filter(account=account).exclude(status__in=FINISHED_DEALS).exists():
        return
    try:
        with budget_priority(Priority.NORMAL):
            balances = provider.balances()
        balances_note(account, balances, read_at=read_at)
    except (Unavailable, BadPayload) as exc:
        logger.warning("balances not read account=%s why=%s", account.name, exc)


@contextmanager
def _one_order(name: object) -> Iterator[None]:
    try:
        yield
    except (AuthFailed, Unavailable, OperationalError, InterfaceError):
        raise
    except ProviderError as exc:
        logger.warning("order=%s could not be reconciled: %s", name, exc)
    except Exception:  # outlives one order: the others are still to be compared
        logger.exception("order=%s could not be reconciled", name)


def _match_open(
    account: Account, ledger: Ledger, provider: ExchangeProvider, clock: Clock, report: OrderReport
) -> None:
    row = _find(account, report)
    if row is None:
        if probe := probe_of(account, report):
            _clear_probe(probe, provider, clock)
        elif not _may_be_lost_leg(account, report):
            _ticket_unknown_order(account, provider, report, clock.now())
    elif _is_twin(row, report):
        # Sent twice under one name, because the first seemed lost; that one has turned up after all. Not wanted.
        provider.cancel_order(OrderRef(report.symbol, exchange_order_id=report.exchange_order_id))
        _ticket_unknown_order(account, provider, report, clock.now())
    elif OrderStatus(row.status).is_final:
        _adopt(ledger, provider, clock, row, report)


def _is_twin(row: Order, report: OrderReport) -> bool:
    """Our name on another order than the one we know by it."""
    return row.exchange_order_id is not None and row.exchange_order_id != report.exchange_order_id


def _may_be_lost_leg(account: Account, report: OrderReport) -> bool:
    """The stop leg of an OCO bears no name: while the answer of its creation is missing, only its looks are known."""
    lost = Order.objects.filter(account=account, pair__isnull=False, exchange_order_id=None, status__in=IN_BETWEEN)
    like_it = lost.filter(market__symbol=report.symbol, side=report.side, quantity=report.quantity)
    return report.client_order_id is None and like_it.exists()


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
        deal, view = _view(ledger, row)
        with _one_order(row.client_order_id):
            order_ask(deal, view, ledger=ledger, provider=provider, clock=clock)


def _view(ledger: Ledger, row: Order) -> tuple[DealView, OrderView]:
    deal = ledger.deal(row.deal_id)
    return deal, next(order for order in deal.orders if order.id == row.pk)


def _recent_markets(account: Account, now: datetime) -> QuerySet[Market]:
    """Markets where something of ours happened lately: history of the others cannot have changed through us."""
    return Market.objects.filter(orders__account=account, orders__created_at__gte=now - RECENT).distinct()


def _match_history(account: Account, ledger: Ledger, provider: ExchangeProvider, clock: Clock, market: Market) -> None:
    """Orders of every status in the last hour: what bears our name but has another end here is corrected."""
    for report in provider.orders_since(market.symbol, clock.now() - RECENT):
        with _one_order(report.exchange_order_id):
            _match_past(account, ledger, provider, clock, report)


def _match_past(
    account: Account, ledger: Ledger, provider: ExchangeProvider, clock: Clock, report: OrderReport
) -> None:
    row = _find(account, report)
    if row is None and (probe := probe_of(account, report)):
        if report.filled_quantity > probe.filled_quantity:
            probe_close(probe, report, now=clock.now())
        return
    if row is None:
        known_or_filled = is_ours(report.client_order_id) or report.filled_quantity > 0
        if known_or_filled and not _may_be_lost_leg(account, report):
            _ticket_unknown_order(account, provider, report, clock.now())
        return
    if _is_twin(row, report):
        if report.filled_quantity > 0:
            _ticket_unknown_order(account, provider, report, clock.now())
        return
    given_up = row.status == OrderStatus.REJECTED and report.status is not OrderStatus.REJECTED
    grew = report.filled_quantity > row.filled_quantity and OrderStatus(row.status) in FINAL_STATUSES
    if given_up or grew:
        _adopt(ledger, provider, clock, row, report)


def _adopt(ledger: Ledger, provider: ExchangeProvider, clock: Clock, row: Order, listed: OrderReport) -> None:
    """An order that had ended for us is alive, or was filled after its end: take it over and reopen its deal. Lists
    lag, so the order itself is asked first; what it answers is all that counts."""
    ref = OrderRef(listed.symbol, row.client_order_id, listed.exchange_order_id, row.submitted_at)
    report = provider.fetch_order(ref)
    deal, view = _view(ledger, row)
    alive, grew = not report.status.is_final, report.filled_quantity > view.filled
    if not (alive or grew) and view.exchange_order_id is not None:
        return  # the list was behind
    logger.warning("adopting order=%s status=%s filled=%s", row.client_order_id, report.status, report.filled_quantity)
    if alive and view.role == Role.EXIT and any(other.id != view.id for other in deal.live(Role.EXIT)):
        provider.cancel_order(ref)  # one live exit at a time: this one has been replaced
        report = provider.fetch_order(ref)
    try:
        if alive or grew:
            _reopen(row.deal_id, clock.now())  # first: an open deal without a position closes, the reverse is naked
        order_take(deal.id, view, report, ledger=ledger, provider=provider, clock=clock, adopting=True)
    except IntegrityError:
        # Another deal is open on this market: two cannot share one position. A person has to look.
        _ticket_unknown_order(row.account, provider, report, clock.now())


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
