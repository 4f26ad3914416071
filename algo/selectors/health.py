"""Is the house alive?"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Count, Q

from algo.models import Account, AccountState, Heartbeat

STREAM = "stream:"  # how the name of a stream's heartbeat begins
KEY_WORTH_A_LOOK = timedelta(days=14)  # before its expiry


def heartbeat_ages(now: datetime, *, speed: float = 1.0) -> dict[str, float]:
    """Wall seconds since the last sign of life of each process; `speed` is platform seconds per wall second."""
    rows = Heartbeat.objects.order_by("name").values_list("name", "at")
    return {name: max((now - at).total_seconds() / speed, 0.0) for name, at in rows}


@dataclass(frozen=True, slots=True)
class AccountsHealth:
    """How many accounts are stopped because the exchange refused a key, and how many keys end within 14 days."""

    stopped: int
    keys_ending: int


def accounts_health(now: datetime) -> AccountsHealth:
    return AccountsHealth(
        **Account.objects.aggregate(
            stopped=Count("id", filter=Q(state=AccountState.STOPPED)),
            keys_ending=Count("id", filter=Q(key_expires_at__lte=now + KEY_WORTH_A_LOOK)),
        )
    )


@dataclass(frozen=True, slots=True)
class StreamHealth:
    """One exchange's stream. Ages are wall seconds; None where it has not heard anything yet."""

    name: str
    is_up: bool
    message_age: float | None
    reconnects: int


def stream_health(now: datetime, *, speed: float = 1.0) -> list[StreamHealth]:
    """What each stream process last said about itself."""
    return [_health(beat, now, speed) for beat in Heartbeat.objects.filter(name__startswith=STREAM).order_by("name")]


def _health(beat: Heartbeat, now: datetime, speed: float) -> StreamHealth:
    told = beat.detail
    alive_at = datetime.fromisoformat(told["alive_at"]) if told.get("alive_at") else None
    age = max((now - alive_at).total_seconds() / speed, 0.0) if alive_at else None
    return StreamHealth(beat.name.removeprefix(STREAM), bool(told.get("up")), age, int(told.get("reconnects", 0)))
