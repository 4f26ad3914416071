"""Writes of candles. Stored once, closed only, as the exchange first stated them; a gap stays a gap."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Context

import numpy as np
from django.db import connection
from django.db.models import Min

from algo.models import Candle as StoredCandle
from algo.models import Market
from algo.selectors.candles import Gap, candles_coverage
from algo.services.candle_checks import SMALLEST, UnitJump, as_floats, is_finer, unit_jumps, usable_candles
from providers.budgets import Priority, budget_priority
from providers.errors import BadPayload, RateLimited
from providers.interface import ExchangeProvider
from providers.types import Candle, Resolution

logger = logging.getLogger(__name__)

PAGE_BARS = 500  # one answer of Nobitex (contract: nobitex 4.5)
BACKFILL_ROUNDS = 8
CLOSE_GRACE = (
    3.0  # wall seconds: answers come from caches (contract: nobitex 2.2), and our clock may be ahead of theirs
)
PATIENCE_SECONDS = 120.0  # how long a download waits, in all, for the calls of one page
NEIGHBOURS = 2  # stored candles on each side that a page is compared with: one may be a spike
_AMOUNTS = ("open", "high", "low", "close", "volume")
_WIDE = Context(prec=38)

Progress = Callable[[timedelta, timedelta], None]  # done, of how much


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a download did: candles new in the database, and the gaps that remain: the exchange has nothing there."""

    new: int
    gaps: tuple[Gap, ...]

    @property
    def missing(self) -> int:
        return sum(gap.bars for gap in self.gaps)


# --- live -----------------------------------------------------------------------------------------------------------


def candles_update(
    market: Market,
    resolution: Resolution,
    provider: ExchangeProvider,
    *,
    now: datetime,
    bars: int,
    grace: timedelta = timedelta(0),
) -> int:
    """Bring the last `bars` closed candles up to date; returns how many were new. Asks nothing when none is due.

    A candle that ended less than `grace` ago is taken only where the answer holds a later one: what is stored stays,
    and an answer from just before its end would keep it cut short for ever.

    Asks from the last stored candle on (that one once more, to notice a revision), or from the first gap among the
    last `bars`: what an exchange publishes late is still picked up. Raises `ProviderError`.
    """
    series = _Series(market, resolution, provider, now, grace=grace)
    # the last `bars` candles that are closed now opened after this
    start = series.complete_until(now - (bars + 1) * resolution.duration + timedelta(seconds=1))
    new = series.fetch(start, now) if start else 0
    for _ in range(BACKFILL_ROUNDS):  # a quiet market skips minutes: `bars` candles may reach further back
        oldest = series.oldest_if_fewer_than(bars)
        added = series.fetch(oldest - bars * resolution.duration, oldest) if oldest else 0
        if not added:
            break
        new += added
    return new


# --- history --------------------------------------------------------------------------------------------------------


def candles_fetch_range(
    market: Market,
    resolution: Resolution,
    provider: ExchangeProvider,
    *,
    start: datetime,
    end: datetime,
    now: datetime,
    accept_unit_jump: bool = False,
    progress: Progress | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Fetched:
    """Store the closed candles with start <= open_time < end that are not stored yet, oldest page first.

    Stored stretches are not asked for again, so an interrupted download continues where it stopped: every page is kept
    as soon as it is there. Waits when the exchange says that it is called too often, and while strategies need its
    calls. Raises `ProviderError`, of which `UnitJump` for a page whose prices are in another unit than the candles
    beside it; `accept_unit_jump` stores it.
    """
    end = min(end, now)
    series = _Series(market, resolution, provider, now, accept_unit_jump)
    pages = list(pages_of(candles_coverage(market, resolution, start, end).gaps, resolution))
    total, done, new = sum((until - since for since, until in pages), timedelta()), timedelta(), 0
    for since, until in pages:
        new += _patiently(series, since, until, sleep)
        done += until - since
        if progress:
            progress(done, total)
    return Fetched(new, candles_coverage(market, resolution, start, end).gaps)


def pages_of(gaps: Iterable[Gap], resolution: Resolution) -> Iterator[tuple[datetime, datetime]]:
    """Stretches of at most PAGE_BARS that hold every gap: near gaps share a page, long ones are cut."""
    span = PAGE_BARS * resolution.duration
    stretches: list[tuple[datetime, datetime]] = []
    for gap in gaps:
        if stretches and gap.end - stretches[-1][0] <= span:
            stretches[-1] = (stretches[-1][0], gap.end)
        else:
            stretches.append((gap.start, gap.end))
    for start, end in stretches:
        for page in range(-(-(end - start) // span)):  # rounded up
            yield start + page * span, min(start + (page + 1) * span, end)


def _patiently(series: _Series, since: datetime, until: datetime, sleep: Callable[[float], None]) -> int:
    """One page of a download: strategies that need their candle now go before it."""
    waited = 0.0
    while True:
        try:
            with budget_priority(Priority.DOWNLOADS):
                return series.fetch(since, until)
        except RateLimited as exc:
            pause = max(exc.retry_after, 1.0)
            waited += pause
            if waited > PATIENCE_SECONDS:
                raise
            sleep(pause)


# --- one series -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Series:
    """The candles of one market and length, and where they come from."""

    market: Market
    resolution: Resolution
    provider: ExchangeProvider
    now: datetime
    accept_unit_jump: bool = False
    grace: timedelta = timedelta(0)

    def complete_until(self, start: datetime) -> datetime | None:
        """The last candle before the first one missing since `start` (or `start`); None where nothing is missing."""
        gaps = candles_coverage(self.market, self.resolution, start, self.now).gaps
        return max(gaps[0].start - self.resolution.duration, start) if gaps else None

    def oldest_if_fewer_than(self, bars: int) -> datetime | None:
        """The oldest stored candle, where there are some but fewer than `bars`."""
        rows = StoredCandle.objects.filter(market=self.market, resolution=self.resolution.value)
        if rows.order_by("-open_time")[bars - 1 : bars].exists():
            return None
        oldest: datetime | None = rows.aggregate(oldest=Min("open_time"))["oldest"]
        return oldest

    def fetch(self, start: datetime, end: datetime) -> int:
        """Ask for [start, end), keep what is a closed candle and not stored yet; how many that were."""
        kept = self._ask(start, end)
        if not kept:
            return 0
        stored = stored_around(self.market, self.resolution, kept[0].open_time, kept[-1].open_time)
        self._report_revisions(kept, stored)
        fresh = [candle for candle in kept if candle.open_time not in stored]
        if fresh:
            self._refuse_unit_jump(fresh, stored, end)
        return self._insert(fresh)

    def _ask(self, start: datetime, end: datetime) -> list[Candle]:
        """The usable candles of [start, end)."""
        answer = self.provider.candles(self.market.symbol, self.resolution, start, end)
        candles = sorted(answer, key=lambda candle: candle.open_time)
        if is_finer(np.array([int(c.open_time.timestamp()) for c in candles], dtype=np.int64), self.resolution):
            raise BadPayload(  # seen: 1-minute candles when asked for 15-minute ones (contract: wallex 3.6)
                f"{self.provider.name} answered candles of another length than {self.resolution.value!r} for "
                f"{self.market.symbol}. None of them was stored; choose another resolution."
            )
        kept, left_out = usable_candles(candles, self.resolution, start=start, end=end, now=self.now)
        if left_out:
            self._warn("candles left out", **left_out)
        return kept if not kept or self._is_final(kept[-1], candles[-1]) else kept[:-1]

    def _is_final(self, candle: Candle, newest: Candle) -> bool:
        ended = candle.closed_at(self.resolution) + self.grace <= self.now
        return ended or newest.open_time > candle.open_time

    def _report_revisions(self, candles: Sequence[Candle], stored: dict[datetime, Candle]) -> None:
        revised = [c.open_time for c in candles if c.open_time in stored and not _same(stored[c.open_time], c)]
        if revised:
            self._warn("exchange revised closed candles; the first version is kept", count=len(revised), at=revised[0])

    def _refuse_unit_jump(self, fresh: Sequence[Candle], stored: dict[datetime, Candle], end: datetime) -> None:
        spikes, lasting = unit_changes(fresh, stored)
        if lasting and lasting[-1] == fresh[-1].open_time and end + self.resolution.duration <= self.now:
            # The last candle of a page: whether it is a spike, the candles after the page tell.
            after = self._ask(end, min(end + (NEIGHBOURS + 1) * self.resolution.duration, self.now))
            spikes, lasting = unit_changes(fresh, stored | {candle.open_time: candle for candle in after})
        if spikes:
            self._warn("one candle is off by about ten, its neighbours agree; stored as it is", at=spikes[0])
        if not lasting:
            return
        self._warn("prices changed by about ten", at=lasting[0], accepted=self.accept_unit_jump)
        if not self.accept_unit_jump:
            raise UnitJump(f"{self.provider.name} {jump_sentence(self.market.symbol, self.resolution, lasting[0])}")

    def _insert(self, candles: Sequence[Candle]) -> int:
        """One statement; a candle that another worker stored meanwhile is left as it is. How many were inserted.

        Arrays go as text that PostgreSQL reads itself: a list would be parsed as an expression, three times slower."""
        if not candles:
            return 0
        names = ", ".join(f'"{name}"' for name in ("open_time", *_AMOUNTS))
        columns = ["{" + ",".join([f'"{c.open_time.isoformat()}"' for c in candles]) + "}"]
        columns += ["{" + ",".join([str(getattr(c, name)) for c in candles]) + "}" for name in _AMOUNTS]
        with connection.cursor() as cursor:
            cursor.execute(
                f"INSERT INTO {StoredCandle._meta.db_table} (market_id, resolution, {names}) "  # noqa: S608 - our names
                f"SELECT %s, %s, * FROM unnest(%s::timestamptz[]{', %s::numeric[]' * len(_AMOUNTS)}) "
                "ON CONFLICT DO NOTHING",
                [self.market.pk, self.resolution.value, *columns],
            )
            return int(cursor.rowcount)

    def _warn(self, event: str, **facts: object) -> None:
        known = {"provider": self.provider.name, "symbol": self.market.symbol, "resolution": self.resolution.value}
        logger.warning("%s %s", event, " ".join(f"{name}={value}" for name, value in {**known, **facts}.items()))


# --- what is stored around new candles ------------------------------------------------------------------------------


def stored_around(market: Market, resolution: Resolution, first: datetime, last: datetime) -> dict[datetime, Candle]:
    """The stored candles of [first, last] and the nearest ones on each side, by time."""
    rows = StoredCandle.objects.filter(market=market, resolution=resolution.value)
    columns = rows.values_list("open_time", *_AMOUNTS)
    before = columns.filter(open_time__lt=first).order_by("-open_time")[:NEIGHBOURS]
    within = columns.filter(open_time__gte=first, open_time__lte=last).order_by("open_time")
    after = columns.filter(open_time__gt=last).order_by("open_time")[:NEIGHBOURS]
    return {row[0]: Candle(*row) for row in (*reversed(before), *within, *after)}


def unit_changes(fresh: Sequence[Candle], stored: dict[datetime, Candle]) -> tuple[list[datetime], list[datetime]]:
    """Times of the new candles that are spikes, and times from which prices change by the factor of a unit and stay.
    What changes between two stored candles was decided when they were stored."""
    series = sorted([*fresh, *stored.values()], key=lambda candle: candle.open_time)
    jumps = unit_jumps(as_floats([candle.close for candle in series]))
    is_new = [candle.open_time not in stored for candle in series]
    spikes = [series[at].open_time for at in jumps.spikes if is_new[at]]
    return spikes, [series[at].open_time for at in jumps.lasting if is_new[at] or is_new[at - 1]]


def jump_sentence(symbol: str, resolution: Resolution, at: datetime) -> str:
    return (
        f"candles of {symbol}, resolution {resolution.value}: from {at:%Y-%m-%d %H:%M} the prices differ by a factor "
        "near 10 from the candles beside them, as when rial is taken for toman"
    )


def _same(stored: Candle, candle: Candle) -> bool:
    """Whether an answer repeats what is stored, in the digits that are kept."""
    return stored == candle or all(
        getattr(stored, name) == getattr(candle, name).quantize(SMALLEST, context=_WIDE) for name in _AMOUNTS
    )
