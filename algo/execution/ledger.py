"""The narrow port between deciding and remembering. Everything that must survive a crash goes through here.

Two ledgers keep it: `ledger_orm` over PostgreSQL, and `ledger_memory` for the seeded world. A state-machine test holds
the two equal.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Protocol

from algo.execution.balances import Change
from algo.execution.decide import CloseDeal, OpenDeal, Place, PlacePair, StartExit
from algo.execution.views import Control, DealView, LiveDeal, OrderView
from algo.models import TicketKind
from providers.types import Balance, Fill, OrderReport, OrderStatus, Side


@dataclass(frozen=True, slots=True)
class Located:
    """An order of the account, and the deal that it belongs to."""

    deal_id: int
    symbol: str
    order: OrderView
    deal_is_over: bool


class DealStands(Exception):
    """A deal cannot be reopened: another one stands on its market, and two cannot share one position."""


class Fenced(Exception):
    """The account's lock went to somebody else meanwhile. Nothing was written; stop."""


class Ledger(Protocol):
    """One account's books. Each method is one transaction. `now` is platform time, read once by the caller."""

    # --- the account ------------------------------------------------------------------------------------------------

    def is_stopped(self) -> bool:
        """Whether the exchange refused the account's key, as the account stands now."""
        ...

    def stop_account(self, reason: str, *, now: datetime) -> None:
        """The exchange refused the key: nobody calls with it any more, and people are told once."""
        ...

    def note_error(self, error: str) -> None:
        """What keeps the account from being looked after."""
        ...

    def note_advanced(self, error: str, *, now: datetime) -> None:
        """A pass has ended. `error` is what kept it from its work; empty when nothing did."""
        ...

    def note_balances(self, balances: Mapping[str, Balance], *, read_at: datetime) -> None:
        """Keep what was just read, as the baseline of orders that are sent soon. `read_at` is before the call; what was
        read later than that stays, unless by a clock that was ahead."""
        ...

    def balances_read_at(self) -> datetime | None: ...

    # --- reconciliation ---------------------------------------------------------------------------------------------

    def reconcile_times(self) -> tuple[datetime | None, datetime | None]:
        """When a reconciliation last came to its end, and when one was last begun, whatever came of it."""
        ...

    def note_reconciled(self, *, now: datetime) -> None: ...

    def note_reconcile_tried(self, *, now: datetime) -> None: ...

    def symbols_in_doubt(self, since: datetime) -> Sequence[str]:
        """Markets on which an order was given up as absent at or after `since`, sorted: it may still turn up. One that
        is still looked for is not meant: whoever looks for it finds it."""
        ...

    def find(self, exchange_order_id: str | None, client_order_id: str | None) -> Located | None:
        """An order by the exchange's name for it, else by ours."""
        ...

    def find_all(self, reports: Sequence[OrderReport]) -> Sequence[Located | None]:
        """`find` for each of them by its names, at the price of a few rows."""
        ...

    def working(self) -> Sequence[Located]:
        """Every order that works at the exchange by our books, oldest first."""
        ...

    def symbols_at_stake(self, since: datetime) -> Sequence[str]:
        """Markets on which an order was planned at or after `since`, has not ended, or a deal lives, sorted."""
        ...

    def resembles_lost_leg(self, report: OrderReport) -> bool:
        """Whether a nameless order looks like the stop leg of an OCO whose answer is missing."""
        ...

    def reopen_deal(self, deal_id: int, *, now: datetime) -> None:
        """An order of a finished deal was executed after its end: the deal is open again, to be exited. Does nothing to
        a live deal. Raises DealStands."""
        ...

    def ticket_order(self, report: OrderReport, *, now: datetime) -> None:
        """A ticket, once, about an order at the exchange that is not in our books or cannot be taken into them."""
        ...

    def is_told_of(self, exchange_order_id: str) -> bool:
        """Whether a ticket, answered or not, is about this order of the exchange."""
        ...

    def ticket_trade(self, symbol: str, reference: str, summary: str, *, now: datetime) -> None:
        """A ticket, once, about trades that no order explains."""
        ...

    def trades_seen(self) -> Mapping[str, datetime]:
        """By market, the time up to which own trades have been compared; without those where they never were."""
        ...

    def note_trades_seen(self, symbol: str, until: datetime) -> None: ...

    def unbooked(self, trades: Sequence[Fill]) -> Sequence[Fill]:
        """Those of `trades` that are not among our fills."""
        ...

    # --- deals and orders, read -------------------------------------------------------------------------------------

    def control(self, deal_id: int) -> Control:
        """What the switches that apply to a deal allow at this moment."""
        ...

    def live_deals(self) -> Sequence[int]:
        """The id of every deal of the account that has not ended: those being exited or unprotected first, then the
        others with a position, then those still to enter; oldest first within each."""
        ...

    def live_views(self) -> Sequence[LiveDeal]:
        """Every deal of `live_deals`, in its order, as `deal` shows it and with what `control` says of it, in as many
        queries as one takes. To find those that need something: before a deal is acted upon, it is read by itself."""
        ...

    def deal(self, deal_id: int) -> DealView: ...

    def filled_since(
        self, symbol: str, side: Side, since: datetime, *, besides: Collection[str], until: datetime | None = None
    ) -> Decimal:
        """What our orders on a market bought or sold from `since` on (and before `until`), by our booked fills; orders
        whose exchange id is in `besides` are left out."""
        ...

    def explained_change(
        self, deal: DealView, order: OrderView, listed: Sequence[OrderReport], *, reading: timedelta
    ) -> Change | None:
        """What the account's other orders, and in `listed` those of others, did to the asset that `order` spends, since
        its baseline was read. None where an order of ours was filled while that was done, for which `reading` is
        allowed: then the baseline may hold the fill or not."""
        ...

    # --- orders, written --------------------------------------------------------------------------------------------

    def plan_order(self, deal: DealView, place: Place, *, now: datetime) -> None:
        """Commit the intent: a PENDING row with its client order id."""
        ...

    def plan_pair(self, deal: DealView, pair: PlacePair, *, now: datetime) -> None:
        """Commit both legs of an OCO."""
        ...

    def note_baseline(self, deal: DealView, order: OrderView, *, not_before: datetime, now: datetime) -> None:
        """Keep with an order (and its pair) what the account last held of the asset it spends; nothing where that was
        read before `not_before`, or by a clock that was ahead."""
        ...

    def claim_send(self, order: OrderView, *, now: datetime) -> bool:
        """PENDING to SUBMITTED, for exactly one caller; an entry only while the switches allow it. Raises Fenced for a
        caller whose lock on the account went to another."""
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

    def note_read(self, orders: Sequence[OrderView], *, now: datetime) -> None:
        """The exchange has just said of each of these, which rest, what the books say: all there is to keep of it is
        that they were read."""
        ...

    # --- deals, written ---------------------------------------------------------------------------------------------

    def open_deal(self, deal: DealView, action: OpenDeal, *, now: datetime) -> None: ...

    def move_stop(self, deal: DealView, stop_price: Decimal, best_price: Decimal, *, now: datetime) -> None:
        """Where the stop belongs from now on. Raises ValueError for a stop that would move back."""
        ...

    def note_best(self, deal: DealView, best_price: Decimal) -> None: ...

    def note_crossed(self, deal: DealView, crossed: bool, *, now: datetime) -> None: ...

    def begin_swap(self, deal: DealView, *, now: datetime) -> None: ...

    def start_exit(self, deal: DealView, action: StartExit, *, now: datetime) -> None: ...

    def close_deal(self, deal: DealView, action: CloseDeal, *, now: datetime) -> None: ...

    def cancel_deal(self, deal: DealView, note: str, *, now: datetime) -> None: ...

    def measure_protection(self, deal: DealView, price: Decimal | None, *, now: datetime) -> None:
        """Open or close the interval during which some of the position is under no live stop and no active exit."""
        ...
