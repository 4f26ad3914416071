"""Recorded candles played back: `time,open,high,low,close,volume` CSV (gzip allowed), time in unix seconds.

Inside each candle the price walks open-low-high-close when it rose and open-high-low-close when it fell, in twelve
trades; candles rebuilt from those trades equal the recorded ones. A missing candle stays missing: nobody trades.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

import numpy as np

from providers.paper.feeds.base import Bars, FeedError, Ints, PairSpec, Ticks, bars_from_ticks
from providers.paper.feeds.depth import synthetic_book
from providers.paper.feeds.noise import smooth, stream
from providers.paper.feeds.synthetic import SPECS
from providers.paper.orders import Book

HEADER = ["time", "open", "high", "low", "close", "volume"]
STEPS = 12  # trades per candle
_TURNS = (0, 4, 8, 11)  # which of them are open, first extreme, second extreme, close
_MAX_DECIMALS = 10  # more digits than this are the tail of a binary float


class ReplayFeed:
    """One pair, from a file. Raises `FeedError` with a sentence for a file that is not such a CSV."""

    name = "replay"

    def __init__(self, path: Path, pair: str = "BTC/USDT", seed: int = 1) -> None:
        if pair not in SPECS:
            raise FeedError(f"{pair} is not a pair of the paper exchange; choose one of {', '.join(SPECS)}.")
        columns = _columns(path)
        times = _times(columns[0], path)
        price_decimals = max(max(map(_decimals, column)) for column in columns[1:5])
        known = SPECS[pair]
        tick = min(known.tick, Decimal(1).scaleb(-price_decimals))
        lot = Decimal(1).scaleb(-max(map(_decimals, columns[5])))
        self._spec = PairSpec(pair, tick, lot, known.top_notional)
        self._seed = seed
        open_, high, low, close = (_grid(column, tick, path) for column in columns[1:5])
        bars = Bars(times, open_, high, low, close, _grid(columns[5], lot, path))
        _check(bars, path)
        self._seconds = int(np.diff(times).min()) if len(times) > 1 else 60
        self._ticks = _path(bars, self._seconds)
        self.starts_at = float(times[0])

    @property
    def specs(self) -> Mapping[str, PairSpec]:
        return {self._spec.pair: self._spec}

    @property
    def ends_at(self) -> float:
        return float(self._ticks.times[-1]) / 1000

    def is_still(self, after_ms: int, until_ms: int) -> bool:
        return False

    def ticks(self, venue: str, pair: str, after_ms: int, until_ms: int) -> Ticks:
        return self._ticks.between(after_ms, until_ms)

    def last_tick(self, venue: str, pair: str, now_ms: int) -> Ticks:
        count = int(np.searchsorted(self._ticks.times, now_ms, side="right"))
        chosen = slice(max(count - 1, 0), count)
        ticks = self._ticks
        return Ticks(ticks.times[chosen], ticks.prices[chosen], ticks.volumes[chosen], ticks.buys[chosen])

    def bars(self, venue: str, pair: str, start_s: int, end_s: int, now_ms: int) -> Bars:
        until = min(end_s * 1000 - 1, now_ms)
        first = start_s + -start_s % self._seconds  # a candle is whole or absent
        return bars_from_ticks(self._ticks.between(first * 1000 - 1, until), self._seconds)

    def complete_until(self, venue: str, pair: str, now_ms: int) -> int:
        return now_ms // 1000

    def book(self, venue: str, pair: str, now_ms: int) -> Book:
        tick = self.last_tick(venue, pair, now_ms)
        if not len(tick):
            return Book((), ())
        at = int(tick.times[0])
        lean = float(np.clip(smooth(stream(self._seed, pair, "lean"), np.array([at / 45_000.0]))[0], -1.0, 1.0))
        return synthetic_book(self._spec, f"{self._seed}", int(tick.prices[0]), at, lean)

    def nudge(self, pair: str, price: Decimal, now_ms: int) -> None:
        raise FeedError("A replay plays what was recorded; its price cannot be moved.")

    def close(self) -> None:
        """Nothing to stop."""


def _columns(path: Path) -> list[tuple[str, ...]]:
    rows = [line.split(",") for line in _text(path, path.name).splitlines() if line]
    if not rows or [name.strip().lower() for name in rows[0]] != HEADER:
        raise FeedError(f"{path.name} does not begin with the line '{','.join(HEADER)}'.")
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(HEADER):
            raise FeedError(f"{path.name}, line {number}: {len(row)} fields where {len(HEADER)} are needed.")
    # A row without prices says that nothing is known of that time: the same as no row.
    kept = [row if row[5] else [*row[:5], "0"] for row in rows[1:] if all(row[1:5])]
    if not kept:
        raise FeedError(f"{path.name} holds no candle.")
    return list(zip(*kept, strict=True))


def _text(path: Path, name: str) -> str:
    try:
        raw = path.read_bytes()
        return (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8-sig")
    except OSError as exc:
        raise FeedError(f"{name} cannot be read: {exc.strerror or exc}.") from exc
    except (EOFError, zlib.error, UnicodeDecodeError) as exc:
        raise FeedError(f"{name} is neither text nor gzip of text; a CSV with '{','.join(HEADER)}' is needed.") from exc


def _times(column: tuple[str, ...], path: Path) -> Ints:
    try:
        times = np.array([int(text) for text in column], dtype=np.int64)
    except ValueError as exc:
        raise FeedError(f"{path.name}: the column time must hold whole unix seconds ({exc}).") from exc
    if times[0] > 100_000_000_000:
        raise FeedError(f"{path.name}: the column time looks like milliseconds; unix seconds are needed.")
    backwards = np.flatnonzero(np.diff(times) <= 0)
    if len(backwards):
        raise FeedError(f"{path.name}, line {int(backwards[0]) + 3}: time does not increase. Sort it, drop repeats.")
    return times


def _decimals(text: str) -> int:
    return min(len(text) - text.find(".") - 1, _MAX_DECIMALS) if "." in text else 0


def _grid(column: tuple[str, ...], unit: Decimal, path: Path) -> Ints:
    """Texts as whole numbers of `unit`; exact, because they have fewer digits than a float can hold."""
    try:
        values = np.array(column, dtype=np.float64)
    except ValueError as exc:
        raise FeedError(f"{path.name}: a price or volume is not a number ({exc}).") from exc
    scaled = values * float(1 / unit)
    if not np.isfinite(scaled).all() or (np.abs(scaled) >= 2**53).any():
        raise FeedError(f"{path.name}: a price or volume is not finite or has too many digits.")
    return np.rint(scaled).astype(np.int64)


def _check(bars: Bars, path: Path) -> None:
    low = np.minimum(bars.open, bars.close)
    high = np.maximum(bars.open, bars.close)
    wrong = np.flatnonzero((bars.low > low) | (bars.high < high) | (bars.low <= 0) | (bars.volume < 0))
    if len(wrong):
        at = int(bars.times[wrong[0]])
        raise FeedError(f"{path.name}: the candle at {at} is impossible (low above high, or a value below zero).")


def _path(bars: Bars, seconds: int) -> Ticks:
    rose = bars.close >= bars.open
    first = np.where(rose, bars.low, bars.high)
    second = np.where(rose, bars.high, bars.low)
    legs = zip((bars.open, first, second), (first, second, bars.close), _TURNS[:-1], _TURNS[1:], strict=True)
    prices = np.empty((len(bars), STEPS), dtype=np.int64)
    for start, end, left, right in legs:
        for step in range(left, right + 1):
            prices[:, step] = start + (end - start) * (step - left) // (right - left)
    volumes = np.repeat((bars.volume // STEPS)[:, None], STEPS, axis=1)
    volumes[:, -1] += bars.volume - volumes.sum(axis=1)
    times = bars.times[:, None] * 1000 + np.arange(STEPS, dtype=np.int64) * (seconds * 1000 // STEPS)
    flat = prices.reshape(-1)
    return Ticks(times.reshape(-1), flat, volumes.reshape(-1), np.diff(flat, prepend=flat[:1]) >= 0)
