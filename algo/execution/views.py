"""Frozen pictures of the ledger and of the market, so that decisions can be pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cached_property

from algo.models import CloseReason, DealStatus, Role
from providers.clock import Clock
from providers.errors import RejectReason
from providers.types import (
    ZERO,
    Capabilities,
    MarketRules,
    OrderStatus,
    OrderType,
    ProtectionMode,
    Side,
)

MOST_OVER = Decimal("1.02")  # of what one exit takes: fees and dust
NO_BALANCE = RejectReason.INSUFFICIENT_BALANCE.value  # how the reason of such a refusal begins


@dataclass(frozen=True, slots=True)
class OrderView:
    """One order as the ledger knows it. `booked` is the sum of its fills; `fee_base` the part of its fee in base."""

    id: int
    role: Role
    leg: int
    side: Side
    type: OrderType
    status: OrderStatus
    quantity: Decimal
    client_order_id: str
    created_at: datetime
    exchange_order_id: str | None = None
    price: Decimal | None = None
    stop_price: Decimal | None = None
    filled: Decimal = ZERO
    booked: Decimal = ZERO
    fee_base: Decimal = ZERO
    average_price: Decimal | None = None
    attempts: int = 0
    pair_id: int | None = None
    reason: str = ""
    cancel_asked_at: datetime | None = None  # by a person
    cancel_requested_at: datetime | None = None
    unknown_since: datetime | None = None
    negative_at: datetime | None = None
    submitted_at: datetime | None = None
    accepted_at: datetime | None = None
    checked_at: datetime | None = None
    closed_at: datetime | None = None
    balance_before: Decimal | None = None  # of the asset it spends, shortly before it was sent
    locked_before: Decimal | None = None
    balance_read_at: datetime | None = None
    is_spoken_of: bool = False  # the exchange's stream told of something that nobody has read yet

    @property
    def is_final(self) -> bool:
        return self.status.is_final

    @property
    def is_working(self) -> bool:
        """Confirmed by the exchange and not ended."""
        return self.status in (OrderStatus.OPEN, OrderStatus.PARTIALLY_FILLED, OrderStatus.CANCELING)

    @property
    def is_unknown(self) -> bool:
        """Sent, or about to be when its sender died: only the exchange can tell."""
        return self.status is OrderStatus.SUBMITTED

    @property
    def is_missing(self) -> bool:
        """Accepted once, and not known to the exchange when it was last asked."""
        return self.is_working and self.negative_at is not None and self.negative_at == self.checked_at

    @property
    def is_covering(self) -> bool:
        """Confirmed, read back, and not being taken away."""
        resting = self.status in (OrderStatus.OPEN, OrderStatus.PARTIALLY_FILLED)
        return resting and self.checked_at is not None and not self.is_missing

    @property
    def sent_at(self) -> datetime:
        """When it was sent (again); of one that was not, when it was planned."""
        return self.submitted_at or self.created_at

    @property
    def remaining(self) -> Decimal:
        return self.quantity - self.filled

    @property
    def is_settled(self) -> bool:
        """Ended, and every fill the exchange reported is booked.

        To the last digit: both sums are quantities in base as the exchange writes them, and whatever it rounds, fees
        and quote, is in neither. So a difference is a fill that we do not know, however small, with a price and a fee
        that the books would lack for ever; and a step forgives too much where it became coarser than an old fill."""
        return self.is_final and self.booked >= self.filled


@dataclass(frozen=True)
class DealView:
    """One deal with its orders, oldest first. What it adds up to is reckoned once: every step of a decision asks."""

    id: int
    side: Side
    status: DealStatus
    mode: ProtectionMode
    rules: MarketRules
    capabilities: Capabilities
    planned_quantity: Decimal
    planned_price: Decimal
    stop_percent: Decimal
    target_percent: Decimal
    initial_stop_price: Decimal
    stop_price: Decimal
    target_price: Decimal
    created_at: datetime
    trailing_percent: Decimal = ZERO
    trailing_step_percent: Decimal = ZERO
    best_price: Decimal | None = None
    exit_reason: CloseReason | None = None
    entry_price: Decimal | None = None
    swapped_at: datetime | None = None
    crossed_at: datetime | None = None
    trailed_at: datetime | None = None
    opened_at: datetime | None = None
    unprotected_since: datetime | None = None
    look_asked_at: datetime | None = None  # by a person: whatever was read before is read again
    orders: tuple[OrderView, ...] = ()
    held: Decimal | None = None  # what the account can close with at most, asked after a refusal for its balance
    owned: Decimal | None = None  # the same, with what other orders hold

    @property
    def exit_side(self) -> Side:
        return self.side.opposite

    @cached_property
    def position(self) -> Decimal:
        """Base still to be closed. A long deal owns what its fills left after fees in base; a short deal owes what it
        sold, whatever fee the buying back costs."""
        entered = sum((order.filled for order in self.orders if order.role == Role.ENTRY), ZERO)
        exited = sum((order.filled for order in self.orders if order.role != Role.ENTRY), ZERO)
        fees = sum((order.fee_base for order in self.orders), ZERO) if self.side is Side.BUY else ZERO
        return entered - fees - exited

    @property
    def at_hand(self) -> Decimal:
        """The position, and never more than there is: somebody may have taken a part of it away by hand."""
        return max(self.position if self.held is None else min(self.position, self.held), ZERO)

    @cached_property
    def closable(self) -> Decimal:
        """What is at hand on the step grid: what an exit can be sent for."""
        return self.rules.round_quantity(self.at_hand)

    def is_dust(self, price: Decimal) -> bool:
        """Whether the exchange would refuse to trade what is left."""
        quantity = self.closable
        return quantity <= 0 or quantity < self.rules.min_quantity or quantity * price < self.rules.min_notional

    @property
    def lacks_balance(self) -> bool:
        """Whether the last of its orders that ended was refused because the account does not hold enough."""
        ended = [order for order in self.orders if order.role != Role.ENTRY and order.is_final]
        last = ended[-1] if ended else None
        return last is not None and last.status is OrderStatus.REJECTED and last.reason.startswith(NO_BALANCE)

    def order(self, order_id: int) -> OrderView:
        return next(order for order in self.orders if order.id == order_id)

    def live(self, *roles: Role) -> tuple[OrderView, ...]:
        """Orders of these roles that have not ended, oldest first."""
        return tuple(order for order in self.orders if order.role in roles and not order.is_final)

    def last(self, role: Role) -> OrderView | None:
        found = [order for order in self.orders if order.role == role]
        return found[-1] if found else None

    @property
    def swaps(self) -> bool:
        """Whether only one of stop and target may rest at a time: where pending stops hold the balance, and where the
        account holds more of it than one of the two would take. Then both could fill, and nobody could prevent it."""
        if self.mode is ProtectionMode.FREE_STOPS:
            return not self._is_capped
        return self.mode is ProtectionMode.LOCKING_STOPS

    @property
    def _is_capped(self) -> bool:
        """Whether the account can close this position once and no more, by what it held when the stop was planned. What
        is not known is not assumed."""
        stop, entry = self.last(Role.STOP), self.last(Role.ENTRY)
        if stop is None or entry is None or stop.balance_before is None or stop.balance_read_at is None:
            return False
        selling, held = self.exit_side is Side.SELL, stop.balance_before
        if entry.submitted_at is not None and stop.balance_read_at <= entry.submitted_at:
            held += entry.filled if selling else entry.filled * (entry.average_price or self.planned_price)
        takes = self.position if selling else self.position * (stop.stop_price or self.stop_price)
        return held <= takes * MOST_OVER

    def is_protected(self, price: Decimal) -> bool:
        """Whether all of the position is under a live stop or an active exit, confirmed and read back."""
        if self.is_dust(price):
            return True
        roles = {Role.STOP, Role.EXIT}
        if self.swaps:
            roles.add(Role.TARGET)  # only ever placed at the market, while the stop makes way
        cover = [order.remaining for order in self.orders if order.role in roles and order.is_covering]
        return bool(cover) and max(cover) >= self.closable * Decimal("0.995")

    def is_measured(self, price: Decimal | None) -> bool:
        """Whether the books already say how the position stands: protected, or unprotected since a moment."""
        protected = self.is_protected(price or self.entry_price or self.planned_price)
        return self.opened_at is None or protected == (self.unprotected_since is None)

    @property
    def is_in_danger(self) -> bool:
        """Whether it is to be closed, or (a part of) its position is bare."""
        return self.exit_reason is not None or self.unprotected_since is not None


@dataclass(frozen=True, slots=True)
class Quote:
    """Where the market is. `last` is what triggers stops; None where it was not asked for."""

    bid: Decimal
    ask: Decimal
    as_of: datetime
    last: Decimal | None = None

    def closing_price(self, exit_side: Side) -> Decimal:
        """What closing would get now: the bid for a sale, the ask for a purchase."""
        return self.bid if exit_side is Side.SELL else self.ask

    def trigger_price(self, exit_side: Side) -> Decimal:
        return self.last if self.last is not None else self.closing_price(exit_side)


@dataclass(frozen=True, slots=True)
class Control:
    """What the switches allow. Protection is not among the things they can forbid."""

    entries_allowed: bool = True
    cancel: bool = False  # entries that still work are cut off, whatever they could still get
    flatten: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class LiveDeal:
    """A deal that has not ended, and what the switches allow it, as they stood when all of an account were read."""

    deal: DealView
    control: Control


@dataclass(frozen=True, slots=True)
class Budgets:
    """Deadlines in platform time. They bound networks and processes, so they are wall seconds scaled by the clock."""

    entry_max_age: timedelta
    send_deadline: timedelta
    work_patience: timedelta
    stop_patience: timedelta
    swap_patience: timedelta
    swap_pause: timedelta
    poll_working: timedelta
    poll_resting: timedelta
    poll_unknown: timedelta  # also of missing fills: each look takes a list, and few lists are allowed
    settle_entry: timedelta
    settle_other: timedelta
    negatives_apart: timedelta
    doubt_entry: timedelta
    doubt_other: timedelta
    baseline_max_age: timedelta
    baseline_reading: timedelta  # how long reading it may take, from the stamp it gets to the exchange's answer
    trail_interval: timedelta
    retry_base: timedelta
    retry_cap: timedelta
    quote_max_age: timedelta
    cancel_again: timedelta

    @classmethod
    def of(cls, clock: Clock) -> Budgets:
        """The defaults of the design, in seconds on the wall."""
        return cls(
            entry_max_age=clock.wall(20),
            send_deadline=clock.wall(2),
            work_patience=clock.wall(3),
            stop_patience=clock.wall(3),
            swap_patience=clock.wall(5),
            swap_pause=clock.wall(15),
            poll_working=clock.wall(0.8),  # less than a tick of the guardian, which else finds it due every other time
            poll_resting=clock.wall(5),
            poll_unknown=clock.wall(2),
            settle_entry=clock.wall(45),
            settle_other=clock.wall(7),
            negatives_apart=clock.wall(2),
            doubt_entry=clock.wall(150),
            doubt_other=clock.wall(45),
            baseline_max_age=clock.wall(65),
            baseline_reading=clock.wall(2),
            trail_interval=clock.wall(10),
            retry_base=clock.wall(1),
            retry_cap=clock.wall(30),
            quote_max_age=clock.wall(10),
            cancel_again=clock.wall(2),
        )
