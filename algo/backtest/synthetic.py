"""A simulated market for checks: trends, breakouts, swings, flat spells, gaps and bursts of volume, seeded.

It is made to give a strategy something to say in every mood of a market, not to judge what a strategy earns.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from algo.strategies.interface import Candles

START = 1_735_689_600  # 2025-01-01 UTC
_SHORTEST, _LONGEST = 40, 160  # candles of one mood
_SIGMA = 0.0012  # of one candle's noise, as a share of the price
_TICK = 1e-4  # of the first price: coarse enough for closes that stand still


class Mood(IntEnum):
    """What a market does for a while."""

    SWING = 0
    RISE = 1
    FALL = 2
    NARROW = 3  # and then it breaks out: the next mood begins with a jump and a burst of volume
    FLAT = 4  # no trades at all: every price the same, no volume
    WILD = 5


_DRIFT = {Mood.RISE: 0.0006, Mood.FALL: -0.0006}
_NOISE = {Mood.NARROW: 0.25, Mood.FLAT: 0.0, Mood.WILD: 3.0}


def synthetic_market(count: int, *, seconds: int = 60, seed: int = 1, price: float = 100.0) -> Candles:
    """`count` candles of `seconds` each, beginning near `price`; the same for the same arguments, on every machine."""
    rng = np.random.default_rng(seed)
    moods, starts = _moods(rng, count)
    noise = rng.standard_normal(count) * _SIGMA * np.array([_NOISE.get(mood, 1.0) for mood in Mood])[moods]
    drift = np.array([_DRIFT.get(mood, 0.0) for mood in Mood])[moods]
    phase = np.arange(count) - starts
    swing = np.where(moods == Mood.SWING, 0.001 * np.cos(2 * np.pi * phase / 30), 0.0)
    jump = np.where((phase == 0) & (moods != Mood.FLAT), rng.choice([-1, 1], count) * rng.uniform(0, 0.012, count), 0.0)
    flat = moods == Mood.FLAT
    level = np.cumsum(noise + drift + swing + jump)
    # Mean reversion, slow: prices stay sane however long the series.
    close = price * np.exp(0.1 * np.tanh(level / 0.1) + 0.02 * np.sin(2 * np.pi * np.arange(count) / 1500) * ~flat)
    close = _held(close, flat)
    opens = np.concatenate(([price], close[:-1]))
    opens = np.where((rng.random(count) < 0.05) & ~flat, opens * (1 + 0.002 * rng.standard_normal(count)), opens)
    wick = np.where(flat, 0.0, rng.exponential(_SIGMA / 2, (2, count)))
    high, low = np.maximum(opens, close) * (1 + wick[0]), np.minimum(opens, close) * (1 - wick[1])
    tick = price * _TICK
    columns = [np.round(series / tick) * tick for series in (opens, high, low, close)]
    columns.append(_volume(rng, moods, phase))
    return Candles(_times(rng, count, seconds), *columns)


def _moods(rng: np.random.Generator, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The mood of every candle, and where that mood began. Every mood comes once in each round, in random order."""
    kinds = np.concatenate([rng.permutation(len(Mood)) for _ in range(count // _SHORTEST // len(Mood) + 1)])
    ends = np.cumsum(rng.integers(_SHORTEST, _LONGEST, kinds.size))
    number = np.searchsorted(ends, np.arange(count), side="right")
    return kinds[number], np.concatenate(([0], ends))[number]


def _held(close: NDArray[np.float64], flat: NDArray[np.bool_]) -> NDArray[np.float64]:
    """While a market is flat its price is the last one before."""
    last = np.maximum.accumulate(np.where(flat, 0, np.arange(close.size)))
    return np.asarray(close[last])


def _times(rng: np.random.Generator, count: int, seconds: int) -> NDArray[np.int64]:
    """Now and then candles are missing."""
    missing = np.where(rng.random(count) < 0.003, rng.integers(1, 20, count), 0)
    return np.asarray(START + seconds * (np.arange(count) + np.cumsum(missing)), dtype=np.int64)


def _volume(rng: np.random.Generator, moods: NDArray[np.int64], phase: NDArray[np.int64]) -> NDArray[np.float64]:
    """In base: lively, with a burst where a mood begins, thin while narrow, none while flat."""
    burst = 1 + 5 * np.exp(-phase / 5.0)
    scale = np.where(moods == Mood.NARROW, 0.3, np.where(moods == Mood.FLAT, 0.0, 1.0))
    return np.asarray(np.round(rng.lognormal(0, 0.6, moods.size) * burst * scale, 4))
