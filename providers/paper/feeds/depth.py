"""A believable order book around a price: a few basis points of spread, 24 levels, leaning with the market."""

from __future__ import annotations

from decimal import Decimal

import numpy as np

from providers.paper.feeds.base import PairSpec
from providers.paper.feeds.noise import normal, stream, uniform
from providers.paper.orders import Book
from providers.types import BookLevel

LEVELS = 24  # what Nobitex was once documented to show (nobitex 4.1)
_HALF_SPREAD = (1.0e-4, 3.0e-4)  # of the price
_STEP = 1.2e-4  # between levels, growing outward


def synthetic_book(spec: PairSpec, key: str, price_ticks: int, at_ms: int, lean: float) -> Book:
    """Depth around `price_ticks` at one tick; `lean` in [-1, 1] makes bids (above 0) or asks heavier.

    The whole book is a function of its arguments, so a look back after a restart sees what was shown.
    """
    seed = stream(key, spec.pair, at_ms)
    numbers = np.arange(LEVELS, dtype=np.int64)
    low, high = _HALF_SPREAD
    half = low + (high - low) * float(uniform(seed, np.array([999]))[0])
    offsets = half + _STEP * numbers * (1.0 + 0.05 * numbers)
    weights = np.exp(0.4 * normal(seed, numbers)) * (1.0 + 0.25 * numbers)
    other = np.exp(0.4 * normal(seed, numbers + 100)) * (1.0 + 0.25 * numbers)
    tilt = 2.0 ** (0.5 * lean)
    bids = _side(spec, price_ticks, -offsets, weights * tilt)
    asks = _side(spec, price_ticks, offsets, other / tilt)
    return Book(bids, asks, version=at_ms)


def _side(spec: PairSpec, price: int, offsets: np.ndarray, weights: np.ndarray) -> tuple[BookLevel, ...]:
    sign = 1 if offsets[0] > 0 else -1
    levels, previous = [], price
    mid = float(spec.price(price))
    for offset, weight in zip(offsets, weights, strict=True):
        away = max(round(abs(offset) * price), 1)
        ticks = max(price + sign * away, 1) if sign > 0 else min(price - away, previous - 1)
        ticks = max(ticks, previous + 1) if sign > 0 else ticks
        if ticks < 1:
            break
        levels.append(BookLevel(spec.price(ticks), _quantity(spec, spec.top_notional * float(weight) / mid)))
        previous = ticks
    return tuple(levels)


def _quantity(spec: PairSpec, amount: float) -> Decimal:
    return spec.volume(max(round(amount / float(spec.lot)), 1))
