"""Many parameter sets over the same candles: signals once for all sets that share them, then the kernel over the rules.

Only figures are kept of each set. Their definitions are those of `metrics`; tests hold the two equal.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from algo.backtest.engine import (
    BacktestSettings,
    account_of,
    check_candles,
    kernel_rules,
    market_of,
    orders_of,
    room_for,
    signals_of,
    silenced,
    starting_equity,
)
from algo.backtest.kernel import (
    BLOCK,
    FIGURES,
    Account,
    Counted,
    Market,
    Orders,
    entries_of,
    play_sets,
    rules_table,
)
from algo.indicators import Series
from algo.strategies.interface import Candles, StrategyInterface
from algo.strategies.schemas import StrategySchema
from providers.types import MarketRules

_CHUNK = 128  # sets that a thread plays before it takes the next ones


@dataclass(frozen=True, slots=True, eq=False)
class Sweep:
    """Figures of many parameter sets over the same candles: one array for each of FIGURES, in the order of the sets.

    Units are those of `Metrics`; NaN where a figure has no meaning (None there).
    """

    figures: Mapping[str, Series]
    first: int  # index of the first candle that counts, for all sets the same


def sweep(
    candles: Candles,
    strategy: type[StrategyInterface],
    parameter_sets: Sequence[StrategySchema],
    rules: MarketRules,
    settings: BacktestSettings | None = None,
) -> Sweep:
    """Play every set. All are counted from the candle after the longest warm-up among them, so that they compare.

    Threads share the candles: what is needed beside them is a few hundred kilobytes. ValueError as `engine.run`.
    """
    settings = settings or BacktestSettings()
    check_candles(candles, settings)
    instances = [strategy(parameters) for parameters in parameter_sets]
    asked = max((one.warmup_bars for one in instances), default=0)
    warmup = asked if settings.warmup_bars is None else settings.warmup_bars
    market, account = market_of(candles, settings.time_zone), account_of(settings)
    counted = _counted(market, account, min(warmup, len(candles) - 1), starting_equity(candles, settings))
    rows = np.full((len(instances), len(FIGURES)), np.nan)
    groups = _groups(instances)

    def work(members: NDArray[np.int64]) -> None:
        signals = silenced(signals_of(instances[members[0]], candles), warmup)
        table = rules_table([kernel_rules(instances[i].parameters, rules, settings) for i in members])
        rows[members] = _played(market, orders_of(signals), account, table, counted)

    with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
        for _ in pool.map(work, groups):
            pass
    return Sweep({name: rows[:, i].copy() for i, name in enumerate(FIGURES)}, counted.first)


def _groups(instances: Sequence[StrategyInterface]) -> Iterator[NDArray[np.int64]]:
    """Indexes of sets that share their signals, at most a chunk at a time."""
    members: dict[tuple[Any, ...], list[int]] = {}
    for i, instance in enumerate(instances):
        members.setdefault(instance.signal_key(), []).append(i)
    for same in members.values():
        for start in range(0, len(same), _CHUNK):
            yield np.array(same[start : start + _CHUNK], dtype=np.int64)


def _counted(market: Market, account: Account, first: int, worth: float) -> Counted:
    marks, later_days = market.marks, market.day_starts[market.day_starts > first]
    starts, day_ends = np.arange(0, marks.size, BLOCK), np.append(later_days, marks.size) - 1
    start = account.quote + account.base * float(marks[first - 1]) if first else worth
    return Counted(first, start, np.minimum.reduceat(marks, starts), np.maximum.reduceat(marks, starts), day_ends)


def _played(market: Market, orders: Orders, account: Account, table: NDArray[Any], counted: Counted) -> Series:
    entries, rows = entries_of(orders.side), np.empty((table.size, len(FIGURES)))
    play_sets(entries, market, orders, account, table, counted, room_for(entries.size), rows)
    return rows
