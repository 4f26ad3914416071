"""Candles and day figures of a market, for both faces, in platform units."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import numpy as np

from providers.paper.engine import Exchange, to_ms
from providers.paper.feeds.base import Bars, Ints, aggregate
from providers.types import ZERO

HISTORY_DAYS = 92  # how far back the charts of an endless feed go
_DAY = 86_400
_TEHRAN = ZoneInfo("Asia/Tehran")


@dataclass(frozen=True, slots=True)
class Chart:
    """Candle columns, oldest first: open times in unix seconds, amounts as Decimals."""

    times: list[int]
    open: list[Decimal]
    high: list[Decimal]
    low: list[Decimal]
    close: list[Decimal]
    volume: list[Decimal]

    def __len__(self) -> int:
        return len(self.times)


@dataclass(frozen=True, slots=True)
class DayFigures:
    """The last 24 hours."""

    last: Decimal
    open: Decimal
    high: Decimal
    low: Decimal
    volume: Decimal
    quote_volume: Decimal

    @property
    def change_percent(self) -> Decimal:
        return (self.last / self.open - 1) * 100 if self.open else ZERO


def chart(exchange: Exchange, venue: str, pair: str, seconds: int, start: int, end: int, now: datetime) -> Chart:
    """Candles with start <= open time <= end; days begin at midnight in Tehran (nobitex 4.5). Candles that have ended
    but may still grow are left out: whoever reads them takes them for final."""
    spec = exchange.feed.specs[pair]
    complete_until = exchange.feed.complete_until(venue, pair, to_ms(now))
    first = start - start % 60 if seconds <= 60 else start - 2 * max(seconds, _DAY)
    if exchange.feed.ends_at is None:
        first = max(first, int(now.timestamp()) // _DAY * _DAY - HISTORY_DAYS * _DAY)
    bars = exchange.feed.bars(venue, pair, first, end + seconds, to_ms(now))
    if seconds > 60:
        bars = aggregate(bars, _opens(bars.times, seconds))
    bars = _without_half_heard(bars.between(start, end + 1), seconds, complete_until, int(now.timestamp()))
    open_, high, low, close = ([spec.price(v) for v in c] for c in (bars.open, bars.high, bars.low, bars.close))
    return Chart([int(time) for time in bars.times], open_, high, low, close, [spec.volume(v) for v in bars.volume])


def newest(
    exchange: Exchange, venue: str, pair: str, seconds: int, start: int, end: int, now: datetime, count: int, page: int
) -> Chart:
    """Page `page` of at most `count` candles, page 1 the newest, without making what is not asked for."""
    end = min(end, int(now.timestamp()))
    oldest = max(start, end - HISTORY_DAYS * _DAY) if exchange.feed.ends_at is None else start
    span = seconds * count * page
    found = chart(exchange, venue, pair, seconds, max(oldest, end - span), end, now)
    while len(found) < count * page and end - span > oldest:
        span *= 4
        found = chart(exchange, venue, pair, seconds, max(oldest, end - span), end, now)
    stop = max(len(found) - count * (page - 1), 0)
    rows = slice(max(stop - count, 0), stop)
    columns = (found.times, found.open, found.high, found.low, found.close, found.volume)
    return Chart(*(column[rows] for column in columns))  # type: ignore[arg-type]


def day_figures(exchange: Exchange, venue: str, pair: str, now: datetime) -> DayFigures | None:
    """None while nothing was traded in the last 24 hours."""
    spec = exchange.feed.specs[pair]
    end = int(now.timestamp())
    bars = exchange.feed.bars(venue, pair, (end - _DAY) // 60 * 60, end + 60, to_ms(now))
    if not len(bars):
        return None
    return DayFigures(
        spec.price(bars.close[-1]), spec.price(bars.open[0]), spec.price(bars.high.max()), spec.price(bars.low.min()),
        spec.volume(bars.volume.sum()), _quote_volume(bars, spec.tick * spec.lot),
    )  # fmt: skip


def _quote_volume(bars: Bars, unit: Decimal) -> Decimal:
    """Close times volume, exactly: in machine integers where the products fit."""
    if float(bars.close.max()) * float(bars.volume.max()) < 2.0**62:
        return sum((bars.close * bars.volume).tolist()) * unit
    return sum(int(price) * int(volume) for price, volume in zip(bars.close, bars.volume, strict=True)) * unit


def _without_half_heard(bars: Bars, seconds: int, complete_until: int, now_s: int) -> Bars:
    ends = bars.times + seconds
    return bars.rows((ends <= complete_until) | (ends > now_s))


def _opens(times: Ints, seconds: int) -> Ints:
    if seconds < _DAY or not len(times):
        return times // seconds * seconds
    offsets = _tehran_offsets(times)
    return np.asarray((times + offsets) // seconds * seconds - offsets)


def _tehran_offsets(times: Ints) -> Ints:
    """Seconds east of Greenwich: constant since 2022, moving by an hour twice a year before."""
    hours, index = np.unique(times // 3600, return_inverse=True)
    ends = [_offset(int(hours[0])), _offset(int(hours[-1]))]
    is_constant = ends[0] == ends[1] and hours[-1] - hours[0] < 24 * 100
    offsets = [ends[0]] * len(hours) if is_constant else [_offset(int(hour)) for hour in hours]
    return np.array(offsets, dtype=np.int64)[index]


def _offset(hour: int) -> int:
    offset = datetime.fromtimestamp(hour * 3600, UTC).astimezone(_TEHRAN).utcoffset()
    return int(offset.total_seconds()) if offset else 0
