"""Decisions in PostgreSQL: counted under the locks of the account and the strategy, kept in the same transaction."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Exists, Max, OuterRef, Q, QuerySet, Sum

from algo.execution.entry_ledger import Decided, EntryCounts, EntryRequest, EntryWindows, Judge, LiveDeal
from algo.execution.ledger_rows import order_plan, record_deal_event
from algo.execution.lifecycle import check_deal
from algo.models import (
    FINISHED_DEALS,
    Account,
    AccountState,
    CloseReason,
    Deal,
    DealStatus,
    Decision,
    MarketQuote,
    Order,
    Outcome,
    Role,
    Signal,
    StrategyConfig,
    StrategyStatus,
    Ticket,
)
from algo.risk.codes import DenialCode
from algo.risk.values import Approval, Denial
from algo.selectors.halts import halt_for
from algo.services.accounts import account_pause
from algo.services.audit import PLATFORM
from providers.types import ZERO, OrderType, Side

logger = logging.getLogger("algo.strategies")


class OrmEntryLedger:
    """EntryLedger over the Django models."""

    def decide(self, request: EntryRequest, judge: Judge, *, windows: EntryWindows, now: datetime) -> Decided | None:
        try:
            return self._decide(request, judge, windows, now)
        except IntegrityError as exc:
            # Somebody else was first: the constraint is the judge, and its answer is not an error.
            logger.info("%sstrategy=%s refused: %s", settings.STRATEGY_PROCESSOR_LOG_PREFIX, request.config_id, exc)
            return None

    @transaction.atomic
    def _decide(self, request: EntryRequest, judge: Judge, windows: EntryWindows, now: datetime) -> Decided | None:
        # NO KEY: an order that is planned meanwhile refers to these rows, and an exit waits for no entry.
        account = Account.objects.select_for_update(no_key=True).filter(pk=request.account_id).first()
        config = StrategyConfig.objects.select_for_update(no_key=True).filter(pk=request.config_id).first()
        if account is None or config is None or not _is_to_decide(config, request):
            return None
        closing = _close_opposite(request, now)
        answer = judge(_counts(account, config, request, windows))
        signal = _record_signal(request, answer, now)
        if isinstance(answer, Approval):
            deal = _plan_deal(request, signal, answer, now)
            _note(request, Outcome.ENTERED, {}, now)
            return Decided(Outcome.ENTERED, answer, deal.pk)
        if answer.code == DenialCode.RUNAWAY:
            account_pause(account, by=PLATFORM, reason=answer.message, at=now)
        outcome = Outcome.EXIT if closing else Outcome.DENIED
        _note(request, outcome, {"denial": {"code": answer.code, "message": answer.message}}, now)
        return Decided(outcome, answer)


def _is_to_decide(config: StrategyConfig, request: EntryRequest) -> bool:
    stands = (config.status, config.account_id, config.market_id)
    if stands != (StrategyStatus.RUNNING, request.account_id, request.market_id):
        return False
    if config.last_bar_at is not None and config.last_bar_at >= request.bar_open_at:
        return False
    return not Decision.objects.filter(config=config, bar_open_at=request.bar_open_at).exists()


def _close_opposite(request: EntryRequest, now: datetime) -> bool:
    """An opposite signal closes the strategy's own open deal where the rules that were frozen on it say so."""
    opposite = Deal.objects.filter(
        config_id=request.config_id,
        account_id=request.account_id,
        market_id=request.market_id,
        status=DealStatus.OPEN,
        side=request.intent.side.opposite,
        exit_reason="",
        rules__exit_on_opposite_signal=True,
    )
    closing = list(opposite.select_for_update(no_key=True))
    for deal in closing:
        check_deal(DealStatus(deal.status), DealStatus.EXITING)
        old, deal.status = deal.status, DealStatus.EXITING
        deal.exit_reason, deal.note = CloseReason.SIGNAL, "opposite signal"
        deal.save(update_fields=["status", "exit_reason", "note"])
        record_deal_event(deal, "exit", old, now, reason=deal.exit_reason, note=deal.note)
    return bool(closing)


# --- counting -------------------------------------------------------------------------------------------------------


def _counts(account: Account, config: StrategyConfig, request: EntryRequest, windows: EntryWindows) -> EntryCounts:
    of_account, of_config = Deal.objects.filter(account=account), Deal.objects.filter(config=config)
    entered = of_config.exclude(status=DealStatus.CANCELED)
    today = of_account.filter(market__quote=request.rules.quote, closed_at__gte=windows.day_start)
    halt = halt_for(account.pk, config.pk, request.market_id)  # asked again when it is sent, then under its lock
    return EntryCounts(
        environment=account.environment,
        account_state=AccountState(account.state),
        key_expires_at=account.key_expires_at,
        ordering_enabled=config.ordering_enabled,
        allowed_sides=config.sides,
        live=_live(of_account, windows),
        kill_switch=halt.level,
        kill_switch_reason=halt.reason,
        market_blocked=market_blocked(account.pk, request.market_id, windows.quarantine_since),
        last_entry_bar_at=entered.aggregate(newest=Max("bar_open_at"))["newest"],
        trades_today=entered.filter(created_at__gte=windows.day_start).count(),
        profit_today=today.aggregate(total=Sum("profit"))["total"] or ZERO,
        entries_recently=of_account.filter(created_at__gte=windows.recent_since).count(),
    )


def market_blocked(account_id: int, market_id: int, quarantine_since: datetime) -> str:
    """Why an account must not enter a market; empty where it may."""
    if Ticket.objects.filter(account=account_id, market=market_id, resolved_at=None).exists():
        return "a reconciliation ticket is open for this market; resolve it first"
    unsure = Q(unknown_since__isnull=False) | Q(negative_at__gte=quarantine_since)
    if Order.objects.filter(unsure, account=account_id, market=market_id).exists():
        return "the outcome of an order on this market is, or was just now, unknown"
    return ""


def _live(deals: QuerySet[Deal], windows: EntryWindows) -> tuple[LiveDeal, ...]:
    absent = Order.objects.filter(deal=OuterRef("pk"), role=Role.ENTRY, negative_at__gte=windows.quarantine_since)
    in_doubt = Q(Exists(absent), status=DealStatus.CANCELED)
    rows = list(deals.filter(~Q(status__in=FINISHED_DEALS) | in_doubt).select_related("market"))
    fresh = MarketQuote.objects.filter(market__in={row.market_id for row in rows}, as_of__gte=windows.quotes_since)
    quotes = fresh.in_bulk(field_name="market_id") if rows else {}
    return tuple(_live_deal(row, quotes.get(row.market_id)) for row in rows)


def _live_deal(row: Deal, quote: MarketQuote | None) -> LiveDeal:
    side = Side(row.side)
    price = None if quote is None else quote.bid if side is Side.BUY else quote.ask
    return LiveDeal(
        market_id=row.market_id,
        quote=row.market.quote,
        side=side,
        planned_quantity=row.planned_quantity,
        planned_price=row.planned_price,
        entry_price=row.entry_price,
        opened_at=row.opened_at,
        held=max(row.entry_quantity - row.exit_quantity, ZERO),
        price=price,
        is_in_doubt=row.status == DealStatus.CANCELED,
    )


# --- keeping --------------------------------------------------------------------------------------------------------


def _note(request: EntryRequest, outcome: Outcome, more: dict[str, Any], now: datetime) -> None:
    Decision.objects.create(
        config_id=request.config_id,
        bar_open_at=request.bar_open_at,
        decided_at=now,
        outcome=outcome,
        journal={**request.journal, **more},
    )
    StrategyConfig.objects.filter(pk=request.config_id).update(last_bar_at=request.bar_open_at)


def _record_signal(request: EntryRequest, answer: Approval | Denial, now: datetime) -> Signal:
    denial = answer if isinstance(answer, Denial) else None
    return Signal.objects.create(
        config_id=request.config_id,
        bar_open_at=request.bar_open_at,
        created_at=now,
        side=request.intent.side,
        reason=request.intent.reason[:24],
        confidence=request.intent.confidence,
        price=request.price,
        indicators=request.journal.get("indicators", {}),
        denial_code=denial.code if denial else "",
        denial_message=denial.message[:400] if denial else "",
        warnings=list(answer.warnings) if isinstance(answer, Approval) else [],
    )


def _plan_deal(request: EntryRequest, signal: Signal, approval: Approval, now: datetime) -> Deal:
    """Deal and entry order in the transaction of the decision: planned exactly once, or not at all."""
    capabilities = request.capabilities
    deal = Deal.objects.create(
        config_id=request.config_id,
        account_id=request.account_id,
        market_id=request.market_id,
        signal=signal,
        bar_open_at=request.bar_open_at,
        side=signal.side,
        rules=request.parameters.model_dump(mode="json"),
        protection_mode=capabilities.protection_mode,
        planned_quantity=approval.quantity,
        planned_price=approval.expected_price,
        initial_stop_price=approval.stop_price,
        stop_price=approval.stop_price,
        target_price=approval.target_price,
        created_at=now,
    )
    order_plan(
        deal,
        role=Role.ENTRY,
        leg=1,
        side=request.intent.side,
        kind=OrderType.MARKET,
        quantity=approval.quantity,
        price=approval.expected_price if capabilities.market_takes_price else None,
        stop_price=None,
        reason=request.intent.reason,
        now=now,
    )
    return deal
