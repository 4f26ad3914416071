"""Live against backtest, day by day: compared, and kept."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
from django.conf import settings

from algo.backtest import BacktestSettings
from algo.backtest.parity import LiveDay, Parity, compare
from algo.models import ParityReport, StrategyConfig
from algo.selectors.candles import candles_coverage, candles_range, candles_window
from algo.selectors.parity import day_bounds, live_day, trading_day
from algo.strategies.interface import Candles, StrategyInterface
from algo.strategies.strategy_factory import create_strategy
from providers.types import ProtectionMode, Resolution, Side

DIFFERENCES_KEPT = 500  # of one day: more than a person reads, and a report stays small
JOURNAL_DAYS = 30  # rows of the journal that said nothing are kept so long
TARGET_RESTS = (ProtectionMode.NATIVE_OCO, ProtectionMode.FREE_STOPS)


class NothingToCompare(ValueError):
    """There is nothing to compare that day; the message says why."""


def parity_report(config: StrategyConfig, day: date, *, now: datetime) -> ParityReport:
    """Compare a trading day of a config over the candles that are stored, and keep the outcome: the one report of that
    day. A day that still runs is compared up to now. Raises NothingToCompare; UnknownStrategy and InvalidParameters
    where the config cannot run any more."""
    start, end = day_bounds(day)
    if start >= now:
        raise NothingToCompare(f"{day:%Y-%m-%d} lies in the future. Nothing was compared; choose a day that has begun.")
    begun = _begun(config, start, end)
    parity, notes = parity_of(config, begun, min(end, now))
    if begun > start:
        notes = [f"the strategy was added that day: compared from its first decision, {begun:%H:%M} UTC", *notes]
    if day == trading_day(now):
        notes = [f"the day is not over: compared up to {now:%Y-%m-%d %H:%M} UTC", *notes]
    if (now - start).days >= JOURNAL_DAYS:
        notes.append("older than the journal is kept: candles without a word count as not decided")
    kept = [each.as_dict() for each in parity.differences[:DIFFERENCES_KEPT]]
    return ParityReport.objects.update_or_create(
        config=config,
        day=day,
        defaults={
            "computed_at": now,
            "unexplained": parity.unexplained,
            "summary": {**parity.summary, "quote": config.market.quote, "notes": notes},
            "differences": kept,
        },
    )[0]


def _begun(config: StrategyConfig, start: datetime, end: datetime) -> datetime:
    """Where the comparison of a day begins: at its start; on the day a strategy was added, at its first decision, for
    what was before it cannot have been missed."""
    if not start <= config.created_at < end:
        return start
    first = config.decisions.order_by("bar_open_at").values_list("bar_open_at", flat=True).first()
    return start if first is None else max(start, first + Resolution(config.resolution).duration)


def parity_of(config: StrategyConfig, start: datetime, end: datetime) -> tuple[Parity, list[str]]:
    """The comparison of [start, end), and what has to be said about it. Reads only."""
    resolution = Resolution(config.resolution)
    strategy, day = _by_the_rules_of(config, live_day(config, start, end))
    candles = parity_candles(config, strategy, day)
    if len(candles) < strategy.warmup_bars + 2:
        raise NothingToCompare(
            f"{config.name}: {len(candles)} candles are stored up to {end:%Y-%m-%d %H:%M} UTC and "
            f"{strategy.warmup_bars + 2} are needed. Download them: python manage.py fetch_ohlcv --provider "
            f"{config.data_market.provider} --symbol {config.data_market.symbol} --resolution {resolution.value}"
        )
    funded, notes = _money(config, day)
    if missing := candles_coverage(config.data_market, resolution, start, end).missing:
        notes.append(f"{missing} candles of the day are not stored; nothing is invented in their place")
    return compare(day, candles, strategy, config.market.rules, funded), notes


def _by_the_rules_of(config: StrategyConfig, day: LiveDay) -> tuple[StrategyInterface, LiveDay]:
    """The strategy as it was that day. Where it was saved since, what its deals carry tells: its rules are those of the
    day's last deal, and where all deals carry the same, nothing was decided by others."""
    carried = [deal.parameters for deal in day.deals if deal.created_at >= day.start and deal.parameters is not None]
    if config.updated_at < day.end or not carried:
        return create_strategy(config.strategy, config.parameters), day
    if all(each == carried[-1] for each in carried):
        day = replace(day, rules_saved_at=None)
    return create_strategy(config.strategy, carried[-1]), day


def parity_candles(config: StrategyConfig, strategy: StrategyInterface, day: LiveDay) -> Candles:
    """The day's candles, one after, and before them what the oldest deal that matters needs to warm up."""
    market, resolution = config.data_market, day.resolution
    first = min([deal.bar for deal in day.deals] + [int(day.start.timestamp()) - resolution.seconds])
    since = datetime.fromtimestamp(first, day.start.tzinfo)
    before = candles_window(market, resolution, bars=strategy.warmup_bars, until=since)
    return _joined(before, candles_range(market, resolution, since, day.end + resolution.duration))


def _joined(before: Candles, after: Candles) -> Candles:
    fields = Candles.__dataclass_fields__
    return Candles(*(np.concatenate([getattr(before, name), getattr(after, name)]) for name in fields))


def _money(config: StrategyConfig, day: LiveDay) -> tuple[BacktestSettings, list[str]]:
    """The engine's settings, with what the account held before the day's first deal of either side."""
    notes = []
    quote, base = _known(config, config.market.quote), _known(config, config.market.base)
    if not day.deals:
        notes.append("no deal says what the account held that day: the engine reckons with its balance of today")
    for deal in reversed(day.deals):
        if deal.available is not None and deal.side is Side.BUY:
            quote = deal.available
        elif deal.available is not None:
            base = deal.available
    money = BacktestSettings(
        resolution=day.resolution,
        max_position_size_percent=settings.MAX_POSITION_SIZE_PERCENT,
        allowed_sides=config.sides,
        time_zone=settings.TRADING_DAY_TIME_ZONE,
        target_is_maker=config.account.protection in TARGET_RESTS,
    )
    if quote or base:
        money = replace(money, starting_quote=quote, starting_base=base)
    else:
        notes.append(f"the balance of the account is not known: the engine begins with {money.starting_quote}")
    return money, notes


def _known(config: StrategyConfig, asset: str) -> Decimal:
    """What the account held of an asset when it was last asked, less what orders held of it."""
    held: Any = (config.account.balances or {}).get(asset)
    return Decimal(str(held[0])) - Decimal(str(held[1])) if held else Decimal(0)
