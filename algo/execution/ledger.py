"""The narrow port between deciding and remembering. Everything that must survive a crash goes through here."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from algo.execution.balances import Change
from algo.execution.decide import CloseDeal, OpenDeal, Place, PlacePair, StartExit
from algo.execution.views import Control, DealView, OrderView
from algo.models import TicketKind
from providers.types import Fill, OrderReport, OrderStatus, Side


class Ledger(Protocol):
    """Each method is one transaction. `now` is platform time, read once by the caller."""

    def control(self) -> Control:
        """What the switches allow at this moment."""
        ...

    def live_deals(self) -> Sequence[int]:
        """The id of every deal of the account that has not ended, oldest first."""
        ...

    def deal(self, deal_id: int) -> DealView: ...

    def filled_since(self, deal: DealView, side: Side, since: datetime, *, besides: Collection[str]) -> Decimal:
        """What our orders on the deal's market bought or sold at or after `since`, by our books; orders whose exchange
        id is in `besides` are left out."""
        ...

    def explained_change(self, deal: DealView, order: OrderView, listed: Sequence[OrderReport]) -> Change:
        """What the account's other orders, and in `listed` those of others, did to the asset that `order` spends, since
        its baseline was read."""
        ...

    def plan_order(self, deal: DealView, place: Place, *, now: datetime) -> None:
        """Commit the intent: a PENDING row with its client order id."""
        ...

    def plan_pair(self, deal: DealView, pair: PlacePair, *, now: datetime) -> None:
        """Commit both legs of an OCO."""
        ...

    def note_baseline(self, deal: DealView, order: OrderView, *, not_before: datetime) -> None:
        """Keep with an order (and its pair) what the account last held of the asset it spends; nothing where that was
        read before `not_before`."""
        ...

    def claim_send(self, order: OrderView, *, now: datetime) -> bool:
        """PENDING to SUBMITTED, for exactly one caller; an entry only while the switches allow it."""
        ...

    def release_send(self, order: OrderView, *, reason: str, now: datetime) -> None:
        """SUBMITTED back to PENDING: the request provably never left."""
        ...

    def note_unknown(self, order: OrderView, *, reason: str, now: datetime) -> None:
        """A send or a look-up gave no answer: the order stays SUBMITTED."""
        ...

    def note_doubt(self, order: OrderView, kind: TicketKind, reason: str, *, now: datetime) -> None:
        """A ticket, once: the order is not at the exchange, and something there does not agree with that."""
        ...

    def note_negative(self, order: OrderView, *, now: datetime) -> None:
        """Every look-up agreed that the order never arrived, at `now`."""
        ...

    def end_order(self, order: OrderView, status: OrderStatus, *, reason: str, now: datetime) -> None:
        """An end that no report of the exchange carries: withdrawn, refused, given up. Legs of a pair end together."""
        ...

    def end_leg(self, order: OrderView, status: OrderStatus, *, reason: str, now: datetime) -> None:
        """The same for one leg of a pair whose other leg is known to the exchange."""
        ...

    def lose_order(self, order: OrderView, *, now: datetime) -> None:
        """An accepted order that the exchange does not know any more ends, and a ticket asks a person about it."""
        ...

    def request_cancel(self, order: OrderView, *, reason: str, now: datetime) -> None:
        """Record that a cancel is about to be asked for (again)."""
        ...

    def apply_report(
        self,
        order: OrderView,
        report: OrderReport,
        fills: Sequence[Fill],
        *,
        now: datetime,
        adopting: bool = False,
        read_back: bool = True,
    ) -> None:
        """Take over what the exchange says about an order; fills are booked once, quantities never go back. The answer
        to a create is no reading back: accepted is not yet live."""
        ...

    def open_deal(self, deal: DealView, action: OpenDeal, *, now: datetime) -> None: ...

    def move_stop(self, deal: DealView, stop_price: Decimal, best_price: Decimal, *, now: datetime) -> None: ...

    def note_best(self, deal: DealView, best_price: Decimal) -> None: ...

    def note_crossed(self, deal: DealView, crossed: bool, *, now: datetime) -> None: ...

    def begin_swap(self, deal: DealView, *, now: datetime) -> None: ...

    def start_exit(self, deal: DealView, action: StartExit, *, now: datetime) -> None: ...

    def close_deal(self, deal: DealView, action: CloseDeal, *, now: datetime) -> None: ...

    def cancel_deal(self, deal: DealView, note: str, *, now: datetime) -> None: ...

    def measure_protection(self, deal: DealView, price: Decimal | None, *, now: datetime) -> None:
        """Open or close the interval during which some of the position is under no live stop and no active exit."""
        ...
