"""The ledger in PostgreSQL. One instance serves one account."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q, QuerySet, Sum

from algo.execution import questions
from algo.execution.balances import Change, asset_spent, change_by
from algo.execution.decide import CloseDeal, OpenDeal, Place, PlacePair, StartExit
from algo.execution.ledger import DealStands, Fenced, Located
from algo.execution.ledger_columns import DEAL_COLUMNS, ORDER_COLUMNS, rules_of, with_sums
from algo.execution.ledger_rows import (
    begin_unprotected,
    came_after,
    closed_too_much,
    control_of,
    control_under,
    deal_payload,
    deal_view,
    effect_on,
    end_unprotected,
    fills_of,
    fills_to_book,
    is_ambiguous,
    lock_change,
    log_deal,
    log_order,
    log_stop,
    order_plan,
    order_view,
    outran_cancel,
    realised_profit,
    record_deal_event,
    record_event,
    refresh_totals,
    status_after,
    take_amounts,
    take_fees,
    take_identity,
    urgency,
    with_pair,
)
from algo.execution.lifecycle import check_deal, check_order
from algo.execution.times import is_ahead
from algo.execution.views import Control, DealView, LiveDeal, OrderView
from algo.models import (
    FINISHED_DEALS,
    Account,
    AccountLock,
    CloseReason,
    Deal,
    DealStatus,
    EventKind,
    Fill,
    Market,
    Order,
    Role,
    Ticket,
    TicketKind,
)
from algo.selectors.halts import halt_for, halts_for
from algo.services.accounts import account_is_stopped, account_stop, balances_note
from algo.services.outbox import event_record
from algo.services.tickets import ticket_open
from providers import types
from providers.types import FINAL_STATUSES, ZERO, Balance, Capabilities, OrderReport, OrderStatus, OrderType, Side

orders_log = logging.getLogger("algo.orders")


_WORKING = (OrderStatus.OPEN, OrderStatus.PARTIALLY_FILLED, OrderStatus.CANCELING)
_IN_BETWEEN = (OrderStatus.SUBMITTED, OrderStatus.PENDING)


def _symbols(rows: QuerySet[Any]) -> QuerySet[Any, str]:
    """The markets of orders or deals."""
    return rows.order_by().values_list("market__symbol", flat=True)


class OrmLedger:
    """Ledger over the Django models. `capabilities` are the account's, known to the caller; `epoch` is that of the lock
    under which it writes, None where the caller holds none."""

    def __init__(self, account: Account, capabilities: Capabilities, epoch: int | None = None) -> None:
        self._account = account
        self._capabilities = capabilities
        self._epoch = epoch
        self._rules: dict[int, types.MarketRules] = {}  # of markets, as one pass over the account read them

    # --- the account ------------------------------------------------------------------------------------------------

    def is_stopped(self) -> bool:
        return account_is_stopped(self._account)

    def stop_account(self, reason: str, *, now: datetime) -> None:
        account_stop(self._account, reason, at=now)

    def note_error(self, error: str) -> None:
        Account.objects.filter(pk=self._account.pk).exclude(last_error=error[:400]).update(last_error=error[:400])

    def note_advanced(self, error: str, *, now: datetime) -> None:
        Account.objects.filter(pk=self._account.pk).update(advanced_at=now, last_error=error[:400])

    def note_balances(self, balances: Mapping[str, Balance], *, read_at: datetime) -> None:
        balances_note(self._account, balances, read_at=read_at)

    def balances_read_at(self) -> datetime | None:
        return self._of_account("balances_read_at")

    def _of_account(self, name: str) -> Any:
        return Account.objects.values_list(name, flat=True).get(pk=self._account.pk)

    # --- reconciliation ---------------------------------------------------------------------------------------------

    def reconcile_times(self) -> tuple[datetime | None, datetime | None]:
        return Account.objects.values_list("reconciled_at", "reconcile_tried_at").get(pk=self._account.pk)

    def note_reconciled(self, *, now: datetime) -> None:
        Account.objects.filter(pk=self._account.pk).update(reconciled_at=now)

    def note_reconcile_tried(self, *, now: datetime) -> None:
        Account.objects.filter(pk=self._account.pk).update(reconcile_tried_at=now)

    def symbols_in_doubt(self, since: datetime) -> Sequence[str]:
        absent = Order.objects.filter(account=self._account, negative_at__gte=since)
        return sorted(set(_symbols(absent.exclude(status=OrderStatus.SUBMITTED))))

    def find(self, exchange_order_id: str | None, client_order_id: str | None) -> Located | None:
        for field, name in (("exchange_order_id", exchange_order_id), ("client_order_id", client_order_id)):
            rows = self._orders().select_related("market", "deal").filter(account=self._account, **{field: name})
            row = rows.first() if name else None
            if row is not None:
                return self._located(row, row.deal.status, row.market.rules)
        return None

    def find_all(self, reports: Sequence[OrderReport]) -> Sequence[Located | None]:
        by_theirs = self._named("exchange_order_id", [report.exchange_order_id for report in reports])
        left = [report for report in reports if report.exchange_order_id not in by_theirs]
        by_ours = self._named("client_order_id", [report.client_order_id for report in left])
        return [by_theirs.get(each.exchange_order_id) or by_ours.get(each.client_order_id) for each in reports]

    def _named(self, field: str, names: Sequence[str | None]) -> dict[str | None, Located]:
        wanted = [name for name in names if name]
        rows = self._rows_of(Order.objects.filter(account=self._account, **{f"{field}__in": wanted})) if wanted else []
        return dict(zip((getattr(row, field) for row in rows), self._all_located(rows), strict=True))

    def working(self) -> Sequence[Located]:
        working = Order.objects.filter(account=self._account, status__in=_WORKING)
        return self._all_located(self._rows_of(working))

    def _all_located(self, rows: Sequence[Any]) -> list[Located]:
        rules = self._rules_of(rows)
        return [self._located(row, row.deal__status, rules[row.market_id]) for row in rows]

    def _rules_of(self, rows: Sequence[Any]) -> Mapping[int, types.MarketRules]:
        """The rules of the markets of these deals or orders, read once for many readings: they change once a day."""
        if unknown := {row.market_id for row in rows}.difference(self._rules):
            self._rules |= rules_of(unknown)
        return self._rules

    def _rows_of(self, orders: QuerySet[Order]) -> list[Any]:
        """Oldest first, as `order_view` reads them: no more of each than it needs, and no objects of the framework."""
        return list(with_sums(orders).order_by("created_at", "id").values_list(*ORDER_COLUMNS, named=True))

    def _located(self, row: Any, deal_status: str, rules: types.MarketRules) -> Located:
        return Located(row.deal_id, rules.symbol, order_view(row, rules), deal_status in FINISHED_DEALS)

    def symbols_at_stake(self, since: datetime) -> Sequence[str]:
        orders = Order.objects.filter(account=self._account)
        unended = orders.exclude(status__in=FINAL_STATUSES)
        live = Deal.objects.filter(account=self._account).exclude(status__in=FINISHED_DEALS)
        return sorted(_symbols(orders.filter(created_at__gte=since)).union(_symbols(unended), _symbols(live)))

    def resembles_lost_leg(self, report: OrderReport) -> bool:
        lost = Order.objects.filter(
            account=self._account, pair__isnull=False, exchange_order_id=None, status__in=_IN_BETWEEN
        )
        like_it = lost.filter(market__symbol=report.symbol, side=report.side, quantity=report.quantity)
        return report.client_order_id is None and like_it.exists()

    @transaction.atomic
    def reopen_deal(self, deal_id: int, *, now: datetime) -> None:
        row = Deal.objects.select_for_update().get(pk=deal_id)
        if row.status not in FINISHED_DEALS:
            return
        others = Deal.objects.filter(account=self._account, market_id=row.market_id).exclude(status__in=FINISHED_DEALS)
        if others.exists():
            raise DealStands(f"Deal {deal_id} cannot be reopened: another deal is open on its market.")
        old = row.status
        row.status, row.exit_reason, row.close_reason = DealStatus.OPEN, CloseReason.EMERGENCY, ""
        row.opened_at, row.closed_at, row.profit = row.opened_at or now, None, None
        row.unprotected_since, row.reopened = now, row.reopened + 1
        row.note = "reopened: the exchange executed an order of this deal after its end"
        row.save()
        record_deal_event(row, "reopened", old, now, note=row.note)
        event_record(EventKind.DEAL_REOPENED, deal_payload(row), at=now, deal=row)

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
        about = Ticket.objects.filter(account=self._account, kind=TicketKind.UNKNOWN_ORDER)
        return about.filter(reference=exchange_order_id[:80]).exists()

    def ticket_trade(self, symbol: str, reference: str, summary: str, *, now: datetime) -> None:
        self._ticket(TicketKind.UNKNOWN_TRADE, reference, summary, symbol=symbol, now=now)

    @transaction.atomic
    def _ticket(
        self,
        kind: TicketKind,
        reference: str,
        summary: str,
        *,
        symbol: str,
        now: datetime,
        details: dict[str, Any] | None = None,
    ) -> bool:
        """Whether it is a new one."""
        market = Market.objects.filter(provider=self._account.provider, symbol=symbol).first()
        return ticket_open(self._account, kind, reference, summary, market=market, details=details, at=now)

    def trades_seen(self) -> Mapping[str, datetime]:
        seen = self._of_account("trades_seen")
        return {symbol: datetime.fromisoformat(until) for symbol, until in seen.items()}

    @transaction.atomic
    def note_trades_seen(self, symbol: str, until: datetime) -> None:
        row = Account.objects.select_for_update(no_key=True).only("trades_seen").get(pk=self._account.pk)
        row.trades_seen = row.trades_seen | {symbol: until.isoformat()}
        row.save(update_fields=["trades_seen"])

    def unbooked(self, trades: Sequence[types.Fill]) -> Sequence[types.Fill]:
        names = [trade.trade_id for trade in trades]
        known = set(Fill.objects.filter(account=self._account, trade_id__in=names).values_list("trade_id", flat=True))
        return [trade for trade in trades if trade.trade_id not in known]

    # --- reading ----------------------------------------------------------------------------------------------------

    def control(self, deal_id: int) -> Control:
        *scope, state = Deal.objects.values_list("config_id", "market_id", "account__state").get(pk=deal_id)
        return control_under(halt_for(self._account.pk, *scope), state)

    def live_deals(self) -> Sequence[int]:
        live = Deal.objects.filter(account=self._account).exclude(status__in=FINISHED_DEALS)
        rows = live.values_list("pk", "status", "exit_reason", "unprotected_since", "created_at", named=True)
        return [row.pk for row in sorted(rows, key=urgency)]

    def live_views(self) -> Sequence[LiveDeal]:
        live = Deal.objects.filter(account=self._account).exclude(status__in=FINISHED_DEALS)
        deals = sorted(live.values_list(*DEAL_COLUMNS, named=True), key=urgency)
        if not deals:
            return []
        rules, orders = self._rules_of(deals), defaultdict[int, list[OrderView]](list)
        for row in self._rows_of(Order.objects.filter(deal__in=[deal.pk for deal in deals])):
            orders[row.deal_id].append(order_view(row, rules[row.market_id]))
        halts = halts_for(self._account.pk, {(deal.config_id, deal.market_id) for deal in deals})
        return [
            LiveDeal(
                deal_view(deal, rules[deal.market_id], self._capabilities, orders[deal.pk]),
                control_under(halts[deal.config_id, deal.market_id], deal.account__state),
            )
            for deal in deals
        ]

    def deal(self, deal_id: int) -> DealView:
        row = Deal.objects.select_related("market").get(pk=deal_id)
        rules, orders = row.market.rules, self._orders().filter(deal=deal_id).order_by("created_at", "id")
        return deal_view(row, rules, self._capabilities, (order_view(order, rules) for order in orders))

    def _orders(self) -> QuerySet[Any]:
        in_base = Q(fills__fee_asset=F("market__base"))
        return Order.objects.annotate(booked=Sum("fills__quantity"), booked_fee_base=Sum("fills__fee", filter=in_base))

    def filled_since(
        self, symbol: str, side: Side, since: datetime, *, besides: Collection[str], until: datetime | None = None
    ) -> Decimal:
        ours = Fill.objects.filter(account=self._account, order__market__symbol=symbol, order__side=side)
        rows = ours.filter(executed_at__gte=since).exclude(order__exchange_order_id__in=besides)
        if until is not None:
            rows = rows.filter(executed_at__lt=until)
        return rows.aggregate(total=Sum("quantity"))["total"] or ZERO

    def explained_change(
        self, deal: DealView, order: OrderView, listed: Sequence[OrderReport], *, reading: timedelta
    ) -> Change | None:
        if order.balance_read_at is None:
            return Change()
        asset = asset_spent(deal, order)
        since, others = order.balance_read_at, Order.objects.filter(account=self._account)
        maybe = Q(executed_at__gte=since) | Q(booked_at__gte=since) | Q(order__submitted_at__gte=since)
        booked = list(Fill.objects.filter(maybe, account=self._account).select_related("order__market"))
        if any(is_ambiguous(fill, since, reading) for fill in booked):
            return None
        fills = [fill for fill in booked if came_after(fill, since)]
        rows = others.exclude(pk__in=with_pair(order)).exclude(accepted_at=None).select_related("market")
        recent = rows.filter(Q(closed_at=None) | Q(closed_at__gte=since))
        ours = Change(
            total=sum((effect_on(asset, fill) for fill in fills), ZERO),
            locked=sum((lock_change(asset, row, since, self._capabilities) for row in recent), ZERO),
        )
        names = [report.exchange_order_id for report in listed]
        known = set(others.filter(exchange_order_id__in=names).values_list("exchange_order_id", flat=True))
        theirs = (report for report in listed if report.exchange_order_id not in known)
        return sum((change_by(report, deal.rules, asset, since) for report in theirs), ours)

    # --- orders -----------------------------------------------------------------------------------------------------

    @transaction.atomic
    def plan_order(self, deal: DealView, place: Place, *, now: datetime) -> None:
        self._plan(deal, place.role, place.type, place.quantity, place.price, place.stop_price, place.reason, now)

    @transaction.atomic
    def plan_pair(self, deal: DealView, pair: PlacePair, *, now: datetime) -> None:
        target = self._plan(
            deal, Role.TARGET, OrderType.LIMIT, pair.quantity, pair.price, None, "target of an OCO", now
        )
        stop = self._plan(
            deal,
            Role.STOP,
            OrderType.STOP_LIMIT,
            pair.quantity,
            pair.stop_limit_price,
            pair.stop_price,
            "stop of an OCO",
            now,
        )
        Order.objects.filter(pk=target.pk).update(pair=stop)
        Order.objects.filter(pk=stop.pk).update(pair=target)

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
    ) -> Order:
        row = Deal.objects.select_for_update().get(pk=deal.id)
        leg = row.orders.filter(role=role).count() + 1
        return order_plan(
            row,
            role=role,
            leg=leg,
            side=deal.exit_side,
            kind=kind,
            quantity=quantity,
            price=price,
            stop_price=stop_price,
            reason=reason,
            now=now,
        )

    @transaction.atomic
    def note_baseline(self, deal: DealView, order: OrderView, *, not_before: datetime, now: datetime) -> None:
        account = Account.objects.only("balances", "balances_read_at").get(pk=self._account.pk)
        read_at = account.balances_read_at
        known = read_at is not None and read_at >= not_before and not is_ahead(read_at, now)
        asset = asset_spent(deal, order)
        total, locked = map(Decimal, account.balances.get(asset, ("0", "0"))) if known else (None, None)
        Order.objects.filter(pk__in=with_pair(order), status=OrderStatus.PENDING).update(
            balance_asset=asset if known else "",
            balance_before=total,
            locked_before=locked,
            balance_read_at=read_at if known else None,
        )

    def _check_lock(self) -> None:
        """The lock is the session's, and a lost session cannot write. This is the second line of defence."""
        if self._epoch is None:
            return
        now_held = AccountLock.objects.filter(pk=self._account.pk).values_list("epoch", flat=True).first()
        if now_held != self._epoch:
            raise Fenced(f"The lock of account {self._account.name} went to another process; nothing was sent.")

    @transaction.atomic
    def claim_send(self, order: OrderView, *, now: datetime) -> bool:
        self._check_lock()
        if order.role == Role.ENTRY:
            # A kill switch that committed before this transaction is seen by it; one that commits after is bounded by
            # the send deadline.
            scope = Order.objects.values_list("deal__config_id", "deal__market_id").get(pk=order.id)
            if not control_of(self._account.pk, *scope, lock=True).entries_allowed or self._is_unwanted(order):
                return False
        if not self._claim(order.id, order.attempts + 1, now):
            return False
        if order.pair_id:
            self._claim(order.pair_id, order.attempts + 1, now)
        if order.role == Role.ENTRY:
            self._move_deal_of(order, DealStatus.ENTERING, now)
        return True

    def _is_unwanted(self, order: OrderView) -> bool:
        """Whether a person has closed the deal or cancelled its entry; until this transaction ends, nobody can."""
        deal = Deal.objects.select_for_update(of=("self",), no_key=True).get(orders=order.id)
        asked = Order.objects.values_list("cancel_asked_at", flat=True).get(pk=order.id)
        return bool(deal.exit_reason) or asked is not None

    def _claim(self, order_id: int, attempts: int, now: datetime) -> bool:
        claimed = Order.objects.filter(pk=order_id, status=OrderStatus.PENDING).update(
            status=OrderStatus.SUBMITTED, submitted_at=now, attempts=attempts, checked_at=None, epoch=self._epoch
        )
        if claimed:
            record_event(order_id, OrderStatus.PENDING, OrderStatus.SUBMITTED, now, "sending")
        return bool(claimed)

    @transaction.atomic
    def release_send(self, order: OrderView, *, reason: str, now: datetime) -> None:
        for pk in with_pair(order):
            released = Order.objects.filter(pk=pk, status=OrderStatus.SUBMITTED).update(
                status=OrderStatus.PENDING,
                submitted_at=None,
                attempts=order.attempts,
                unknown_since=None,
                reason=reason[:200],
            )
            if released:
                record_event(pk, OrderStatus.SUBMITTED, OrderStatus.PENDING, now, reason)
        if order.role == Role.ENTRY:
            self._move_deal_of(order, DealStatus.PLANNED, now)

    @transaction.atomic
    def note_unknown(self, order: OrderView, *, reason: str, now: datetime) -> None:
        for row in Order.objects.select_for_update().filter(pk__in=with_pair(order), status=OrderStatus.SUBMITTED):
            first = row.unknown_since is None
            row.unknown_since, row.checked_at = row.unknown_since or now, now
            row.save(update_fields=["unknown_since", "checked_at"])
            if first:
                record_event(row.pk, row.status, row.status, now, f"outcome unknown: {reason}")
                orders_log.warning(
                    "%soutcome unknown order=%s cid=%s reason=%s",
                    settings.ORDER_MANAGEMENT_LOG_PREFIX,
                    row.pk,
                    row.client_order_id,
                    reason,
                )

    @transaction.atomic
    def note_doubt(self, order: OrderView, kind: TicketKind, reason: str, *, now: datetime) -> None:
        opened = self._ticket(
            kind,
            order.client_order_id,
            questions.order_in_doubt(order, reason),
            symbol=self._symbol_of(order),
            now=now,
        )
        if opened:
            record_event(order.id, order.status, order.status, now, f"in doubt: {reason}")

    def _symbol_of(self, order: OrderView) -> str:
        return Order.objects.values_list("market__symbol", flat=True).get(pk=order.id)

    @transaction.atomic
    def note_negative(self, order: OrderView, *, now: datetime) -> None:
        Order.objects.filter(pk__in=with_pair(order)).update(negative_at=now, checked_at=now)

    @transaction.atomic
    def end_order(self, order: OrderView, status: OrderStatus, *, reason: str, now: datetime) -> None:
        self._end(order, with_pair(order), status, reason, now)

    @transaction.atomic
    def end_leg(self, order: OrderView, status: OrderStatus, *, reason: str, now: datetime) -> None:
        self._end(order, [order.id], status, reason, now)

    @transaction.atomic
    def lose_order(self, order: OrderView, *, now: datetime) -> None:
        reason = "the exchange does not know it any more"
        self._end(order, [order.id], OrderStatus.CANCELED, reason, now)
        self._ticket(
            TicketKind.ORDER_MISSING,
            order.exchange_order_id or order.client_order_id,
            questions.order_missing(order),
            symbol=self._symbol_of(order),
            now=now,
        )

    def _end(self, order: OrderView, ids: list[int], status: OrderStatus, reason: str, now: datetime) -> None:
        for row in Order.objects.select_for_update().filter(pk__in=ids):
            if row.status == status or OrderStatus(row.status).is_final:
                continue
            check_order(OrderStatus(row.status), status)
            record_event(row.pk, row.status, status, now, reason)
            row.status, row.reason, row.closed_at, row.unknown_since = status, reason[:200], now, None
            row.save(update_fields=["status", "reason", "closed_at", "unknown_since"])
        orders_log.info(
            "%s%s order=%s cid=%s role=%s reason=%s",
            settings.ORDER_MANAGEMENT_LOG_PREFIX,
            status.lower(),
            order.id,
            order.client_order_id,
            order.role,
            reason,
        )

    @transaction.atomic
    def request_cancel(self, order: OrderView, *, reason: str, now: datetime) -> None:
        row = self._locked_order(order)
        if OrderStatus(row.status) in (OrderStatus.OPEN, OrderStatus.PARTIALLY_FILLED, OrderStatus.CANCELING):
            record_event(row.pk, row.status, OrderStatus.CANCELING, now, reason)
            row.status, row.cancel_requested_at = OrderStatus.CANCELING, now
            row.save(update_fields=["status", "cancel_requested_at"])
            begin_unprotected(row, now)

    @transaction.atomic
    def apply_report(
        self,
        order: OrderView,
        report: OrderReport,
        fills: Sequence[types.Fill],
        *,
        now: datetime,
        adopting: bool = False,
        read_back: bool = True,
    ) -> None:
        row = self._locked_order(order)
        old = OrderStatus(row.status)
        take_identity(row, report, now)
        take_amounts(row, report)
        row.unknown_since = None
        if read_back:
            row.checked_at = now
        new = status_after(old, report.status, row, adopting)
        if new != old:
            check_order(old, new, adopting=adopting)
            row.status = new
            if old.is_final and not outran_cancel(old, new):
                row.adoptions += 1
            row.closed_at = now if new.is_final else None
            record_event(row.pk, old, new, now, "adopted from the exchange" if adopting else "", dict(report.raw))
            row.raw = dict(report.raw)
            log_order(row)
        row.save()
        self._book(row, fills, now)
        refresh_totals(row.deal)
        take_fees(row)

    def note_read(self, orders: Sequence[OrderView], *, now: datetime) -> None:
        resting = Order.objects.filter(pk__in=[order.id for order in orders], status=OrderStatus.OPEN)
        resting.update(checked_at=now, unknown_since=None)

    def _book(self, row: Order, fills: Sequence[types.Fill], now: datetime) -> None:
        if not fills:
            return
        names = [fill.trade_id for fill in fills]
        known = set(Fill.objects.filter(account=self._account, trade_id__in=names).values_list("trade_id", flat=True))
        booked = row.fills.aggregate(total=Sum("quantity"))["total"] or ZERO
        Fill.objects.bulk_create(
            [
                Fill(
                    account=self._account,
                    order=row,
                    trade_id=fill.trade_id,
                    price=fill.price,
                    quantity=fill.quantity,
                    fee=fill.fee,
                    fee_asset=fill.fee_asset,
                    executed_at=fill.executed_at,
                    booked_at=now,
                )
                for fill in fills_to_book(row, known, booked, fills)
            ],
            ignore_conflicts=True,
        )

    # --- deals ------------------------------------------------------------------------------------------------------

    def _locked_order(self, order: OrderView) -> Order:
        """The order, locked after its deal: the order in which rows are locked everywhere."""
        deal = Deal.objects.select_for_update(of=("self",), no_key=True).select_related("market").get(orders=order.id)
        row = Order.objects.select_for_update(of=("self",)).select_related("market").get(pk=order.id)
        row.deal = deal
        return row

    def _locked(self, deal: DealView) -> Deal:
        return Deal.objects.select_for_update(of=("self",)).select_related("market").get(pk=deal.id)

    def _move_deal_of(self, order: OrderView, status: DealStatus, now: datetime) -> None:
        deal = Deal.objects.select_for_update().get(orders=order.id)
        if deal.status != status:
            check_deal(DealStatus(deal.status), status)
            old, deal.status = deal.status, status
            deal.save(update_fields=["status"])
            record_deal_event(deal, "status", old, now)

    @transaction.atomic
    def open_deal(self, deal: DealView, action: OpenDeal, *, now: datetime) -> None:
        row = self._locked(deal)
        check_deal(DealStatus(row.status), DealStatus.OPEN)
        old, row.status = row.status, DealStatus.OPEN
        row.stop_price = row.initial_stop_price = action.stop_price
        row.target_price, row.best_price = action.target_price, action.entry_price
        first_fill = Fill.objects.filter(order__deal=row).order_by("executed_at").first()
        row.opened_at = first_fill.executed_at if first_fill else action.opened_at
        row.unprotected_since = row.unprotected_since or row.opened_at
        row.save()
        refresh_totals(row)
        record_deal_event(row, "status", old, now, entry=action.entry_price, stop=action.stop_price)
        log_deal(row, f"opened entry={action.entry_price} quantity={action.quantity} stop={action.stop_price}")
        event_record(EventKind.DEAL_OPENED, deal_payload(row), at=now, deal=row)

    @transaction.atomic
    def move_stop(self, deal: DealView, stop_price: Decimal, best_price: Decimal, *, now: datetime) -> None:
        row = self._locked(deal)
        moved_back = stop_price < row.stop_price if row.side == Side.BUY else stop_price > row.stop_price
        if moved_back:
            raise ValueError("A trailing stop never moves back.")
        log_stop(row, f"stop moves from={row.stop_price} to={stop_price} best={best_price}")
        record_deal_event(row, "stop_moved", row.status, now, before=row.stop_price, after=stop_price, best=best_price)
        row.stop_price, row.best_price, row.trailed_at = stop_price, best_price, now
        row.save(update_fields=["stop_price", "best_price", "trailed_at"])
        event_record(EventKind.STOP_MOVED, deal_payload(row), at=now, deal=row)

    def note_best(self, deal: DealView, best_price: Decimal) -> None:
        Deal.objects.filter(pk=deal.id).update(best_price=best_price)

    def note_crossed(self, deal: DealView, crossed: bool, *, now: datetime) -> None:
        Deal.objects.filter(pk=deal.id).update(crossed_at=now if crossed else None)

    def begin_swap(self, deal: DealView, *, now: datetime) -> None:
        Deal.objects.filter(pk=deal.id).update(swapped_at=now)

    @transaction.atomic
    def start_exit(self, deal: DealView, action: StartExit, *, now: datetime) -> None:
        row = self._locked(deal)
        old = row.status
        if row.status == DealStatus.OPEN:
            row.status = DealStatus.EXITING
        row.exit_reason, row.note = action.reason, action.note[:400]
        row.save(update_fields=["status", "exit_reason", "note"])
        record_deal_event(row, "exit", old, now, reason=action.reason, why=action.note)
        log_stop(row, f"exit reason={action.reason} why={action.note}")

    @transaction.atomic
    def close_deal(self, deal: DealView, action: CloseDeal, *, now: datetime) -> None:
        row = self._locked(deal)
        check_deal(DealStatus(row.status), DealStatus.CLOSED)
        refresh_totals(row)
        old = row.status
        row.status, row.close_reason, row.closed_at = DealStatus.CLOSED, action.reason, now
        row.dust_quantity, row.profit, row.crossed_at = action.dust, realised_profit(row, fills_of(row)), None
        end_unprotected(row, now)
        row.save()
        record_deal_event(row, "status", old, now, reason=action.reason, profit=row.profit, dust=action.dust)
        log_deal(row, f"closed reason={action.reason} profit={row.profit} unprotected={row.unprotected_seconds}s")
        event_record(EventKind.DEAL_CLOSED, deal_payload(row), at=now, deal=row)
        if deal.held is not None:
            gone = questions.position_gone(row.pk, action.dust, row.market.base)
            self._ticket_end(row, f"deal {row.pk}", gone, now)
        if over := closed_too_much(deal):
            self._ticket_end(row, f"deal {row.pk} over", questions.closed_too_much(row.pk, over, row.market.base), now)

    def _ticket_end(self, row: Deal, reference: str, summary: str, now: datetime) -> None:
        self._ticket(TicketKind.UNKNOWN_TRADE, reference, summary, symbol=row.market.symbol, now=now)

    @transaction.atomic
    def cancel_deal(self, deal: DealView, note: str, *, now: datetime) -> None:
        row = self._locked(deal)
        check_deal(DealStatus(row.status), DealStatus.CANCELED)
        old = row.status
        row.status, row.note, row.closed_at = DealStatus.CANCELED, note[:400], now
        row.save(update_fields=["status", "note", "closed_at"])
        record_deal_event(row, "status", old, now, why=note)
        log_deal(row, f"canceled why={note}")

    def measure_protection(self, deal: DealView, price: Decimal | None, *, now: datetime) -> None:
        if not deal.is_measured(price):
            self._note_protection(deal, deal.unprotected_since is not None, now)

    @transaction.atomic
    def _note_protection(self, deal: DealView, protected: bool, now: datetime) -> None:
        row = self._locked(deal)
        if protected == (row.unprotected_since is None) or row.closed_at is not None:
            return
        if protected:
            gap = end_unprotected(row, now)
            row.protected_at = row.protected_at or now
            record_deal_event(row, "protected", row.status, now, seconds=gap)
        else:
            row.unprotected_since = now
            record_deal_event(row, "unprotected", row.status, now)
        row.save(update_fields=["unprotected_seconds", "unprotected_since", "protected_at"])
