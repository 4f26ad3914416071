"""The ledger in memory, for the seeded world: the same books as `ledger_orm`, thousands of times a second.

One instance serves one account of a MemoryStore. What changes rows is one transaction: it happens whole, or not at all.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from functools import wraps
from typing import Any, TypeVar, cast

from django.conf import settings

from algo.execution import questions
from algo.execution.balances import Change, asset_spent, change_by
from algo.execution.decide import CloseDeal, OpenDeal, Place, PlacePair, StartExit
from algo.execution.ledger import DealStands, Fenced, Located
from algo.execution.ledger_rows import (
    add_up,
    came_after,
    closed_too_much,
    control_under,
    deal_detail,
    deal_payload,
    deal_view,
    effect_on,
    end_unprotected,
    fills_to_book,
    is_ambiguous,
    is_cover,
    lock_change,
    log_deal,
    log_order,
    log_stop,
    order_view,
    outran_cancel,
    realised_profit,
    status_after,
    take_amounts,
    take_identity,
    urgency,
    with_pair,
)
from algo.execution.lifecycle import check_deal, check_order
from algo.execution.memory_store import AccountRow, DealRow, MemoryStore, OrderRow, stored, stored_or_none
from algo.execution.times import is_ahead
from algo.execution.views import Control, DealView, LiveDeal, OrderView
from algo.models import AccountState, CloseReason, DealStatus, Role, TicketKind
from algo.services.tickets import ticket_payload
from providers.types import (
    ZERO,
    Balance,
    Capabilities,
    Fill,
    OrderReport,
    OrderStatus,
    OrderType,
    Side,
)

orders_log = logging.getLogger("algo.orders")

_WORKING = (OrderStatus.OPEN, OrderStatus.PARTIALLY_FILLED, OrderStatus.CANCELING)
_IN_BETWEEN = (OrderStatus.SUBMITTED, OrderStatus.PENDING)


_Method = TypeVar("_Method", bound=Callable[..., Any])


def _transaction(method: _Method) -> _Method:
    @wraps(method)
    def whole(self: MemoryLedger, *args: Any, **kwargs: Any) -> Any:
        mark = self.store.begin()
        try:
            result = method(self, *args, **kwargs)
            self.store.check()
        except BaseException:
            self.store.roll_back(mark)
            raise
        self.store.commit()
        return result

    return cast(_Method, whole)


class MemoryLedger:
    """Ledger over a MemoryStore; arguments as those of OrmLedger."""

    def __init__(
        self, store: MemoryStore, account_id: int, capabilities: Capabilities, epoch: int | None = None
    ) -> None:
        self.store = store
        self._account: AccountRow = store.accounts[account_id]
        self._capabilities = capabilities
        self._epoch = epoch
        self._key = self._account.api_key_sealed

    # --- the account ------------------------------------------------------------------------------------------------

    def is_stopped(self) -> bool:
        return self._account.state == AccountState.STOPPED

    @_transaction
    def stop_account(self, reason: str, *, now: datetime) -> None:
        self.store.stop_account(self._account, self._key, reason, now)

    def note_error(self, error: str) -> None:
        self._account.last_error = error[:400]

    def note_advanced(self, error: str, *, now: datetime) -> None:
        self._account.advanced_at, self._account.last_error = now, error[:400]

    def note_balances(self, balances: Mapping[str, Balance], *, read_at: datetime) -> None:
        account, known_at = self._account, self._account.balances_read_at
        if known_at is None or known_at <= read_at or is_ahead(known_at, read_at):
            account.balances = {asset: (each.total, each.locked) for asset, each in balances.items()}
            account.balances_read_at = read_at

    def balances_read_at(self) -> datetime | None:
        return self._account.balances_read_at

    # --- reconciliation ---------------------------------------------------------------------------------------------

    def reconcile_times(self) -> tuple[datetime | None, datetime | None]:
        return self._account.reconciled_at, self._account.reconcile_tried_at

    def note_reconciled(self, *, now: datetime) -> None:
        self._account.reconciled_at = now

    def note_reconcile_tried(self, *, now: datetime) -> None:
        self._account.reconcile_tried_at = now

    def symbols_in_doubt(self, since: datetime) -> Sequence[str]:
        doubted = self.store.doubted_orders(self._account.pk)
        absent = (row for row in doubted if row.negative_at is not None and row.negative_at >= since)
        return sorted({row.market.symbol for row in absent if row.status is not OrderStatus.SUBMITTED})

    def find(self, exchange_order_id: str | None, client_order_id: str | None) -> Located | None:
        row = self.store.order_at_exchange(self._account.pk, exchange_order_id) if exchange_order_id else None
        if row is None and client_order_id:
            row = self.store.order_named(client_order_id)
        return self._located(row) if row is not None and row.account is self._account else None

    def find_all(self, reports: Sequence[OrderReport]) -> Sequence[Located | None]:
        return [self.find(report.exchange_order_id, report.client_order_id) for report in reports]

    def working(self) -> Sequence[Located]:
        rows = (row for row in self.store.unended_orders(self._account.pk) if row.status in _WORKING)
        return [self._located(row) for row in sorted(rows, key=lambda row: (row.created_at, row.pk))]

    def _located(self, row: OrderRow) -> Located:
        return Located(row.deal.pk, row.market.symbol, _order_view(row), row.deal.is_finished)

    def symbols_at_stake(self, since: datetime) -> Sequence[str]:
        rows: list[OrderRow | DealRow] = [row for row in self._orders() if row.created_at >= since]
        rows += self.store.unended_orders(self._account.pk)
        rows += self.store.live_deals(self._account.pk)
        return sorted({row.market.symbol for row in rows})

    def _orders(self) -> Iterable[OrderRow]:
        return (row for row in self.store.orders.values() if row.account is self._account)

    def resembles_lost_leg(self, report: OrderReport) -> bool:
        return report.client_order_id is None and any(
            row.pair_id is not None
            and row.exchange_order_id is None
            and row.status in _IN_BETWEEN
            and row.market.symbol == report.symbol
            and row.side == report.side
            and row.quantity == report.quantity
            for row in self.store.unended_orders(self._account.pk)
        )

    @_transaction
    def reopen_deal(self, deal_id: int, *, now: datetime) -> None:
        row = self.store.find_deal(deal_id)
        if not row.is_finished:
            return
        if any(other.market is row.market for other in self.store.live_deals(self._account.pk)):
            raise DealStands(f"Deal {deal_id} cannot be reopened: another deal is open on its market.")
        self.store.touch(row)
        old = row.status
        self.store.set_deal_status(row, DealStatus.OPEN)
        row.exit_reason, row.close_reason = CloseReason.EMERGENCY, ""
        row.opened_at, row.closed_at, row.profit = row.opened_at or now, None, None
        row.unprotected_since, row.reopened = now, row.reopened + 1
        row.note = "reopened: the exchange executed an order of this deal after its end"
        self._note_deal(row, "reopened", old, now, note=row.note)
        self.store.note_event("deal.reopened", deal_payload(row), now)

    @_transaction
    def ticket_order(self, report: OrderReport, *, now: datetime) -> None:
        self._ticket(
            TicketKind.UNKNOWN_ORDER,
            report.exchange_order_id or report.client_order_id or "unknown",
            questions.unknown_order(self._account.provider, report),
            symbol=report.symbol,
            details=dict(report.raw),
            now=now,
        )

    def is_told_of(self, exchange_order_id: str) -> bool:
        return self.store.is_ticketed(self._account, TicketKind.UNKNOWN_ORDER, exchange_order_id[:80])

    @_transaction
    def ticket_trade(self, symbol: str, reference: str, summary: str, *, now: datetime) -> None:
        self._ticket(TicketKind.UNKNOWN_TRADE, reference, summary, symbol=symbol, now=now)

    def _ticket(
        self,
        kind: TicketKind,
        reference: str,
        summary: str,
        *,
        symbol: str,
        now: datetime,
        details: Mapping[str, Any] | None = None,
    ) -> bool:
        """Whether it is a new one."""
        market = self.store.market_of(self._account.provider, symbol)
        opened = self.store.add_ticket(
            self._account, kind, reference[:80], market=market, summary=summary, details=details or {}, now=now
        )
        if opened:
            orders_log.error("ticket kind=%s about=%s account=%s", kind, reference, self._account.name)
            payload = ticket_payload(self._account, kind, reference, summary, market)
            self.store.note_event("ticket.opened", payload, now)
        return opened is not None

    def trades_seen(self) -> Mapping[str, datetime]:
        return dict(self._account.trades_seen)

    def note_trades_seen(self, symbol: str, until: datetime) -> None:
        self._account.trades_seen[symbol] = until

    def unbooked(self, trades: Sequence[Fill]) -> Sequence[Fill]:
        return [trade for trade in trades if not self.store.is_booked(self._account.pk, trade.trade_id)]

    # --- reading ----------------------------------------------------------------------------------------------------

    def control(self, deal_id: int) -> Control:
        return self._control(self.store.find_deal(deal_id))

    def _control(self, deal: DealRow) -> Control:
        standing = self.store.standing(deal.config, deal.market, self._account)
        return control_under(standing, self._account.state)

    def live_deals(self) -> Sequence[int]:
        live = self.store.live_deals(self._account.pk)
        return [row.pk for row in sorted(live, key=urgency)]

    def live_views(self) -> Sequence[LiveDeal]:
        return [LiveDeal(self.deal(deal_id), self.control(deal_id)) for deal_id in self.live_deals()]

    def deal(self, deal_id: int) -> DealView:
        row = self.store.find_deal(deal_id)
        view = row.view
        if view is None or view.capabilities is not self._capabilities:
            view = row.view = _deal_view(row, self._capabilities)
        return view

    def filled_since(
        self, symbol: str, side: Side, since: datetime, *, besides: Collection[str], until: datetime | None = None
    ) -> Decimal:
        fills = (
            fill.quantity
            for fill in self.store.fills
            if fill.account is self._account
            and fill.executed_at >= since
            and (until is None or fill.executed_at < until)
            and fill.order.side == side
            and fill.order.market.symbol == symbol
            and (fill.order.exchange_order_id is None or fill.order.exchange_order_id not in besides)
        )
        return sum(fills, ZERO)

    def explained_change(
        self, deal: DealView, order: OrderView, listed: Sequence[OrderReport], *, reading: timedelta
    ) -> Change | None:
        since = order.balance_read_at
        if since is None:
            return Change()
        asset, own = asset_spent(deal, order), with_pair(order)
        booked = [fill for fill in self.store.fills if fill.account is self._account]
        if any(is_ambiguous(fill, since, reading) for fill in booked):
            return None
        fills = [fill for fill in booked if came_after(fill, since)]
        recent = (
            row
            for row in self._orders()
            if row.pk not in own and row.accepted_at is not None and (row.closed_at is None or row.closed_at >= since)
        )
        ours = Change(
            total=sum((effect_on(asset, fill) for fill in fills), ZERO),
            locked=sum((lock_change(asset, row, since, self._capabilities) for row in recent), ZERO),
        )
        theirs = (report for report in listed if not self._is_known(report.exchange_order_id))
        return sum((change_by(report, deal.rules, asset, since) for report in theirs), ours)

    def _is_known(self, exchange_order_id: str | None) -> bool:
        if exchange_order_id is None:
            return False
        return self.store.order_at_exchange(self._account.pk, exchange_order_id) is not None

    # --- orders -----------------------------------------------------------------------------------------------------

    @_transaction
    def plan_order(self, deal: DealView, place: Place, *, now: datetime) -> None:
        self._plan(deal, place.role, place.type, place.quantity, place.price, place.stop_price, place.reason, now)

    @_transaction
    def plan_pair(self, deal: DealView, pair: PlacePair, *, now: datetime) -> None:
        quantity, limit = pair.quantity, pair.stop_limit_price
        target = self._plan(deal, Role.TARGET, OrderType.LIMIT, quantity, pair.price, None, "target of an OCO", now)
        stop = self._plan(
            deal, Role.STOP, OrderType.STOP_LIMIT, quantity, limit, pair.stop_price, "stop of an OCO", now
        )
        target.pair_id, stop.pair_id = stop.pk, target.pk

    def _plan(
        self,
        deal: DealView,
        role: Role,
        kind: OrderType,
        quantity: Decimal,
        price: Decimal | None,
        stop_price: Decimal | None,
        reason: str,
        now: datetime,
    ) -> OrderRow:
        return self.store.add_order(
            self.store.find_deal(deal.id),
            role=role,
            side=deal.exit_side,
            kind=kind,
            quantity=quantity,
            price=price,
            stop_price=stop_price,
            reason=reason,
            now=now,
        )

    @_transaction
    def note_baseline(self, deal: DealView, order: OrderView, *, not_before: datetime, now: datetime) -> None:
        read_at, asset = self._account.balances_read_at, asset_spent(deal, order)
        known = read_at is not None and read_at >= not_before and not is_ahead(read_at, now)
        total, locked = self._account.balances.get(asset, (ZERO, ZERO)) if known else (None, None)
        for row in self._rows(with_pair(order), OrderStatus.PENDING):
            row.balance_asset = asset if known else ""
            row.balance_before, row.locked_before = stored_or_none(total), stored_or_none(locked)
            row.balance_read_at = read_at if known else None

    def _rows(self, ids: Collection[int], status: OrderStatus) -> list[OrderRow]:
        """Those of the orders that have this status, touched."""
        rows = [row for pk in ids if (row := self.store.orders.get(pk)) is not None and row.status == status]
        for row in rows:
            self.store.touch(row)
        return rows

    def _check_lock(self) -> None:
        if self._epoch is not None and self._account.epoch != self._epoch:
            raise Fenced(f"The lock of account {self._account.name} went to another process; nothing was sent.")

    @_transaction
    def claim_send(self, order: OrderView, *, now: datetime) -> bool:
        self._check_lock()
        if order.role == Role.ENTRY and not self._may_enter(self.store.find_order(order.id)):
            return False
        if not self._claim(order.id, order.attempts + 1, now):
            return False
        if order.pair_id:
            self._claim(order.pair_id, order.attempts + 1, now)
        if order.role == Role.ENTRY:
            self._move_deal_of(order, DealStatus.ENTERING, now)
        return True

    def _may_enter(self, row: OrderRow) -> bool:
        is_unwanted = bool(row.deal.exit_reason) or row.cancel_asked_at is not None
        return self._control(row.deal).entries_allowed and not is_unwanted

    def _claim(self, order_id: int, attempts: int, now: datetime) -> bool:
        rows = self._rows([order_id], OrderStatus.PENDING)
        for row in rows:
            row.status, row.submitted_at, row.checked_at = OrderStatus.SUBMITTED, now, None
            row.attempts, row.epoch = attempts, self._epoch
            self.store.save_order(row)
            self.store.note_order(row, OrderStatus.PENDING, OrderStatus.SUBMITTED, now, "sending")
        return bool(rows)

    @_transaction
    def release_send(self, order: OrderView, *, reason: str, now: datetime) -> None:
        for row in self._rows(with_pair(order), OrderStatus.SUBMITTED):
            row.status, row.submitted_at, row.unknown_since = OrderStatus.PENDING, None, None
            row.attempts, row.reason = order.attempts, reason[:200]
            self.store.save_order(row)
            self.store.note_order(row, OrderStatus.SUBMITTED, OrderStatus.PENDING, now, reason)
        if order.role == Role.ENTRY:
            self._move_deal_of(order, DealStatus.PLANNED, now)

    @_transaction
    def note_unknown(self, order: OrderView, *, reason: str, now: datetime) -> None:
        for row in self._rows(with_pair(order), OrderStatus.SUBMITTED):
            first = row.unknown_since is None
            row.unknown_since, row.checked_at = row.unknown_since or now, now
            if first:
                self.store.note_order(row, row.status, row.status, now, f"outcome unknown: {reason}")

    @_transaction
    def note_doubt(self, order: OrderView, kind: TicketKind, reason: str, *, now: datetime) -> None:
        row = self.store.find_order(order.id)
        opened = self._ticket(
            kind,
            order.client_order_id,
            questions.order_in_doubt(order, reason),
            symbol=row.market.symbol,
            now=now,
        )
        if opened:
            self.store.note_order(row, order.status, order.status, now, f"in doubt: {reason}")

    @_transaction
    def note_negative(self, order: OrderView, *, now: datetime) -> None:
        for pk in with_pair(order):
            row = self.store.find_order(pk)
            self.store.touch(row)
            self.store.note_negative(row, now)

    @_transaction
    def end_order(self, order: OrderView, status: OrderStatus, *, reason: str, now: datetime) -> None:
        self._end(order, with_pair(order), status, reason, now)

    @_transaction
    def end_leg(self, order: OrderView, status: OrderStatus, *, reason: str, now: datetime) -> None:
        self._end(order, [order.id], status, reason, now)

    @_transaction
    def lose_order(self, order: OrderView, *, now: datetime) -> None:
        self._end(order, [order.id], OrderStatus.CANCELED, "the exchange does not know it any more", now)
        self._ticket(
            TicketKind.ORDER_MISSING,
            order.exchange_order_id or order.client_order_id,
            questions.order_missing(order),
            symbol=self.store.find_order(order.id).market.symbol,
            now=now,
        )

    def _end(self, order: OrderView, ids: Collection[int], status: OrderStatus, reason: str, now: datetime) -> None:
        for pk in ids:
            row = self.store.find_order(pk)
            if row.status.is_final:
                continue
            check_order(row.status, status)
            self.store.touch(row)
            self.store.note_order(row, row.status, status, now, reason)
            row.status, row.reason, row.closed_at, row.unknown_since = status, reason[:200], now, None
            self.store.save_order(row)
        orders_log.info(
            "%s%s order=%s cid=%s role=%s reason=%s",
            settings.ORDER_MANAGEMENT_LOG_PREFIX,
            status.lower(),
            order.id,
            order.client_order_id,
            order.role,
            reason,
        )

    @_transaction
    def request_cancel(self, order: OrderView, *, reason: str, now: datetime) -> None:
        row = self.store.find_order(order.id)
        if row.status not in _WORKING:
            return
        self.store.touch(row)
        self.store.note_order(row, row.status, OrderStatus.CANCELING, now, reason)
        row.status, row.cancel_requested_at = OrderStatus.CANCELING, now
        deal = row.deal
        if is_cover(row) and deal.opened_at is not None and deal.unprotected_since is None:
            self.store.touch(deal)
            deal.unprotected_since = now

    @_transaction
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
        row = self.store.find_order(order.id)
        self.store.touch(row)
        take_identity(row, report, now)
        take_amounts(row, report)
        row.filled_quantity, row.fee = stored(row.filled_quantity), stored(row.fee)
        row.average_price = stored_or_none(row.average_price)
        row.unknown_since = None
        if read_back:
            row.checked_at = now
        self._take_status(row, report, adopting, now)
        self.store.save_order(row)
        if self._book(row, fills, now):
            self._add_up(row.deal)
        booked_fee = sum((fill.fee for fill in row.fills if fill.fee_asset == row.fee_asset), ZERO)
        row.fee = max(row.fee, booked_fee)

    @_transaction
    def note_read(self, orders: Sequence[OrderView], *, now: datetime) -> None:
        for row in self._rows([order.id for order in orders], OrderStatus.OPEN):
            row.checked_at, row.unknown_since = now, None

    def _take_status(self, row: OrderRow, report: OrderReport, adopting: bool, now: datetime) -> None:
        old = row.status
        new = status_after(old, report.status, row, adopting)
        if new == old:
            return
        check_order(old, new, adopting=adopting)
        row.status, row.raw, row.closed_at = new, dict(report.raw), now if new.is_final else None
        if old.is_final and not outran_cancel(old, new):
            row.adoptions += 1
        self.store.note_order(row, old, new, now, "adopted from the exchange" if adopting else "", row.raw)
        log_order(row)

    def _book(self, row: OrderRow, fills: Sequence[Fill], now: datetime) -> bool:
        """Whether any of them is new."""
        known = {fill.trade_id for fill in fills if self.store.is_booked(self._account.pk, fill.trade_id)}
        new = [
            self.store.add_fill(
                row,
                trade_id=fill.trade_id,
                price=fill.price,
                quantity=fill.quantity,
                fee=fill.fee,
                fee_asset=fill.fee_asset,
                executed_at=fill.executed_at,
                booked_at=now,
            )
            for fill in fills_to_book(row, known, row.booked, fills)
        ]
        return any(new)

    def _add_up(self, row: DealRow) -> None:
        self.store.touch(row)
        add_up(row, row.fills)
        row.fees_quote = stored(row.fees_quote)

    # --- deals ------------------------------------------------------------------------------------------------------

    def _touched(self, deal_id: int) -> DealRow:
        row = self.store.find_deal(deal_id)
        self.store.touch(row)
        return row

    def _note_deal(self, row: DealRow, kind: str, old: str, now: datetime, **detail: Decimal | str | None) -> None:
        self.store.note_deal(row, kind, old, now, deal_detail(detail))

    def _move_deal_of(self, order: OrderView, status: DealStatus, now: datetime) -> None:
        row = self.store.find_order(order.id).deal
        if row.status != status:
            check_deal(row.status, status)
            self.store.touch(row)
            old = row.status
            self.store.set_deal_status(row, status)
            self._note_deal(row, "status", old, now)

    @_transaction
    def open_deal(self, deal: DealView, action: OpenDeal, *, now: datetime) -> None:
        row = self._touched(deal.id)
        old = row.status
        check_deal(old, DealStatus.OPEN)
        self.store.set_deal_status(row, DealStatus.OPEN)
        row.stop_price, row.target_price = action.stop_price, action.target_price
        row.opened_at = min((fill.executed_at for fill in row.fills), default=action.opened_at)
        row.unprotected_since = row.unprotected_since or row.opened_at
        self._note_deal(row, "status", old, now, entry=action.entry_price, stop=action.stop_price)
        log_deal(row, f"opened entry={action.entry_price} quantity={action.quantity} stop={action.stop_price}")
        self.store.note_event("deal.opened", deal_payload(row), now)
        row.stop_price = row.initial_stop_price = stored(action.stop_price)
        row.target_price, row.best_price = stored(action.target_price), stored(action.entry_price)

    @_transaction
    def move_stop(self, deal: DealView, stop_price: Decimal, best_price: Decimal, *, now: datetime) -> None:
        row = self._touched(deal.id)
        moved_back = stop_price < row.stop_price if row.side == Side.BUY else stop_price > row.stop_price
        if moved_back:
            raise ValueError("A trailing stop never moves back.")
        log_stop(row, f"stop moves from={row.stop_price} to={stop_price} best={best_price}")
        self._note_deal(row, "stop_moved", row.status, now, before=row.stop_price, after=stop_price, best=best_price)
        row.stop_price, row.best_price, row.trailed_at = stop_price, best_price, now
        self.store.note_event("stop.moved", deal_payload(row), now)
        row.stop_price, row.best_price = stored(stop_price), stored(best_price)

    @_transaction
    def note_best(self, deal: DealView, best_price: Decimal) -> None:
        self._touched(deal.id).best_price = stored(best_price)

    @_transaction
    def note_crossed(self, deal: DealView, crossed: bool, *, now: datetime) -> None:
        self._touched(deal.id).crossed_at = now if crossed else None

    @_transaction
    def begin_swap(self, deal: DealView, *, now: datetime) -> None:
        self._touched(deal.id).swapped_at = now

    @_transaction
    def start_exit(self, deal: DealView, action: StartExit, *, now: datetime) -> None:
        row = self._touched(deal.id)
        old = row.status
        if old == DealStatus.OPEN:
            self.store.set_deal_status(row, DealStatus.EXITING)
        row.exit_reason, row.note = action.reason, action.note[:400]
        self._note_deal(row, "exit", old, now, reason=action.reason, why=action.note)
        log_stop(row, f"exit reason={action.reason} why={action.note}")

    @_transaction
    def close_deal(self, deal: DealView, action: CloseDeal, *, now: datetime) -> None:
        row = self._touched(deal.id)
        old = row.status
        check_deal(old, DealStatus.CLOSED)
        self.store.set_deal_status(row, DealStatus.CLOSED)
        row.close_reason, row.closed_at, row.crossed_at = action.reason, now, None
        row.dust_quantity, row.profit = stored(action.dust), stored(realised_profit(row, row.fills))
        end_unprotected(row, now)
        row.unprotected_seconds = stored(row.unprotected_seconds)
        self._note_deal(row, "status", old, now, reason=action.reason, profit=row.profit, dust=action.dust)
        log_deal(row, f"closed reason={action.reason} profit={row.profit} unprotected={row.unprotected_seconds}s")
        self.store.note_event("deal.closed", deal_payload(row), now)
        if deal.held is not None:
            gone = questions.position_gone(row.pk, action.dust, row.market.base)
            self._ticket_end(row, f"deal {row.pk}", gone, now)
        if over := closed_too_much(deal):
            self._ticket_end(row, f"deal {row.pk} over", questions.closed_too_much(row.pk, over, row.market.base), now)

    def _ticket_end(self, row: DealRow, reference: str, summary: str, now: datetime) -> None:
        self._ticket(TicketKind.UNKNOWN_TRADE, reference, summary, symbol=row.market.symbol, now=now)

    @_transaction
    def cancel_deal(self, deal: DealView, note: str, *, now: datetime) -> None:
        row = self._touched(deal.id)
        old = row.status
        check_deal(old, DealStatus.CANCELED)
        self.store.set_deal_status(row, DealStatus.CANCELED)
        row.note, row.closed_at = note[:400], now
        self._note_deal(row, "status", old, now, why=note)
        log_deal(row, f"canceled why={note}")

    def measure_protection(self, deal: DealView, price: Decimal | None, *, now: datetime) -> None:
        if not deal.is_measured(price):
            self._note_protection(deal, deal.unprotected_since is not None, now)

    @_transaction
    def _note_protection(self, deal: DealView, protected: bool, now: datetime) -> None:
        row = self._touched(deal.id)
        if protected == (row.unprotected_since is None) or row.closed_at is not None:
            return
        if protected:
            gap = end_unprotected(row, now)
            row.unprotected_seconds = stored(row.unprotected_seconds)
            row.protected_at = row.protected_at or now
            self._note_deal(row, "protected", row.status, now, seconds=gap)
        else:
            row.unprotected_since = now
            self._note_deal(row, "unprotected", row.status, now)


def _order_view(row: OrderRow) -> OrderView:
    if row.view is None:
        row.view = order_view(row, row.market.rules)
    return row.view


def _deal_view(row: DealRow, capabilities: Capabilities) -> DealView:
    orders = sorted(row.orders, key=lambda order: (order.created_at, order.pk))
    return deal_view(row, row.market.rules, capabilities, map(_order_view, orders))
