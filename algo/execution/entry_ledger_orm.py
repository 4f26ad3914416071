"""Decisions in PostgreSQL: counted under the locks of the account and the strategy, kept in the same transaction."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction

from algo.execution.entry_ledger import Decided, EntryCounts, EntryRequest, EntryWindows, Judge, LiveDeal
from algo.execution.ledger_rows import order_plan, record_deal_event
from algo.execution.lifecycle import check_deal
from algo.models import (
    Account,
    AccountState,
    CloseReason,
    Deal,
    DealStatus,
    Decision,
    Outcome,
    Role,
    Signal,
    StrategyConfig,
    StrategyStatus,
)
from algo.risk.codes import DenialCode
from algo.risk.values import Approval, Denial
from algo.selectors.entry_facts import EntryFacts, entry_facts, live_deals
from algo.selectors.halts import halt_for
from algo.services.accounts import account_pause
from algo.services.audit import PLATFORM
from providers.types import OrderType, Side

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
        facts = _facts(request, windows)  # before the next line, which changes none of them
        if facts.is_decided:
            return None
        closing = facts.has_opposite and _close_opposite(request, now)
        answer = judge(_counts(account, config, request, windows, facts))
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
    return config.last_bar_at is None or config.last_bar_at < request.bar_open_at


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


def _facts(request: EntryRequest, windows: EntryWindows) -> EntryFacts:
    return entry_facts(
        account=request.account_id,
        config=request.config_id,
        market=request.market_id,
        quote=request.rules.quote,
        opposite=request.intent.side.opposite.value,
        bar=request.bar_open_at,
        day_start=windows.day_start,
        recent_since=windows.recent_since,
        quarantine_since=windows.quarantine_since,
    )


def _counts(
    account: Account, config: StrategyConfig, request: EntryRequest, windows: EntryWindows, facts: EntryFacts
) -> EntryCounts:
    halt = halt_for(account.pk, config.pk, request.market_id)  # asked again when it is sent, then under its lock
    return EntryCounts(
        environment=account.environment,
        account_state=AccountState(account.state),
        key_expires_at=account.key_expires_at,
        ordering_enabled=config.ordering_enabled,
        allowed_sides=config.sides,
        live=_live(account, windows),
        kill_switch=halt.level,
        kill_switch_reason=halt.reason,
        market_blocked=facts.market_blocked,
        last_entry_bar_at=facts.last_entry_bar_at,
        trades_today=facts.trades_today,
        profit_today=facts.profit_today,
        entries_recently=facts.entries_recently,
    )


def _live(account: Account, windows: EntryWindows) -> tuple[LiveDeal, ...]:
    rows = live_deals(account.pk, quarantine_since=windows.quarantine_since, quotes_since=windows.quotes_since)
    return tuple(LiveDeal(market, quote, Side(side), *rest) for market, quote, side, *rest in rows)


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
