"""Series with a planted edge, and without any."""

from __future__ import annotations

import numpy as np

from algo.strategies import Candles
from tests.strategies.tables import START

HOUR = 3600


def hourly(moves: np.ndarray, seed: int) -> Candles:
    """Hourly candles of these logarithmic moves, with small wicks."""
    rng = np.random.default_rng(seed + 10_000)
    close = 100 * np.exp(np.cumsum(moves))
    opens = np.concatenate(([100.0], close[:-1]))
    wick = rng.exponential(0.0005, (2, moves.size))
    high, low = np.maximum(opens, close) * (1 + wick[0]), np.minimum(opens, close) * (1 - wick[1])
    times = START + HOUR * np.arange(moves.size, dtype=np.int64)
    columns = (np.round(each, 4) for each in (opens, high, low, close))
    return Candles(times, *columns, np.ones(moves.size))


def luck(count: int, seed: int) -> Candles:
    """A random walk without drift: whatever a search finds in it is luck."""
    return hourly(np.random.default_rng(seed).normal(-(0.005**2) / 2, 0.005, count), seed)


def edge(count: int, seed: int) -> Candles:
    """Calm, then a day and a half of steady rise, then a fall back, over and over: who buys breakouts is paid."""
    rng = np.random.default_rng(seed)
    moves = rng.normal(0, 0.0015, count)
    at = 0
    while at < count:
        calm, rise = int(rng.integers(20, 50)), int(rng.integers(30, 45))
        moves[at + calm : at + calm + rise] += 0.003
        moves[at + calm + rise : at + calm + rise + 6] -= 0.003 * rise / 6
        at += calm + rise + 6
    return hourly(moves, seed)


def as_csv(candles: Candles) -> str:
    columns = (candles.open_time, candles.open, candles.high, candles.low, candles.close, candles.volume)
    rows = (",".join(str(value) for value in row) + "\n" for row in zip(*columns, strict=True))
    return "time,open,high,low,close,volume\n" + "".join(rows)
