"""What deals earned: by strategy, market and day, as a curve, and at what risk. Money is never summed over quotes.

Read from `DealDay`, whose rows the database keeps equal to the closed deals (`days_differ` compares), so that a million
deals cost no more than their days. Amounts are exact; ratios are floats, None where they have no meaning, defined as in
`algo/backtest/metrics.py`: win rate = wins / deals, profit factor = won / lost (None without a loss), expectancy =
profit / deals, exposure = time held / time looked at. Average R is the mean R multiple (Van K. Tharp, "Trade Your Way
to Financial Freedom"): profit over what the first stop put at risk, |entry - first stop| x quantity.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from itertools import groupby
from operator import itemgetter
from typing import Any

from django.db import connection
from django.db.models import CharField, F, Func, Max, Min, Q, QuerySet, Sum, Value

from algo.models import Deal, DealDay, DealStatus, Market, StrategyConfig
from algo.models.fields import plain
from algo.selectors.parity import day_bounds
from algo.selectors.visible import rows_seen

ZERO = Decimal(0)
MOST_COMPARED = 50_000  # deals whose overlaps are counted one by one
COUNTS = ("deals", "wins", "losses", "r_deals")
SUMS = ("profit", "won", "lost", "fees", "notional", "hold_seconds", "unprotected_seconds", "r_sum")
KEY = ("account_id", "config_id", "market_id", "day", "close_reason")


class Period(StrEnum):
    DAY = "day"
    WEEK = "week"  # from Monday
    MONTH = "month"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which closed deals: trading days of their end, both included."""

    account: int | None = None
    strategy: int | None = None
    market: int | None = None
    first: date | None = None
    last: date | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """Of deals in one quote. Percentages are 0 to 100."""

    quote: str
    deals: int
    wins: int
    losses: int
    profit: Decimal
    fees: Decimal
    notional: Decimal
    win_rate_percent: float | None
    profit_factor: float | None
    expectancy: Decimal | None
    average_win: Decimal | None
    average_loss: Decimal | None  # positive
    average_r: float | None
    average_hold_seconds: float | None
    unprotected_seconds: Decimal


@dataclass(frozen=True, slots=True)
class Part:
    """The figures of one strategy, market or day."""

    id: int | None
    name: str
    figures: Figures


@dataclass(frozen=True, slots=True)
class Reason:
    """How many deals closed so, their share of all, and what they came to."""

    reason: str
    deals: int
    share_percent: float
    profit: Decimal
    average_r: float | None


@dataclass(frozen=True, slots=True)
class Fall:
    """The deepest fall of the realised curve below its highest point so far (at first 0), at the ends of trading days.

    An amount: a percent would need the capital, which deposits change. `recovered` is the first day at that height
    again, None while it is not. `peak` is None where the curve fell from its start.
    """

    amount: Decimal = ZERO
    peak: date | None = None
    trough: date | None = None
    recovered: date | None = None


@dataclass(frozen=True, slots=True)
class Exposure:
    """`held_percent`: time held / (time looked at x the account-markets that were traded): one of those holds one deal
    at a time. `average_deals`: deals held at once on average. `most_deals`: most at once; None beyond 50,000 deals."""

    held_percent: float | None
    average_deals: float | None
    most_deals: int | None


@dataclass(frozen=True, slots=True)
class Risk:
    figures: Figures
    reasons: list[Reason]
    drawdown: Fall
    exposure: Exposure


@dataclass(frozen=True, slots=True)
class Point:
    """`start` is the first trading day of the period, `equity` the sum of all profits up to its end."""

    quote: str
    start: date
    deals: int
    profit: Decimal
    equity: Decimal


def zone_of_days() -> str:
    """The time zone of the trading days that are kept."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT algo_trading_day_zone()")
        return str(cursor.fetchone()[0])


def performance_by_strategy(user: Any, chosen: Chosen) -> list[Part]:
    names = dict(StrategyConfig.objects.values_list("pk", "name"))
    return _parts(_summed(_days(user, chosen), "config_id", "market_id"), "config_id", names)


def performance_by_market(user: Any, chosen: Chosen) -> list[Part]:
    names = dict(Market.objects.values_list("pk", "symbol"))
    return _parts(_summed(_days(user, chosen), "market_id"), "market_id", names)


def performance_by_day(user: Any, chosen: Chosen, most: int) -> tuple[list[Part], date | None]:
    """The newest `most` days on which deals ended, newest first, and the day to go on with, None at the end."""
    days = _days(user, chosen)
    newest = list(days.order_by("-day").values_list("day", flat=True).distinct()[: most + 1])
    if not newest:
        return [], None
    rows = _summed(_quoted(days.filter(day__gte=newest[:most][-1])), "quote", "day").order_by("-day", "quote")
    parts = [Part(None, row["day"].isoformat(), figures_of(row)) for row in rows]
    return parts, newest[most] if len(newest) > most else None


def equity_curve(user: Any, chosen: Chosen, period: Period) -> list[Point]:
    """Realised profit, added up from 0 at the beginning of what was chosen; periods without a deal are left out."""
    points: list[Point] = []
    for quote, days in _curves(_days(user, chosen)).items():
        equity = ZERO
        for start, deals, profit in _by_period(days, period):
            equity += profit
            points.append(Point(quote, start, deals, profit, plain(equity)))
    return points


def performance_risk(user: Any, chosen: Chosen, now: datetime) -> list[Risk]:
    """Per quote. Time is looked at from the first day chosen, or with a deal, to the end of the last, or to `now`."""
    days = _days(user, chosen)
    by_place = _summed(days, "close_reason", "account_id", "market_id").annotate(first=Min("day"), last=Max("day"))
    places = sorted(_with_quotes(by_place), key=itemgetter("quote", "close_reason"))
    by_reason = {
        quote: [
            _added(quote, of_reason) | {"close_reason": reason}
            for reason, of_reason in _split(of_quote, "close_reason")
        ]
        for quote, of_quote in _split(places, "quote")
    }
    curves, spans, most = _curves(days), _spans(places), _most_at_once(user, chosen, by_reason)
    return [
        Risk(
            figures=(whole := figures_of(_added(quote, rows))),
            reasons=[_reason(row, whole.deals) for row in rows],
            drawdown=deepest_fall((day, profit) for day, _, profit in curves[quote]),
            exposure=_exposure(sum(row["hold_seconds"] for row in rows), spans[quote], chosen, now, most.get(quote)),
        )
        for quote, rows in by_reason.items()
    ]


def days_differ() -> int:
    """How many rows of `DealDay` are not what the deals say, missing and superfluous ones included. 0 is right."""
    names = ", ".join((*KEY, *COUNTS, *SUMS))
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT count(*) FROM (SELECT {', '.join(KEY)} FROM ("  # noqa: S608 - names of columns above
            f"(SELECT {names} FROM algo_dealday EXCEPT SELECT {names} FROM algo_deal_days_sum()) UNION ALL "
            f"(SELECT {names} FROM algo_deal_days_sum() EXCEPT SELECT {names} FROM algo_dealday)) AS unlike "
            f"GROUP BY {', '.join(KEY)}) AS keys"
        )
        return int(cursor.fetchone()[0])


def deepest_fall(days: Iterable[tuple[date, Decimal]]) -> Fall:
    """Of the curve that adds up these profits, in the order of days; the earliest where several are as deep."""
    deepest, equity, height, top, low_of = Fall(), ZERO, ZERO, None, ZERO
    for day, profit in days:
        equity += profit
        if deepest.trough is not None and deepest.recovered is None and equity >= low_of:
            deepest = Fall(deepest.amount, deepest.peak, deepest.trough, day)
        if equity > height:
            height, top = equity, day
        elif height - equity > deepest.amount:
            deepest, low_of = Fall(plain(height - equity), top, day), height
    return deepest


def figures_of(row: Mapping[str, Any]) -> Figures:
    """Of summed columns of `DealDay`."""
    deals, wins, losses = row["deals"], row["wins"], row["losses"]
    return Figures(
        quote=row["quote"],
        deals=deals,
        wins=wins,
        losses=losses,
        profit=plain(row["profit"]),
        fees=plain(row["fees"]),
        notional=plain(row["notional"]),
        win_rate_percent=100 * wins / deals if deals else None,
        profit_factor=float(row["won"] / row["lost"]) if row["lost"] else None,
        expectancy=_mean(row["profit"], deals),
        average_win=_mean(row["won"], wins),
        average_loss=_mean(row["lost"], losses),
        average_r=_ratio(row["r_sum"], row["r_deals"]),
        average_hold_seconds=_ratio(row["hold_seconds"], deals),
        unprotected_seconds=plain(row["unprotected_seconds"]),
    )


def _days(user: Any, chosen: Chosen) -> QuerySet[Any, Any]:
    wanted: dict[str, Any] = {"account": chosen.account, "config": chosen.strategy, "market": chosen.market}
    wanted |= {"day__gte": chosen.first, "day__lte": chosen.last}
    rows: QuerySet[Any, Any] = DealDay.objects.filter(
        **{name: value for name, value in wanted.items() if value is not None}
    )
    return rows_seen(user, rows)


def _quoted(days: QuerySet[Any, Any]) -> QuerySet[Any, Any]:
    """With `quote`: the canonical one, so that the toman of both exchanges is one currency."""
    return days.annotate(
        quote=Func(F("market__pair"), Value("/"), Value(2), function="split_part", output_field=CharField())
    )


def _summed(days: QuerySet[Any, Any], *by: str) -> QuerySet[Any, Any]:
    """By numbers where that is possible: by names it takes the database four times as long."""
    return days.order_by().values(*by).annotate(**{name: Sum(name) for name in (*COUNTS, *SUMS)})


def _with_quotes(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The quote of the market of each, as `_quoted` has it."""
    pairs = dict(Market.objects.values_list("pk", "pair"))
    return [{**row, "quote": pairs[row["market_id"]].partition("/")[2]} for row in rows]


def _parts(rows: Iterable[Mapping[str, Any]], pk: str, names: Mapping[int, str]) -> list[Part]:
    """In the order of their names, and of the quotes where one has several."""
    found = sorted(_with_quotes(rows), key=lambda row: (names[row[pk]], row[pk], row["quote"]))
    split = groupby(found, key=itemgetter(pk, "quote"))
    return [Part(number, names[number], figures_of(_added(quote, same))) for (number, quote), same in split]


def _added(quote: str, rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    kept = list(rows)
    return {"quote": quote, **{name: sum(row[name] for row in kept) for name in (*COUNTS, *SUMS)}}


def _reason(row: Mapping[str, Any], deals: int) -> Reason:
    average_r = _ratio(row["r_sum"], row["r_deals"])
    return Reason(row["close_reason"], row["deals"], 100 * row["deals"] / deals, plain(row["profit"]), average_r)


def _curves(days: QuerySet[Any, Any]) -> dict[str, list[tuple[date, int, Decimal]]]:
    """Quote to its days, oldest first: day, deals, profit."""
    curves: dict[str, list[tuple[date, int, Decimal]]] = {}
    rows = _quoted(days).order_by().values("quote", "day").annotate(deals=Sum("deals"), profit=Sum("profit"))
    for row in rows.order_by("quote", "day"):
        curves.setdefault(row["quote"], []).append((row["day"], row["deals"], plain(row["profit"])))
    return curves


def _by_period(days: Iterable[tuple[date, int, Decimal]], period: Period) -> Iterable[tuple[date, int, Decimal]]:
    found: dict[date, tuple[int, Decimal]] = {}
    first: date | None = None
    for day, deals, profit in days:
        first = first or day
        start = _start(day, period, first)
        had_deals, had_profit = found.get(start, (0, ZERO))
        found[start] = (had_deals + deals, had_profit + profit)
    return [(start, deals, plain(profit)) for start, (deals, profit) in found.items()]


def _start(day: date, period: Period, first: date) -> date:
    if period is Period.DAY:
        return day
    if period is Period.WEEK:
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if period is Period.MONTH else first


def _split(rows: Iterable[Mapping[str, Any]], by: str) -> list[tuple[str, list[Mapping[str, Any]]]]:
    """`rows`, which are in the order of `by`, under each of its values."""
    return [(value, list(of_value)) for value, of_value in groupby(rows, key=itemgetter(by))]


def _spans(rows: Iterable[Mapping[str, Any]]) -> dict[str, tuple[date, date, int]]:
    """Quote to its first and last day and how many (account, market) were traded in it."""
    return {
        quote: (
            min(row["first"] for row in of_quote),
            max(row["last"] for row in of_quote),
            len({(row["account_id"], row["market_id"]) for row in of_quote}),
        )
        for quote, of_quote in _split(rows, "quote")
    }


def _exposure(held: Decimal, span: tuple[date, date, int], chosen: Chosen, now: datetime, most: int | None) -> Exposure:
    begin, _ = day_bounds(chosen.first or span[0])
    end = min(now, day_bounds(chosen.last)[1]) if chosen.last else now
    seconds = (end - begin).total_seconds()
    if seconds <= 0:
        return Exposure(None, None, most)
    average = float(held) / seconds
    return Exposure(100 * average / span[2], average, most)


def _most_at_once(user: Any, chosen: Chosen, sums: Mapping[str, Iterable[Mapping[str, Any]]]) -> dict[str, int]:
    """Quote to the most of its chosen deals that were open at one moment; one that ends as another opens is over."""
    if sum(row["deals"] for of_quote in sums.values() for row in of_quote) > MOST_COMPARED:
        return {}
    wanted = {"account": chosen.account, "config": chosen.strategy, "market": chosen.market}
    deals = Deal.objects.filter(
        Q(status=DealStatus.CLOSED, opened_at__isnull=False, closed_at__isnull=False),
        **{name: value for name, value in wanted.items() if value is not None},
    )
    if chosen.first:
        deals = deals.filter(closed_at__gte=day_bounds(chosen.first)[0])
    if chosen.last:
        deals = deals.filter(closed_at__lt=day_bounds(chosen.last)[1])
    steps: dict[str, list[tuple[datetime, int]]] = {}
    rows: QuerySet[Any, Any] = rows_seen(user, deals).order_by()
    for pair, opened, closed in rows.values_list("market__pair", "opened_at", "closed_at"):
        steps.setdefault(pair.partition("/")[2], []).extend(((opened, 1), (closed, -1)))
    return {quote: _highest(sorted(taken)) for quote, taken in steps.items()}


def _highest(steps: Iterable[tuple[datetime, int]]) -> int:
    count = most = 0
    for _, step in steps:
        count += step
        most = max(most, count)
    return most


def _mean(total: Decimal, count: int) -> Decimal | None:
    return plain((total / count).quantize(Decimal("1e-18"))) if count else None


def _ratio(total: Decimal, count: int) -> float | None:
    return float(total) / count if count else None
