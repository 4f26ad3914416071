"""What a price feed gives the paper exchange: ticks, candles built from those same ticks, and depth to trade against.

Inside a feed prices and volumes are whole numbers of `PairSpec.tick` and `PairSpec.lot`, so candles made from ticks are
exact; they become Decimals at the edge. Times are unix milliseconds (ticks) or unix seconds (candle open times).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

import numpy as np
import numpy.typing as npt

from providers.paper.orders import Book

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class FeedError(ValueError):
    """The feed cannot be used; the message says what to do."""


@dataclass(frozen=True, slots=True)
class PairSpec:
    """The integer grids of one pair, and how much quote money rests on the best level of its book."""

    pair: str
    tick: Decimal
    lot: Decimal
    top_notional: float

    def price(self, ticks: int) -> Decimal:
        return int(ticks) * self.tick

    def volume(self, lots: int) -> Decimal:
        return int(lots) * self.lot


@dataclass(frozen=True, slots=True)
class Ticks:
    """Public trades, oldest first: times in ms, prices in ticks, volumes in lots, whether the taker bought."""

    times: Ints
    prices: Ints
    volumes: Ints
    buys: Bools

    def __len__(self) -> int:
        return len(self.times)

    def between(self, after_ms: int, until_ms: int) -> Ticks:
        """Those with `after < time <= until`."""
        first, last = np.searchsorted(self.times, (after_ms, until_ms), side="right")
        return Ticks(self.times[first:last], self.prices[first:last], self.volumes[first:last], self.buys[first:last])

    @classmethod
    def joined(cls, parts: list[Ticks]) -> Ticks:
        if not parts:
            none = np.zeros(0, np.int64)
            return cls(none, none, none, np.zeros(0, np.bool_))
        if len(parts) == 1:
            return parts[0]
        return cls(
            np.concatenate([part.times for part in parts]),
            np.concatenate([part.prices for part in parts]),
            np.concatenate([part.volumes for part in parts]),
            np.concatenate([part.buys for part in parts]),
        )


@dataclass(frozen=True, slots=True)
class Bars:
    """Candles, oldest first; only those with trades. Open times in seconds, prices in ticks, volumes in lots."""

    times: Ints
    open: Ints
    high: Ints
    low: Ints
    close: Ints
    volume: Ints

    def __len__(self) -> int:
        return len(self.times)

    def between(self, start_s: int, end_s: int) -> Bars:
        """Those with `start <= open time < end`."""
        first, last = np.searchsorted(self.times, (start_s, end_s), side="left")
        return self.rows(slice(int(first), int(last)))

    def rows(self, rows: slice | Bools) -> Bars:
        return Bars(*(getattr(self, name)[rows] for name in ("times", "open", "high", "low", "close", "volume")))


class Feed(Protocol):
    """A source of prices. Everything is a function of time: asking twice gives the same answer."""

    name: str

    @property
    def specs(self) -> Mapping[str, PairSpec]: ...

    @property
    def ends_at(self) -> float | None:
        """Unix seconds after which nothing more happens; None for a feed without end."""
        ...

    def is_still(self, after_ms: int, until_ms: int) -> bool:
        """Whether it is certain, without looking at any pair, that nothing was traded with `after < time <= until`."""
        ...

    def ticks(self, venue: str, pair: str, after_ms: int, until_ms: int) -> Ticks:
        """All trades with `after < time <= until`, oldest first."""
        ...

    def last_tick(self, venue: str, pair: str, now_ms: int) -> Ticks:
        """The newest trade at or before `now` (empty before the first)."""
        ...

    def bars(self, venue: str, pair: str, start_s: int, end_s: int, now_ms: int) -> Bars:
        """One-minute candles (or the feed's own, if coarser) opening in [start, end), of the trades until `now`."""
        ...

    def complete_until(self, venue: str, pair: str, now_ms: int) -> int:
        """Unix seconds, at most `now`: `bars` asked for after this call hold every trade before it. A bar that ended
        since may still grow."""
        ...

    def book(self, venue: str, pair: str, now_ms: int) -> Book: ...

    def nudge(self, pair: str, price: Decimal, now_ms: int) -> None:
        """Move the market to `price` from now on. Raises `FeedError` where the feed is not ours to move."""
        ...

    def close(self) -> None: ...


def bars_from_ticks(ticks: Ticks, seconds: int) -> Bars:
    """Candles of `seconds` from trades; minutes without trades have none."""
    opens = ticks.times // (seconds * 1000) * seconds
    return _grouped(opens, ticks.prices, ticks.prices, ticks.prices, ticks.prices, ticks.volumes)


def aggregate(bars: Bars, opens: Ints) -> Bars:
    """Coarser candles: `opens[i]` is the open time of the candle that bar i belongs to."""
    return _grouped(opens, bars.open, bars.high, bars.low, bars.close, bars.volume)


def _grouped(opens: Ints, open_: Ints, high: Ints, low: Ints, close: Ints, volume: Ints) -> Bars:
    if not len(opens):
        return Bars(opens, open_, high, low, close, volume)
    first = np.flatnonzero(np.concatenate(([True], opens[1:] != opens[:-1])))
    last = np.concatenate((first[1:], [len(opens)])) - 1
    return Bars(
        opens[first], open_[first], np.maximum.reduceat(high, first), np.minimum.reduceat(low, first), close[last],
        np.add.reduceat(volume, first),
    )  # fmt: skip
