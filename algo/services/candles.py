"""Writes of candles. Stored once, closed only, as the exchange first stated them; a gap stays a gap."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from itertools import pairwise
from operator import attrgetter

from django.db import connection

from algo.models import Candle as StoredCandle
from algo.models import Market
from algo.selectors.candles import Gap, candles_coverage, shortest_spacing_slack
from providers.errors import BadPayload, RateLimited
from providers.interface import ExchangeProvider
from providers.types import Candle, Resolution

logger = logging.getLogger(__name__)

PAGE_BARS = 500  # one answer of Nobitex (contract: nobitex 4.5)
BACKFILL_ROUNDS = 8
PATIENCE_SECONDS = 120.0  # how long a download waits, in all, for one page that is refused for calling too often
FINER_THAN_ASKED = 0.1  # share of too narrow spacings from which an answer is of another candle length
_AMOUNTS = ("open", "high", "low", "close", "volume")
_COLUMNS = attrgetter("open_time", *_AMOUNTS)
_EXACT = Decimal(1).scaleb(-18)  # what an AmountField keeps
_TOO_LARGE = Decimal(10) ** 20
_WIDE = Context(prec=38)
_ALIGNED_UP_TO = timedelta(minutes=30)  # Tehran is on a half hour: longer candles have a phase of their own

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
    market: Market, resolution: Resolution, provider: ExchangeProvider, *, now: datetime, bars: int
) -> int:
    """Bring the last `bars` closed candles up to date; returns how many were new. Asks nothing when none is due.

    Asks from the last stored candle on (that one once more, to notice a revision), or from the first gap among the
    last `bars`: what an exchange publishes late is still picked up. Raises `ProviderError`.
    """
    series = _Series(market, resolution, provider, now)
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
    progress: Progress | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Fetched:
    """Store the closed candles with start <= open_time < end that are not stored yet, oldest page first.

    Stored stretches are not asked for again, so an interrupted download continues where it stopped: every page is kept
    as soon as it is there. Waits when the exchange says that it is called too often. Raises `ProviderError`.
    """
    end = min(end, now)
    series = _Series(market, resolution, provider, now)
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
    waited = 0.0
    while True:
        try:
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

    def complete_until(self, start: datetime) -> datetime | None:
        """The last candle before the first one missing since `start` (or `start`); None where nothing is missing."""
        gaps = candles_coverage(self.market, self.resolution, start, self.now).gaps
        return max(gaps[0].start - self.resolution.duration, start) if gaps else None

    def oldest_if_fewer_than(self, bars: int) -> datetime | None:
        """The oldest stored candle, where there are some but fewer than `bars`."""
        rows = StoredCandle.objects.filter(market=self.market, resolution=self.resolution.value)
        times = list(rows.order_by("-open_time").values_list("open_time", flat=True)[:bars])
        return times[-1] if 0 < len(times) < bars else None

    def fetch(self, start: datetime, end: datetime) -> int:
        """Ask for [start, end), keep what is a closed candle and not stored yet; how many that were."""
        answer = self.provider.candles(self.market.symbol, self.resolution, start, end)
        candles = sorted(map(_as_stored, answer), key=lambda candle: candle.open_time)
        self._refuse_finer(candles)
        kept, left_out = usable_candles(candles, self.resolution, start=start, end=end, now=self.now)
        if left_out:
            self._warn("candles left out", **left_out)
        return self._store(kept)

    def _refuse_finer(self, candles: Sequence[Candle]) -> None:
        """Exchanges have answered 1-minute candles when asked for 15-minute ones (contract: wallex 3.6)."""
        step = self.resolution.duration - timedelta(seconds=shortest_spacing_slack(self.resolution))
        narrow = sum(timedelta(0) < b.open_time - a.open_time < step for a, b in pairwise(candles))
        if narrow > 1 and narrow > FINER_THAN_ASKED * len(candles):
            raise BadPayload(
                f"{self.provider.name} answered candles of another length than {self.resolution.value!r} for "
                f"{self.market.symbol}. None of them was stored; choose another resolution."
            )

    def _store(self, candles: Sequence[Candle]) -> int:
        if not candles:
            return 0
        stored = self._stored_between(candles[0].open_time, candles[-1].open_time)
        revised = [c.open_time for c in candles if c.open_time in stored and stored[c.open_time] != c]
        if revised:
            self._warn("exchange revised closed candles; the first version is kept", count=len(revised), at=revised[0])
        return self._insert([candle for candle in candles if candle.open_time not in stored])

    def _stored_between(self, first: datetime, last: datetime) -> dict[datetime, Candle]:
        rows = StoredCandle.objects.filter(
            market=self.market, resolution=self.resolution.value, open_time__gte=first, open_time__lte=last
        )
        return {row[0]: Candle(*row) for row in rows.values_list("open_time", *_AMOUNTS)}

    def _insert(self, candles: Sequence[Candle]) -> int:
        """One statement; a candle that another worker stored meanwhile is left as it is. How many were inserted."""
        if not candles:
            return 0
        names = ", ".join(f'"{name}"' for name in ("open_time", *_AMOUNTS))
        columns = [list(column) for column in zip(*map(_COLUMNS, candles), strict=True)]
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


# --- one candle -----------------------------------------------------------------------------------------------------


def usable_candles(
    candles: Iterable[Candle], resolution: Resolution, *, start: datetime, end: datetime, now: datetime
) -> tuple[list[Candle], Counter[str]]:
    """Closed, possible candles of [start, end), each time once; and how many others there were, by reason.

    The running candle is no fault and is not counted. Expects ascending times; of two at one time the first counts.
    """
    kept: list[Candle] = []
    left_out: Counter[str] = Counter()
    for candle in candles:
        if candle.closed_at(resolution) > now:
            continue
        fault = _fault(candle, resolution, start, end, kept[-1] if kept else None)
        if fault:
            left_out[fault] += 1
        else:
            kept.append(candle)
    return kept, left_out


def _fault(candle: Candle, resolution: Resolution, start: datetime, end: datetime, before: Candle | None) -> str:
    """Why a candle cannot be kept; empty where it can."""
    if not start <= candle.open_time < end:
        return "not_asked_for"
    if not is_possible(candle):
        return "impossible"
    if resolution.duration <= _ALIGNED_UP_TO and candle.open_time.timestamp() % resolution.seconds:
        return "unaligned"
    if before is None:
        return ""
    if candle.open_time == before.open_time:
        return "repeated"
    slack = timedelta(seconds=shortest_spacing_slack(resolution))
    return "overlapping" if candle.open_time < before.closed_at(resolution) - slack else ""


def is_possible(candle: Candle) -> bool:
    """Positive prices, the high on top and the low at the bottom, no negative volume, and all of it a number."""
    amounts = (candle.open, candle.high, candle.low, candle.close, candle.volume)
    if not all(amount.is_finite() and amount < _TOO_LARGE for amount in amounts):
        return False
    body = (candle.open, candle.close)
    return 0 < candle.low <= min(body) and candle.high >= max(body) and candle.volume >= 0


def _as_stored(candle: Candle) -> Candle:
    """With the digits the database keeps, so that a comparison with what is stored finds revisions only."""
    open_time, *amounts = _COLUMNS(candle)
    return Candle(open_time.astimezone(UTC), *map(_quantized, amounts))


def _quantized(amount: Decimal) -> Decimal:
    fine = amount.is_finite() and abs(amount) < _TOO_LARGE
    return amount.quantize(_EXACT, context=_WIDE) if fine else amount
