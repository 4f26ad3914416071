"""Reconciliation believes the exchange. It corrects what can be explained; the rest becomes a ticket for a person,
which blocks new entries on that market only. Running it twice changes nothing the second time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Protocol

from django.db import IntegrityError
from django.db.models import Exists, OuterRef, Q, QuerySet

from algo.execution import questions
from algo.execution.balances import filled_between
from algo.execution.decide import rests
from algo.execution.identity import is_ours
from algo.execution.ledger import DealStands, Fenced, Ledger, Located
from algo.execution.submit import is_as_known, order_ask, order_take
from algo.execution.times import age, lead
from algo.execution.views import Budgets, OrderView
from algo.models import FINISHED_DEALS, Account, AccountState, Deal, Order, Role, Ticket
from algo.selectors.halts import accounts_to_prove
from algo.selectors.sessions import is_lost
from providers.budgets import Priority, budget_priority
from providers.clock import Clock
from providers.errors import AuthFailed, BadPayload, ProviderError, Unavailable
from providers.interface import ExchangeProvider
from providers.types import ZERO, Fill, OrderRef, OrderReport, OrderStatus, Side

logger = logging.getLogger("algo.reconcile")

RECENT = timedelta(hours=1)
EVERY = 60.0  # wall seconds between two comparisons
BASELINE_EVERY = 45.0  # wall seconds between two readings of balances: reconciliations in doubt come oftener
EVERY_IN_DOUBT = 10.0  # while an order that was given up is young: it may still turn up
QUARANTINE = 150.0  # wall seconds during which it is young, and without entries on its market
LISTS_OF_MARKET = 2  # its orders of every status, and those of them that are open
TRADES_SETTLE = 60.0  # wall seconds after which a trade must be booked, or somebody is asked about it


_ONE_ONLY = ("deal_one_live_per_market", "order_one_live_exit_per_deal")  # constraints that an adoption may meet


class Strangers(Protocol):
    """Orders of the platform at the exchange that belong to no deal: probes."""

    def take_open(self, report: OrderReport) -> bool:
        """Whether a working order is one of them; it is cleared away."""
        ...

    def take_past(self, report: OrderReport) -> bool:
        """Whether an order of any status is one of them; its end is recorded."""
        ...

    def sweep(self) -> None: ...


class NoStrangers:
    """An account that was never probed."""

    def take_open(self, report: OrderReport) -> bool:
        return False

    def take_past(self, report: OrderReport) -> bool:
        return False

    def sweep(self) -> None: ...


def reconcile_due(ledger: Ledger, clock: Clock) -> bool:
    """Whether it is time: often while an order that was given up may still turn up, else once a minute. One that
    failed is not tried again at once: the calls it takes are those that the recovery of an order waits for."""
    now, (last, tried) = clock.now(), ledger.reconcile_times()
    if tried is not None and age(tried, now) < clock.wall(EVERY_IN_DOUBT):
        return False
    if last is None:
        return True
    since = age(last, now)
    if since < clock.wall(EVERY_IN_DOUBT):
        return False
    return since >= clock.wall(EVERY) or is_in_doubt(ledger, clock)


def is_in_doubt(ledger: Ledger, clock: Clock) -> bool:
    """Whether an order that was given up may still turn up."""
    return bool(ledger.symbols_in_doubt(clock.now() - clock.wall(QUARANTINE)))


def accounts_due(clock: Clock) -> QuerySet[Account]:
    """Accounts to look after now: with a live deal, something to reconcile, an answer to carry out, or flatness to be
    proved."""
    now = clock.now()
    live = Deal.objects.filter(account=OuterRef("pk")).exclude(status__in=FINISHED_DEALS)
    doubt = Order.objects.filter(account=OuterRef("pk"), negative_at__gte=now - clock.wall(QUARANTINE))
    answered = Ticket.objects.filter(account=OuterRef("pk"), resolved_at=None).exclude(answer="")
    stale = Q(reconciled_at=None) | Q(reconciled_at__lt=now - clock.wall(EVERY))
    due = Q(Exists(live)) | Q(Exists(doubt)) | Q(Exists(answered)) | stale | Q(pk__in=accounts_to_prove(clock))
    return Account.objects.exclude(state=AccountState.STOPPED).filter(due)


def reconcile(
    ledger: Ledger,
    provider: ExchangeProvider,
    clock: Clock,
    *,
    strangers: Strangers | None = None,
    before_list: Callable[[int], None] = lambda lists: None,
) -> None:
    """Compare our working orders with the exchange's, both ways; its recent orders of every status with ours; and its
    trades with our fills. Errors of the exchange's lists travel up; what is wrong with one order is logged and does
    not hide the others.

    The first comparison is of all markets. The others take lists for each market, and lists are few: one market has its
    turn, and more as far as their lists can be had without waiting; the rest come first next time.

    `before_list` is called with how many lists are asked for next, while nothing is remembered that could grow old: the
    account's deals may be looked after in it."""
    others = strangers or NoStrangers()
    ledger.note_reconcile_tried(now=clock.now())
    before_list(1)
    reports = provider.open_orders()
    working = ledger.working()
    if unexpected := _unexpected(reports, working):
        for report in unexpected:
            with _one_order(report.exchange_order_id):
                _match_open(ledger, provider, clock, others, report)
        working = ledger.working()
    _ask_missing(ledger, provider, clock, reports, working)
    _note_resting(ledger, clock, reports, working)
    _compare_markets(ledger, provider, clock, others, before_list)
    others.sweep()
    before_list(1)
    _read_balances(ledger, provider, clock)
    ledger.note_reconciled(now=clock.now())


def _read_balances(ledger: Ledger, provider: ExchangeProvider, clock: Clock) -> None:
    """A baseline for the orders of the next minute, where there is a deal to place them; an entry brings its own. Only
    evidence: doing without it costs nothing, while exits and the recovery ladder need the few calls that balances
    allow (contract: nobitex 2.2). So it never touches their reserve, and is not read again while it is young."""
    read_at, known_at = clock.now(), ledger.balances_read_at()
    is_young = known_at is not None and age(known_at, read_at) < clock.wall(BASELINE_EVERY)
    if is_young or not ledger.live_deals():
        return
    try:
        with budget_priority(Priority.NORMAL):
            balances = provider.balances()
        # One that took longer is no evidence: nobody can say which fills it holds.
        if age(read_at, clock.now()) <= Budgets.of(clock).baseline_reading:
            ledger.note_balances(balances, read_at=read_at)
    except (Unavailable, BadPayload) as exc:
        logger.warning("balances not read why=%s", exc)


# --- markets --------------------------------------------------------------------------------------------------------


def _compare_markets(
    ledger: Ledger,
    provider: ExchangeProvider,
    clock: Clock,
    strangers: Strangers,
    before_list: Callable[[int], None],
) -> None:
    """One market that cannot be read does not hide the others; a second one is the exchange's own trouble."""
    failed: ProviderError | None = None
    for place, symbol in enumerate(_markets_in_turn(ledger, provider, clock)):
        if place and not provider.can_list():
            break
        before_list(LISTS_OF_MARKET)
        try:
            _compare_market(ledger, provider, clock, strangers, symbol)
        except (Unavailable, BadPayload) as exc:
            if failed:
                raise
            failed = exc
    if failed:
        raise failed


def _markets_in_turn(ledger: Ledger, provider: ExchangeProvider, clock: Clock) -> list[str]:
    """Those in doubt first, then those that were compared longest ago."""
    now, never = clock.now(), datetime.min.replace(tzinfo=UTC)
    doubtful = set(ledger.symbols_in_doubt(now - clock.wall(QUARANTINE)))

    seen = ledger.trades_seen()

    def urgency(symbol: str) -> tuple[bool, datetime, str]:
        return symbol not in doubtful, _compared_until(seen, symbol, now + lead(provider)) or never, symbol

    return sorted(doubtful.union(ledger.symbols_at_stake(now - RECENT)), key=urgency)


def _compared_until(seen: Mapping[str, datetime], symbol: str, now: datetime) -> datetime | None:
    """Up to when trades were compared, by the exchange's clock; None where that was never, or by a clock that was
    wrong."""
    until = seen.get(symbol)
    return until if until is not None and until <= now else None


def _compare_market(
    ledger: Ledger, provider: ExchangeProvider, clock: Clock, strangers: Strangers, symbol: str
) -> None:
    listed = provider.orders_since(symbol, clock.now() + lead(provider) - RECENT)
    for report, found in zip(listed, ledger.find_all(listed), strict=True):
        if found is None or _is_other_than(found, report):
            with _one_order(report.exchange_order_id):
                _match_past(ledger, provider, clock, strangers, report)
    _match_trades(ledger, provider, clock, symbol, listed)


# --- orders ---------------------------------------------------------------------------------------------------------


@contextmanager
def _one_order(name: object) -> Iterator[None]:
    try:
        yield
    except (AuthFailed, Unavailable, Fenced):
        raise
    except ProviderError as exc:
        logger.warning("order=%s could not be reconciled: %s", name, exc)
    except Exception as exc:  # outlives one order: the others are still to be compared
        if is_lost(exc):
            raise
        logger.exception("order=%s could not be reconciled", name)


def _unexpected(reports: Sequence[OrderReport], working: Sequence[Located]) -> list[OrderReport]:
    """Those of the exchange's open orders that do not work by our books as well, for a deal that lives. They are few,
    so each is looked up by itself."""
    expected = {found.order.exchange_order_id for found in working if not found.deal_is_over}
    return [each for each in reports if each.exchange_order_id is None or each.exchange_order_id not in expected]


def _match_open(
    ledger: Ledger, provider: ExchangeProvider, clock: Clock, strangers: Strangers, report: OrderReport
) -> None:
    found = ledger.find(report.exchange_order_id, report.client_order_id)
    if found is None:
        if not strangers.take_open(report) and not ledger.resembles_lost_leg(report):
            ledger.ticket_order(report, now=clock.now())
    elif _is_twin(found, report):
        # Sent twice under one name, because the first seemed lost; that one has turned up after all. Not wanted.
        provider.cancel_order(OrderRef(report.symbol, exchange_order_id=report.exchange_order_id))
        ledger.ticket_order(report, now=clock.now())
    elif found.order.is_final or found.deal_is_over:
        _adopt(ledger, provider, clock, found, report.exchange_order_id)


def _is_twin(found: Located, report: OrderReport) -> bool:
    """Our name on another order than the one we know by it."""
    known = found.order.exchange_order_id
    return known is not None and known != report.exchange_order_id


def _ask_missing(
    ledger: Ledger,
    provider: ExchangeProvider,
    clock: Clock,
    reports: Sequence[OrderReport],
    working: Sequence[Located],
) -> None:
    """Orders that work in our books but not in the exchange's list are asked for one by one."""
    listed = {report.exchange_order_id for report in reports}
    for found in working:
        if found.order.exchange_order_id in listed:
            continue
        with _one_order(found.order.client_order_id):
            if found.deal_is_over:  # what it was filled meanwhile needs its deal
                _adopt(ledger, provider, clock, found, found.order.exchange_order_id)
                continue
            deal = ledger.deal(found.deal_id)
            order_ask(deal, deal.order(found.order.id), ledger=ledger, provider=provider, clock=clock)


def _is_other_than(found: Located, report: OrderReport) -> bool:
    """Whether the books do not say of an order what the exchange's list of every status says; then it is looked up
    again, by itself, before anything is done about it."""
    order = found.order
    return _is_twin(found, report) or _was_given_up(order, report) or (order.is_final and _has_grown(order, report))


def _was_given_up(order: OrderView, report: OrderReport) -> bool:
    """An order that never came, by our books, and did."""
    never_came = order.is_final and (order.status is OrderStatus.REJECTED or order.exchange_order_id is None)
    return never_came and report.status is not OrderStatus.REJECTED


def _has_grown(order: OrderView, report: OrderReport) -> bool:
    return report.filled_quantity > order.filled


def _note_resting(ledger: Ledger, clock: Clock, reports: Sequence[OrderReport], working: Sequence[Located]) -> None:
    """What rests in the list as in the books was read with it, and needs no call of its own soon."""
    shown = {report.exchange_order_id: report for report in reports if report.exchange_order_id is not None}
    told = [(found.order, shown.get(found.order.exchange_order_id or "")) for found in working if rests(found.order)]
    ledger.note_read([order for order, report in told if report and is_as_known(order, report)], now=clock.now())


def _match_past(
    ledger: Ledger, provider: ExchangeProvider, clock: Clock, strangers: Strangers, report: OrderReport
) -> None:
    """What bears our name in the list of every status but has another end here is corrected."""
    found = ledger.find(report.exchange_order_id, report.client_order_id)
    if found is None:
        known_or_filled = is_ours(report.client_order_id) or report.filled_quantity > 0
        if not strangers.take_past(report) and known_or_filled and not ledger.resembles_lost_leg(report):
            ledger.ticket_order(report, now=clock.now())
        return
    if _is_twin(found, report):
        if report.filled_quantity > 0:
            ledger.ticket_order(report, now=clock.now())
        return
    if _is_other_than(found, report):
        _adopt(ledger, provider, clock, found, report.exchange_order_id)


def _adopt(
    ledger: Ledger, provider: ExchangeProvider, clock: Clock, found: Located, exchange_order_id: str | None
) -> None:
    """An order that had ended for us, or whose deal had, is alive or was filled since: take it over and reopen its
    deal. Lists lag, so the order itself is asked first; what it answers is all that counts."""
    deal = ledger.deal(found.deal_id)
    order = deal.order(found.order.id)
    ref = OrderRef(found.symbol, order.client_order_id, exchange_order_id, order.submitted_at)
    report = provider.fetch_order(ref)
    alive, grew = not report.status.is_final, report.filled_quantity > order.filled
    if not (alive or grew) and order.is_final and order.exchange_order_id is not None:
        return  # the list was behind
    logger.warning(
        "adopting order=%s status=%s filled=%s", order.client_order_id, report.status, report.filled_quantity
    )
    if alive and order.role == Role.EXIT and any(other.id != order.id for other in deal.live(Role.EXIT)):
        provider.cancel_order(ref)  # one live exit at a time: this one has been replaced
        report = provider.fetch_order(ref)
    try:
        if alive or grew:  # first: an open deal without a position closes, the reverse is naked
            ledger.reopen_deal(deal.id, now=clock.now())
        order_take(deal.id, order, report, ledger=ledger, provider=provider, clock=clock, adopting=True)
    except (DealStands, IntegrityError) as exc:
        if isinstance(exc, IntegrityError) and not any(name in str(exc) for name in _ONE_ONLY):
            raise
        # Another deal is open on this market: two cannot share one position. A person has to look; what this order
        # could still get would be the other deal's.
        ledger.ticket_order(report, now=clock.now())
        if alive:
            provider.cancel_order(ref)


# --- trades ---------------------------------------------------------------------------------------------------------


def _match_trades(
    ledger: Ledger, provider: ExchangeProvider, clock: Clock, symbol: str, listed: Sequence[OrderReport]
) -> None:
    """Own trades since those that were last compared: each is booked, or belongs to an order in the exchange's list, or
    a person is asked. Only trades that had the time to be booked are judged."""
    now = clock.now() + lead(provider)  # trades are stamped by the exchange
    until, since = now - clock.wall(TRADES_SETTLE), _compared_until(ledger.trades_seen(), symbol, now) or now - RECENT
    if until <= since:
        return
    trades = [trade for trade in provider.own_trades(symbol, since) if since <= trade.executed_at < until]
    names = {report.exchange_order_id for report in listed if report.exchange_order_id}
    for trade in ledger.unbooked([each for each in trades if each.exchange_order_id is not None]):
        with _one_order(trade.exchange_order_id):
            _explain(ledger, provider, clock, symbol, trade, names)
    for side in Side:
        _compare_nameless(ledger, symbol, side, trades, listed, (since, until), now)
    ledger.note_trades_seen(symbol, until)


def _explain(
    ledger: Ledger, provider: ExchangeProvider, clock: Clock, symbol: str, trade: Fill, listed: set[str]
) -> None:
    found = ledger.find(trade.exchange_order_id, trade.client_order_id)
    if found is not None and found.order.is_settled:  # filled after its end: its deal may have ended as well
        _adopt(ledger, provider, clock, found, trade.exchange_order_id)
    elif found is not None:
        deal = ledger.deal(found.deal_id)
        order_ask(deal, deal.order(found.order.id), ledger=ledger, provider=provider, clock=clock)
    order_id = trade.exchange_order_id or trade.trade_id
    if found is None and order_id not in listed and not ledger.is_told_of(order_id):
        ledger.ticket_trade(symbol, order_id, questions.unlisted_trade(trade, symbol), now=clock.now())


def _compare_nameless(
    ledger: Ledger,
    symbol: str,
    side: Side,
    trades: Sequence[Fill],
    listed: Sequence[OrderReport],
    span: tuple[datetime, datetime],
    now: datetime,
) -> None:
    """Where trades name no order (contract: wallex 5.4), what was traded is compared with what orders were filled."""
    nameless = [each for each in trades if each.exchange_order_id is None and each.side is side]
    total = sum((each.quantity for each in nameless), ZERO)
    if not total:
        return
    shown = {report.exchange_order_id for report in listed if report.exchange_order_id}
    explained = sum((filled_between(each, *span) for each in listed if each.side is side), ZERO)
    explained += ledger.filled_since(symbol, side, span[0], besides=shown, until=span[1])
    if total > explained:
        summary = questions.unexplained_trades(nameless, symbol, side, explained)
        ledger.ticket_trade(symbol, f"{symbol} {side} {nameless[0].executed_at:%Y-%m-%dT%H:%M:%S}", summary, now=now)
