"""The switches people turn: the kill switch, strategies. Every turn is one locked row and one event."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.db import transaction

from algo.models import Halt, KillSwitch, StrategyConfig, StrategyStatus, SystemControl
from algo.selectors.halts import Target, flat_state, level_of, proof_max_age, scope_name, target_field
from algo.services.outbox import event_record
from algo.services.strategy_checks import check_refusal, strategy_check_current
from algo.services.strategy_configs import config_problems
from providers.clock import clock_from_env

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser


logger = logging.getLogger("algo.control")


class ControlRefused(ValueError):
    """A switch was not turned. The message says why and what to do; nothing was changed."""


# --- the kill switch ------------------------------------------------------------------------------------------------


@transaction.atomic
def kill_switch_set(
    level: KillSwitch | str,
    *,
    reason: str,
    user: AbstractBaseUser | None,
    at: datetime | None = None,
    target: Target | None = None,
    seen_version: int | None = None,
    unproven_ok: bool = False,
) -> SystemControl | Halt:
    """Turn the kill switch of the whole system, or of the account, strategy or market in `target`.

    Turning it to where it stands changes nothing, so a double click counts once. A stricter level is taken at once. A
    milder one only from who saw how it stands (`seen_version`, where given), and from FLATTEN only with a proof that
    every account in scope is flat, or with `unproven_ok`. ControlRefused says why it was not turned. `user` is None
    where no account of the platform turned it; `at` is platform time, now where not given.

    Claims of entries hold the system's row while they look at the switches, so whatever is sent after this commits was
    claimed before, and the send deadline bounds it.
    """
    level, reason = KillSwitch(level), reason.strip()
    if not reason:
        raise ControlRefused("The kill switch was not turned: say why in `reason`, for those who find it later.")
    at = at or clock_from_env().now()
    row = _locked_switch(target)
    before = level_of(row)
    if level == before:
        return row
    milder = level.severity < before.severity
    if milder and seen_version is not None and seen_version != row.version:
        raise ControlRefused(
            f"The kill switch of {scope_name(target)} was turned by somebody else meanwhile; it stands at “"
            f"{before.label}” ({row.reason}). Nothing was changed. Look again and decide anew."
        )
    unproven = _unproven(target, row, at) if milder and before == KillSwitch.FLATTEN else []
    if unproven and not unproven_ok:
        raise ControlRefused(
            f"The kill switch of {scope_name(target)} was not turned: not everything is proved flat. "
            f"{'; '.join(unproven)}. Wait for the proof, or confirm that you release it without one."
        )
    _turn(row, level, reason, user, at)
    event_record(
        "kill_switch.changed",
        {
            "scope": scope_name(target),
            "from": before,
            "to": level,
            "reason": reason,
            "by": user and user.get_username(),
            "not_proved_flat": unproven,
        },
        at=at,
    )
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


def _turn(
    row: SystemControl | Halt, level: KillSwitch, reason: str, user: AbstractBaseUser | None, at: datetime
) -> None:
    """`changed_at` is platform time, like the proofs that are compared with it."""
    name = "kill_switch" if isinstance(row, SystemControl) else "level"
    values = {
        name: level,
        "reason": reason[:400],
        "version": row.version + 1,
        "changed_by_id": user.pk if user else None,
        "changed_at": at,
    }
    type(row).objects.filter(pk=row.pk).update(**values)
    for field, value in values.items():
        setattr(row, field, value)


def _unproven(target: Target | None, row: SystemControl | Halt, now: datetime) -> list[str]:
    states = flat_state(target, since=row.changed_at, now=now, max_age=proof_max_age(clock_from_env()))
    return [f"{state.account.name}: {state.why}" for state in states if not state.is_flat]


# --- strategies -------------------------------------------------------------------------------------------------------


def strategy_start(config: StrategyConfig) -> bool:
    """Let it decide from the next closed candle on. False where it runs already; ControlRefused where it cannot run, or
    where this version of it failed its bias checks. A version never checked is checked here."""
    problems = config_problems(config)
    if problems:
        sentences = [f"{field}: {message}" for field, messages in problems.items() for message in messages]
        raise ControlRefused(f"{config.name} was not started. Correct it first: {'; '.join(sentences)}")
    check = strategy_check_current(config, now=clock_from_env().now())
    if not check.passed:
        raise ControlRefused(f"{config.name} was not started: {check_refusal(check)}.")
    return _move(config, StrategyStatus.RUNNING)


def strategy_stop(config: StrategyConfig) -> bool:
    """No more decisions; an open deal stays protected and runs to its stop or target. False where it stood already."""
    return _move(config, StrategyStatus.STOPPED)


def strategy_ordering_set(config: StrategyConfig, *, enabled: bool) -> bool:
    """Pause ordering (signals go on being recorded) or resume it. False where nothing changed."""
    rows = StrategyConfig.objects.filter(pk=config.pk, ordering_enabled=not enabled)
    return bool(rows.update(ordering_enabled=enabled))


def _move(config: StrategyConfig, status: StrategyStatus) -> bool:
    return bool(StrategyConfig.objects.filter(pk=config.pk).exclude(status=status).update(status=status))
