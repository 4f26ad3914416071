"""Recorded order books beside candles: what market orders would have paid, and what the book would have said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from algo.backtest.kernel import Books
from providers.types import BookLevel, OrderBook

LEVELS = 50  # of each side; what lies deeper is taken as not there
OLDEST = timedelta(seconds=60)


@dataclass(frozen=True, slots=True, eq=False)
class BookSeries:
    """Order books in order of time, each time once. A book counts until the next one, and for `oldest` at most."""

    books: tuple[OrderBook, ...]
    oldest: timedelta = OLDEST

    def __post_init__(self) -> None:
        times = self._times()
        if times.size > 1 and not (np.diff(times) > 0).all():
            raise ValueError("order books must stand in order of time, each time once")

    def _times(self) -> NDArray[np.int64]:
        """Microseconds since 1970."""
        return np.array([round(book.as_of.timestamp() * 1e6) for book in self.books], dtype=np.int64)

    def known_at(self, moments: NDArray[np.int64]) -> NDArray[np.int32]:
        """The index of the book that counts at each of these unix seconds; -1 where there is none."""
        times, asked = self._times(), moments * 1_000_000
        index = np.searchsorted(times, asked, side="right") - 1
        if not times.size:
            return np.full(moments.size, -1, dtype=np.int32)
        fresh = (index >= 0) & (asked - times[np.maximum(index, 0)] <= self.oldest / timedelta(microseconds=1))
        usable = np.array([book.is_usable for book in self.books])
        return np.where(fresh & usable[np.maximum(index, 0)], index, -1).astype(np.int32)

    def for_kernel(self, open_time: NDArray[np.int64]) -> Books:
        """As the kernel walks them: the book known as each candle opens."""
        size = (len(self.books), LEVELS)
        bid_quantity, bid_distance, ask_quantity, ask_distance = (np.zeros(size) for _ in range(4))
        for row, book in enumerate(self.books):
            middle = book.mid_price
            if middle and book.is_usable:
                _fill(book.bids, float(middle), bid_quantity[row], bid_distance[row])
                _fill(book.asks, float(middle), ask_quantity[row], ask_distance[row])
        return Books(self.known_at(open_time), bid_quantity, bid_distance, ask_quantity, ask_distance)


def _fill(
    levels: Sequence[BookLevel], middle: float, quantity: NDArray[np.float64], distance: NDArray[np.float64]
) -> None:
    for i, level in enumerate(levels[: quantity.size]):
        quantity[i] = float(level.quantity)
        distance[i] = abs(float(level.price) / middle - 1.0)
