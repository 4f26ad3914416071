"""The switches people turn: the kill switch, tickets, strategies. Every turn is one locked row and one event."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from django.db import transaction

from algo.models import KillSwitch, StrategyConfig, StrategyStatus, SystemControl, Ticket
from algo.services.outbox import event_record
from algo.services.strategy_configs import config_problems
from providers.clock import clock_from_env

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser


class ControlRefused(ValueError):
    """A switch was not turned. The message says why and what to do; nothing was changed."""


@transaction.atomic
def kill_switch_set(
    level: KillSwitch | str, *, reason: str, user: AbstractBaseUser | None, at: datetime | None = None
) -> SystemControl:
    """Turn the kill switch and tell the outbox. Turning it to where it stands changes nothing.

    `user` is None where the platform itself does it; `at` is platform time, now where not given. ControlRefused
    without a reason. Entries look at this row when they are planned, so the new level counts once this commits.
    """
    level = KillSwitch(level)
    if not reason.strip():
        raise ControlRefused("The kill switch was not turned: say why in `reason`, for those who find it later.")
    SystemControl.load()
    control = SystemControl.objects.select_for_update().get(pk=1)
    if control.kill_switch == level:
        return control
    before, control.kill_switch = control.kill_switch, level
    control.reason, control.version = reason.strip(), control.version + 1
    control.changed_by_id = user.pk if user else None
    control.save()
    event_record(
        "kill_switch.changed",
        {"from": before, "to": level, "reason": control.reason, "by": user and user.get_username()},
        at=at or clock_from_env().now(),
    )
    return control


@transaction.atomic
def ticket_resolve(ticket: Ticket, *, user: AbstractBaseUser, at: datetime | None = None) -> bool:
    """A person has explained it: the market takes entries again. False where it was resolved before."""
    at = at or clock_from_env().now()
    if not Ticket.objects.filter(pk=ticket.pk, resolved_at=None).update(resolved_at=at, resolved_by_id=user.pk):
        return False
    event_record(
        "ticket.resolved",
        {"ticket": ticket.pk, "kind": ticket.kind, "reference": ticket.reference, "by": user.get_username()},
        at=at,
    )
    return True


def strategy_start(config: StrategyConfig) -> bool:
    """Let it decide from the next closed candle on. False where it runs already; ControlRefused where it cannot run."""
    problems = config_problems(config)
    if problems:
        sentences = [f"{field}: {message}" for field, messages in problems.items() for message in messages]
        raise ControlRefused(f"{config.name} was not started. Correct it first: {'; '.join(sentences)}")
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
