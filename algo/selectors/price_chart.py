"""What the dashboard draws of one strategy's market: candles, the strategy's averages, and what its deals did there."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np

from algo.indicators import ema
from algo.models import Deal, DealEvent, DealStatus, Decision, Fill, Role, StrategyConfig
from algo.selectors.candles import candles_window
from algo.strategies.interface import Candles
from algo.strategies.strategy_factory import UnknownStrategy, schema_for
from providers.types import Resolution, Side

BARS = 300  # shown
MOST_BARS = 1500  # read: an average needs some before the first that is shown
DEALS = 100  # the newest that are drawn
SETTLED = 4  # periods after which an exponential mean has forgotten how it began, as far as eyes can tell

EMAS = ("ema_fast_period", "ema_slow_period")


@dataclass(frozen=True, slots=True)
class Mark:
    """A fill. `time` is unix seconds."""

    time: int
    is_entry: bool
    side: Side
    price: Decimal
    deal: int


@dataclass(frozen=True, slots=True)
class StopLine:
    """Where the stop of one deal stood: (unix seconds, price) of the first and of every move, until `until`, None while
    the deal lives."""

    deal: int
    steps: tuple[tuple[int, Decimal], ...]
    until: int | None
    target: Decimal | None
    side: Side


@dataclass(frozen=True, slots=True)
class PriceChart:
    """Everything oldest first. `averages`: name of the parameter to its period and values, NaN while unknown.
    `imbalance`: (unix seconds, share of the bids in the best levels of the book, 0 to 1) as the strategy saw it at the
    close of each candle, of the exchange it trades at."""

    config: StrategyConfig
    candles: Candles
    averages: dict[str, tuple[int, np.ndarray]]
    marks: tuple[Mark, ...]
    stops: tuple[StopLine, ...]
    imbalance: tuple[tuple[int, float], ...]


def price_chart(config: StrategyConfig, now: datetime, bars: int = BARS) -> PriceChart:
    """Five queries, however much happened."""
    resolution = Resolution(config.resolution)
    periods = _periods(config)
    wanted = min(bars + SETTLED * max(periods.values(), default=0), MOST_BARS)
    candles = candles_window(config.data_market, resolution, bars=wanted, until=now)
    averages = {name: (period, ema(candles.close, period)[-bars:]) for name, period in periods.items()}
    shown = candles.between(max(len(candles) - bars, 0), len(candles))
    start = datetime.fromtimestamp(int(shown.open_time[0]), UTC) if len(shown) else now
    deals = _deals(config, start)
    return PriceChart(config, shown, averages, _marks(deals, start), _stops(deals), _imbalance(config, start))


def _periods(config: StrategyConfig) -> dict[str, int]:
    """Of the averages that the strategy has: as stored, or its default."""
    try:
        fields = schema_for(config.strategy).model_fields
    except UnknownStrategy:  # a class that was taken out of the factory
        return {}
    return {name: int(config.parameters.get(name, fields[name].default)) for name in EMAS if name in fields}


def _deals(config: StrategyConfig, start: datetime) -> list[Deal]:
    rows = Deal.objects.filter(config=config).exclude(status=DealStatus.CANCELED).exclude(closed_at__lt=start)
    return list(rows.order_by("-created_at", "-id")[:DEALS])


def _marks(deals: list[Deal], start: datetime) -> tuple[Mark, ...]:
    fills = Fill.objects.filter(order__deal__in=[deal.pk for deal in deals], executed_at__gte=start)
    rows = fills.order_by("executed_at", "id").values_list(
        "executed_at", "order__role", "order__side", "price", "order__deal_id"
    )
    return tuple(Mark(_unix(at), role == Role.ENTRY, Side(side), price, deal) for at, role, side, price, deal in rows)


def _stops(deals: list[Deal]) -> tuple[StopLine, ...]:
    moved: dict[int, list[tuple[int, Decimal]]] = {}
    moves = DealEvent.objects.filter(deal__in=[deal.pk for deal in deals], kind="stop_moved").order_by("at", "id")
    for deal, at, detail in moves.values_list("deal_id", "at", "detail"):
        if after := (detail or {}).get("after"):
            moved.setdefault(deal, []).append((_unix(at), Decimal(str(after))))
    return tuple(
        StopLine(
            deal.pk,
            ((_unix(deal.opened_at), deal.initial_stop_price), *moved.get(deal.pk, ())),
            _unix(deal.closed_at) if deal.closed_at else None,
            deal.target_price,
            Side(deal.side),
        )
        for deal in reversed(deals)
        if deal.opened_at is not None
    )


def _imbalance(config: StrategyConfig, start: datetime) -> tuple[tuple[int, float], ...]:
    rows = Decision.objects.filter(config=config, bar_open_at__gte=start).order_by("bar_open_at")
    told = []
    for at, ratio in rows.values_list("bar_open_at", "journal__indicators__order_book_ratio"):
        if (share := _share(ratio)) is not None:
            told.append((_unix(at), share))
    return tuple(told)


def _share(ratio: Any) -> float | None:
    """Bids over asks as the share of the bids in both."""
    return float(ratio) / (1 + float(ratio)) if isinstance(ratio, int | float) and ratio >= 0 else None


def _unix(at: datetime) -> int:
    return int(at.timestamp())
