"""The switches people turn: the kill switch, strategies. Every turn is one locked row and one event."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.utils.translation import gettext

from algo.models import Account, EventKind, Halt, KillSwitch, Severity, StrategyConfig, StrategyStatus, SystemControl
from algo.phrases import told
from algo.selectors.halts import Target, flat_state, level_of, proof_max_age, scope_name, target_field
from algo.selectors.rights import may_switch
from algo.services.audit import Actor, audit_record
from algo.services.outbox import event_record
from algo.services.strategy_checks import check_refusal, strategy_check_current
from algo.services.strategy_configs import config_problems
from algo.services.strategy_history import told_by
from providers.clock import clock_from_env

logger = logging.getLogger("algo.control")


class ControlRefused(ValueError):
    """A switch was not turned. The message says why and what to do; nothing was changed."""


# --- the kill switch ------------------------------------------------------------------------------------------------


@transaction.atomic
def kill_switch_set(
    level: KillSwitch | str,
    *,
    reason: str,
    by: Actor,
    at: datetime | None = None,
    target: Target | None = None,
    seen_version: int | None = None,
    unproven_ok: bool = False,
) -> SystemControl | Halt:
    """Turn the kill switch of the whole system, or of the account, strategy or market in `target`.

    Turning it to where it stands changes nothing, so a double click counts once. A stricter level is taken at once. A
    milder one only from who saw how it stands (`seen_version`, where given), and from FLATTEN only with a proof that
    every account in scope is flat, or with `unproven_ok`. ControlRefused says why it was not turned, PermissionDenied
    that `by` may not turn this one. `at` is platform time, now where not given.

    Claims of entries hold the system's row while they look at the switches, so whatever is sent after this commits was
    claimed before, and the send deadline bounds it.
    """
    level, reason = KillSwitch(level), reason.strip()
    if by.user is not None and not may_switch(by.user, target):
        raise PermissionDenied(
            gettext("You may not turn the kill switch of %(scope)s. Nothing was changed.")
            % {"scope": told(scope_name(target))}
        )
    if not reason:
        raise ControlRefused(
            gettext("The kill switch was not turned: say why in `reason`, for those who find it later.")
        )
    at = at or clock_from_env().now()
    row = _locked_switch(target)
    before = level_of(row)
    if level == before:
        return row
    milder = level.severity < before.severity
    if milder and seen_version is not None and seen_version != row.version:
        raise ControlRefused(
            gettext(
                "The kill switch of %(scope)s was turned by somebody else meanwhile; it stands at "
                "“%(label)s” (%(reason)s). Nothing was changed. Look again and decide anew."
            )
            % {"scope": told(scope_name(target)), "label": before.label, "reason": row.reason}
        )
    unproven = _unproven(target, row, at) if milder and before == KillSwitch.FLATTEN else []
    if unproven and not unproven_ok:
        raise ControlRefused(
            gettext(
                "The kill switch of %(scope)s was not turned: not everything is proved flat. "
                "%(unproven)s. Wait for the proof, or confirm that you release it without one."
            )
            % {"scope": told(scope_name(target)), "unproven": gettext("; ").join(map(told, unproven))}
        )
    _turn(row, level, reason, by, at)
    event_record(
        EventKind.KILL_SWITCH,
        {
            "scope": scope_name(target),
            "from": before,
            "to": level,
            "reason": reason,
            "by": by.name if by.user is not None else None,
            "not_proved_flat": unproven,
        },
        at=at,
        config=target if isinstance(target, StrategyConfig) else None,
        account=target if isinstance(target, Account) else None,
        severity=Severity.WARNING if milder else Severity.CRITICAL,
    )
    details = {"from": before, "to": level, "not_proved_flat": unproven}
    audit_record("kill_switch.turn", by=by, subject=target, at=at, reason=reason, details=details)
    logger.warning("kill switch of %s: %s -> %s reason=%s", scope_name(target), before, level, reason)
    return row


def _locked_switch(target: Target | None) -> SystemControl | Halt:
    """The switch's row, locked together with the system's, which every claim of an entry shares."""
    SystemControl.load()
    control = SystemControl.objects.select_for_update().get(pk=1)
    if target is None:
        return control
    named: dict[str, Any] = {target_field(target): target}
    return Halt.objects.get_or_create(**named)[0]


def _turn(row: SystemControl | Halt, level: KillSwitch, reason: str, by: Actor, at: datetime) -> None:
    """`changed_at` is platform time, like the proofs that are compared with it."""
    name = "kill_switch" if isinstance(row, SystemControl) else "level"
    values = {
        name: level,
        "reason": reason[:400],
        "version": row.version + 1,
        "changed_by_id": by.user_id,
        "changed_at": at,
    }
    type(row).objects.filter(pk=row.pk).update(**values)
    for field, value in values.items():
        setattr(row, field, value)


def _unproven(target: Target | None, row: SystemControl | Halt, now: datetime) -> list[str]:
    states = flat_state(target, since=row.changed_at, now=now, max_age=proof_max_age(clock_from_env()))
    return [f"{state.account.name}: {state.why}" for state in states if not state.is_flat]


# --- strategies -------------------------------------------------------------------------------------------------------


def strategy_start(config: StrategyConfig, *, by: Actor, at: datetime, reason: str = "") -> bool:
    """Let it decide from the next closed candle on. False where it runs already; ControlRefused where it cannot run, or
    where this version of it failed its bias checks. A version never checked is checked here. PermissionDenied, here and
    below, for who may not trade with its account."""
    by.must_trade(config.account)
    problems = config_problems(config)
    if problems:
        sentences = [f"{field}: {message}" for field, messages in problems.items() for message in messages]
        raise ControlRefused(
            gettext("%(config)s was not started. Correct it first: %(sentences)s")
            % {"config": config.name, "sentences": gettext("; ").join(sentences)}
        )
    check = strategy_check_current(config, now=at)
    if not check.passed:
        raise ControlRefused(
            gettext("%(config)s was not started: %(why)s.") % {"config": config.name, "why": told(check_refusal(check))}
        )
    return _change(config, "strategy.start", by, at, reason, status=StrategyStatus.RUNNING)


def strategy_stop(config: StrategyConfig, *, by: Actor, at: datetime, reason: str = "") -> bool:
    """No more decisions; an open deal stays protected and runs to its stop or target. False where it stood already."""
    with transaction.atomic():
        if not _change(config, "strategy.stop", by, at, reason, status=StrategyStatus.STOPPED):
            return False
        payload = {"strategy": config.name, "account": config.account.name, "reason": reason, "by": by.name}
        event_record(EventKind.STRATEGY_STOPPED, payload, at=at, config=config)
    return True


def strategy_ordering_set(config: StrategyConfig, *, enabled: bool, by: Actor, at: datetime, reason: str = "") -> bool:
    """Pause ordering (signals go on being recorded) or resume it. False where nothing changed."""
    act = "strategy.ordering_resume" if enabled else "strategy.ordering_pause"
    return _change(config, act, by, at, reason, ordering_enabled=enabled)


@transaction.atomic
def _change(config: StrategyConfig, act: str, by: Actor, at: datetime, reason: str, **values: Any) -> bool:
    """Write `values` where they differ, and the record of it. False where they stood so already."""
    by.must_trade(config.account)
    rows = StrategyConfig.objects.select_for_update(no_key=True).filter(pk=config.pk)
    row = rows.exclude(**values).first()
    if row is None:
        return False
    for name, value in values.items():
        setattr(row, name, value)
    with told_by(row, by, at=at, why=reason):
        row.save(update_fields=list(values))
    audit_record(act, by=by, subject=config, at=at, reason=reason)
    return True
