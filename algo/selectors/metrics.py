"""Figures for those who watch the platform. Each is one query that reads what is live, or what happened in the last
minutes, over an index: a scrape costs the same with a million deals as with ten."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import connection
from django.db.models import Count, Max, Min, Q, QuerySet, Sum

from algo.models import (
    FINISHED_DEALS,
    UNFINISHED_RUNS,
    Account,
    BacktestRun,
    Deal,
    Decision,
    Delivery,
    DeliveryState,
    Halt,
    KillSwitch,
    Order,
    Signal,
    StrategyConfig,
    StrategyStatus,
    SystemControl,
    TalliedSum,
    Ticket,
)
from algo.models.fields import plain
from algo.selectors.performance import Chosen, Period, equity_curve
from providers.types import FINAL_STATUSES, OrderStatus

QUANTILES = (0.5, 0.9, 0.99)
MOST_ORDERS = 20_000  # of the last minutes, whose times are looked at
LIVE_STATUSES = tuple(status for status in OrderStatus if status not in FINAL_STATUSES)
_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class LiveOrders:
    by_status: dict[str, int]
    unknown: int  # nobody can say whether they arrived


def live_orders() -> LiveOrders:
    """By the index on status; states that nobody is in count 0."""
    rows = Order.objects.filter(status__in=LIVE_STATUSES).values("status").order_by()
    counted = list(rows.annotate(count=Count("id"), unknown=Count("id", filter=Q(unknown_since__isnull=False))))
    found = {row["status"]: row["count"] for row in counted}
    by_status = {status.value: found.get(status.value, 0) for status in LIVE_STATUSES}
    return LiveOrders(by_status, sum(row["unknown"] for row in counted))


def orders_placed(since: datetime) -> dict[str, int]:
    """Orders made since then, by the state they are in now."""
    return _counted(Order.objects.filter(created_at__gte=since), "status")


def order_seconds(since: datetime) -> dict[tuple[str, float], float]:
    """Of orders made since then, platform seconds by (stage, quantile): `submit`, from our row to the wire; `accept`,
    from the wire to the exchange's confirmation; `fill`, of entries and exits, from the wire to the last fill. Stages
    that no order went through are left out."""
    with connection.cursor() as cursor:
        cursor.execute(_ORDER_SECONDS, [list(QUANTILES)] * 3 + [since, MOST_ORDERS])
        row = cursor.fetchone()
    stages = zip(("submit", "accept", "fill"), row, strict=True)
    return {
        (stage, quantile): float(seconds)
        for stage, told in stages
        if told is not None
        for quantile, seconds in zip(QUANTILES, told, strict=True)
        if seconds is not None
    }


_QUANTILES = "percentile_cont(%s::float8[]) WITHIN GROUP (ORDER BY extract(epoch FROM {}))".format
_FILLED = "CASE WHEN status = 'FILLED' AND role IN ('ENTRY', 'EXIT') THEN closed_at - submitted_at END"
_ORDER_SECONDS = f"""
    SELECT {_QUANTILES("submitted_at - created_at")},
           {_QUANTILES("accepted_at - submitted_at")},
           {_QUANTILES(_FILLED)}
    FROM (SELECT created_at, submitted_at, accepted_at, closed_at, status, role FROM algo_order
          WHERE created_at >= %s ORDER BY created_at DESC, id DESC LIMIT %s) AS lately
"""  # noqa: S608 - constants


@dataclass(frozen=True, slots=True)
class LiveDeals:
    """`unprotected`: deals of which something is under no stop and no exit; since when, the one that waits longest."""

    by_status: dict[str, int]
    unprotected: int
    unprotected_since: datetime | None


def live_deals() -> LiveDeals:
    rows = Deal.objects.exclude(status__in=FINISHED_DEALS).values("status").order_by()
    counted = list(rows.annotate(count=Count("id"), bare=Count("unprotected_since"), since=Min("unprotected_since")))
    moments = [row["since"] for row in counted if row["since"] is not None]
    by_status = {row["status"]: row["count"] for row in counted}
    return LiveDeals(by_status, sum(row["bare"] for row in counted), min(moments, default=None))


def unprotected_seconds(since: datetime) -> Decimal:
    """Of deals that were closed since then and of those that live: what they have measured so far."""
    rows = Deal.objects.filter(Q(closed_at__gte=since) | ~Q(status__in=FINISHED_DEALS))
    return plain(rows.aggregate(sum=Sum("unprotected_seconds"))["sum"] or _ZERO)


def deals_closed(since: datetime) -> dict[str, int]:
    """By why they closed."""
    return _counted(Deal.objects.filter(closed_at__gte=since).exclude(close_reason=""), "close_reason")


def signals_given(since: datetime) -> dict[str, int]:
    """By side."""
    return _counted(Signal.objects.filter(created_at__gte=since), "side")


def denials(since: datetime) -> dict[str, int]:
    """Signals that the risk gate denied, by code."""
    return _counted(Signal.objects.filter(created_at__gte=since).exclude(denial_code=""), "denial_code")


def decisions(since: datetime) -> dict[str, int]:
    """Runs of strategies over candles that opened since then, by what came of them."""
    return _counted(Decision.objects.filter(bar_open_at__gte=since), "outcome")


def _counted(rows: QuerySet[Any], by: str) -> dict[str, int]:
    found = rows.order_by().values(by).annotate(count=Count("id"))
    return {row[by]: row["count"] for row in found}


@dataclass(frozen=True, slots=True)
class Standing:
    """What stands: counts, the strictest switch (0 is off), and when the first key ends."""

    accounts: dict[str, int]
    first_key_ends: datetime | None
    strategies: dict[str, int]
    open_tickets: int
    switch: int
    halts: int
    deliveries: int
    oldest_delivery: datetime | None
    backtests: dict[str, int]


def standing() -> Standing:
    """Seven small queries over tables whose size is the number of strategies, or over partial indexes."""
    accounts = list(Account.objects.order_by().values("state").annotate(count=Count("id"), ends=Min("key_expires_at")))
    waiting = Delivery.objects.filter(state=DeliveryState.WAITING).aggregate(
        count=Count("id"), oldest=Min("created_at")
    )
    switch = SystemControl.objects.aggregate(level=Max("kill_switch"))["level"] or KillSwitch.OFF
    return Standing(
        accounts={row["state"]: row["count"] for row in accounts},
        first_key_ends=min((row["ends"] for row in accounts if row["ends"]), default=None),
        strategies={status.value: 0 for status in StrategyStatus} | _counted(StrategyConfig.objects.all(), "status"),
        open_tickets=Ticket.objects.filter(resolved_at=None).count(),
        switch=KillSwitch(switch).severity,
        halts=Halt.objects.exclude(level=KillSwitch.OFF).count(),
        deliveries=waiting["count"],
        oldest_delivery=waiting["oldest"],
        backtests={status.value: 0 for status in UNFINISHED_RUNS}
        | _counted(BacktestRun.objects.filter(status__in=UNFINISHED_RUNS), "status"),
    )


@dataclass(frozen=True, slots=True)
class Drawdown:
    """Of realised profit in one quote: how far it is below its highest point, and how much it is in all."""

    quote: str
    profit: Decimal
    drawdown: Decimal


def drawdowns(user: Any, chosen: Chosen) -> list[Drawdown]:
    """Of the deals that were chosen and that `user` may see."""
    curves: dict[str, list[Decimal]] = defaultdict(list)
    for point in equity_curve(user, chosen, Period.DAY):
        curves[point.quote].append(point.equity)
    return [_drawdown(quote, curve) for quote, curve in sorted(curves.items())]


def _drawdown(quote: str, curve: Iterable[Decimal]) -> Drawdown:
    equities = list(curve)
    return Drawdown(quote, equities[-1], plain(max(_ZERO, *equities) - equities[-1]))


def tallied() -> list[tuple[str, dict[str, str], float]]:
    """Name, labels and value of every counter, in the order of both."""
    rows = TalliedSum.objects.order_by("name", "labels").values_list("name", "labels", "value")
    return [(name, json.loads(labels), value) for name, labels, value in rows]
