"""The recovery ladder: finding out whether an order ever arrived.

Look-up by client id, then the all-status list since it was sent, then trades, then the balance. Only when all agree,
twice and after the exchange has had its time, that it never arrived, is an entry or an exit given up and a resting
order sent again under the same name. Before that time a look can find an order but not count: what rests is found by
its name, and spends none of the few lists on it; what does not takes a list only where one is to be had at once. Any
read that fails proves nothing. Trades or balances that disagree
with an order's absence hold the verdict up (`doubt_entry`, `doubt_other`); then a person is asked and the deal goes on,
because a position must not wait unprotected for an explanation that may never come.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from algo.execution.balances import asset_spent, filled_since, movement
from algo.execution.ledger import Ledger
from algo.execution.submit import history_of, order_take, pair_of, ref_of
from algo.execution.times import age, age_by_both, is_ahead, sent_at_exchange
from algo.execution.views import Budgets, DealView, OrderView
from algo.models import Role, TicketKind
from providers.clock import Clock
from providers.errors import BadPayload, OrderNotFound, RateLimited, Unavailable
from providers.interface import ExchangeProvider
from providers.types import ZERO, Balance, OrderRef, OrderReport, OrderStatus

logger = logging.getLogger("algo.orders")

Found = tuple[OrderReport | None, Sequence[OrderReport]]  # the order, and everything listed while looking for it
SKEW = timedelta(seconds=2)  # between the exchange's clock and ours


def order_recover(
    deal: DealView, order: OrderView, *, ledger: Ledger, provider: ExchangeProvider, clock: Clock, budgets: Budgets
) -> None:
    """One pass over the ladder for an order whose arrival is unknown. Provider errors of reads travel up; the next pass
    waits its time all the same: calls are few, and whoever asks too often learns nothing (contract: nobitex 2.2)."""
    try:
        _one_pass(deal, order, ledger, provider, clock, budgets)
    except (Unavailable, BadPayload) as exc:
        ledger.note_unknown(order, reason=f"it could not be looked up: {exc}", now=clock.now())
        raise


def _one_pass(
    deal: DealView, order: OrderView, ledger: Ledger, provider: ExchangeProvider, clock: Clock, budgets: Budgets
) -> None:
    second_leg = order.pair_id is not None and order.role == Role.STOP
    look = _look_up_second if second_leg else _look_up
    asked_at = clock.now()  # a look counts by when it began: its answers may have taken long
    shown_from = _shown_from(deal, order, second_leg)
    counts = _had_its_time(order, shown_from, provider, asked_at, budgets)
    by_name_alone = not counts and (order.role in (Role.STOP, Role.TARGET) or not provider.can_list())
    report, listed = look(deal, order, provider, clock, by_name_alone)
    if report is not None:
        _adopt(deal, order, report, ledger, provider, clock)
        return
    now = clock.now()
    if not counts:
        ledger.note_unknown(order, reason="not found yet", now=now)
        return
    doubt = _doubt_or_silence(deal, order, listed, ledger, provider, clock, budgets)
    if doubt:
        kind, reason = doubt
        if not _was_doubted_enough(order, now, budgets):
            ledger.note_unknown(order, reason=reason, now=now)
            return
        ledger.note_doubt(order, kind, reason, now=now)
    if not _was_looked_for(order, shown_from, now):
        ledger.note_negative(order, now=now)
    elif age(order.negative_at or now, asked_at) >= _apart(order, shown_from, now, budgets):
        _never_arrived(order, second_leg, ledger, now)
    else:
        ledger.note_unknown(order, reason="waiting for a second look", now=now)


def _look_up(deal: DealView, order: OrderView, provider: ExchangeProvider, clock: Clock, by_name_alone: bool) -> Found:
    try:
        return provider.fetch_order(ref_of(deal, order)), ()
    except OrderNotFound:
        pass
    if by_name_alone:
        return None, ()
    listed = history_of(deal, order, provider, clock)
    for report in listed:
        if report.client_order_id == order.client_order_id:
            return report, listed
    # Whether lists keep the client id of a closed order is not documented everywhere (contract: nobitex 8): then it
    # is known by its looks.
    return _by_its_looks(listed, deal, order, provider, clock), listed


def _look_up_second(
    deal: DealView, order: OrderView, provider: ExchangeProvider, clock: Clock, by_name_alone: bool
) -> Found:
    """The stop leg of an OCO has no client id there: it is found through the first leg, or by its looks."""
    first, told_id = pair_of(deal, order), None
    if first.exchange_order_id is not None:
        with suppress(OrderNotFound):  # a leg that has ended may be known to the lists only
            told_id = provider.fetch_order(ref_of(deal, first)).pair_id
            if told_id is not None:
                return provider.fetch_order(OrderRef(symbol=deal.rules.symbol, exchange_order_id=told_id)), ()
    if by_name_alone:
        return None, ()
    listed = history_of(deal, order, provider, clock)
    told = next((report for report in listed if told_id is not None and report.exchange_order_id == told_id), None)
    return told or _by_its_looks(listed, deal, order, provider, clock), listed


def _by_its_looks(
    listed: Sequence[OrderReport], deal: DealView, order: OrderView, provider: ExchangeProvider, clock: Clock
) -> OrderReport | None:
    sent = sent_at_exchange(provider, order.sent_at, clock.now())
    return next((report for report in listed if _looks_like(report, deal, order, sent)), None)


def _looks_like(report: OrderReport, deal: DealView, order: OrderView, sent: datetime) -> bool:
    """A nameless order of the same side, size and stop that was made since we sent ours, and is no other of ours."""
    known = {other.exchange_order_id for other in deal.orders}
    return (
        report.client_order_id is None
        and report.exchange_order_id not in known
        and report.side is order.side
        and report.quantity == order.quantity
        and report.type in (None, order.type)
        and (report.stop_price is None or report.stop_price == order.stop_price)
        and report.created_at is not None
        and report.created_at >= sent - SKEW
    )


def _doubt_or_silence(
    deal: DealView,
    order: OrderView,
    listed: Sequence[OrderReport],
    ledger: Ledger,
    provider: ExchangeProvider,
    clock: Clock,
    budgets: Budgets,
) -> tuple[TicketKind, str] | None:
    """`_doubt`, where it can be read. Where it cannot, that error, until a position has waited long enough for it."""
    try:
        return _doubt(deal, order, listed, ledger, provider, clock, budgets)
    except (Unavailable, BadPayload) as exc:
        if order.role == Role.ENTRY or not _was_doubted_enough(order, clock.now(), budgets):
            raise
        return TicketKind.UNKNOWN_TRADE, f"its trades or the balance cannot be read ({exc})"


def _doubt(
    deal: DealView,
    order: OrderView,
    listed: Sequence[OrderReport],
    ledger: Ledger,
    provider: ExchangeProvider,
    clock: Clock,
    budgets: Budgets,
) -> tuple[TicketKind, str] | None:
    """What speaks against the absence of an order that neither look-up nor list shows; None where nothing does."""
    if _unexplained_trades(deal, order, listed, ledger, provider, clock):
        return TicketKind.UNKNOWN_TRADE, "there are trades that no known order explains"
    if order.balance_before is None:
        return None
    asset = asset_spent(deal, order)
    try:
        balance = provider.balances().get(asset) or Balance(asset, ZERO, ZERO)
    except RateLimited:
        if order.role == Role.ENTRY:
            raise
        return None  # a few calls a minute (contract: nobitex 2.2): too few for a position to wait for them
    explained = ledger.explained_change(deal, order, listed, reading=budgets.baseline_reading)
    moved = movement(deal, order, balance, explained) if explained is not None else ""
    return (TicketKind.BALANCE_MOVED, moved) if moved else None


def _unexplained_trades(
    deal: DealView,
    order: OrderView,
    listed: Sequence[OrderReport],
    ledger: Ledger,
    provider: ExchangeProvider,
    clock: Clock,
) -> bool:
    """Trades on our side since the send that belong to no order we know: neither to one of ours nor to one that the
    exchange lists under another name, by somebody else's hand. Where trades name no order (contract: wallex 5.4), what
    was traded is compared with what all known orders were filled."""
    sent = sent_at_exchange(provider, order.sent_at, clock.now())
    trades = [
        trade
        for trade in provider.own_trades(deal.rules.symbol, sent - clock.wall(1))
        if trade.executed_at >= sent and trade.side is order.side
    ]
    named = {trade.exchange_order_id for trade in trades if trade.exchange_order_id is not None}
    shown = {report.exchange_order_id for report in listed if report.exchange_order_id}
    if named - shown - {other.exchange_order_id for other in deal.orders}:
        return True
    nameless = sum((trade.quantity for trade in trades if trade.exchange_order_id is None), ZERO)
    if not nameless:
        return False
    explained = sum((filled_since(report, sent) for report in listed if report.side is order.side), ZERO)
    explained += ledger.filled_since(deal.rules.symbol, order.side, sent, besides=shown)
    return nameless - explained >= deal.rules.step_size


def _was_doubted_enough(order: OrderView, now: datetime, budgets: Budgets) -> bool:
    patience = budgets.doubt_entry if order.role == Role.ENTRY else budgets.doubt_other
    return age(order.sent_at, now) >= patience


def _shown_from(deal: DealView, order: OrderView, second_leg: bool) -> datetime:
    """From when on the exchange can have shown an order: its send. The second leg of an OCO came when its first did,
    which may have been long after the send: then not before that one was found."""
    sent = order.sent_at
    found = pair_of(deal, order).accepted_at if second_leg else None
    return max(sent, found) if found is not None else sent


def _had_its_time(
    order: OrderView, shown_from: datetime, provider: ExchangeProvider, now: datetime, budgets: Budgets
) -> bool:
    settle = budgets.settle_entry if order.role == Role.ENTRY else budgets.settle_other
    return age_by_both(provider, shown_from, now) >= budgets.send_deadline + settle


def _was_looked_for(order: OrderView, shown_from: datetime, now: datetime) -> bool:
    """Whether it was not found before, since it was sent (again)."""
    return order.negative_at is not None and (order.negative_at >= shown_from or is_ahead(shown_from, now))


def _apart(order: OrderView, shown_from: datetime, now: datetime, budgets: Budgets) -> timedelta:
    """Between two looks that both count. Where a clock that was wrong says when it was sent, the exchange has its time
    between the looks."""
    if not is_ahead(shown_from, now):
        return budgets.negatives_apart
    return budgets.settle_entry if order.role == Role.ENTRY else budgets.settle_other


def _never_arrived(order: OrderView, second_leg: bool, ledger: Ledger, now: datetime) -> None:
    """An entry is a missed trade; an exit is decided anew; what rests goes out again under the same name, because the
    exchange refuses a second order of that name if the first one turns up."""
    if second_leg:  # its first leg is there: alone it ends, and the broken pair is taken down
        ledger.end_leg(order, OrderStatus.REJECTED, reason="this leg is not known to the exchange", now=now)
    elif order.role in (Role.ENTRY, Role.EXIT):
        ledger.end_order(order, OrderStatus.REJECTED, reason="it never arrived at the exchange", now=now)
    else:
        ledger.release_send(order, reason="it never arrived at the exchange: sending again", now=now)


def _adopt(
    deal: DealView, order: OrderView, report: OrderReport, ledger: Ledger, provider: ExchangeProvider, clock: Clock
) -> None:
    logger.info("recovered order=%s status=%s", order.client_order_id, report.status)
    order_take(deal.id, order, report, ledger=ledger, provider=provider, clock=clock)
    if order.pair_id is None or order.role == Role.STOP or report.pair_id is None:
        return  # a second leg that stays unknown is looked up next
    partner = pair_of(deal, order)
    try:
        second = provider.fetch_order(OrderRef(symbol=deal.rules.symbol, exchange_order_id=report.pair_id))
    except OrderNotFound:
        return  # looked for in the lists next
    order_take(deal.id, partner, second, ledger=ledger, provider=provider, clock=clock)
