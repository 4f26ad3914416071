"""Import of recorded candles: the same checks as for an exchange's, over arrays; the digits as they are in the file."""

from __future__ import annotations

import io
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from django.db import DataError, IntegrityError, connection, transaction
from numpy.typing import NDArray

from algo.models import Candle as StoredCandle
from algo.models import Market
from algo.selectors.candles import Gap, candles_coverage, candles_range, shortest_spacing_slack
from algo.services.candle_checks import (
    ALIGNED_UP_TO,
    SMALLEST,
    TOO_LARGE,
    UnitJump,
    is_finer,
    shortest_spacing,
    unit_jumps,
)
from algo.services.candles import NEIGHBOURS, jump_sentence
from providers.recorded import RecordedCandles, RecordedDataError, read_candle_rows, resolution_of
from providers.types import Resolution

logger = logging.getLogger(__name__)

CHUNK = 50_000  # candles per step of the progress bar
ENOUGH_TO_TELL = 10  # candles; fewer may be far apart because nothing was traded
_AMOUNTS = ("open", "high", "low", "close", "volume")
_COLUMNS = ", ".join(f'"{name}"' for name in _AMOUNTS)
_TABLE = StoredCandle._meta.db_table
_INCOMING = "incoming_candles"

Mask = NDArray[np.bool_]
Progress = Callable[[int, int], None]  # candles done, of how many


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did. `known` candles were stored before and stay as they are, `revised` of them differ in the
    file; `refused` are counted by reason, `notes` say what the reader left out; `gaps` are those within the file."""

    resolution: Resolution
    new: int
    known: int
    revised: int
    refused: Counter[str]
    notes: tuple[str, ...]
    gaps: tuple[Gap, ...]

    @property
    def missing(self) -> int:
        return sum(gap.bars for gap in self.gaps)


def candles_import(
    market: Market,
    resolution: Resolution | None,
    path: str,
    *,
    now: datetime,
    accept_unit_jump: bool = False,
    progress: Progress | None = None,
) -> Imported:
    """Store the closed candles of a file that are not stored yet: all of them or, if anything fails, none.

    Without `resolution`, the file's own. Raises `RecordedDataError`, or `UnitJump` where the prices are in another unit
    than those stored around them, or change their unit within the file.
    """
    rows = read_candle_rows(path)
    resolution = resolution or resolution_of(rows.candles.open_time)
    _refuse_other_length(path, rows.candles, resolution)
    usable, refused = _usable(rows.candles, resolution, now)
    index = np.flatnonzero(usable)
    if not len(index):
        raise RecordedDataError(f"{path} holds no candle that can be stored ({_listed(refused)}).")
    times, closes = rows.candles.open_time[index], rows.candles.close[index]
    lines = [rows.lines[at] for at in index.tolist()]
    with transaction.atomic():
        _check_unit(market, resolution, times, closes, accept_unit_jump)
        new, revised = _store(path, market, resolution, times, lines, progress)
    first, end = _moment(times[0]), _moment(times[-1]) + resolution.duration
    gaps = candles_coverage(market, resolution, first, end).gaps
    if revised:
        logger.warning(
            "the file has other values for stored candles; the first version is kept symbol=%s count=%d path=%s",
            *(market.symbol, revised, path),
        )
    return Imported(resolution, new, len(index) - new, revised, refused, rows.candles.notes, gaps)


# --- checks ---------------------------------------------------------------------------------------------------------


def _refuse_other_length(path: str, candles: RecordedCandles, resolution: Resolution) -> None:
    times = candles.open_time
    longer = len(times) >= ENOUGH_TO_TELL and int(np.diff(times).min()) > resolution.seconds + shortest_spacing_slack(
        resolution
    )
    if not longer and not is_finer(times, resolution):
        return
    raise RecordedDataError(
        f"{path} holds candles of another length than {resolution.value}. Leave --resolution out to take the file's "
        "own, or choose another file."
    )


def _usable(candles: RecordedCandles, resolution: Resolution, now: datetime) -> tuple[Mask, Counter[str]]:
    """Which candles may be stored; how many may not, by reason. One still running is no fault and is not counted."""
    times = candles.open_time
    closed = times + resolution.seconds <= int(now.timestamp())
    small, large = float(SMALLEST), float(TOO_LARGE)
    faults = {"impossible": (candles.low < small) | (candles.high >= large) | (candles.volume >= large)}
    if resolution.duration <= ALIGNED_UP_TO:
        faults["unaligned"] = times % resolution.seconds != 0
    usable = closed.copy()
    refused: Counter[str] = Counter()
    for reason, fault in faults.items():
        _take(usable, fault, refused, reason)
    _take(
        usable, _overlapping(times, usable, int(shortest_spacing(resolution).total_seconds())), refused, "overlapping"
    )
    return usable, refused


def _take(usable: Mask, fault: Mask, refused: Counter[str], reason: str) -> None:
    count = int((usable & fault).sum())
    if count:
        refused[reason] = count
        usable &= ~fault


def _overlapping(times: NDArray[np.int64], usable: Mask, least: int) -> Mask:
    """Candles that begin before the usable one in front of them has ended."""
    overlapping = np.zeros(len(times), dtype=np.bool_)
    index = np.flatnonzero(usable)
    if len(index) < 2 or int(np.diff(times[index]).min()) >= least:
        return overlapping
    allowed = int(times[index[0]])
    for at in index.tolist():
        if times[at] < allowed:
            overlapping[at] = True
        else:
            allowed = int(times[at]) + least
    return overlapping


def _check_unit(
    market: Market,
    resolution: Resolution,
    times: NDArray[np.int64],
    closes: NDArray[np.float64],
    accepted: bool,
) -> None:
    """The closes of the file in one series with those stored among and around them."""
    known, known_closes = _stored_closes(market, resolution, _moment(times[0]), _moment(times[-1]))
    is_new = ~np.isin(times, known)
    all_times = np.concatenate((times[is_new], known))
    all_closes = np.concatenate((closes[is_new], known_closes))
    new = np.concatenate((np.ones(int(is_new.sum()), dtype=np.bool_), np.zeros(len(known), dtype=np.bool_)))
    order = np.argsort(all_times)
    new = new[order]
    jumps = unit_jumps(all_closes[order])
    spikes = [at for at in jumps.spikes if new[at]]
    lasting = [at for at in jumps.lasting if new[at] or new[at - 1]]
    for what, found in (("one candle is off by about ten, stored as it is", spikes), ("unit jump", lasting)):
        if found:
            first = _moment(all_times[order][found[0]])
            logger.warning("%s symbol=%s count=%d first=%s", what, market.symbol, len(found), first)
    if lasting and not accepted:
        raise UnitJump(jump_sentence(market.symbol, resolution, _moment(all_times[order][lasting[0]])))


def _stored_closes(
    market: Market, resolution: Resolution, first: datetime, last: datetime
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Times and closes of what is stored from `first` to `last`, and of the nearest candles on each side."""
    rows = StoredCandle.objects.filter(market=market, resolution=resolution.value)
    columns = rows.values_list("open_time", "close_float")
    before = columns.filter(open_time__lt=first).order_by("-open_time")[:NEIGHBOURS]
    after = columns.filter(open_time__gt=last).order_by("open_time")[:NEIGHBOURS]
    sides = [(int(at.timestamp()), close) for part in (before, after) for at, close in part]
    within = candles_range(market, resolution, first, last + resolution.duration)
    inside = within.open_time <= int(last.timestamp())
    times = np.array([at for at, _ in sides], dtype=np.int64)
    closes = np.array([close for _, close in sides], dtype=np.float64)
    return np.concatenate((times, within.open_time[inside])), np.concatenate((closes, within.close[inside]))


# --- into the database ----------------------------------------------------------------------------------------------


def _store(
    path: str,
    market: Market,
    resolution: Resolution,
    times: NDArray[np.int64],
    lines: Sequence[str],
    progress: Progress | None,
) -> tuple[int, int]:
    """How many candles were new, and how many were stored with other values. The file's own text goes through COPY into
    a table of this transaction, so that no digit passes through Python."""
    new = revised = 0
    with connection.cursor() as cursor:
        columns = ", ".join(["opened double precision", *(f'"{name}" numeric(38, 18)' for name in _AMOUNTS)])
        cursor.execute(f"CREATE TEMPORARY TABLE {_INCOMING} ({columns}) ON COMMIT DROP")
        try:
            for start in range(0, len(lines), CHUNK):
                stop = min(start + CHUNK, len(lines))
                chunk = _Chunk(cursor, market, resolution, _moment(times[start]), _moment(times[stop - 1]))
                chunk.copy_in(lines[start:stop])
                added, differing = chunk.store()
                new, revised = new + added, revised + differing
                if progress:
                    progress(stop, len(lines))
        except (DataError, IntegrityError) as exc:
            reason = str(exc).strip().splitlines()[0]
            raise RecordedDataError(f"{path} holds a candle that the database refuses ({reason}).") from exc
        cursor.execute(f"DROP TABLE {_INCOMING}")
    return new, revised


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Some candles of a file, from `first` to `last`, on their way into a series. The bounds stand in every query: they
    keep PostgreSQL from going through the whole series for each chunk."""

    cursor: Any
    market: Market
    resolution: Resolution
    first: datetime
    last: datetime

    def copy_in(self, lines: Sequence[str]) -> None:
        self.cursor.execute(f"TRUNCATE {_INCOMING}")
        text = io.StringIO("\n".join(lines) + "\n")
        self.cursor.copy_expert(f"COPY {_INCOMING} (opened, {_COLUMNS}) FROM STDIN (FORMAT CSV)", text)

    def store(self) -> tuple[int, int]:
        """How many were new, and how many were stored with other values. Where nothing is stored yet, the rows go in
        without the speculation that ON CONFLICT costs each of them (a quarter of the time)."""
        stored = StoredCandle.objects.filter(market=self.market, resolution=self.resolution.value)
        if stored.filter(open_time__gte=self.first, open_time__lte=self.last).exists():
            revised = self._count_revised()
            return self._insert("ON CONFLICT DO NOTHING"), revised
        try:
            with transaction.atomic():
                return self._insert(""), 0
        except IntegrityError:  # another worker stored one of them just now, or one is impossible: then again
            return self._insert("ON CONFLICT DO NOTHING"), 0

    def _insert(self, conflict: str) -> int:
        self.cursor.execute(
            f"INSERT INTO {_TABLE} (market_id, resolution, open_time, {_COLUMNS}) "  # noqa: S608 - our own names
            f"SELECT %s, %s, to_timestamp(opened), {_COLUMNS} FROM {_INCOMING} {conflict}",
            [self.market.pk, self.resolution.value],
        )
        return int(self.cursor.rowcount)

    def _count_revised(self) -> int:
        differs = " OR ".join(f'stored."{name}" <> incoming."{name}"' for name in _AMOUNTS)
        self.cursor.execute(
            f"SELECT count(*) FROM {_TABLE} stored JOIN {_INCOMING} incoming "  # noqa: S608 - our own names
            "ON to_timestamp(incoming.opened) = stored.open_time WHERE stored.market_id = %s "
            f"AND stored.resolution = %s AND stored.open_time BETWEEN %s AND %s AND ({differs})",
            [self.market.pk, self.resolution.value, self.first, self.last],
        )
        return int(self.cursor.fetchone()[0])


def _moment(unix: Any) -> datetime:
    return datetime.fromtimestamp(int(unix), UTC)


def _listed(refused: Counter[str]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(refused.items())) or "all of them still running"
