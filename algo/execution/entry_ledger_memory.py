"""Decisions of entries over the in-memory store, by the rules that `EntryLedger` states. No order books are streamed
into it: open deals are valued at their entry."""

from __future__ import annotations

from datetime import datetime

from django.db import IntegrityError

from algo.execution.entry_ledger import Decided, EntryCounts, EntryRequest, EntryWindows, Judge, LiveDeal
from algo.execution.lifecycle import check_deal
from algo.execution.memory_store import AccountRow, ConfigRow, DealRow, MemoryStore
from algo.models import CloseReason, DealStatus, Outcome, Role
from algo.risk.codes import DenialCode
from algo.risk.values import Approval
from providers.types import ZERO, OrderType, Side

BOTH = frozenset(Side)


class MemoryEntryLedger:
    """EntryLedger over a MemoryStore. Strategies there are always running, order, and take both sides."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def decide(self, request: EntryRequest, judge: Judge, *, windows: EntryWindows, now: datetime) -> Decided | None:
        try:
            with self._store.atomic():
                return self._decide(request, judge, windows, now)
        except IntegrityError:
            return None  # somebody else was first: the constraint is the judge

    def _decide(self, request: EntryRequest, judge: Judge, windows: EntryWindows, now: datetime) -> Decided | None:
        store = self._store
        account, config = store.accounts[request.account_id], store.configs.get(request.config_id)
        if config is None or not self._is_to_decide(config, request):
            return None
        closing = self._close_opposite(request, now)
        answer = judge(self._counts(account, config, request, windows))
        store.note_decision(config, request.bar_open_at)
        if isinstance(answer, Approval):
            deal = self._plan(config, request, answer, now)
            return Decided(Outcome.ENTERED, answer, deal.pk)
        if answer.code == DenialCode.RUNAWAY:
            store.pause_account(account, answer.message, now)
        return Decided(Outcome.EXIT if closing else Outcome.DENIED, answer)

    def _is_to_decide(self, config: ConfigRow, request: EntryRequest) -> bool:
        if (config.account.pk, config.market.pk) != (request.account_id, request.market_id):
            return False
        last = self._store.last_bar_at(config)
        return last is None or last < request.bar_open_at

    def _close_opposite(self, request: EntryRequest, now: datetime) -> bool:
        opposite = [
            deal
            for deal in self._store.live_deals(request.account_id)
            if deal.config.pk == request.config_id
            and deal.market.pk == request.market_id
            and deal.rules.get("exit_on_opposite_signal") is True
            and deal.status == DealStatus.OPEN
            and deal.side is request.intent.side.opposite
            and not deal.exit_reason
        ]
        for deal in opposite:
            check_deal(deal.status, DealStatus.EXITING)
            self._store.touch(deal)
            self._store.set_deal_status(deal, DealStatus.EXITING)
            deal.exit_reason, deal.note = CloseReason.SIGNAL, "opposite signal"
            detail = {"reason": deal.exit_reason, "note": deal.note}
            self._store.note_deal(deal, "exit", DealStatus.OPEN, now, detail)
        return bool(opposite)

    # --- counting ---------------------------------------------------------------------------------------------------

    def _counts(
        self, account: AccountRow, config: ConfigRow, request: EntryRequest, windows: EntryWindows
    ) -> EntryCounts:
        store = self._store
        market = store.markets[request.market_id]
        of_account = [deal for deal in store.deals.values() if deal.account is account]
        entered = [deal for deal in of_account if deal.config is config and deal.status != DealStatus.CANCELED]
        closed = (deal for deal in of_account if deal.closed_at and deal.market.quote == request.rules.quote)
        halt = store.standing(config, market, account)
        return EntryCounts(
            environment=account.environment,
            account_state=account.state,
            key_expires_at=account.key_expires_at,
            ordering_enabled=True,
            allowed_sides=BOTH,
            live=self._live(of_account, windows),
            kill_switch=halt.level,
            kill_switch_reason=halt.reason,
            market_blocked=self._market_blocked(account, request.market_id, windows),
            last_entry_bar_at=max((deal.bar_open_at for deal in entered), default=None),
            trades_today=sum(deal.created_at >= windows.day_start for deal in entered),
            profit_today=sum(
                (each.profit or ZERO for each in closed if each.closed_at and each.closed_at >= windows.day_start), ZERO
            ),
            entries_recently=sum(deal.created_at >= windows.recent_since for deal in of_account),
        )

    def _market_blocked(self, account: AccountRow, market_id: int, windows: EntryWindows) -> str:
        for ticket in self._store.tickets:
            is_here = ticket.account is account and ticket.market is not None and ticket.market.pk == market_id
            if is_here and ticket.resolved_at is None:
                return "a reconciliation ticket is open for this market; resolve it first"
        for order in self._store.orders.values():
            if order.account is not account or order.market.pk != market_id:
                continue
            young = order.negative_at is not None and order.negative_at >= windows.quarantine_since
            if order.unknown_since is not None or young:
                return "the outcome of an order on this market is, or was just now, unknown"
        return ""

    def _live(self, deals: list[DealRow], windows: EntryWindows) -> tuple[LiveDeal, ...]:
        return tuple(
            LiveDeal(
                market_id=deal.market.pk,
                quote=deal.market.quote,
                side=deal.side,
                planned_quantity=deal.planned_quantity,
                planned_price=deal.planned_price,
                entry_price=deal.entry_price,
                opened_at=deal.opened_at,
                held=max(deal.entry_quantity - deal.exit_quantity, ZERO),
                is_in_doubt=deal.is_finished,
            )
            for deal in deals
            if not deal.is_finished or self._is_in_doubt(deal, windows)
        )

    def _is_in_doubt(self, deal: DealRow, windows: EntryWindows) -> bool:
        absent = (
            order.negative_at is not None and order.negative_at >= windows.quarantine_since
            for order in deal.orders
            if order.role == Role.ENTRY
        )
        return deal.status == DealStatus.CANCELED and any(absent)

    # --- keeping ----------------------------------------------------------------------------------------------------

    def _plan(self, config: ConfigRow, request: EntryRequest, approval: Approval, now: datetime) -> DealRow:
        capabilities = request.capabilities
        deal = self._store.add_deal(
            config,
            bar_open_at=request.bar_open_at,
            side=request.intent.side,
            rules=request.parameters.model_dump(mode="json"),
            protection_mode=capabilities.protection_mode,
            planned_quantity=approval.quantity,
            planned_price=approval.expected_price,
            initial_stop_price=approval.stop_price,
            stop_price=approval.stop_price,
            target_price=approval.target_price,
            created_at=now,
        )
        self._store.add_order(
            deal,
            role=Role.ENTRY,
            side=request.intent.side,
            kind=OrderType.MARKET,
            quantity=approval.quantity,
            price=approval.expected_price if capabilities.market_takes_price else None,
            stop_price=None,
            reason=request.intent.reason,
            now=now,
        )
        return deal
