"""The curve of what deals earned, in one currency: profits in the other are turned at the price of their own time."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

from django.db.models import CharField, Count, DateTimeField, F, Func, QuerySet, Sum, Value

from algo.models import Deal, DealStatus
from algo.models.fields import plain
from algo.selectors.parity import day_bounds, trading_day
from algo.selectors.performance import Chosen, Period, equity_curve
from algo.selectors.toman import TETHER, TOMAN, tether_prices
from algo.selectors.visible import rows_seen

CURRENCIES = (TETHER, TOMAN)
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
MONTH_DAYS = 30
FEWEST_DIGITS, USDT_DIGITS = Decimal(1), Decimal("0.01")  # what is left of a profit that was turned


class Span(StrEnum):
    """How far back a curve looks."""

    DAY = "day"  # the last 24 hours, by five minutes
    WEEK = "week"  # the last seven days, by the hour
    MONTH = "month"  # the last 30 trading days, by the day
    ALL = "all"  # every trading day with a deal


STEPS = {Span.DAY: (timedelta(days=1), timedelta(minutes=5)), Span.WEEK: (timedelta(days=7), timedelta(hours=1))}


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Profits of `deals` in `quote` that could not be turned: nobody knows the price of the time, from `first` to
    `last`."""

    quote: str
    deals: int
    profit: Decimal
    first: datetime
    last: datetime


@dataclass(frozen=True, slots=True)
class Curve:
    """`points`: moment and the sum of all profits from `start` up to it, in `currency`; turned amounts are rounded to
    cents or whole toman. `sources` say by which prices; empty where nothing was turned."""

    currency: str
    start: datetime | None
    points: list[tuple[datetime, Decimal]] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Earned:
    at: datetime  # end of the step
    quote: str
    deals: int
    profit: Decimal


def curve_of(user: Any, currency: str, span: Span, now: datetime) -> Curve:
    """Of the closed deals that `user` may see. At most three queries, however many deals there are, and one that asks
    for the zone of trading days."""
    start, earned = _by_step(user, span, now) if span in STEPS else _by_day(user, span, now)
    other = TOMAN if currency == TETHER else TETHER
    moments = sorted({each.at for each in earned if each.quote == other})
    prices = dict(zip(moments, tether_prices(moments), strict=True)) if moments else {}
    curve, total = Curve(currency, start), Decimal(0)
    missing: dict[str, list[_Earned]] = {}
    sources: dict[str, None] = {}
    for each in earned:
        profit, price = each.profit, prices.get(each.at)
        if each.quote != currency:
            if each.quote != other or price is None:
                missing.setdefault(each.quote, []).append(each)
                continue
            sources[price.source] = None
            profit = _turned(profit, price.price, currency)
        total += profit
        if curve.points and curve.points[-1][0] == each.at:
            curve.points.pop()
        curve.points.append((each.at, plain(total)))
    curve.sources.extend(sources)
    curve.left_out.extend(_left_out(quote, rows) for quote, rows in sorted(missing.items()))
    return curve


def _turned(profit: Decimal, price: Decimal, currency: str) -> Decimal:
    if currency == TOMAN:
        return (profit * price).quantize(FEWEST_DIGITS)
    return (profit / price).quantize(USDT_DIGITS)


def _left_out(quote: str, rows: list[_Earned]) -> LeftOut:
    profit = plain(sum((row.profit for row in rows), Decimal(0)))
    return LeftOut(quote, sum(row.deals for row in rows), profit, rows[0].at, rows[-1].at)


def _by_step(user: Any, span: Span, now: datetime) -> tuple[datetime, list[_Earned]]:
    """Steps of equal length in which a deal was closed, by the index on when deals closed."""
    length, step = STEPS[span]
    start = now - length
    deals: QuerySet[Any, Any] = Deal.objects.filter(
        status=DealStatus.CLOSED, profit__isnull=False, closed_at__gte=start, closed_at__lte=now
    )
    rows = (
        rows_seen(user, deals)
        .annotate(
            begun=Func(Value(step), F("closed_at"), Value(EPOCH), function="date_bin", output_field=DateTimeField()),
            money=Func(F("market__pair"), Value("/"), Value(2), function="split_part", output_field=CharField()),
        )
        .order_by()
        .values("begun", "money")
        .annotate(earned=Sum("profit"), count=Count("id"))
        .order_by("begun", "money")
    )
    return start, [
        _Earned(min(row["begun"] + step, now), row["money"], row["count"], plain(row["earned"])) for row in rows
    ]


def _by_day(user: Any, span: Span, now: datetime) -> tuple[datetime | None, list[_Earned]]:
    first = None
    if span is Span.MONTH:
        first = trading_day(now) - timedelta(days=MONTH_DAYS - 1)
    points = equity_curve(user, Chosen(first=first), Period.DAY)
    earned = [_Earned(min(day_bounds(point.start)[1], now), point.quote, point.deals, point.profit) for point in points]
    begun = first or min((point.start for point in points), default=None)
    return day_bounds(begun)[0] if begun else None, sorted(earned, key=lambda each: (each.at, each.quote))
