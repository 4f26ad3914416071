"""One-minute candles of a random walk on a grid of cents, the same for the same seed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np

START = datetime(2020, 1, 1, tzinfo=UTC)
COLUMNS = ("open_time", "open", "high", "low", "close", "volume")


def random_walk(count: int, seed: int = 1) -> dict[str, Any]:
    """Arrays by name of COLUMNS; `open_time` in unix seconds."""
    random = np.random.default_rng(seed)
    close = np.round(60_000 * np.exp(np.cumsum(random.normal(0, 0.0004, count))), 2)
    opened = np.concatenate(([60_000.0], close[:-1]))
    reach = np.abs(random.normal(0, 15, (2, count)))
    high, low = np.maximum(opened, close) + reach[0], np.maximum(np.minimum(opened, close) - reach[1], 0.01)
    times = int(START.timestamp()) + 60 * np.arange(count, dtype=np.int64)
    volume = np.round(random.exponential(3, count), 6)
    return dict(zip(COLUMNS, (times, opened, np.round(high, 2), np.round(low, 2), close, volume), strict=True))
