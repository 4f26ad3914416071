"""Strategies at a glance: what each did today, and the line of its profit over the last month."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import Sum

from algo.models import FINISHED_DEALS, Deal, DealDay, StrategyConfig, StrategyStatus
from algo.models.fields import plain
from algo.selectors.home import entries_today, rule_of
from algo.selectors.parity import day_bounds, trading_day
from algo.selectors.visible import strategies_visible

SHOWN = 50
DAYS = 30  # of the line, today included


@dataclass(frozen=True, slots=True)
class StrategyRow:
    """Amounts in the quote of its market; deals in another quote, of a market it traded before, are not in them.

    `line`: for each day of the last `DAYS` the sum of its profits from the first of them on. `open_deals`: live ones.
    """

    config: StrategyConfig
    entries: int
    most_entries: int
    open_deals: int
    today: Decimal
    month: Decimal
    line: tuple[Decimal, ...]

    @property
    def is_running(self) -> bool:
        return bool(self.config.status == StrategyStatus.RUNNING)


def strategy_table(user: Any, now: datetime) -> list[StrategyRow]:
    """The running ones first, by name. Four queries."""
    configs = list(strategies_visible(user).order_by("status", "name")[:SHOWN])
    last = trading_day(now)
    days = [last - timedelta(days=DAYS - 1 - back) for back in range(DAYS)]
    earned = _earned(configs, days[0])
    entries = entries_today(configs, day_bounds(last)[0])
    live = _live(configs)
    return [_row(config, days, earned.get(config.pk, {}), entries, live) for config in configs]


def _row(
    config: StrategyConfig, days: list[date], earned: dict[date, Decimal], entries: dict[int, int], live: dict[int, int]
) -> StrategyRow:
    line, total = [], Decimal(0)
    for day in days:
        total += earned.get(day, Decimal(0))
        line.append(plain(total))
    return StrategyRow(
        config=config,
        entries=entries.get(config.pk, 0),
        most_entries=int(rule_of(config, "max_daily_trades")),
        open_deals=live.get(config.pk, 0),
        today=plain(earned.get(days[-1], Decimal(0))),
        month=line[-1],
        line=tuple(line),
    )


def _earned(configs: list[StrategyConfig], first: date) -> dict[int, dict[date, Decimal]]:
    """By strategy and day, in the quote it trades in now."""
    quotes = {config.pk: config.market.quote for config in configs}
    rows = DealDay.objects.filter(config__in=list(quotes), day__gte=first).order_by()
    found: dict[int, dict[date, Decimal]] = {}
    for row in rows.values("config_id", "day", "market__quote").annotate(earned=Sum("profit")):
        if row["market__quote"] == quotes[row["config_id"]]:
            found.setdefault(row["config_id"], {})[row["day"]] = row["earned"]
    return found


def _live(configs: list[StrategyConfig]) -> dict[int, int]:
    rows = Deal.objects.filter(config__in=[config.pk for config in configs]).exclude(status__in=FINISHED_DEALS)
    found: dict[int, int] = {}
    for pk in rows.values_list("config_id", flat=True):
        found[pk] = found.get(pk, 0) + 1
    return found
