"""The ledger in PostgreSQL. One instance serves one account."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from datetime import datetime
from decimal import Decimal

from django.conf import settings
from django.db import transaction
from django.db.models import F, Prefetch, Q, QuerySet, Sum

from algo.execution.balances import Change, asset_spent, change_by
from algo.execution.decide import CloseDeal, OpenDeal, Place, PlacePair, StartExit
from algo.execution.ledger_rows import (
    begin_unprotected,
    control_of,
    deal_payload,
    effect_on,
    end_unprotected,
    fills_of,
    lock_change,
    log_deal,
    log_order,
    log_stop,
    order_plan,
    order_view,
    realised_profit,
    record_event,
    refresh_totals,
    status_after,
    take_amounts,
    take_fees,
    take_identity,
    with_pair,
)
from algo.execution.lifecycle import check_deal, check_order
from algo.execution.views import Control, DealView, OrderView
from algo.models import (
    FINISHED_DEALS,
    Account,
    CloseReason,
    Deal,
    DealStatus,
    Fill,
    Order,
    Role,
    SystemControl,
    Ticket,
    TicketKind,
)
from algo.services.outbox import event_record
from providers import types
from providers.types import ZERO, Capabilities, OrderReport, OrderStatus, OrderType, ProtectionMode, Side

orders_log = logging.getLogger("algo.orders")


class OrmLedger:
    """Ledger over the Django models. `capabilities` are the account's, known to the caller."""

    def __init__(self, account: Account, capabilities: Capabilities) -> None:
        self._account = account
        self._capabilities = capabilities

    # --- reading ----------------------------------------------------------------------------------------------------

    def control(self) -> Control:
        return control_of(SystemControl.objects.filter(pk=1).first(), self._account)

    def live_deals(self) -> Sequence[int]:
        live = Deal.objects.filter(account=self._account).exclude(status__in=FINISHED_DEALS)
        return list(live.order_by("created_at").values_list("pk", flat=True))

    def deal(self, deal_id: int) -> DealView:
        return self._view(self._deals().get(pk=deal_id))

    def _deals(self) -> QuerySet[Deal]:
        in_base = Q(fills__fee_asset=F("market__base"))
        orders = Order.objects.annotate(
            booked=Sum("fills__quantity"), booked_fee_base=Sum("fills__fee", filter=in_base)
        ).order_by("created_at", "id")
        return Deal.objects.select_related("market").prefetch_related(Prefetch("orders", queryset=orders))

    def _view(self, deal: Deal) -> DealView:
        rules = deal.market.rules
        return DealView(
            id=deal.pk,
            side=Side(deal.side),
            status=DealStatus(deal.status),
            mode=ProtectionMode(deal.protection_mode),
            rules=rules,
            capabilities=self._capabilities,
            planned_quantity=deal.planned_quantity,
            planned_price=deal.planned_price,
            stop_percent=Decimal(str(deal.rules["stop_loss_percent"])),
            target_percent=Decimal(str(deal.rules["take_profit_percent"])),
            trailing_percent=Decimal(str(deal.rules.get("trailing_stop_percent", 0))),
            trailing_step_percent=Decimal(str(deal.rules.get("trailing_step_percent", 0))),
            initial_stop_price=deal.initial_stop_price,
            stop_price=deal.stop_price,
            target_price=deal.target_price,
            best_price=deal.best_price,
            created_at=deal.created_at,
            exit_reason=CloseReason(deal.exit_reason) if deal.exit_reason else None,
            entry_price=deal.entry_price,
            swapped_at=deal.swapped_at,
            crossed_at=deal.crossed_at,
            trailed_at=deal.trailed_at,
            orders=tuple(order_view(order, rules) for order in deal.orders.all()),
        )

    def filled_since(self, deal: DealView, side: Side, since: datetime, *, besides: Collection[str]) -> Decimal:
        ours = Fill.objects.filter(account=self._account, order__market__symbol=deal.rules.symbol, order__side=side)
        rows = ours.filter(executed_at__gte=since).exclude(order__exchange_order_id__in=besides)
        return rows.aggregate(total=Sum("quantity"))["total"] or ZERO

    def explained_change(self, deal: DealView, order: OrderView, listed: Sequence[OrderReport]) -> Change:
        if order.balance_read_at is None:
            return Change()
        asset = asset_spent(deal, order)
        since, others = order.balance_read_at, Order.objects.filter(account=self._account)
        fills = Fill.objects.filter(account=self._account, executed_at__gte=since).select_related("order__market")
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
    def note_baseline(self, deal: DealView, order: OrderView, *, not_before: datetime) -> None:
        account = Account.objects.only("balances", "balances_read_at").get(pk=self._account.pk)
        known = account.balances_read_at is not None and account.balances_read_at >= not_before
        asset = asset_spent(deal, order)
        total, locked = map(Decimal, account.balances.get(asset, ("0", "0"))) if known else (None, None)
        Order.objects.filter(pk__in=with_pair(order), status=OrderStatus.PENDING).update(
            balance_asset=asset if known else "",
            balance_before=total,
            locked_before=locked,
            balance_read_at=account.balances_read_at if known else None,
        )

    @transaction.atomic
    def claim_send(self, order: OrderView, *, now: datetime) -> bool:
        if order.role == Role.ENTRY:
            # FOR SHARE: a kill switch that commits before this transaction is seen by it, one that commits after is
            # bounded by the send deadline.
            control = SystemControl.objects.select_for_update(no_key=True).filter(pk=1).first()
            account = Account.objects.get(pk=self._account.pk)
            if not control_of(control, account).entries_allowed:
                return False
        claimed = Order.objects.filter(pk=order.id, status=OrderStatus.PENDING).update(
            status=OrderStatus.SUBMITTED, submitted_at=now, attempts=order.attempts + 1, checked_at=None
        )
        if not claimed:
            return False
        record_event(order.id, OrderStatus.PENDING, OrderStatus.SUBMITTED, now, "sending")
        if order.pair_id:
            Order.objects.filter(pk=order.pair_id, status=OrderStatus.PENDING).update(
                status=OrderStatus.SUBMITTED, submitted_at=now, attempts=order.attempts + 1, checked_at=None
            )
            record_event(order.pair_id, OrderStatus.PENDING, OrderStatus.SUBMITTED, now, "sending")
        if order.role == Role.ENTRY:
            self._move_deal_of(order, DealStatus.ENTERING)
        return True

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
            self._move_deal_of(order, DealStatus.PLANNED)

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
        row = Order.objects.get(pk=order.id)
        _, created = Ticket.objects.get_or_create(
            account=self._account,
            kind=kind,
            reference=order.client_order_id,
            defaults={
                "market_id": row.market_id,
                "summary": (
                    f"Our {row.role} order {row.client_order_id} is nowhere at the exchange, but {reason}. It counts "
                    "as never arrived; new entries on this market wait until this is resolved."
                )[:400],
                "created_at": now,
            },
        )
        if created:
            record_event(row.pk, row.status, row.status, now, f"in doubt: {reason}")
            orders_log.error(
                "%sin doubt order=%s cid=%s why=%s",
                settings.ORDER_MANAGEMENT_LOG_PREFIX,
                row.pk,
                row.client_order_id,
                reason,
            )
            event_record("ticket.opened", {"account": self._account.name, "reference": row.client_order_id}, at=now)

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
        row = Order.objects.get(pk=order.id)
        Ticket.objects.get_or_create(
            account=self._account,
            kind=TicketKind.ORDER_MISSING,
            reference=order.exchange_order_id or order.client_order_id,
            defaults={
                "market_id": row.market_id,
                "summary": (
                    f"The exchange does not know our {order.role} order {order.client_order_id} any more. It counts "
                    "cancelled; new entries on this market wait until this is resolved."
                ),
                "created_at": now,
            },
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
        row = Order.objects.select_for_update(of=("self",)).select_related("deal").get(pk=order.id)
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
        row = Order.objects.select_for_update().select_related("market", "deal").get(pk=order.id)
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
            if new.is_final:
                row.closed_at = now
            record_event(row.pk, old, new, now, "adopted from the exchange" if adopting else "", dict(report.raw))
            row.raw = dict(report.raw)
            log_order(row)
        row.save()
        self._book(row, fills)
        refresh_totals(row.deal)
        take_fees(row)

    def _book(self, row: Order, fills: Sequence[types.Fill]) -> None:
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
                )
                for fill in fills
            ],
            ignore_conflicts=True,
        )

    # --- deals ------------------------------------------------------------------------------------------------------

    def _locked(self, deal: DealView) -> Deal:
        return Deal.objects.select_for_update(of=("self",)).select_related("market").get(pk=deal.id)

    def _move_deal_of(self, order: OrderView, status: DealStatus) -> None:
        deal = Deal.objects.select_for_update().get(orders=order.id)
        if deal.status != status:
            check_deal(DealStatus(deal.status), status)
            deal.status = status
            deal.save(update_fields=["status"])

    @transaction.atomic
    def open_deal(self, deal: DealView, action: OpenDeal, *, now: datetime) -> None:
        row = self._locked(deal)
        check_deal(DealStatus(row.status), DealStatus.OPEN)
        row.status = DealStatus.OPEN
        row.stop_price = row.initial_stop_price = action.stop_price
        row.target_price, row.best_price = action.target_price, action.entry_price
        first_fill = Fill.objects.filter(order__deal=row).order_by("executed_at").first()
        row.opened_at = first_fill.executed_at if first_fill else action.opened_at
        row.unprotected_since = row.unprotected_since or row.opened_at
        row.save()
        refresh_totals(row)
        log_deal(row, f"opened entry={action.entry_price} quantity={action.quantity} stop={action.stop_price}")
        event_record("deal.opened", deal_payload(row), at=now)

    @transaction.atomic
    def move_stop(self, deal: DealView, stop_price: Decimal, best_price: Decimal, *, now: datetime) -> None:
        row = self._locked(deal)
        moved_back = stop_price < row.stop_price if row.side == Side.BUY else stop_price > row.stop_price
        if moved_back:
            raise ValueError("A trailing stop never moves back.")
        log_stop(row, f"stop moves from={row.stop_price} to={stop_price} best={best_price}")
        row.stop_price, row.best_price, row.trailed_at = stop_price, best_price, now
        row.save(update_fields=["stop_price", "best_price", "trailed_at"])
        event_record("stop.moved", deal_payload(row), at=now)

    def note_best(self, deal: DealView, best_price: Decimal) -> None:
        Deal.objects.filter(pk=deal.id).update(best_price=best_price)

    def note_crossed(self, deal: DealView, crossed: bool, *, now: datetime) -> None:
        Deal.objects.filter(pk=deal.id).update(crossed_at=now if crossed else None)

    def begin_swap(self, deal: DealView, *, now: datetime) -> None:
        Deal.objects.filter(pk=deal.id).update(swapped_at=now)

    @transaction.atomic
    def start_exit(self, deal: DealView, action: StartExit, *, now: datetime) -> None:
        row = self._locked(deal)
        if row.status == DealStatus.OPEN:
            row.status = DealStatus.EXITING
        row.exit_reason, row.note = action.reason, action.note[:400]
        row.save(update_fields=["status", "exit_reason", "note"])
        log_stop(row, f"exit reason={action.reason} why={action.note}")

    @transaction.atomic
    def close_deal(self, deal: DealView, action: CloseDeal, *, now: datetime) -> None:
        row = self._locked(deal)
        check_deal(DealStatus(row.status), DealStatus.CLOSED)
        refresh_totals(row)
        row.status, row.close_reason, row.closed_at = DealStatus.CLOSED, action.reason, now
        row.dust_quantity, row.profit, row.crossed_at = action.dust, realised_profit(row, fills_of(row)), None
        end_unprotected(row, now)
        row.save()
        log_deal(row, f"closed reason={action.reason} profit={row.profit} unprotected={row.unprotected_seconds}s")
        event_record("deal.closed", deal_payload(row), at=now)
        if deal.held is not None:
            self._ticket_gone(row, action.dust, now)

    def _ticket_gone(self, row: Deal, missing: Decimal, now: datetime) -> None:
        Ticket.objects.get_or_create(
            account=self._account,
            kind=TicketKind.UNKNOWN_TRADE,
            reference=f"deal {row.pk}",
            defaults={
                "market_id": row.market_id,
                "summary": (
                    f"Deal {row.pk} was closed with {missing} {row.market.base} still open by our books: the account "
                    "does not hold them. Somebody moved them by hand; new entries on this market wait until this is "
                    "resolved."
                ),
                "created_at": now,
            },
        )

    @transaction.atomic
    def cancel_deal(self, deal: DealView, note: str, *, now: datetime) -> None:
        row = self._locked(deal)
        check_deal(DealStatus(row.status), DealStatus.CANCELED)
        row.status, row.note, row.closed_at = DealStatus.CANCELED, note[:400], now
        row.save(update_fields=["status", "note", "closed_at"])
        log_deal(row, f"canceled why={note}")

    @transaction.atomic
    def measure_protection(self, deal: DealView, price: Decimal | None, *, now: datetime) -> None:
        row = self._locked(deal)
        if row.opened_at is None:
            return
        protected = deal.is_protected(price or deal.entry_price or deal.planned_price)
        if protected == (row.unprotected_since is None) or row.closed_at is not None:
            return
        if protected:
            end_unprotected(row, now)
            row.protected_at = row.protected_at or now
        else:
            row.unprotected_since = now
        row.save(update_fields=["unprotected_seconds", "unprotected_since", "protected_at"])
