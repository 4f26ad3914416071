"""From signals that were sent to planned deals: by the road of every other signal, the risk gate included.

A signal belongs to the newest candle that was closed when it was given, by our own count; there is one decision for a
strategy and candle. The row is the queue: a worker that dies leaves it waiting, and who comes next finds what was
decided, for a decision and the signal's state are kept in one transaction.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from algo.execution.entries import (
    AccountProvider,
    Books,
    Evaluation,
    entry_evidence,
    entry_request,
    entry_told,
    may_trade,
    running_bar,
    strategy_ready,
)
from algo.execution.entry_judge import decide_entry
from algo.execution.entry_ledger import Decided
from algo.execution.entry_ledger_orm import OrmEntryLedger
from algo.models import Account, AlertState, InboundAlert, Outcome, Signal, StrategyConfig, StrategyStatus
from algo.selectors.sessions import is_lost
from algo.services.inbound import AlertRefused, alert_refuse, external_parameters
from algo.services.inbound_body import BodyInvalid, rules_of
from algo.strategies.interface import StrategyInterface
from providers.clock import Clock
from providers.interface import ExchangeProvider
from providers.types import ZERO, Resolution, Side

logger = logging.getLogger("algo.inbound")

MAX_WAIT = 60.0  # wall seconds for which a signal may wait for a worker
BATCH = 50
REASON = "EXTERNAL"


def alerts_decide(
    *,
    book_provider: Callable[[str], ExchangeProvider],
    account_provider: AccountProvider,
    clock: Clock,
    on_planned: Callable[[int], None],
) -> int:
    """Decide about the signals that wait, oldest first; the failure of one keeps no other from it. Returns how many
    were decided. Safe to run twice at once."""
    books, done = Books(book_provider), 0
    waiting = InboundAlert.objects.filter(state=AlertState.WAITING).order_by("pk")
    for alert in waiting.select_related("config__account", "config__market")[:BATCH]:
        try:
            done += _decide(alert, books, account_provider, clock, on_planned)
        except Exception as exc:  # outlives one signal: the others are still to be decided
            if is_lost(exc):
                raise
            logger.exception("signal failed strategy=%s alert=%s", alert.config_id, alert.alert_id)
    return done


def _decide(
    alert: InboundAlert,
    books: Books,
    account_provider: AccountProvider,
    clock: Clock,
    on_planned: Callable[[int], None],
) -> bool:
    config = alert.config
    try:
        evaluation = _evaluation(alert, _strategy(alert, clock), books)
    except (AlertRefused, BodyInvalid) as exc:
        return _refuse(alert, str(exc), clock.now())
    evidence, capabilities = entry_evidence(evaluation, Resolution(config.resolution), account_provider, clock)
    request = entry_request(evaluation, capabilities)
    with transaction.atomic():
        row = _still_waiting(alert)
        if row is None:
            return False
        decided = decide_entry(OrmEntryLedger(), request, evidence, clock)
        if decided is None:
            return _refuse(
                row, _("There is a decision for this candle already: one candle, one decision."), clock.now()
            )
        _note(row, decided, evaluation.bar_open_at, clock.now())
    entry_told(config, decided, on_planned)
    return True


def _strategy(alert: InboundAlert, clock: Clock) -> StrategyInterface:
    """Raises AlertRefused where it does not decide, or comes to it too late."""
    now, config = clock.now(), alert.config
    if now - alert.received_at > clock.wall(MAX_WAIT):
        raise AlertRefused(_("No worker came to it within %(most)d seconds.") % {"most": MAX_WAIT}, "stale")
    if config.status != StrategyStatus.RUNNING:
        raise AlertRefused(_("The strategy was stopped meanwhile."), "strategy_stopped")
    strategy = strategy_ready(config, now)
    if strategy is None or not may_trade(config, strategy, now):
        raise AlertRefused(_("The strategy cannot run as it is configured."), "strategy_unfit")
    return strategy


def _evaluation(alert: InboundAlert, strategy: StrategyInterface, books: Books) -> Evaluation:
    """What a strategy says over a candle, said by the signal. Raises AlertRefused, BodyInvalid."""
    config, body = alert.config, alert.body
    rules, confidence = rules_of(body, external_parameters(config))
    resolution, book = Resolution(config.resolution), books.get(config.market)
    price = None if body.get("price") is None else Decimal(str(body["price"]))
    decision: dict[str, Any] = {"side": Side(alert.action.upper()).value, "confidence": confidence, "reason": REASON}
    told = {**decision, "confidence": str(confidence)}
    return Evaluation(
        config=config,
        strategy=type(strategy)(rules),
        bar_open_at=running_bar(alert.alert_at, resolution) - resolution.duration,
        close=price or (book.mid_price if book else None) or ZERO,
        compared=price,
        book=book,
        journal={"decision": told, "indicators": {}, "conditions": {}, "alert": {"id": alert.alert_id, **body}},
        decision=decision,
    )


def _still_waiting(alert: InboundAlert) -> InboundAlert | None:
    """Locked after its account and its strategy, as rows are locked everywhere. None where it is not to be decided
    any more: another worker was first, or a signal to close came meanwhile."""
    list(Account.objects.select_for_update(no_key=True).filter(pk=alert.config.account_id))
    list(StrategyConfig.objects.select_for_update(no_key=True).filter(pk=alert.config_id))
    return InboundAlert.objects.select_for_update().filter(pk=alert.pk, state=AlertState.WAITING).first()


def _note(alert: InboundAlert, decided: Decided, bar: datetime, now: datetime) -> None:
    alert.state, alert.outcome, alert.done_at = AlertState.DECIDED, decided.outcome, now
    alert.signal = Signal.objects.filter(config=alert.config_id, bar_open_at=bar).order_by("-pk").first()
    alert.note = Outcome(decided.outcome).label if alert.signal is None else alert.signal.denial_message
    alert.save(update_fields=["state", "outcome", "signal", "note", "done_at"])


def _refuse(alert: InboundAlert, why: str, now: datetime) -> bool:
    with transaction.atomic():
        row = InboundAlert.objects.select_for_update().filter(pk=alert.pk, state=AlertState.WAITING).first()
        if row is not None:
            alert_refuse(row, why, now)
    return row is not None
