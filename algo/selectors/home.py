"""The state of the house at a glance, in a handful of cheap queries."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Count, F, Q, QuerySet

from algo.models import FINISHED_DEALS, Account, Deal, DealStatus, StrategyConfig, StrategyStatus, SystemControl, Ticket
from algo.selectors.health import AccountsHealth, ExchangeHealth, ProcessHealth, accounts_health, house_health
from algo.selectors.visible import deals_visible, rows_seen
from algo.strategies.schemas import StrategySchema
from algo.strategies.strategy_factory import external_names

RECENT = 10
SHOWN = 20  # rows of each other table of the front page


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
    processes: list[ProcessHealth]
    exchanges: list[ExchangeHealth]


def glance(user: Any, now: datetime, *, day_start: datetime, speed: float = 1.0) -> Glance:
    """What `user` may see of it. `day_start` is when the trading day began."""
    processes, exchanges = house_health(now, speed=speed)
    strategies = rows_seen(user, StrategyConfig.objects.all()).aggregate(
        all=Count("id"), running=Count("id", filter=Q(status=StrategyStatus.RUNNING))
    )
    deals = rows_seen(user, Deal.objects.all())
    live = deals.exclude(status__in=FINISHED_DEALS).aggregate(
        all=Count("id"), unprotected=Count("id", filter=Q(unprotected_since__isnull=False))
    )
    return Glance(
        running_strategies=strategies["running"],
        strategies=strategies["all"],
        open_deals=live["all"],
        unprotected_deals=live["unprotected"],
        closed_today=deals.filter(closed_at__gte=day_start).count(),
        open_tickets=rows_seen(user, Ticket.objects.all()).filter(resolved_at=None).count(),
        accounts=accounts_health(now, rows_seen(user, Account.objects.all())),
        kill_switch=str(SystemControl.load()),
        processes=processes,
        exchanges=exchanges,
    )


def recent_deals(user: Any) -> QuerySet[Deal]:
    return deals_visible(user).order_by("-created_at", "-id")[:RECENT]


def unprotected_deals(user: Any) -> QuerySet[Deal]:
    """Live deals of which something is under no live stop and no exit, the longest first."""
    rows = deals_visible(user).exclude(status__in=FINISHED_DEALS).filter(unprotected_since__isnull=False)
    return rows.order_by("unprotected_since", "id")[:SHOWN]


def running_series(user: Any) -> QuerySet[StrategyConfig]:
    """Running strategies that decide by candles, those first that have waited longest for a candle."""
    by_candles = StrategyConfig.objects.exclude(strategy__in=external_names())
    rows = rows_seen(user, by_candles.filter(status=StrategyStatus.RUNNING))
    return rows.select_related("market", "data_market").order_by(F("last_bar_at").asc(nulls_first=True), "id")[:SHOWN]


def entries_today(configs: Iterable[StrategyConfig], day_start: datetime) -> dict[int, int]:
    """Deals planned since the day began and not cancelled unfilled, by strategy."""
    rows = Deal.objects.filter(config__in=[config.pk for config in configs], created_at__gte=day_start)
    counted = rows.exclude(status=DealStatus.CANCELED).values("config").annotate(count=Count("id")).order_by()
    return {row["config"]: row["count"] for row in counted}


def rule_of(config: StrategyConfig, name: str) -> Any:
    """A risk rule as stored, or the default of every strategy."""
    return config.parameters.get(name, StrategySchema.model_fields[name].default)
