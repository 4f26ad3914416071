"""The parts of the page that the server makes: balances, alarms, limits, strategies."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.urls import reverse
from django.utils.translation import gettext as _

from algo.localised import percent, unit
from algo.selectors.alarms import Alarm, alarms, candle_age, candle_is_late
from algo.selectors.halts import halts_seen
from algo.selectors.home import SHOWN, glance, running_series
from algo.selectors.parity import day_bounds, trading_day
from algo.selectors.strategy_table import StrategyRow, strategy_table
from algo.selectors.today import Today, today
from algo.selectors.worth import worth
from algo.templatetags.dashboard import places, rounded
from providers.clock import Clock

LINE_WIDTH, LINE_HEIGHT = 96, 24
FULL = Decimal(100)


def state_context(user: Any, clock: Clock) -> dict[str, Any]:
    """As many queries for many strategies and deals as for few."""
    now = clock.now()
    day_start = day_bounds(trading_day(now))[0]
    made = today(user, day_start)
    running = list(running_series(user))
    house = glance(user, now, day_start=day_start, speed=clock.speed)
    rows = strategy_table(user, now)
    return {
        "now": now,
        "worth": worth(user, now),
        "today": [_day(row) for row in made],
        "alarms": [_linked(alarm) for alarm in alarms(house, made, running, halts_seen(user, SHOWN), now)],
        "house": house,
        "losses": [_loss(row) for row in made],
        "trades": [_trades(row) for row in rows if row.is_running],
        "strategies": [_strategy(row, now) for row in rows],
    }


def _linked(alarm: Alarm) -> dict[str, str]:
    place = f"admin:algo_{alarm.model}"
    link = reverse(f"{place}_changelist") if alarm.pk is None else reverse(f"{place}_change", args=[alarm.pk])
    return {"text": alarm.text, "link": link}


def _day(row: Today) -> dict[str, Any]:
    return {
        "account": row.account,
        "quote": row.quote,
        "places": places(row.quote),
        "profit": row.profit,
        "open": row.open_profit,
    }


def _loss(row: Today) -> dict[str, Any]:
    """`used`: percent of today's loss limit; None where there is none, or it is not known."""
    used = min(row.lost / row.limit * FULL, FULL) if row.limit else None
    return {"name": row.account, "words": _against(row), "used": _whole(used), "is_reached": row.is_reached}


def _against(row: Today) -> str:
    digits = places(row.quote)
    told = {"lost": rounded(row.lost, digits), "quote": unit(row.quote), "percent": percent(row.limit_percent)}
    if row.limit_percent is None:
        return _("%(lost)s %(quote)s, no limit") % told
    if row.limit is None:
        return _("%(lost)s %(quote)s of %(percent)s, balances not read yet") % told
    return _("%(lost)s of %(limit)s %(quote)s (%(percent)s)") % {**told, "limit": rounded(row.limit, digits)}


def _trades(row: StrategyRow) -> dict[str, Any]:
    used = min(Decimal(row.entries) / row.most_entries * FULL, FULL) if row.most_entries else FULL
    return {
        "name": row.config.name,
        "made": row.entries,
        "most": row.most_entries,
        "used": _whole(used),
        "is_reached": row.entries >= row.most_entries,
    }


def _whole(percent: Decimal | None) -> int | None:
    return None if percent is None else int(percent)


def _strategy(row: StrategyRow, now: datetime) -> dict[str, Any]:
    return {
        "row": row,
        "link": reverse("admin:algo_strategyconfig_change", args=[row.config.pk]),
        "line": line_points(row.line),
        "zero": _height(Decimal(0), row.line),
        "candle_seconds": None if row.config.last_bar_at is None else int(candle_age(row.config, now).total_seconds()),
        "is_late": row.is_running and candle_is_late(row.config, now),
    }


def line_points(values: Sequence[Decimal]) -> str:
    """The points of an SVG polyline, the first at the left; a flat line where nothing was earned."""
    step = LINE_WIDTH / max(len(values) - 1, 1)
    return " ".join(f"{number * step:.1f},{_height(value, values)}" for number, value in enumerate(values))


def _height(value: Decimal, values: Sequence[Decimal]) -> str:
    """Where `value` lies in a drawing that shows all of `values` and zero, from above."""
    top, bottom = max(*values, Decimal(0)), min(*values, Decimal(0))
    share = (top - value) / (top - bottom) if top > bottom else Decimal("0.5")
    return f"{1 + float(share) * (LINE_HEIGHT - 2):.1f}"
