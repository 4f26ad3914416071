"""Many parameter sets over the same candles: signals once for all sets that share them, then the kernel over the rules.

Only figures are kept of each set. Their definitions are those of `metrics`; tests hold the two equal.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from algo.backtest.engine import (
    BacktestSettings,
    account_of,
    check_candles,
    kernel_table,
    market_of,
    nobody_refused,
    orders_of,
    room_for,
    signals_of,
    silenced,
    starting_equity,
)
from algo.backtest.equity import marks_of
from algo.backtest.kernel import (
    BLOCK,
    FIGURES,
    Account,
    Counted,
    Cues,
    Market,
    Orders,
    cues_of,
    play_sets,
)
from algo.indicators import Series
from algo.strategies.interface import Candles, StrategyInterface
from algo.strategies.schemas import StrategySchema
from providers.types import MarketRules

_CHUNK = 64  # sets that a thread plays before it takes the next ones


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
    table = kernel_table([one.parameters for one in instances], rules, settings)
    rows = np.full((len(instances), len(FIGURES)), np.nan)

    def said_by(first: int) -> _Said:
        orders, refused = orders_of(silenced(signals_of(instances[first], candles), warmup)), nobody_refused()
        return _Said(cues_of(market, orders, table[first], refused), orders)

    def play(said: Future[_Said], members: NDArray[np.int64]) -> None:
        cues, orders = said.result()  # it stands before this one in the queue: somebody is at it already
        found = np.empty((members.size, len(FIGURES)))
        out = (*room_for(cues), nobody_refused())
        play_sets(cues, market, orders, account, table[members], counted, out, found)
        rows[members] = found

    with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
        chunks = []
        for members in _groups(instances):
            said = pool.submit(said_by, int(members[0]))
            starts = range(0, members.size, _CHUNK)
            chunks += [pool.submit(play, said, members[start : start + _CHUNK]) for start in starts]
        for chunk in chunks:
            chunk.result()
    return Sweep({name: rows[:, i].copy() for i, name in enumerate(FIGURES)}, counted.first)


class _Said(NamedTuple):
    """What a strategy says over all candles: its orders, and the cues among them."""

    cues: Cues
    orders: Orders


def _groups(instances: Sequence[StrategyInterface]) -> list[NDArray[np.int64]]:
    """Indexes of sets that have the same cues: whatever else decides on those is the run's."""
    members: dict[tuple[Any, ...], list[int]] = {}
    for i, instance in enumerate(instances):
        members.setdefault((instance.signal_key(), instance.parameters.max_data_age_bars), []).append(i)
    return [np.array(same, dtype=np.int64) for same in members.values()]


def _counted(market: Market, account: Account, first: int, worth: float) -> Counted:
    marks, later_days = marks_of(market.prices.close, market.day_marks[0]), market.day_starts[market.day_starts > first]
    starts, day_ends = np.arange(0, marks.size, BLOCK), np.append(later_days, marks.size) - 1
    start = account.quote + account.base * float(marks[first - 1]) if first else worth
    return Counted(
        first, start, marks, np.minimum.reduceat(marks, starts), np.maximum.reduceat(marks, starts), day_ends
    )
