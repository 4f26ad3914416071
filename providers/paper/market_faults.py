"""What the plan's faults do inside one venue: to accepted orders, cancels, triggers, reads and the book that is shown.

Asked by the core at the moments named in `faults.MOMENTS`. Whatever lasts is measured by the exchange's clock, lives in
memory only, and ends with its rule.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

from providers.paper.faults import Fault, FaultKind, FaultPlan
from providers.paper.orders import Book, Order
from providers.types import BookLevel


@dataclass(frozen=True, slots=True)
class PutOff:
    """An accepted order that enters the market, or is rejected after all, at `at`."""

    order_id: int
    at: datetime
    is_rejected: bool


@dataclass(frozen=True, slots=True)
class _Spell:
    """A book fault that lasts."""

    fault: Fault
    until: datetime


class MarketFaults:
    """The faults of one venue. `settle` has to be called whenever time moved."""

    def __init__(self, venue: str, plan: FaultPlan) -> None:
        self._venue = venue
        self.plan = plan
        self._put_off: dict[int, PutOff] = {}
        self._hidden: dict[int, tuple[int, datetime]] = {}  # order id: (rule, until)
        self._deaf: dict[int, int] = {}  # order id: rule
        self._spells: dict[str, list[_Spell]] = {}  # by pair
        self._shown: dict[str, tuple[Book, datetime]] = {}  # the last book each pair was shown with, and its time

    # -- orders --------------------------------------------------------------------------------------------------

    def accept(self, order: Order, now: datetime) -> bool:
        """An order was accepted; False when it is put off and must not be matched yet."""
        for fault in self._decide("SUBMIT", order):
            until = now + timedelta(seconds=fault.params["seconds"])
            if fault.kind is FaultKind.READ_LAG:
                self._hidden[order.id] = fault.rule_id, until
            else:
                self._put_off.setdefault(order.id, PutOff(order.id, until, fault.kind is FaultKind.REJECT_AFTER_ACCEPT))
        return order.id not in self._put_off

    def put_off(self, order: Order) -> None:
        """An order found in status New after a restart: its fault is forgotten, it enters the market at once."""
        self._put_off[order.id] = PutOff(order.id, order.updated_at, is_rejected=False)

    def due(self, now: datetime) -> list[PutOff]:
        """Orders whose time has come, earliest first; each is told once."""
        if not self._put_off:
            return []
        found = sorted((each for each in self._put_off.values() if each.at <= now), key=lambda e: (e.at, e.order_id))
        for each in found:
            del self._put_off[each.order_id]
        return found

    def next_due(self) -> datetime | None:
        return min(each.at for each in self._put_off.values()) if self._put_off else None

    def filled_on_arrival(self, order: Order) -> Decimal | None:
        """The share of an arriving order that fills before the system cancels the rest; None: no fault."""
        return _fraction(self._decide("MATCH", order))

    def filled_before_cancel(self, order: Order) -> Decimal | None:
        """The share of what is left that fills just before the cancel arrives; None: no fault."""
        return _fraction(self._decide("CANCEL", order))

    def filled_after_trigger(self, order: Order) -> Decimal | None:
        """The share of a triggered STOP_MARKET that fills before the band cancels the rest; None: no fault."""
        return _fraction(self._decide("TRIGGERED", order))

    def is_deaf(self, order: Order) -> bool:
        """Whether this stop, now reached, stays asleep. Asked of each stop once, then as long as the rule is there."""
        rule = self._deaf.get(order.id)
        if rule is not None and self.plan.has(rule):
            return True
        faults = self._decide("TRIGGER", order)
        if faults:
            self._deaf[order.id] = faults[0].rule_id
        return bool(faults)

    # -- reads ---------------------------------------------------------------------------------------------------

    @property
    def hides(self) -> bool:
        """Whether any order may be hidden now."""
        return bool(self._hidden)

    def is_hidden(self, order_id: int) -> bool:
        """Whether lists and look-ups do not know the order yet."""
        rule, _ = self._hidden.get(order_id, (0, None))
        return self.plan.has(rule)

    def settle(self, now: datetime) -> None:
        """Forget what is over."""
        if self._hidden:
            self._hidden = {number: lag for number, lag in self._hidden.items() if lag[1] > now}
        if self._spells:
            self._spells = {pair: left for pair, spells in self._spells.items() if (left := self._lasting(spells, now))}

    # -- the book ------------------------------------------------------------------------------------------------

    def show(self, pair: str, book: Book, now: datetime) -> tuple[Book, datetime]:
        """(what the public sees of `book`, the time it says it is of)."""
        new = self.plan.decide(self._venue, "BOOK", pair)
        lasting = self._lasting(self._spells.get(pair, ()), now)
        if not new and not lasting:
            self._shown[pair] = book, now
            return book, now
        self._begin_spells(pair, new, now)
        shown, at = book, now
        for fault in [*(spell.fault for spell in lasting), *new]:
            if fault.kind is FaultKind.STALE_BOOK:
                shown, at = self._shown.setdefault(pair, (book, now))
            elif fault.kind is FaultKind.EMPTY_BOOK:
                shown = _emptied(shown, fault)
            else:
                shown = _crossed(shown)
        if not any(fault.kind is FaultKind.STALE_BOOK for fault in new) and not _is_stale(lasting):
            self._shown[pair] = book, now
        return shown, at

    def matchable(self, pair: str, book: Book, now: datetime) -> Book:
        """What orders meet: the true book, unless an empty one was meant for them too."""
        for spell in self._lasting(self._spells.get(pair, ()), now):
            if spell.fault.params.get("matching"):
                book = _emptied(book, spell.fault)
        return book

    def _begin_spells(self, pair: str, faults: Iterable[Fault], now: datetime) -> None:
        for fault in faults:
            if fault.params["seconds"] is not None:
                spell = _Spell(fault, now + timedelta(seconds=fault.params["seconds"]))
                self._spells.setdefault(pair, []).append(spell)

    def _lasting(self, spells: Iterable[_Spell], now: datetime) -> list[_Spell]:
        return [spell for spell in spells if spell.until > now and self.plan.has(spell.fault.rule_id)]

    def _decide(self, moment: str, order: Order) -> list[Fault]:
        return self.plan.decide(self._venue, moment, f"{order.pair}/{order.side}/{order.type}", order.account)


def _fraction(faults: list[Fault]) -> Decimal | None:
    return faults[0].params["fraction"] if faults else None


def _is_stale(spells: list[_Spell]) -> bool:
    return any(spell.fault.kind is FaultKind.STALE_BOOK for spell in spells)


def _emptied(book: Book, fault: Fault) -> Book:
    side = fault.params["side"]
    return replace(book, bids=book.bids if side == "asks" else (), asks=book.asks if side == "bids" else ())


def _crossed(book: Book) -> Book:
    """The best prices change places."""
    if not book.bids or not book.asks:
        return book
    bid, ask = book.bids[0], book.asks[0]
    return replace(
        book,
        bids=(BookLevel(ask.price, bid.quantity), *book.bids[1:]),
        asks=(BookLevel(bid.price, ask.quantity), *book.asks[1:]),
    )
