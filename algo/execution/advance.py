"""advance(account): the one verb that touches an exchange for money.

Take the account's lock, look at our ledger and at the exchange, do the next safe action of every live deal, record
it, go on until nothing is left to do now. Re-entrant and without memory: the Celery hint (speed), beat's sweep and the
guardian all call it, and losing any two of them costs time, not safety.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
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
from algo.execution.reconcile import Strangers, is_in_doubt, reconcile, reconcile_due
from algo.execution.resolve import order_recover
from algo.execution.submit import is_as_known, order_ask, order_cancel, order_submit, order_take
from algo.execution.times import age
from algo.execution.views import Budgets, Control, DealView, LiveDeal, OrderView, Quote
from algo.models import Account, Role
from algo.selectors.halts import flat_due
from algo.selectors.sessions import is_lost
from algo.services.accounts import account_is_stopped, account_stop
from algo.trail import trail
from providers.budgets import Priority, budget_priority
from providers.clock import Clock
from providers.errors import AuthFailed, BadPayload, ProviderError, Unavailable
from providers.interface import ExchangeProvider
from providers.types import ZERO, Balance, Capabilities, OrderReport, OrderStatus, Side

logger = logging.getLogger("algo.advance")

PLACING = (decide.Place, decide.PlacePair)
REPLACING = (decide.MoveStop, decide.BeginSwap)  # they take a resting stop down to put something else in its place
REPLACED_BY = 2  # orders: the other one, and the stop again if that one is refused
WORTH_A_LIST = 8  # orders to be read: from so many on, one list of open orders is read instead
LISTS_TO_RECONCILE = 2  # open orders, and those of every status on the market of a deal
RECONCILE_AT_LAST = 180.0  # wall seconds
LOOK_EVERY = 0.8  # wall seconds between two looks at the deals of an account whose reconciliation waits for a list
LOOKS_MEANWHILE = 20  # before each of its lists, at most
MAX_STEPS = 24  # actions on one deal in one call: more than a whole life needs, so that a defect cannot spin


class Advanced(StrEnum):
    """What came of a call."""

    DONE = "done"
    BUSY = "busy"  # somebody else holds the account
    STOPPED = "stopped"  # the exchange refuses the key


class Prices(Protocol):
    """Where quotes come from."""

    def expect(self, provider: ExchangeProvider, symbols: Collection[str]) -> None: ...

    def quote(self, provider: ExchangeProvider, symbol: str) -> Quote | None: ...

    def with_last(self, provider: ExchangeProvider, symbol: str, quote: Quote) -> Quote: ...


class Turn:
    """Of several workers of one process, one at a time reconciles an account of their exchange: lists are few, and who
    waits for one keeps its thread from other accounts. Its own account's deals are looked after meanwhile. `had`: names
    of the accounts that had theirs."""

    def __init__(self) -> None:
        self._taken = threading.Lock()
        self.had: set[str] = set()

    @contextmanager
    def mine(self, account: str) -> Iterator[bool]:
        """Whether it is; waits for nobody."""
        is_mine = self._taken.acquire(blocking=False)
        try:
            if is_mine:
                self.had.add(account)
            yield is_mine
        finally:
            if is_mine:
                self._taken.release()


@dataclass(frozen=True, slots=True)
class Worker:
    """What is needed to work on one account. `beat` tells the holder of its lock that the work moves; `rest` waits so
    many seconds, with such signs."""

    name: str
    ledger: Ledger
    provider: ExchangeProvider
    quotes: Prices
    clock: Clock
    budgets: Budgets
    strangers: Strangers | None = None
    beat: Callable[[], None] = lambda: None
    rest: Callable[[float], None] | None = None
    inbox: Callable[[], str] = lambda: ""  # carries out what people answered; gives what kept it from that
    spoken_of: set[str] = field(default_factory=set)  # by the exchange's stream: its ids of orders not read since
    turn: Turn | None = None  # where others of this process work on accounts of the same exchange


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
    hurried: bool = False,
    spoken_of: Collection[str] = (),
    turn: Turn | None = None,
) -> Advanced:
    """Do everything that is safe and due for `account` now. Failures of the exchange are recorded and end the call;
    the next trigger tries again. `spoken_of`: the exchange's ids of orders that its stream told of, to be read again
    however young their last reading is. Who is `hurried` leaves the comparison of the books to whoever comes next.
    `turn` is shared by the threads of a process that look after accounts of one exchange."""
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
            lease.rest,
            partial(answer_tickets, account, ledger, provider, clock),
            set(spoken_of),
            turn,
        )
        done = advance_locked(worker, reconcile_now=reconcile_now, hurried=hurried)
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


def advance_locked(worker: Worker, *, reconcile_now: bool = False, hurried: bool = False) -> Advanced:
    """`advance` for a caller that holds the account's lock.

    Reconciliation comes first where it was asked for (at every start), else last: its lists may have to wait for a call
    budget, and a stop that just came to nothing cannot wait with them. What it changes is acted upon a second later.
    """
    ledger, clock = worker.ledger, worker.clock
    try:
        error = _reconcile_safely(worker) if reconcile_now else ""
        error = _safely(worker, "have its tickets answered", worker.inbox) or error
        error = _look_after_deals(worker) or error
        if not (reconcile_now or hurried) and _may_reconcile(worker):
            error = _reconcile_safely(worker) or error
    except AuthFailed as exc:
        ledger.stop_account(str(exc), now=clock.now())
        return Advanced.STOPPED
    except _Stopped:
        return Advanced.STOPPED
    ledger.note_advanced(error, now=clock.now())
    return Advanced.DONE


class _Stopped(Exception):
    """The account was stopped while its deals were looked after."""


def _look_after_deals(worker: Worker) -> str:
    """One look at every live deal, and whatever is due for it. Returns what kept one of them from it."""
    error = ""
    live, told = _live(worker), _told_of(worker)
    readings = _Readings(worker, [seen for _, seen in live if seen is not None])
    for deal_id, seen in sorted(live, key=lambda each: each[0] not in told):
        worker.beat()
        with trail(deal=deal_id):
            if deal_id not in told and seen is not None and _rests(worker, seen, readings):
                continue
            if worker.ledger.is_stopped():
                raise _Stopped
            error = _advance_deal_safely(worker, deal_id, readings) or error
    return error


# --- which deals need something -------------------------------------------------------------------------------------


def _told_of(worker: Worker) -> set[int]:
    """The deals whose orders the exchange's stream told of."""
    return {found.deal_id for each in worker.spoken_of if (found := worker.ledger.find(each, None))}


def _live(worker: Worker) -> list[tuple[int, LiveDeal | None]]:
    """Every live deal, most urgent first, all of them read together. Where that fails, one row may be to blame, and it
    must not keep the others from their protection: then each is read by itself."""
    try:
        return [(seen.deal.id, seen) for seen in worker.ledger.live_views()]
    except Exception as exc:
        _raise_if_over(exc)
        logger.exception("account=%s: its deals could not be read together, each is read by itself", worker.name)
        return [(deal_id, None) for deal_id in worker.ledger.live_deals()]


def _rests(worker: Worker, seen: LiveDeal, readings: _Readings) -> bool:
    """Whether a deal, as it was read with all others of its account, needs nothing: nothing is to be done, to be
    written or to be said. Whatever does need something, or cannot be judged, is read by itself and then judged anew:
    nothing is ever done by this picture."""
    try:
        deal = readings.as_read(seen.deal)
        if deal is None or decide.needs_balance(deal):
            return False
        quote = _quote(worker, deal)
        price = quote.closing_price(deal.exit_side) if quote else None
        return deal.is_measured(price) and _decided(worker, deal, quote, seen.control, readings) == decide.Rest()
    except AuthFailed:
        raise
    except Exception as exc:  # noqa: BLE001 - its own reading meets the same trouble, and tells of it
        _raise_if_over(exc)
        return False


def _decided(worker: Worker, deal: DealView, quote: Quote | None, control: Control, readings: _Readings) -> Action:
    """The next action for a deal. Where that is a reading that can wait and no call is to spare, the one after it."""
    now, budgets = worker.clock.now(), worker.budgets
    action = next_action(deal, quote, control, now, budgets)
    if isinstance(action, decide.Ask) and decide.can_wait(deal, action.order, quote, now) and not readings.may_ask():
        waiting = [order.id for order in deal.orders if decide.can_wait(deal, order, quote, now)]
        action = next_action(_as_if_read(deal, waiting, now), quote, control, now, budgets)
    return action


@dataclass(slots=True)
class _Readings:
    """What rests at the exchange is read again and again, only to keep the books fresh. In one pass over an account:
    one list for all of it where much is due, and never a call that somebody would have to wait for. Calls are few, a
    position that waits for a price or for an exit must not stand behind them, and what is not read now is read in the
    next second that has a call to spare."""

    worker: Worker
    live: Sequence[LiveDeal]
    is_begun: bool = False
    is_refused: bool = False  # there is no call to spare in this pass
    read: dict[int, datetime] = field(default_factory=dict)  # orders that were seen at rest
    changed: set[int] = field(default_factory=set)  # deals that are no longer as they were read

    def as_read(self, deal: DealView) -> DealView | None:
        """`deal` with what a list has told of it meanwhile; None where that is more than that it rests. The list comes
        after the deals in danger, and so do the prices of all markets at once."""
        if not self.is_begun and not deal.is_in_danger:
            self.is_begun = True
            symbols = {seen.deal.rules.symbol for seen in self.live}
            self.worker.quotes.expect(self.worker.provider, symbols)
            _safely(self.worker, "have its open orders listed", self._read_list)
        if deal.id in self.changed:
            return None
        orders = tuple(
            replace(each, checked_at=self.read[each.id], unknown_since=None) if each.id in self.read else each
            for each in deal.orders
        )
        return replace(deal, orders=orders) if any(each.id in self.read for each in deal.orders) else deal

    def may_ask(self) -> bool:
        """Whether there is a call to spare for reading one order."""
        if not self.is_refused:
            with budget_priority(Priority.NORMAL):  # the reserve is for exits and recovery
                self.is_refused = not self.worker.provider.can_ask()
        return not self.is_refused

    def _read_list(self) -> str:
        """Where many orders are due, one list of open orders reads all that rest. What it does not show is asked for
        one by one, as always."""
        worker = self.worker
        now = worker.clock.now()
        if sum(_is_due(order, now, worker.budgets) for _, order in self._resting()) < WORTH_A_LIST:
            return ""
        with budget_priority(Priority.NORMAL):
            if not worker.provider.can_list():
                return ""
            shown = {report.exchange_order_id: report for report in worker.provider.open_orders()}
        self._take(shown)
        return ""

    def _resting(self) -> list[tuple[DealView, OrderView]]:
        """Orders that rest by the books, and of which no stream has told otherwise."""
        told = self.worker.spoken_of
        return [
            (seen.deal, order)
            for seen in self.live
            for order in seen.deal.orders
            if decide.rests(order) and order.exchange_order_id not in told
        ]

    def _take(self, shown: Mapping[str | None, OrderReport]) -> None:
        """What a list says: of most orders nothing new, which is one statement for all; of the others each its own."""
        worker, now = self.worker, self.worker.clock.now()
        told = [
            (deal, order, shown[order.exchange_order_id]) for deal, order in self._resting() if _is_in(order, shown)
        ]
        same = [order for _, order, report in told if is_as_known(order, report)]
        news = [each for each in told if not is_as_known(*each[1:])]
        self.changed |= {deal.id for deal, _, _ in news}
        worker.ledger.note_read(same, now=now)
        self.read |= dict.fromkeys((order.id for order in same), now)
        for deal, order, report in news:
            order_take(deal.id, order, report, ledger=worker.ledger, provider=worker.provider, clock=worker.clock)


def _is_in(order: OrderView, shown: Mapping[str | None, OrderReport]) -> bool:
    return order.exchange_order_id is not None and order.exchange_order_id in shown


def _is_due(order: OrderView, now: datetime, budgets: Budgets) -> bool:
    """It should be read again now."""
    return order.checked_at is not None and age(order.checked_at, now) >= budgets.poll_resting


def _may_reconcile(worker: Worker) -> bool:
    """Whether it is due, its lists can be had (else they would be spent one by one, and none of the comparisons ever be
    finished), and no position waits for one of them. What reads what rests goes before it, unless an order may still
    turn up. After long, one list that can be had is enough; and now and then it is tried without any."""
    ledger, provider, clock = worker.ledger, worker.provider, worker.clock
    if not reconcile_due(ledger, clock):
        return False
    (last, tried), now, long = ledger.reconcile_times(), clock.now(), clock.wall(RECONCILE_AT_LAST)
    if last is None or age(last, now) >= long:
        return tried is None or age(tried, now) >= long or provider.can_list()
    with budget_priority(Priority.EXITS if is_in_doubt(ledger, clock) else Priority.NORMAL):
        return provider.can_list(LISTS_TO_RECONCILE) and not _is_searching(ledger)


def _is_searching(ledger: Ledger) -> bool:
    """Whether it is not known what became of an order that protects or closes a position."""
    return any(
        order.is_unknown and order.role != Role.ENTRY for seen in ledger.live_views() for order in seen.deal.orders
    )


def _reconcile_safely(worker: Worker) -> str:
    def work() -> str:
        before_list = partial(_look_until_listed, worker)
        reconcile(worker.ledger, worker.provider, worker.clock, strangers=worker.strangers, before_list=before_list)
        return ""

    with worker.turn.mine(worker.name) if worker.turn else nullcontext(True) as is_mine:
        return _safely(worker, "be reconciled", work) if is_mine else ""


def _look_until_listed(worker: Worker, lists: int) -> None:
    """Look after the deals as long as so many lists cannot be had, but not for ever: then whoever asks for one waits as
    everybody does. Only where one of a crew does it, for the others do the rest of the work meanwhile."""
    looks = 0
    while worker.turn and worker.rest and looks < LOOKS_MEANWHILE and not worker.provider.can_list(lists):
        worker.rest(LOOK_EVERY)
        worker.ledger.note_advanced(_look_after_deals(worker), now=worker.clock.now())
        looks += 1


def _safely(worker: Worker, what: str, work: Callable[[], str]) -> str:
    """A list that cannot be read, or a row that cannot be written, must not keep open positions from their protection.
    Returns what kept `work` from being done."""
    try:
        return work()
    except (AuthFailed, _Stopped):
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


def _advance_deal_safely(worker: Worker, deal_id: int, readings: _Readings) -> str:
    """One deal's trouble must not keep the others from their protection."""
    try:
        _advance_deal(worker, worker.ledger.deal(deal_id), readings)
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


def _advance_deal(worker: Worker, deal: DealView, readings: _Readings) -> None:
    ledger, clock = worker.ledger, worker.clock
    unreadable: dict[int, ProviderError] = {}
    for _ in range(MAX_STEPS):
        worker.beat()
        quote = _quote(worker, deal)
        deal = _measured(worker, _told(worker, deal), quote)
        action = _decided(worker, deal, quote, ledger.control(deal.id), readings)
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
