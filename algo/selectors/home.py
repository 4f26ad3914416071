"""The state of the house at a glance, in a handful of cheap queries."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Q, QuerySet

from algo.models import FINISHED_DEALS, Deal, StrategyConfig, StrategyStatus, SystemControl, Ticket
from algo.selectors.health import STREAM, AccountsHealth, accounts_health, heartbeat_ages, stream_health

RECENT = 10


@dataclass(frozen=True, slots=True)
class Glance:
    running_strategies: int
    strategies: int
    open_deals: int
    unprotected_deals: int
    closed_today: int
    open_tickets: int
    accounts: AccountsHealth
    kill_switch: str
    heartbeats: dict[str, float]  # wall seconds since the last sign of life
    silent_streams: frozenset[str]  # heartbeats of streams whose connection is down


def glance(now: datetime, *, day_start: datetime, speed: float = 1.0) -> Glance:
    """`day_start` is when the trading day began."""
    strategies = StrategyConfig.objects.aggregate(
        all=Count("id"), running=Count("id", filter=Q(status=StrategyStatus.RUNNING))
    )
    live = Deal.objects.exclude(status__in=FINISHED_DEALS).aggregate(
        all=Count("id"), unprotected=Count("id", filter=Q(unprotected_since__isnull=False))
    )
    return Glance(
        running_strategies=strategies["running"],
        strategies=strategies["all"],
        open_deals=live["all"],
        unprotected_deals=live["unprotected"],
        closed_today=Deal.objects.filter(closed_at__gte=day_start).count(),
        open_tickets=Ticket.objects.filter(resolved_at=None).count(),
        accounts=accounts_health(now),
        kill_switch=str(SystemControl.load()),
        heartbeats=heartbeat_ages(now, speed=speed),
        silent_streams=frozenset(STREAM + each.name for each in stream_health(now, speed=speed) if not each.is_up),
    )


def recent_deals() -> QuerySet[Deal]:
    return Deal.objects.select_related("market", "config").order_by("-created_at", "-id")[:RECENT]
