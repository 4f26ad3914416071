"""What the chart of a deal shows: candles around it, its fills, where its stop stood when, and its target."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from algo.models import Deal, DealEvent, Market, Role
from algo.selectors.candles import candles_range
from algo.selectors.story import deal_fills
from algo.strategies.interface import Candles
from providers.types import Resolution

BEFORE, AFTER = 20, 10  # candles before and after the deal, at least
MOST_READ = 20_000  # candles; of a deal that lived longer, the last ones are shown
MOST_SHOWN = 120  # candles; more are put together


@dataclass(frozen=True, slots=True)
class Bar:
    """One candle, or several put together. Prices in quote, for drawing only."""

    at: datetime
    length: timedelta
    open: float
    high: float
    low: float
    close: float


@dataclass(frozen=True, slots=True)
class Step:
    """From `at` on, the price was this."""

    at: datetime
    price: Decimal


@dataclass(frozen=True, slots=True)
class DealChart:
    """Everything between `start` and `end`, oldest first. Prices in quote (toman on IRT and TMN markets). `source` is
    whose candles these are: those its strategy decided on, which may be another exchange's than it traded at."""

    start: datetime
    end: datetime
    source: Market
    bars: tuple[Bar, ...]
    entries: tuple[Step, ...]
    exits: tuple[Step, ...]
    stops: tuple[Step, ...]
    stop_until: datetime
    target: Decimal | None


def deal_chart(deal: Deal, now: datetime) -> DealChart:
    """In three queries, however long it lived, and those of its strategy and market where they are not loaded."""
    source, resolution = deal.config.data_market, Resolution(deal.config.resolution)
    ended = deal.closed_at or now
    margin = max((ended - deal.created_at) / 5, AFTER * resolution.duration)
    end = ended + margin  # of an open deal that lies ahead: its stop and target go on
    start = deal.created_at - max(margin, BEFORE * resolution.duration)
    start = max(start, end - MOST_READ * resolution.duration)
    fills = [(fill.order.role == Role.ENTRY, Step(fill.executed_at, fill.price)) for fill in deal_fills(deal)]
    return DealChart(
        start=start,
        end=end,
        source=source,
        bars=_bars(candles_range(source, resolution, start, end), resolution),
        entries=tuple(step for is_entry, step in fills if is_entry),
        exits=tuple(step for is_entry, step in fills if not is_entry),
        stops=_stops(deal),
        stop_until=deal.closed_at or end,
        target=deal.target_price,
    )


def _stops(deal: Deal) -> tuple[Step, ...]:
    """The first, and every move that was recorded."""
    steps = [Step(deal.opened_at or deal.created_at, deal.initial_stop_price)]
    moves = DealEvent.objects.filter(deal=deal, kind="stop_moved").order_by("at", "id")
    for at, detail in moves.values_list("at", "detail"):
        if after := (detail or {}).get("after"):
            steps.append(Step(at, Decimal(str(after))))
    return tuple(steps)


def _bars(candles: Candles, resolution: Resolution) -> tuple[Bar, ...]:
    """At most `MOST_SHOWN`: the same number of candles in each, the last may hold fewer."""
    each = -(-len(candles) // MOST_SHOWN) or 1
    return tuple(
        Bar(
            at=datetime.fromtimestamp(int(candles.open_time[first]), UTC),
            length=resolution.duration * each,
            open=float(candles.open[first]),
            high=float(candles.high[first : first + each].max()),
            low=float(candles.low[first : first + each].min()),
            close=float(candles.close[first : first + each][-1]),
        )
        for first in range(0, len(candles), each)
    )
