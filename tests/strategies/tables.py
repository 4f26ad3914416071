"""Candles and books written by hand, and random ones."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal

import numpy as np

from algo.strategies import Candles
from providers.types import BookLevel, OrderBook

START = int(datetime(2025, 1, 1, tzinfo=UTC).timestamp())


def candles_of(closes: Sequence[float], volumes: Sequence[float] | None = None, spread: float = 0.05) -> Candles:
    """One-minute candles with these closes; high and low stand `spread` around the close."""
    close = np.array(closes, dtype=np.float64)
    volume = np.ones(close.size) if volumes is None else np.array(volumes, dtype=np.float64)
    times = START + 60 * np.arange(close.size, dtype=np.int64)
    return Candles(times, close.copy(), close + spread, close - spread, close, volume)


def random_candles(count: int, seed: int, *, tick: float = 0.01, volatility: float = 0.002) -> Candles:
    """A random walk on the tick grid, with gaps between close and open now and then."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, volatility, count)))
    opens = np.concatenate(([100.0], close[:-1])) * np.where(rng.random(count) < 0.1, rng.normal(1, 0.003, count), 1)
    wick = rng.exponential(volatility / 2, (2, count))
    high, low = np.maximum(opens, close) * (1 + wick[0]), np.minimum(opens, close) * (1 - wick[1])
    grid = [np.round(series / tick) * tick for series in (opens, high, low, close)]
    times = START + 60 * np.arange(count, dtype=np.int64)
    return Candles(times, *(np.round(series, 8) for series in grid), rng.lognormal(0, 0.6, count).round(4))


def book_of(bids: Sequence[tuple[str, str]], asks: Sequence[tuple[str, str]]) -> OrderBook:
    """Levels as (price, quantity), best first."""
    sides = [tuple(BookLevel(Decimal(p), Decimal(q)) for p, q in side) for side in (bids, asks)]
    return OrderBook("BTCUSDT", sides[0], sides[1], datetime(2025, 1, 1, tzinfo=UTC))
