"""What a report draws, kept small: a year of minutes becomes some hundred points that still show every extreme.

All of it is JSON-able: a stored run draws its report again without running again. Times are unix seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from algo.backtest.engine import BacktestResult, FillModel
from algo.indicators import Series

BARS = 400  # candles of the price chart
CURVE_BUCKETS = 250  # each gives up to five points of an equity curve
DEALS_KEPT = 2000  # the newest ones; `--trades` writes them all
RETURN_BINS = 40
SMALLEST_SPREAD = 0.1  # percent between the worst and the best deal of the chart
DEAL_FIELDS = ("open_price", "close_price", "quantity", "fees", "profit")

Indexes = NDArray[np.int64]


def charts_of(results: Mapping[FillModel, BacktestResult]) -> dict[str, Any]:
    """Curves and returns of every fill model; candles and deals of the first."""
    first = next(iter(results.values()))
    return {
        "bars": bars_of(first),
        "hold": _hold(first, curve_points(first)),
        "curves": {str(model): _curve(result, curve_points(result)) for model, result in results.items()},
        "returns": returns_of(results),
        "deals": deals_of(first),
        "deals_left_out": max(first.deal_count - DEALS_KEPT, 0),
    }


# --- curves ----------------------------------------------------------------------------------------------------------


def curve_points(result: BacktestResult) -> Indexes:
    """Indexes of candles worth a point: first and last, lowest, highest and deepest fall of every bucket."""
    equity = result.equity[result.first :]
    if equity.size <= 4 * CURVE_BUCKETS:
        return np.arange(result.first, len(result.candles), dtype=np.int64)
    falls = drawdown_percent(equity)
    edges = np.linspace(0, equity.size, CURVE_BUCKETS + 1).astype(np.int64)
    chosen = {0, equity.size - 1}
    for start, stop in pairwise(edges.tolist()):
        part = equity[start:stop]
        chosen |= {start + int(each) for each in (part.argmin(), part.argmax(), falls[start:stop].argmin())}
        chosen.add(int(stop) - 1)
    return np.array(sorted(chosen), dtype=np.int64) + result.first


def drawdown_percent(equity: Series) -> Series:
    """How far equity stands below its highest point so far, in percent; 0 or negative."""
    return 100 * (equity / np.maximum.accumulate(equity) - 1)


def _curve(result: BacktestResult, points: Indexes) -> dict[str, list[Any]]:
    falls = drawdown_percent(result.equity[result.first :])
    return {
        "time": result.candles.open_time[points].tolist(),
        "equity": _short(result.equity[points]),
        "drawdown": _short(np.round(falls[points - result.first], 4)),
    }


def _hold(result: BacktestResult, points: Indexes) -> dict[str, list[Any]]:
    """What all of the first equity would have become in the market itself, fees left out."""
    closes = result.candles.close[result.first :]
    known = closes[np.isfinite(closes)]
    if not known.size:
        return {"time": [], "equity": []}
    worth = result.candles.close[points] / known[0] * result.equity[result.first]
    return {"time": result.candles.open_time[points].tolist(), "equity": _short(worth)}


# --- price -----------------------------------------------------------------------------------------------------------


def bars_of(result: BacktestResult) -> dict[str, list[Any]]:
    """The candles after warm-up, joined to at most `BARS` bars. Candles without a price make no bar."""
    candles = result.candles.between(result.first, len(result.candles))
    priced = np.flatnonzero(np.isfinite(candles.close) & np.isfinite(candles.open))
    if not priced.size:
        return {name: [] for name in ("time", "open", "high", "low", "close")}
    starts = np.arange(0, priced.size, -(-priced.size // BARS))
    ends = np.append(starts[1:], priced.size) - 1
    return {
        "time": candles.open_time[priced][starts].tolist(),
        "open": _short(candles.open[priced][starts]),
        "high": _short(np.fmax.reduceat(candles.high[priced], starts)),
        "low": _short(np.fmin.reduceat(candles.low[priced], starts)),
        "close": _short(candles.close[priced][ends]),
    }


# --- deals -----------------------------------------------------------------------------------------------------------


def returns_of(results: Mapping[FillModel, BacktestResult]) -> dict[str, Any]:
    """How often deals returned what, in percent of what they cost: common bins, counts by fill model."""
    returns = {str(model): np.round(100 * result.deals["profit_ratio"], 6) for model, result in results.items()}
    every = np.concatenate(list(returns.values()))
    if not every.size:
        return {"edges": [], "counts": {}}
    low, high = float(every.min()), float(every.max())
    if high - low < SMALLEST_SPREAD:  # all alike, but for the rounding of floats
        low, high = low - SMALLEST_SPREAD / 2, high + SMALLEST_SPREAD / 2
    edges = np.linspace(low, high, RETURN_BINS + 1)
    return {
        "edges": _short(edges),
        "counts": {model: np.histogram(each, bins=edges)[0].tolist() for model, each in returns.items()},
    }


def deals_of(result: BacktestResult) -> dict[str, list[Any]]:
    """The newest deals, one list per column, oldest first."""
    rows = result.rows()[-DEALS_KEPT:]
    times = result.candles.open_time
    columns: dict[str, list[Any]] = {name: [row[name] for row in rows] for name in ("side", "reason", "close_reason")}
    columns["opened_at"] = [int(times[row["open_index"]]) for row in rows]
    columns["closed_at"] = [int(times[row["close_index"]]) for row in rows]
    for name in DEAL_FIELDS:
        columns[name] = _short(np.array([row[name] for row in rows], dtype=np.float64))
    columns["return_percent"] = _short(np.round([100 * row["profit_ratio"] for row in rows], 4))
    return columns


def _short(values: Series) -> list[float | None]:
    """Eight significant digits are enough to draw; None where there is no number."""
    return [float(f"{value:.8g}") if np.isfinite(value) else None for value in values.tolist()]
