"""advance(account): the one verb that touches an exchange for money.

Take the account's lock, look at our ledger and at the exchange, do the next safe action of every live deal, record
it, go on until nothing is left to do now. Re-entrant and without memory: the Celery hint (speed), beat's sweep and the
guardian all call it, and losing any two of them costs time, not safety.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from functools import partial
from typing import Any, Protocol, cast

from django.conf import settings

from algo.execution import decide
from algo.execution.decide import Action, next_action
from algo.execution.flat import prove_flat
from algo.execution.inbox import answer_tickets
from algo.execution.ledger import Fenced, Ledger
from algo.execution.ledger_orm import OrmLedger
from algo.execution.locks import Beating, account_lock
from algo.execution.probe import ProbesLeft
from algo.execution.quotes import Quotes
from algo.execution.reconcile import Strangers, reconcile, reconcile_due
from algo.execution.resolve import order_recover
from algo.execution.submit import order_ask, order_cancel, order_submit, order_take
from algo.execution.times import age
from algo.execution.views import Budgets, DealView, OrderView, Quote
from algo.models import Account, DealStatus, Role
from algo.selectors.halts import flat_due
from algo.selectors.sessions import is_lost
from algo.services.accounts import account_is_stopped, account_stop
from algo.trail import trail
from providers.budgets import Priority, budget_priority
from providers.clock import Clock
from providers.errors import AuthFailed, BadPayload, ProviderError, Unavailable
from providers.interface import ExchangeProvider
from providers.types import ZERO, Balance, Capabilities, OrderStatus, Side

logger = logging.getLogger("algo.advance")

PLACING = (decide.Place, decide.PlacePair)
REPLACING = (decide.MoveStop, decide.BeginSwap)  # they take a resting stop down to put something else in its place
REPLACED_BY = 2  # orders: the other one, and the stop again if that one is refused
WORTH_A_LIST = 8  # orders to be read: from so many on, one list of open orders is read instead
RESTING_MOST = 2  # orders of a deal: its stop and its target
LISTS_TO_RECONCILE = 2  # open orders, and those of every status on the market of a deal
RECONCILE_AT_LAST = 180.0  # wall seconds
MAX_STEPS = 24  # actions on one deal in one call: more than a whole life needs, so that a defect cannot spin


class Advanced(StrEnum):
    """What came of a call."""

    DONE = "done"
    BUSY = "busy"  # somebody else holds the account
    STOPPED = "stopped"  # the exchange refuses the key


class Prices(Protocol):
    """Where quotes come from."""

    def quote(self, provider: ExchangeProvider, symbol: str) -> Quote | None: ...

    def with_last(self, provider: ExchangeProvider, symbol: str, quote: Quote) -> Quote: ...


@dataclass(frozen=True, slots=True)
class Worker:
    """What is needed to work on one account. `beat` tells the holder of its lock that the work moves."""

    name: str
    ledger: Ledger
    provider: ExchangeProvider
    quotes: Prices
    clock: Clock
    budgets: Budgets
    strangers: Strangers | None = None
    beat: Callable[[], None] = lambda: None
    inbox: Callable[[], str] = lambda: ""  # carries out what people answered; gives what kept it from that
    spoken_of: set[str] = field(default_factory=set)  # by the exchange's stream: its ids of orders not read since


def look_after(account: Account, provider_of: Callable[[Account], ExchangeProvider], clock: Clock, **more: Any) -> str:
    """`advance` with the client that `provider_of` gives; a key that cannot even be one stops the account."""
    with trail(account=account.pk):
        try:
            provider = provider_of(account)
        except AuthFailed as exc:
            account_stop(account, str(exc), at=clock.now())
            return Advanced.STOPPED
        return advance(account, provider, clock, **more)


def advance(
    account: Account,
    provider: ExchangeProvider,
    clock: Clock,
    *,
    quotes: Prices | None = None,
    reconcile_now: bool = False,
    spoken_of: Collection[str] = (),
) -> Advanced:
    """Do everything that is safe and due for `account` now. Failures of the exchange are recorded and end the call;
    the next trigger tries again. `spoken_of`: the exchange's ids of orders that its stream told of, to be read again
    however young their last reading is."""
    if account.environment != settings.EXCHANGE_ENVIRONMENT:
        OrmLedger(account, Capabilities()).note_error(
            f"This is a {account.environment} account, and the exchanges in use are {settings.EXCHANGE_ENVIRONMENT}."
        )
        return Advanced.STOPPED
    with account_lock(account.pk, clock) as lease:
        if lease is None:
            return Advanced.BUSY
        if account_is_stopped(account):  # while this worker came here, another one may have been refused
            return Advanced.STOPPED
        provider = cast(ExchangeProvider, Beating(provider, lease.touch))
        capabilities = account.known_capabilities(provider.capabilities())
        ledger = OrmLedger(account, capabilities, lease.epoch)
        worker = Worker(
            account.name,
            ledger,
            provider,
            quotes or Quotes(clock),
            clock,
            Budgets.of(clock),
            ProbesLeft(account, provider, clock),
            lease.beat,
            partial(answer_tickets, account, ledger, provider, clock),
            set(spoken_of),
        )
        done = advance_locked(worker, reconcile_now=reconcile_now)
        return _prove_flat_if_due(account, worker) if done is Advanced.DONE else done


def _prove_flat_if_due(account: Account, worker: Worker) -> Advanced:
    """Last of all: the deals need the calls more."""
    try:
        if flat_due(account, worker.clock):
            prove_flat(account, worker.provider, worker.clock)
    except AuthFailed as exc:
        worker.ledger.stop_account(str(exc), now=worker.clock.now())
        return Advanced.STOPPED
    except Exception as exc:  # its deals are looked after: to be proved flat waits, and they must not
        _raise_if_over(exc)
        logger.exception("account=%s could not be proved flat", worker.name)
        worker.ledger.note_error("whether the account is flat could not be said; see the log")
    return Advanced.DONE


def advance_locked(worker: Worker, *, reconcile_now: bool = False) -> Advanced:
    """`advance` for a caller that holds the account's lock.

    Reconciliation comes first where it was asked for (at every start), else last: its lists may have to wait for a call
    budget, and a stop that just came to nothing cannot wait with them. What it changes is acted upon a second later.
    """
    ledger, clock = worker.ledger, worker.clock
    try:
        error = _reconcile_safely(worker) if reconcile_now else ""
        error = _safely(worker, "have its tickets answered", worker.inbox) or error
        deals = _spoken_of_first(worker, ledger.live_deals())
        resting = _Resting(worker, len(deals))
        for deal_id in deals:
            worker.beat()
            if ledger.is_stopped():
                return Advanced.STOPPED
            with trail(deal=deal_id):
                error = _advance_deal_safely(worker, deal_id, resting) or error
        if not reconcile_now and _may_reconcile(worker):
            error = _reconcile_safely(worker) or error
    except AuthFailed as exc:
        ledger.stop_account(str(exc), now=clock.now())
        return Advanced.STOPPED
    ledger.note_advanced(error, now=clock.now())
    return Advanced.DONE


def _spoken_of_first(worker: Worker, deals: Sequence[int]) -> list[int]:
    """The same deals, those first whose orders the exchange's stream told of."""
    told = {found.deal_id for each in worker.spoken_of if (found := worker.ledger.find(each, None))}
    return sorted(deals, key=lambda deal_id: deal_id not in told)


@dataclass(slots=True)
class _Resting:
    """What rests at the exchange, read by one list where much is due: once in a pass, and after the deals in danger,
    for the list may have to wait for a call budget."""

    worker: Worker
    deals: int  # that live
    is_over: bool = False
    has_read: bool = False

    def read_before(self, deal: DealView) -> DealView:
        """`deal`, as it stands after the list was read where it was not yet and the deal is in no danger."""
        in_danger = deal.exit_reason is not None or deal.unprotected_since is not None
        if self.is_over or in_danger or deal.status is not DealStatus.OPEN:
            return deal
        self.is_over = True
        if self.deals * RESTING_MOST < WORTH_A_LIST:
            return deal
        _safely(self.worker, "have its open orders listed", self._read_list)
        return self.worker.ledger.deal(deal.id) if self.has_read else deal

    def _read_list(self) -> str:
        """Where many orders rest and are due to be read, one list of open orders reads them all: calls are few. Those
        that it does not show are asked for one by one, as always."""
        worker, ledger, clock = self.worker, self.worker.ledger, self.worker.clock
        now = clock.now()
        due = [found for found in ledger.working() if _is_due(found.order, now, worker.budgets)]
        if len(due) < WORTH_A_LIST:
            return ""
        with budget_priority(Priority.NORMAL):  # the reserve is for recovery
            shown = {report.exchange_order_id: report for report in worker.provider.open_orders()}
        self.has_read = True
        for found in due:
            report = shown.get(found.order.exchange_order_id)
            if report is not None and found.order.exchange_order_id is not None:
                order_take(found.deal_id, found.order, report, ledger=ledger, provider=worker.provider, clock=clock)
        return ""


def _is_due(order: OrderView, now: datetime, budgets: Budgets) -> bool:
    """It rests, was read back before, and should be read again now."""
    rests = order.status is OrderStatus.OPEN and order.role in (Role.STOP, Role.TARGET)
    return rests and order.checked_at is not None and age(order.checked_at, now) >= budgets.poll_resting


def _may_reconcile(worker: Worker) -> bool:
    """Whether it is due, its lists can be had (else they would be spent one by one, and none of the comparisons ever be
    finished), and no position waits for one of them. After long it is tried all the same."""
    if not reconcile_due(worker.ledger, worker.clock):
        return False
    (last, _), now = worker.ledger.reconcile_times(), worker.clock.now()
    if last is None or age(last, now) >= worker.clock.wall(RECONCILE_AT_LAST):
        return True
    return worker.provider.can_list(LISTS_TO_RECONCILE) and not _is_searching(worker.ledger)


def _is_searching(ledger: Ledger) -> bool:
    """Whether it is not known what became of an order that protects or closes a position."""
    deals = (ledger.deal(deal_id) for deal_id in ledger.live_deals())
    return any(order.is_unknown and order.role != Role.ENTRY for deal in deals for order in deal.orders)


def _reconcile_safely(worker: Worker) -> str:
    def work() -> str:
        reconcile(worker.ledger, worker.provider, worker.clock, strangers=worker.strangers)
        return ""

    return _safely(worker, "be reconciled", work)


def _safely(worker: Worker, what: str, work: Callable[[], str]) -> str:
    """A list that cannot be read, or a row that cannot be written, must not keep open positions from their protection.
    Returns what kept `work` from being done."""
    try:
        return work()
    except AuthFailed:
        raise
    except ProviderError as exc:
        logger.warning("account=%s could not %s: %s", worker.name, what, exc)
        return str(exc)
    except Exception as exc:  # the deals come after it, and have to be looked after all the same
        _raise_if_over(exc)
        logger.exception("account=%s could not %s", worker.name, what)
        return f"the account could not {what}; see the log"


def _raise_if_over(exc: Exception) -> None:
    """Where the session or the account is lost, nothing more can be done in this pass."""
    if isinstance(exc, Fenced) or is_lost(exc):
        raise exc


def _advance_deal_safely(worker: Worker, deal_id: int, resting: _Resting) -> str:
    """One deal's trouble must not keep the others from their protection."""
    try:
        _advance_deal(worker, resting.read_before(worker.ledger.deal(deal_id)))
    except AuthFailed:
        raise
    except ProviderError as exc:
        logger.warning("%sdeal=%s waits: %s", settings.DEAL_PROCESSING_LOG_PREFIX, deal_id, exc)
        return str(exc)
    except Exception as exc:  # outlives one deal: the others are still to be looked after
        _raise_if_over(exc)
        logger.exception("%sdeal=%s failed", settings.DEAL_PROCESSING_LOG_PREFIX, deal_id)
        return f"deal {deal_id} failed unexpectedly; see the log"
    return ""


def _advance_deal(worker: Worker, deal: DealView) -> None:
    ledger, clock = worker.ledger, worker.clock
    unreadable: dict[int, ProviderError] = {}
    for _ in range(MAX_STEPS):
        worker.beat()
        quote = _quote(worker, deal)
        deal = _measured(worker, _told(worker, deal), quote)
        action = next_action(deal, quote, ledger.control(deal.id), clock.now(), worker.budgets)
        price = quote.closing_price(deal.exit_side) if quote else None
        if isinstance(action, REPLACING) and deal.live(Role.STOP) and not worker.provider.can_place(REPLACED_BY):
            # A stop that rests now is better than a better stop after a wait without any: the next look tries again.
            action = decide.Rest()
        if isinstance(action, decide.Rest):
            if action.alarm:
                logger.error("%sdeal=%s %s", settings.STOP_ORDER_MONITOR_LOG_PREFIX, deal.id, action.alarm)
            ledger.measure_protection(deal, price, now=clock.now())
            break
        if isinstance(action, decide.Ask):
            worker.spoken_of.discard(action.order.exchange_order_id or "")
        try:
            with trail(**_order_of(action)):
                _perform(worker, deal, action)
        except (Unavailable, BadPayload) as exc:
            if not isinstance(action, decide.Ask):
                raise
            # One order that cannot be read must not keep the rest of its deal from an exit: go on without it.
            unreadable[action.order.id] = exc
        deal = _as_if_read(ledger.deal(deal.id), unreadable, clock.now())
        ledger.measure_protection(deal, price, now=clock.now())
    else:
        logger.error("%sdeal=%s did not come to rest", settings.DEAL_PROCESSING_LOG_PREFIX, deal.id)
    for error in unreadable.values():
        raise error


def _told(worker: Worker, deal: DealView) -> DealView:
    """The deal with the orders marked that the exchange's stream told of."""
    if not worker.spoken_of:
        return deal
    orders = (replace(each, is_spoken_of=each.exchange_order_id in worker.spoken_of) for each in deal.orders)
    return replace(deal, orders=tuple(orders))


def _as_if_read(deal: DealView, unreadable: Collection[int], now: datetime) -> DealView:
    """The deal with the orders that could not be read counted as just read, so that they are not asked for again."""
    if not unreadable:
        return deal
    orders = (replace(each, checked_at=now) if each.id in unreadable else each for each in deal.orders)
    return replace(deal, orders=tuple(orders))


def _quote(worker: Worker, deal: DealView) -> Quote | None:
    quote = worker.quotes.quote(worker.provider, deal.rules.symbol)
    if quote is None or worker.clock.now() - quote.as_of > worker.budgets.quote_max_age:
        return None
    # A book without a last price cannot say whether a stop was triggered: ask only when it matters.
    if quote.last is None and decide.needs_last_price(deal, quote):
        return worker.quotes.with_last(worker.provider, deal.rules.symbol, quote)
    return quote


def _measured(worker: Worker, deal: DealView, quote: Quote | None) -> DealView:
    """The deal with what the account can close with, where an order was refused for its balance and another is due."""
    if not decide.needs_balance(deal) or quote is None:
        return deal
    control = worker.ledger.control(deal.id)
    if not isinstance(next_action(deal, quote, control, worker.clock.now(), worker.budgets), PLACING):
        return deal
    side = deal.exit_side
    asset = deal.rules.base if side is Side.SELL else deal.rules.quote
    read_at = worker.clock.now()
    try:
        balances = worker.provider.balances()
    except (Unavailable, BadPayload) as exc:
        # The exchange measures too: what it refuses again costs a pause, what it takes protects.
        logger.warning("%sdeal=%s goes on unmeasured: %s", settings.DEAL_PROCESSING_LOG_PREFIX, deal.id, exc)
        return deal
    worker.ledger.note_balances(balances, read_at=read_at)
    balance = balances.get(asset) or Balance(asset, ZERO, ZERO)
    # What buying back may cost, up to the edge of the market band.
    price = quote.ask * (1 + deal.rules.market_band) if side is Side.BUY else Decimal(1)
    free, owned = balance.available / price, balance.total / price
    if free < deal.position:
        logger.error("%sdeal=%s holds less than its books say: %s", settings.DEAL_PROCESSING_LOG_PREFIX, deal.id, free)
    return replace(deal, held=free, owned=owned)


# --- performing -----------------------------------------------------------------------------------------------------


def _order_of(action: Action) -> dict[str, Any]:
    order = getattr(action, "order", None)
    return {"order": order.client_order_id} if order is not None else {}


def _perform(worker: Worker, deal: DealView, action: Action) -> None:  # noqa: C901, PLR0912 - one line per action
    ledger, provider, clock = worker.ledger, worker.provider, worker.clock
    now = clock.now()
    match action:
        case decide.Send(order):
            order_submit(deal, order, ledger=ledger, provider=provider, clock=clock, budgets=worker.budgets)
        case decide.Ask(order):
            order_ask(deal, order, ledger=ledger, provider=provider, clock=clock)
        case decide.Recover(order):
            order_recover(deal, order, ledger=ledger, provider=provider, clock=clock, budgets=worker.budgets)
        case decide.Cancel(order, reason):
            order_cancel(deal, order, reason, ledger=ledger, provider=provider, clock=clock)
        case decide.Withdraw(order, reason):
            ledger.end_order(order, OrderStatus.CANCELED, reason=reason, now=now)
        case decide.Place():
            ledger.plan_order(deal, action, now=now)
        case decide.PlacePair():
            ledger.plan_pair(deal, action, now=now)
        case decide.OpenDeal():
            ledger.open_deal(deal, action, now=now)
        case decide.MoveStop(stop_price, best_price):
            ledger.move_stop(deal, stop_price, best_price, now=now)
        case decide.NoteBest(best_price):
            ledger.note_best(deal, best_price)
        case decide.NoteCrossed(crossed):
            ledger.note_crossed(deal, crossed, now=now)
        case decide.BeginSwap():
            ledger.begin_swap(deal, now=now)
        case decide.StartExit():
            ledger.start_exit(deal, action, now=now)
        case decide.CloseDeal():
            ledger.close_deal(deal, action, now=now)
        case decide.CancelDeal(note):
            ledger.cancel_deal(deal, note, now=now)
        case decide.Rest():
            pass
