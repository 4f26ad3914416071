"""What to do next about one deal. Pure: a picture of the ledger, a quote, the switches and the time give one action.

Nothing is remembered between calls: whatever a later call must know is in the ledger. So any process may die after any
action, and the next one to look does what is safe.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import takewhile

from algo.execution.times import age, is_ahead
from algo.execution.views import Budgets, Control, DealView, OrderView, Quote
from algo.models import CloseReason, DealStatus, Role
from algo.risk.stops import better_price, initial_stop, stop_crossed, target_price, target_reached, trailing_stop
from providers.types import ZERO, OrderStatus, OrderType, ProtectionMode, Side

MAX_EXITS = 8  # exits of one deal before a person is called
STOP_REFUSALS = 3  # refused stops in a row before the guardian alone watches, retrying slowly
STOP_LIMIT_SLACK = Decimal("0.03")  # how far beyond its trigger the limit of an OCO's stop leg rests
NEAR_STOP = Decimal("1.001")  # a stop is not taken away while the price is this close to it


@dataclass(frozen=True, slots=True)
class Send:
    """Put a planned order (and its pair) on the wire."""

    order: OrderView


@dataclass(frozen=True, slots=True)
class Ask:
    """Read an order back from the exchange."""

    order: OrderView


@dataclass(frozen=True, slots=True)
class Recover:
    """Find out whether an order ever arrived."""

    order: OrderView


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Give up a planned order that was never sent."""

    order: OrderView
    reason: str


@dataclass(frozen=True, slots=True)
class Cancel:
    order: OrderView
    reason: str


@dataclass(frozen=True, slots=True)
class Place:
    """Plan an order that closes (part of) the position."""

    role: Role
    type: OrderType
    quantity: Decimal
    price: Decimal | None
    stop_price: Decimal | None
    reason: str


@dataclass(frozen=True, slots=True)
class PlacePair:
    """Plan target and stop as one OCO."""

    quantity: Decimal
    price: Decimal
    stop_price: Decimal
    stop_limit_price: Decimal


@dataclass(frozen=True, slots=True)
class OpenDeal:
    """The entry is over and something was filled: from here on there is a position."""

    entry_price: Decimal
    quantity: Decimal
    stop_price: Decimal
    target_price: Decimal
    opened_at: datetime


@dataclass(frozen=True, slots=True)
class MoveStop:
    """Record where the stop belongs; replacing the resting one follows from it."""

    stop_price: Decimal
    best_price: Decimal


@dataclass(frozen=True, slots=True)
class NoteBest:
    best_price: Decimal


@dataclass(frozen=True, slots=True)
class NoteCrossed:
    """The price went through the stop (True) or came back (False)."""

    crossed: bool


@dataclass(frozen=True, slots=True)
class BeginSwap:
    """The price reached the target while the stop holds the balance: make room for the target."""


@dataclass(frozen=True, slots=True)
class StartExit:
    reason: CloseReason
    note: str


@dataclass(frozen=True, slots=True)
class CloseDeal:
    reason: CloseReason
    dust: Decimal


@dataclass(frozen=True, slots=True)
class CancelDeal:
    note: str


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing to do now. `alarm` is for a person."""

    alarm: str = ""


Action = (
    Send
    | Ask
    | Recover
    | Withdraw
    | Cancel
    | Place
    | PlacePair
    | OpenDeal
    | MoveStop
    | NoteBest
    | NoteCrossed
    | BeginSwap
    | StartExit
    | CloseDeal
    | CancelDeal
    | Rest
)


def next_action(deal: DealView, quote: Quote | None, control: Control, now: datetime, budgets: Budgets) -> Action:
    """The next safe action for `deal`. `quote` is None when no fresh price is known: then nothing that needs a price
    is done, and everything that does not still is."""
    if deal.status in (DealStatus.CLOSED, DealStatus.CANCELED):
        return Rest()
    return (
        _unknown(deal, quote, now, budgets)
        or _unsent(deal, quote, control, now, budgets)
        or _unread(deal, quote, now, budgets)
        or _uncanceled(deal, now, budgets)
        or _entering(deal, control, now, budgets)
        or _late_entry(deal, quote)
        or _finishing(deal, quote, now, budgets)
        or _exiting(deal, quote, control, now, budgets)
        or _protecting(deal, quote, now, budgets)
        or Rest()
    )


# --- orders in between ----------------------------------------------------------------------------------------------


def _unsent(deal: DealView, quote: Quote | None, control: Control, now: datetime, budgets: Budgets) -> Action | None:
    """A planned order is sent if it is still wanted, otherwise withdrawn: a plan never outlives its reason."""
    for order in deal.orders:
        if order.status is not OrderStatus.PENDING or _is_second_leg(order):
            continue
        if order.role == Role.ENTRY:
            return _unsent_entry(deal, order, control, now, budgets)
        if _still_wanted(deal, order, quote):
            return Send(order)
        return Withdraw(order, "no longer wanted when it was to be sent")
    return None


def _unsent_entry(deal: DealView, order: OrderView, control: Control, now: datetime, budgets: Budgets) -> Action:
    if unwanted := _cut_off_by_hand(deal, order):
        return Withdraw(order, unwanted)
    if not control.entries_allowed:
        return Withdraw(order, control.reason or "new positions are switched off")
    if age(order.created_at, now) > budgets.entry_max_age:
        return Withdraw(order, "the signal grew too old before the order could be sent")
    return Send(order)


def _cut_off_by_hand(deal: DealView, entry: OrderView) -> str:
    """Why a person wants no more of an entry; empty where nobody said so."""
    if deal.exit_reason is not None:
        return "its deal is to be closed"
    return "cancelled by hand" if entry.cancel_asked_at is not None else ""


def _is_second_leg(order: OrderView) -> bool:
    """The stop leg of an OCO is sent, and withdrawn, with its target leg."""
    return order.pair_id is not None and order.role == Role.STOP


def _still_wanted(deal: DealView, order: OrderView, quote: Quote | None) -> bool:
    if order.quantity > deal.closable:
        return False
    if order.role == Role.EXIT:
        return deal.exit_reason is not None
    if deal.exit_reason is not None or (quote and _crossed(deal, quote)):
        return False
    if order.role == Role.STOP:
        return order.stop_price == deal.stop_price
    if deal.swaps:  # a target only takes the stop's place while it can be filled
        return quote is not None and _target_reached(deal, quote)
    return True


def _unknown(deal: DealView, quote: Quote | None, now: datetime, budgets: Budgets) -> Action | None:
    """While it is not known whether an order arrived, nothing else is sent for its deal; the others are read, for what
    became of them may explain what the balance says. Both legs of an OCO are looked up through the first; the
    second is looked up itself where only its part of the answer was lost."""
    unknown = {order.id for order in deal.orders if order.is_unknown}
    for order in deal.orders:
        if order.id not in unknown or (_is_second_leg(order) and order.pair_id in unknown):
            continue
        due = order.checked_at is None or age(order.checked_at, now) >= _between_looks(order, now, budgets)
        return Recover(order) if due else _unread(deal, quote, now, budgets) or Rest()
    return None


def _between_looks(order: OrderView, now: datetime, budgets: Budgets) -> timedelta:
    """Longer with every look. Where one has shown nothing of what protects or closes a position, the one that decides
    comes as soon as it counts."""
    sent = order.sent_at
    was_absent = order.role != Role.ENTRY and order.negative_at is not None and order.negative_at >= sent
    if was_absent and age(order.negative_at or sent, now) <= budgets.poll_resting:
        return budgets.negatives_apart
    return min(max(age(sent, now) / 4, budgets.poll_unknown), budgets.poll_resting)


def _unread(deal: DealView, quote: Quote | None, now: datetime, budgets: Budgets) -> Action | None:
    """Whatever works at the exchange is read back: at once when new, often when it should be moving, else seldom."""
    for order in deal.orders:
        if order.is_settled or order.status in (OrderStatus.PENDING, OrderStatus.SUBMITTED, OrderStatus.REJECTED):
            continue
        if order.exchange_order_id is None and order.is_final:
            continue
        if order.checked_at is None or order.is_spoken_of or _is_asked_for(deal, order.checked_at, now):
            return Ask(order)
        if age(order.checked_at, now) >= _poll_interval(deal, order, quote, now, budgets):
            return Ask(order)
    return None


def _is_asked_for(deal: DealView, read_at: datetime, now: datetime) -> bool:
    """Whether a person wants to know how the deal stands, and this was read before that."""
    return deal.look_asked_at is not None and read_at < deal.look_asked_at <= now


def _poll_interval(deal: DealView, order: OrderView, quote: Quote | None, now: datetime, budgets: Budgets) -> timedelta:
    if order.is_final:  # only its fills are missing
        return _growing(age(order.closed_at or order.created_at, now), budgets.poll_unknown, budgets.retry_cap)
    if order.is_missing:  # a second look decides
        return budgets.negatives_apart
    resting = order.status is OrderStatus.OPEN and order.role in (Role.STOP, Role.TARGET)
    return budgets.poll_resting if resting and not _is_busy(deal, quote) else budgets.poll_working


def _is_busy(deal: DealView, quote: Quote | None) -> bool:
    """Whether the price stands where what rests should be executed."""
    return quote is not None and (_crossed(deal, quote) or _target_reached(deal, quote))


def rests(order: OrderView) -> bool:
    """Whether it rests at the exchange, confirmed: what is left is to see that it still does."""
    return order.status is OrderStatus.OPEN and order.role in (Role.STOP, Role.TARGET) and order.is_covering


def can_wait(deal: DealView, order: OrderView, quote: Quote | None, now: datetime) -> bool:
    """Whether to read `order` again would only keep the books fresh: it rests, no price says that it moves, its deal is
    in no danger, and nobody asked."""
    if deal.is_in_danger or deal.crossed_at is not None or _is_busy(deal, quote):
        return False
    is_asked_for = order.is_spoken_of or order.checked_at is None or _is_asked_for(deal, order.checked_at, now)
    return rests(order) and not is_asked_for


def _growing(waited: timedelta, least: timedelta, most: timedelta) -> timedelta:
    """A pause that grows with the time already waited: budgets of calls are small and shared."""
    return min(max(waited / 8, least), most)


def _uncanceled(deal: DealView, now: datetime, budgets: Budgets) -> Action | None:
    """A cancel that was asked for is followed through: the request or its answer may have got lost."""
    for order in deal.orders:
        asked = order.cancel_requested_at or order.created_at
        if order.status is OrderStatus.CANCELING and age(asked, now) >= budgets.cancel_again:
            return Cancel(order, "the cancel has not worked yet: asking again")
    return None


# --- entry and end --------------------------------------------------------------------------------------------------


def _entering(deal: DealView, control: Control, now: datetime, budgets: Budgets) -> Action | None:
    if deal.status not in (DealStatus.PLANNED, DealStatus.ENTERING):
        return None
    entry = deal.last(Role.ENTRY)
    if entry is None:
        return CancelDeal("it has no entry order")
    if not entry.is_final:
        return _working_entry(deal, entry, control, now, budgets)
    if entry.filled <= 0:
        return CancelDeal(entry.reason or "the entry was not filled")
    price = entry.average_price or deal.planned_price
    return OpenDeal(
        entry_price=price,
        quantity=entry.filled,
        stop_price=initial_stop(price, deal.side, deal.stop_percent, deal.rules),
        target_price=target_price(price, deal.side, deal.target_percent, deal.rules),
        opened_at=entry.closed_at or now,
    )


def _working_entry(deal: DealView, entry: OrderView, control: Control, now: datetime, budgets: Budgets) -> Action:
    """An entry that is still working after its patience, against the kill switch or against a person's will, is cut
    off: what was filled gets its protection, or its exit. A limit order that a person adopted may wait for its price
    until its first fill."""
    unwanted = _cut_off_by_hand(deal, entry)
    if unwanted and entry.status is not OrderStatus.CANCELING:
        return Cancel(entry, unwanted)
    if (control.cancel or control.flatten) and entry.status is not OrderStatus.CANCELING:
        return Cancel(entry, control.reason or "entries are to be cancelled")
    if entry.type is OrderType.LIMIT and entry.filled <= 0:
        return Rest()
    waited = age(entry.sent_at, now)
    if waited > budgets.work_patience and entry.status is not OrderStatus.CANCELING:
        return Cancel(entry, "the entry was not filled in time")
    return Rest()


def _late_entry(deal: DealView, quote: Quote | None) -> Action | None:
    """An entry that still works in a deal that is open arrived after it had been given up. It is cut off, and the deal
    is not over before it has ended: what it still gets would belong to nobody."""
    for late in deal.live(Role.ENTRY):
        if late.status is not OrderStatus.CANCELING:
            return Cancel(late, "its deal is over: what it gets is closed")
        if deal.is_dust(_valuation(deal, quote)):
            return Rest()
    return None


def _finishing(deal: DealView, quote: Quote | None, now: datetime, budgets: Budgets) -> Action | None:
    """When nothing tradable is left: take back what still rests, wait for every fill, close. Where only the balance
    says so and our books do not, it has to say so for a while."""
    if not deal.is_dust(_valuation(deal, quote)) or (deal.exit_reason is None and _rests_whole(deal)):
        return None
    if deal.held is not None and age(_refused_at(deal), now) < budgets.retry_cap:
        return Rest("the account holds nothing of what the books say is open")
    if deal.owned is not None and not replace(deal, held=deal.owned).is_dust(_valuation(deal, quote)):
        return Rest("what would close the position is held by orders that are not the platform's: cancel them")
    if any(order.is_final and not order.is_settled for order in deal.orders):
        return _take_back(deal) or Rest()
    return _take_back(deal) or CloseDeal(_close_reason(deal), max(deal.position, ZERO))


def _rests_whole(deal: DealView) -> bool:
    """Whether all of the position is under a stop that nobody has touched: then it is no remainder, and if the exchange
    takes so little no more by new rules, this stop is the last that can close it."""
    return any(
        stop.status is OrderStatus.OPEN and stop.is_covering and not stop.filled and _fits(deal, stop)
        for stop in deal.live(Role.STOP)
    )


def _fits(deal: DealView, stop: OrderView) -> bool:
    return deal.at_hand * Decimal("0.995") <= stop.remaining <= deal.at_hand


def _take_back(deal: DealView) -> Action | None:
    for order in deal.live(Role.STOP, Role.TARGET, Role.EXIT):
        if order.status is OrderStatus.PENDING:
            return Withdraw(order, "the position is closed")
        return Rest() if order.status is OrderStatus.CANCELING else Cancel(order, "the position is closed")
    return None


def _refused_at(deal: DealView) -> datetime:
    return max(o.closed_at or o.created_at for o in deal.orders if o.status is OrderStatus.REJECTED)


def _valuation(deal: DealView, quote: Quote | None) -> Decimal:
    return quote.closing_price(deal.exit_side) if quote else (deal.entry_price or deal.planned_price)


def _close_reason(deal: DealView) -> CloseReason:
    """By what was filled last, not by what was wished."""
    filled = [order for order in deal.orders if order.role != Role.ENTRY and order.filled > 0]
    last = max(filled, key=lambda order: (order.closed_at or order.created_at, order.id), default=None)
    if last is None:
        return deal.exit_reason or CloseReason.EMERGENCY
    if last.role == Role.TARGET:
        return CloseReason.TAKE_PROFIT
    if last.role == Role.STOP:
        return _reason_of_stop(deal, last.stop_price or deal.initial_stop_price)
    return deal.exit_reason or CloseReason.EMERGENCY


def _reason_of_stop(deal: DealView, stop_price: Decimal) -> CloseReason:
    """A stop that a person moved is still a stop loss; one that moves by itself has trailed."""
    trailed = deal.trailing_percent > 0 and stop_price != deal.initial_stop_price
    return CloseReason.TRAILING_STOP if trailed else CloseReason.STOP_LOSS


# --- exit -----------------------------------------------------------------------------------------------------------


def _exiting(deal: DealView, quote: Quote | None, control: Control, now: datetime, budgets: Budgets) -> Action | None:
    if deal.exit_reason is None:
        return StartExit(CloseReason.KILL_SWITCH, control.reason) if control.flatten else None
    for order in deal.live(Role.STOP, Role.TARGET):
        return Rest() if order.status is OrderStatus.CANCELING else Cancel(order, "making room for the exit")
    for order in deal.live(Role.EXIT):
        waited = age(order.sent_at, now)
        if waited > budgets.work_patience and order.status is not OrderStatus.CANCELING:
            return Cancel(order, "the exit was not filled in time")
        return Rest()
    return _next_exit(deal, quote, now, budgets)


def _next_exit(deal: DealView, quote: Quote | None, now: datetime, budgets: Budgets) -> Action:
    exits = [order for order in deal.orders if order.role == Role.EXIT]
    fruitless = _in_a_row(exits, lambda order: order.filled <= 0)
    if fruitless and age(exits[-1].closed_at or exits[-1].created_at, now) < _back_off(fruitless, budgets):
        return Rest(_exit_alarm(len(exits)))
    if quote is None and not deal.rules.allows_market_orders:
        return Rest("no price is known to close the position at")
    kind, price = _exit_terms(deal, quote)
    return Place(Role.EXIT, kind, deal.closable, price, None, deal.exit_reason or "")


def _exit_terms(deal: DealView, quote: Quote | None) -> tuple[OrderType, Decimal | None]:
    """A market order, bounded where the exchange takes a bound; else a limit order that crosses half of the band."""
    if quote is None:
        return OrderType.MARKET, None
    if deal.rules.allows_market_orders:
        bound = deal.rules.round_limit(quote.closing_price(deal.exit_side), deal.exit_side)
        return OrderType.MARKET, bound if deal.capabilities.market_takes_price else None
    give = 1 - deal.exit_side.opposite.sign * deal.rules.market_band / 2
    return OrderType.LIMIT, deal.rules.round_limit(quote.closing_price(deal.exit_side) * give, deal.exit_side.opposite)


def _exit_alarm(exits: int) -> str:
    return f"{exits} exits were sent and the position is still open" if exits >= MAX_EXITS else ""


# --- protection -----------------------------------------------------------------------------------------------------


def _protecting(deal: DealView, quote: Quote | None, now: datetime, budgets: Budgets) -> Action | None:
    action = _stop_crossed(deal, quote, now, budgets) or _surplus(deal)
    if action or deal.is_dust(_valuation(deal, quote)):  # whatever took the place of what rests would be refused
        return action
    if not deal.live(Role.STOP, Role.TARGET) and _is_too_small_for_a_stop(deal):
        return StartExit(_close_reason(deal), "what is left is too small for a stop")
    return (_trailing(deal, quote, now, budgets) if quote else None) or _PROTECT[deal.mode](deal, quote, now, budgets)


def _surplus(deal: DealView) -> Action | None:
    """A stop or target that was lost may turn up again after another took its place: only the newest stays, for both
    could be filled."""
    for role in (Role.STOP, Role.TARGET):
        resting = [order for order in deal.live(role) if order.status is not OrderStatus.CANCELING]
        if len(resting) > 1:
            return Cancel(resting[0], "another one has taken its place")
    return None


def _crossed(deal: DealView, quote: Quote) -> bool:
    return stop_crossed(deal.side, deal.stop_price, quote.trigger_price(deal.exit_side))


def needs_last_price(deal: DealView, quote: Quote) -> bool:
    """Whether the side of the book that closes the deal is through its stop: only the last trade can confirm it. An
    exit that has begun needs no confirmation."""
    if deal.entry_price is None or deal.exit_reason is not None:
        return False
    return stop_crossed(deal.side, deal.stop_price, quote.closing_price(deal.exit_side))


def needs_balance(deal: DealView) -> bool:
    """Whether the next order has to be measured by what the account really holds: the last one was refused for it."""
    return deal.lacks_balance and not deal.live(Role.STOP, Role.TARGET, Role.EXIT)


def _target_reached(deal: DealView, quote: Quote) -> bool:
    """By what closing would really get, not by the last trade."""
    return target_reached(deal.side, deal.target_price, quote.closing_price(deal.exit_side))


def _stop_crossed(deal: DealView, quote: Quote | None, now: datetime, budgets: Budgets) -> Action | None:
    """One rule with no third outcome: a crossed stop is filled by the exchange within its patience, or we exit."""
    if quote is None:
        return None
    if not _crossed(deal, quote):
        return _uncrossed(deal, deal.crossed_at, now, budgets) if deal.crossed_at else None
    if deal.crossed_at is None:
        return NoteCrossed(True)
    if not deal.live(Role.STOP):
        reason = _reason_of_stop(deal, deal.stop_price)
        return StartExit(reason, "the price is through the stop and no stop rests at the exchange")
    if age(deal.crossed_at, now) > budgets.stop_patience:
        return StartExit(CloseReason.EMERGENCY, "the stop was crossed and did not fill")
    return Rest()


def _uncrossed(deal: DealView, crossed_at: datetime, now: datetime, budgets: Budgets) -> Action:
    """The price came back. A stop may have been triggered all the same, and come to nothing: it is read before anybody
    relies on it again."""
    if is_ahead(crossed_at, now):  # a clock that was wrong: no answer will be younger than that for long
        crossed_at = now - budgets.poll_working
    for stop in deal.live(Role.STOP):
        if stop.is_working and (stop.checked_at is None or stop.checked_at <= crossed_at):
            return Ask(stop)
    return NoteCrossed(False)


def _trailing(deal: DealView, quote: Quote, now: datetime, budgets: Budgets) -> Action | None:
    if deal.trailing_percent <= 0:
        return None
    price = quote.trigger_price(deal.exit_side)
    start = deal.best_price or deal.entry_price or price
    best = better_price(deal.side, start, price)
    stop = trailing_stop(
        deal.side, best, deal.stop_price, deal.trailing_percent, deal.trailing_step_percent, deal.rules
    )
    rested = deal.trailed_at is None or age(deal.trailed_at, now) >= budgets.trail_interval
    if stop is not None and rested and not stop_crossed(deal.side, stop, price):
        return MoveStop(stop, best)
    worth_noting = abs(best - start) * 1000 >= start
    return NoteBest(best) if worth_noting else None


def _protect_oco(deal: DealView, quote: Quote | None, now: datetime, budgets: Budgets) -> Action | None:
    """Mode 1: target and stop rest as one pair. A broken or misplaced pair is taken down whole and placed again. A
    plain stop stands in where the pair cannot be placed; the guardian then watches the target. The first refusal of a
    pair is the last one of its deal: another try would be another moment without a stop."""
    stops, targets = deal.live(Role.STOP), deal.live(Role.TARGET)
    if stops and (targets or stops[-1].pair_id is None):
        return _misplaced(deal, stops[-1], quote) or (None if targets else _protect_by_guardian(deal, quote))
    for order in stops + targets:
        return Rest() if order.status is OrderStatus.CANCELING else Cancel(order, "the other leg is gone")
    if quote and _target_reached(deal, quote):
        return StartExit(CloseReason.TAKE_PROFIT, "the price is already through the target")
    if quote is None or _pair_was_refused(deal) or _pair_would_be_refused(deal, quote):
        return _place_stop(deal, quote, now, budgets)
    return Rest() if _refused_recently(deal, Role.STOP, now, budgets) else _onto_tick(deal) or _pair(deal)


def _pair_was_refused(deal: DealView) -> bool:
    return any(order.pair_id is not None and order.status is OrderStatus.REJECTED for order in deal.orders)


def _pair_would_be_refused(deal: DealView, quote: Quote) -> bool:
    """An exchange takes a pair only while its last price stands between the two (contract: nobitex 6.1). With the last
    trade beyond the target and nobody who pays it, a plain stop protects at once."""
    return target_reached(deal.side, deal.target_price, quote.trigger_price(deal.exit_side))


def _pair(deal: DealView) -> PlacePair:
    return PlacePair(
        quantity=deal.closable,
        price=_target_limit(deal),
        stop_price=deal.stop_price,
        stop_limit_price=_stop_limit(deal),
    )


def _stop_limit(deal: DealView) -> Decimal:
    """Where a triggered stop rests when it cannot be a market order: far enough through the stop to be filled."""
    slack = 1 - deal.side.sign * STOP_LIMIT_SLACK
    return deal.rules.round_limit(deal.stop_price * slack, deal.exit_side)


def _protect_free(deal: DealView, quote: Quote | None, now: datetime, budgets: Budgets) -> Action | None:
    """Mode 2: stop and target rest side by side; whichever is left over is taken back by `_finishing`. Only where the
    balance itself keeps both from filling: else one at a time, as where stops hold it."""
    if deal.swaps:
        return _protect_locking(deal, quote, now, budgets)
    action = _keep_stop(deal, quote, now, budgets)
    if action:
        return action
    for order in deal.live(Role.TARGET):
        too_large = order.remaining > deal.at_hand and order.status is not OrderStatus.CANCELING
        return Cancel(order, "the position changed") if too_large else None
    if _refused_recently(deal, Role.TARGET, now, budgets):
        return None
    return Place(Role.TARGET, OrderType.LIMIT, deal.closable, _target_limit(deal), None, "target")


def _protect_locking(deal: DealView, quote: Quote | None, now: datetime, budgets: Budgets) -> Action | None:
    """Mode 3: the stop rests; at the target it makes way for the limit order, for a short while only."""
    targets = deal.live(Role.TARGET)
    if targets:
        return _target_in_swap(deal, targets[-1], quote, now, budgets)
    if quote and _target_reached(deal, quote):
        if _in_swap(deal, now, budgets) and not _target_tried(deal):
            for order in deal.live(Role.STOP):
                return Rest() if order.status is OrderStatus.CANCELING else Cancel(order, "the target takes its place")
            return Place(Role.TARGET, OrderType.LIMIT, deal.closable, _target_limit(deal), None, "target")
        if _may_swap(deal, now, budgets):
            return BeginSwap()
    return _keep_stop(deal, quote, now, budgets)


def _in_swap(deal: DealView, now: datetime, budgets: Budgets) -> bool:
    return deal.swapped_at is not None and age(deal.swapped_at, now) <= budgets.swap_patience


def _may_swap(deal: DealView, now: datetime, budgets: Budgets) -> bool:
    return deal.swapped_at is None or age(deal.swapped_at, now) > budgets.swap_pause


def _target_tried(deal: DealView) -> bool:
    target = deal.last(Role.TARGET)
    return target is not None and deal.swapped_at is not None and target.created_at >= deal.swapped_at


def _target_in_swap(
    deal: DealView, target: OrderView, quote: Quote | None, now: datetime, budgets: Budgets
) -> Action | None:
    fell_back = quote is None or not _target_reached(deal, quote)
    if target.status is OrderStatus.CANCELING or not (fell_back or not _in_swap(deal, now, budgets)):
        return Rest()
    return Cancel(target, "the target was not filled: the stop takes its place back")


def _protect_nothing(deal: DealView, quote: Quote | None, now: datetime, budgets: Budgets) -> Action | None:
    """Mode 4: nothing can rest at the exchange; the guardian closes at stop (`_stop_crossed`) and target."""
    return _protect_by_guardian(deal, quote)


def _protect_by_guardian(deal: DealView, quote: Quote | None) -> Action | None:
    if quote and _target_reached(deal, quote):
        return StartExit(CloseReason.TAKE_PROFIT, "the price reached the target")
    return None


def _keep_stop(deal: DealView, quote: Quote | None, now: datetime, budgets: Budgets) -> Action | None:
    stops = deal.live(Role.STOP)
    return _misplaced(deal, stops[-1], quote) if stops else _place_stop(deal, quote, now, budgets)


def _misplaced(deal: DealView, stop: OrderView, quote: Quote | None) -> Action | None:
    """Take down a stop at another price or for another quantity than belongs there, unless it is about to be needed. A
    grid that became coarser is no reason: what rests is valid as long as it closes no more than there is."""
    if stop.status is OrderStatus.CANCELING:
        return Rest()
    right_size = stop.remaining <= deal.at_hand and (
        stop.remaining >= deal.closable * Decimal("0.995") or deal.lacks_balance  # then more could not be had
    )
    if right_size and stop.stop_price == deal.stop_price:
        return None
    if right_size and (quote is None or _is_near(deal, stop, quote)):
        return None
    return Cancel(stop, "the stop moves" if right_size else "the position changed")


def _is_near(deal: DealView, stop: OrderView, quote: Quote) -> bool:
    price, level = quote.trigger_price(deal.exit_side), stop.stop_price or deal.stop_price
    return price <= level * NEAR_STOP if deal.side is Side.BUY else price >= level / NEAR_STOP


def _place_stop(deal: DealView, quote: Quote | None, now: datetime, budgets: Budgets) -> Action | None:
    """A stop is compared with the market before it is sent (`_stop_crossed` ran); without a price it is sent all the
    same, because the exchange refuses a crossed one and no stop is worse."""
    if _refused_recently(deal, Role.STOP, now, budgets):
        return Rest("the exchange refuses the stop; only the guardian watches this deal") if _gave_up(deal) else Rest()
    if moved := _onto_tick(deal):
        return moved
    if deal.capabilities.stop_market:
        return Place(Role.STOP, OrderType.STOP_MARKET, deal.closable, None, deal.stop_price, "stop")
    return Place(Role.STOP, OrderType.STOP_LIMIT, deal.closable, _stop_limit(deal), deal.stop_price, "stop")


def _is_too_small_for_a_stop(deal: DealView) -> bool:
    """Whether the exchange would refuse a stop for what is left, which is worth less there than at the market: no try
    would end a position that is bare, and the market takes it now."""
    if deal.mode is ProtectionMode.NO_STOPS:
        return False
    return deal.is_dust(deal.stop_price if deal.capabilities.stop_market else _stop_limit(deal))


def _onto_tick(deal: DealView) -> MoveStop | None:
    """A stop that was written down on a finer grid of prices, and has to be placed on the one of today."""
    price = deal.rules.round_stop(deal.stop_price, deal.exit_side)
    best = deal.best_price or deal.entry_price or deal.planned_price
    return MoveStop(price, best) if price != deal.stop_price else None


def _target_limit(deal: DealView) -> Decimal:
    """The target on the grid of prices of today."""
    return deal.rules.round_limit(deal.target_price, deal.exit_side)


def _gave_up(deal: DealView) -> bool:
    return len(_refusals(deal, Role.STOP)) >= STOP_REFUSALS


def _refusals(deal: DealView, role: Role) -> list[OrderView]:
    """The newest orders of `role` as far as they were refused one after the other, newest first. A refused pair says
    nothing about a stop alone, which is tried at once."""
    ended = [order for order in deal.orders if order.role == role and order.is_final]
    refused = takewhile(lambda order: order.status is OrderStatus.REJECTED, reversed(ended))
    return [order for order in refused if order.pair_id is None]


def _refused_recently(deal: DealView, role: Role, now: datetime, budgets: Budgets) -> bool:
    refused = _refusals(deal, role)
    if not refused:
        return False
    refused_at = refused[0].closed_at or refused[0].created_at
    return not _is_asked_for(deal, refused_at, now) and age(refused_at, now) < _back_off(len(refused), budgets)


def _in_a_row(orders: list[OrderView], test: Callable[[OrderView], bool]) -> int:
    """How many of the newest orders pass `test` without a break."""
    return sum(1 for _ in takewhile(test, reversed(orders)))


def _back_off(failures: int, budgets: Budgets) -> timedelta:
    return min(budgets.retry_base * 2 ** (failures - 1), budgets.retry_cap)


_PROTECT = {
    ProtectionMode.NATIVE_OCO: _protect_oco,
    ProtectionMode.FREE_STOPS: _protect_free,
    ProtectionMode.LOCKING_STOPS: _protect_locking,
    ProtectionMode.NO_STOPS: _protect_nothing,
}
