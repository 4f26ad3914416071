"""Many parameter sets over the same candles: signals once for all sets that share them, then the kernel over the rules.

Only figures are kept of each set. Their definitions are those of `metrics`; tests hold the two equal.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numba import njit
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
    Account,
    Cues,
    Market,
    Orders,
    cues_of,
    rules_table,
    simulate,
)
from algo.indicators import Series
from algo.strategies.interface import Candles, StrategyInterface
from algo.strategies.schemas import StrategySchema
from providers.types import MarketRules

FIGURES = (
    "final_equity",
    "net_profit",
    "net_profit_percent",
    "deals",
    "win_rate_percent",
    "profit_factor",
    "max_drawdown_percent",
    "sharpe",
    "fees_paid",
    "exposure_percent",
)
DAYS_A_YEAR = 365.0
_BLOCK = 64  # candles whose extremes are known together
_CHUNK = 128  # sets that a thread plays before it takes the next ones


@dataclass(frozen=True, slots=True, eq=False)
class Sweep:
    """Figures of many parameter sets over the same candles: one array for each of FIGURES, in the order of the sets.

    Units are those of `Metrics`; NaN where a figure has no meaning (None there).
    """

    figures: Mapping[str, Series]
    first: int  # index of the first candle that counts, for all sets the same


class Counted(NamedTuple):
    """The part of the candles that figures are counted over: `marks` by blocks, and the last candle of each day."""

    first: int
    start: float  # equity as the counting begins
    lowest: NDArray[np.float64]
    highest: NDArray[np.float64]
    day_ends: NDArray[np.int64]


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
    starts, day_ends = np.arange(0, marks.size, _BLOCK), np.append(later_days, marks.size) - 1
    start = account.quote + account.base * float(marks[first - 1]) if first else worth
    return Counted(first, start, np.minimum.reduceat(marks, starts), np.maximum.reduceat(marks, starts), day_ends)


def _played(market: Market, orders: Orders, account: Account, table: NDArray[Any], counted: Counted) -> Series:
    cues, rows = cues_of(market, orders), np.empty((table.size, len(FIGURES)))
    _play_sets(cues, market, orders, account, table, counted, room_for(cues), rows)
    return rows


@njit(cache=True, nogil=True)
def _play_sets(
    cues: Cues,
    market: Market,
    orders: Orders,
    account: Account,
    table: Any,
    counted: Counted,
    out: tuple[Any, Any, Any],
    rows: Series,
) -> None:
    """The kernel once for each row of rules."""
    deals, balances, _ = out
    for i in range(table.size):
        count = simulate(cues, market, orders, account, table[i], out)
        _figures(deals[:count], balances[:count], account, market.marks, counted, rows[i])


@njit(cache=True, nogil=True)
def _figures(deals: Series, balances: Series, account: Account, marks: Series, counted: Counted, row: Series) -> None:
    """FIGURES of one run into `row`."""
    won, wins, losses, fees, held = 0, 0.0, 0.0, 0.0, 0.0
    for i in range(deals.shape[0]):
        profit = deals[i, 9]
        won += profit > 0.0
        wins += max(profit, 0.0)
        losses -= min(profit, 0.0)
        fees += deals[i, 8]
        held += deals[i, 2] - deals[i, 1] + 1.0
    final, fall, sharpe = _course(deals, balances, account, marks, counted)
    count = deals.shape[0]
    row[0], row[1], row[2] = final, final - counted.start, (final / counted.start - 1.0) * 100.0
    row[3], row[4] = count, 100.0 * won / count if count else np.nan
    row[5], row[6], row[7] = wins / losses if losses > 0.0 else np.nan, fall * 100.0, sharpe
    row[8], row[9] = fees, 100.0 * held / (marks.size - counted.first)


@njit(cache=True, nogil=True)
def _course(
    deals: Series, balances: Series, account: Account, marks: Series, counted: Counted
) -> tuple[float, float, float]:
    """Final equity, deepest fall as a fraction, and Sharpe ratio, along stretches over which the balances stay."""
    peak, fall, day, before = counted.start, 0.0, 0, counted.start
    returns = np.empty(counted.day_ends.size)
    quote, base = account.quote, account.base
    done = counted.first
    for stretch in range(2 * deals.shape[0] + 1):
        deal, is_open = stretch // 2, stretch % 2 == 1  # flat, open, flat, open, ... flat
        if is_open:
            until, quote, base = int(deals[deal, 2]), balances[deal, 0], balances[deal, 1]
        else:
            until = int(deals[deal, 1]) if deal < deals.shape[0] else marks.size
            if deal > 0:
                quote, base = balances[deal - 1, 2], balances[deal - 1, 3]
        if until > done:
            if until - done <= 2 * _BLOCK:  # too short for blocks: a call would cost more than the loop
                for t in range(done, until):
                    worth = quote + base * marks[t]
                    peak = max(peak, worth)
                    fall = 1.0 - worth / peak if worth < peak * (1.0 - fall) else fall
            else:
                peak, fall = _fallen(peak, fall, Account(quote, base), done, until, marks, counted)
            while day < returns.size and counted.day_ends[day] < until:
                worth = quote + base * marks[counted.day_ends[day]]
                returns[day], before, day = worth / before - 1.0, worth, day + 1
            done = until
    final = quote + base * marks[-1]
    if returns.size < 2:
        return final, fall, np.nan
    mean = returns.mean()
    deviation = np.sqrt(((returns - mean) ** 2).sum() / (returns.size - 1))
    return final, fall, mean / deviation * np.sqrt(DAYS_A_YEAR) if deviation > 1e-12 else np.nan


@njit(cache=True, nogil=True)
def _fallen(
    peak: float, fall: float, held: Account, start: int, until: int, marks: Series, counted: Counted
) -> tuple[float, float]:
    """Highest equity and deepest fall after a stretch in which the account holds the same. A block in which neither
    can change is not looked into."""
    t = start
    while t < until:
        block = t // _BLOCK
        if t == block * _BLOCK and t + _BLOCK <= until:
            high = held.quote + held.base * counted.highest[block]
            low = held.quote + held.base * counted.lowest[block]
            if high <= peak and low >= peak * (1.0 - fall):
                t += _BLOCK
                continue
        for i in range(t, min((block + 1) * _BLOCK, until)):
            worth = held.quote + held.base * marks[i]
            if worth > peak:
                peak = worth
            elif worth < peak * (1.0 - fall):
                fall = 1.0 - worth / peak
        t = (block + 1) * _BLOCK
    return peak, fall
