"""Reads of stored candles: straight into arrays, because rows as objects would be a hundred times slower."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from django.db import connection
from django.db.models import Count, Max, Min
from numpy.typing import NDArray

from algo.models import Candle, Market
from algo.strategies.interface import Candles
from providers.types import Resolution

_TABLE = Candle._meta.db_table
_PRICES = ("open", "high", "low", "close", "volume")
_ARRAYS = ", ".join(["open_time", *(f'"{name}_float"' for name in _PRICES)])
_SERIES = f"FROM {_TABLE} WHERE market_id = %s AND resolution = %s"
# A line for each candle, said by the server: five thousand objects of Python take longer than all else of an answer.
_ISO = """to_char(open_time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')"""
_EXACT = ", ".join([_ISO, *(f"trim_scale({name})" for name in _PRICES)])
_AS_CSV = f"concat_ws(',', {_EXACT})"
_FIELDS = ",".join(f'"{name}":"%%s"' for name in ("open_time", *_PRICES))
_AS_JSON = f"format('{{{_FIELDS}}}', {_EXACT})"
_HOUR = 3600
_POSTGRES_EPOCH = 946_684_800  # 2000-01-01: PostgreSQL's own zero, from which it counts microseconds

Times = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Gap:
    """`bars` candles are missing from `start` up to, not including, `end`."""

    start: datetime
    end: datetime
    bars: int


@dataclass(frozen=True, slots=True)
class Coverage:
    """What is stored of [start, end): `gaps` includes what is missing at both ends."""

    stored: int
    first: datetime | None
    last: datetime | None
    gaps: tuple[Gap, ...]

    @property
    def missing(self) -> int:
        return sum(gap.bars for gap in self.gaps)


@dataclass(frozen=True, slots=True)
class CandlePage:
    """Stored candles, oldest first, a line of text each: open time (ISO 8601, UTC), open, high, low, close and volume,
    exact in plain notation. `next` is the open time of the first candle that no longer fitted; None where that was
    all."""

    lines: list[str]
    next: str | None


def candles_page(
    market: Market,
    resolution: Resolution,
    *,
    limit: int,
    start: datetime | None,
    end: datetime | None,
    as_csv: bool = False,
) -> CandlePage:
    """At most `limit` candles with start <= open_time < end from `start` on; without a start, the newest ones before
    the end. As objects of JSON, or lines of CSV. One query."""
    bounds = [("open_time >= %s", start), ("open_time < %s", end)]
    clause = " AND ".join([_SERIES, *(text for text, bound in bounds if bound)])
    order, wanted = ("ASC", limit + 1) if start else ("DESC", limit)
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {_AS_CSV if as_csv else _AS_JSON} {clause} ORDER BY open_time {order} LIMIT %s",
            [market.pk, resolution.value, *(bound for _, bound in bounds if bound), wanted],
        )
        lines = [line for (line,) in cursor.fetchall()]
    if not start:
        return CandlePage(lines[::-1], None)
    beyond = lines[limit] if len(lines) > limit else None
    if beyond is not None:
        beyond = beyond.partition(",")[0] if as_csv else json.loads(beyond)["open_time"]
    return CandlePage(lines[:limit], beyond)


def candles_window(market: Market, resolution: Resolution, *, bars: int, until: datetime) -> Candles:
    """The last `bars` candles that were closed at `until`, or fewer where there are fewer. Gaps stay gaps."""
    newest = f"{_SERIES} AND open_time <= %s ORDER BY open_time DESC LIMIT %s"
    return _load(newest, [market.pk, resolution.value, until - resolution.duration, bars])


def candles_range(market: Market, resolution: Resolution, start: datetime, end: datetime) -> Candles:
    """Stored candles with start <= open_time < end, oldest first."""
    return _load(f"{_SERIES} AND open_time >= %s AND open_time < %s", [market.pk, resolution.value, start, end])


def candles_coverage(market: Market, resolution: Resolution, start: datetime, end: datetime) -> Coverage:
    """How much of [start, end) is stored, and what is missing. A candle still running at `end` is not missing."""
    times = _from_postgres(_moments(market, resolution, start, end))
    gaps = tuple(find_gaps(times, resolution, start, end))
    if not len(times):
        return Coverage(0, None, None, gaps)
    return Coverage(len(times), _to_time(times[0]), _to_time(times[-1]), gaps)


@dataclass(frozen=True, slots=True)
class Series:
    """The stored candles of one length of one market."""

    resolution: Resolution
    stored: int
    first: datetime
    last: datetime


def candles_stored(market: Market) -> list[Series]:
    """What is stored of a market, shortest candles first; by an index alone."""
    rows = Candle.objects.filter(market=market).values("resolution").order_by()
    told = rows.annotate(stored=Count("*"), first=Min("open_time"), last=Max("open_time"))
    series = [Series(Resolution(row["resolution"]), row["stored"], row["first"], row["last"]) for row in told]
    return sorted(series, key=lambda each: each.resolution.seconds)


def find_gaps(open_time: Times, resolution: Resolution, start: datetime, end: datetime) -> Iterator[Gap]:
    """Where candles are missing between `start` and `end`, given ascending open times (unix seconds).

    Spacing is compared, never a grid: the exchange's own phase (days from Tehran's midnight) is not ours to compute.
    """
    step = resolution.seconds
    edges = np.concatenate(([_to_unix(start) - step], open_time, [_to_unix(end)]))
    spacing = np.diff(edges)
    spacing[1:-1] += shortest_spacing_slack(resolution)
    missing = spacing // step - 1
    for index in np.flatnonzero(missing > 0):
        yield Gap(_to_time(edges[index] + step), _to_time(edges[index + 1]), int(missing[index]))


def shortest_spacing_slack(resolution: Resolution) -> int:
    """Seconds by which a candle may be short: one hour where a change to summer time fell into it (Tehran, to 2022)."""
    return _HOUR if resolution.seconds > _HOUR else 0


def _load(clause: str, parameters: list[Any]) -> Candles:
    query = f"SELECT * FROM (SELECT {_ARRAYS} {clause}) series ORDER BY 1"  # noqa: S608 - fixed text, bound values
    moments, *amounts = _copy(query, parameters, ["i8"] + ["f8"] * len(_PRICES))
    return Candles(_from_postgres(moments), *amounts)


def _copy(query: str, parameters: list[Any], kinds: Sequence[str]) -> list[NDArray[Any]]:
    """The columns of a query whose columns are NOT NULL and 8 bytes wide, of these kinds.

    PostgreSQL's binary COPY writes such rows with one fixed width, so numpy reads them without a loop: a header of 19
    bytes, per row a field count and per field its length and value, and a trailer of 2 bytes.
    """
    fields = [part for i, kind in enumerate(kinds) for part in ((f"size{i}", ">i4"), (f"value{i}", f">{kind}"))]
    rows = np.frombuffer(_copied(query, parameters)[19:-2], dtype=np.dtype([("count", ">i2"), *fields]))
    return [rows[f"value{i}"].astype(kind) for i, kind in enumerate(kinds)]


def _copied(query: str, parameters: list[Any]) -> bytes:
    sink = io.BytesIO()
    with connection.cursor() as cursor:
        bound = cursor.mogrify(query, parameters).decode()
        cursor.copy_expert(f"COPY ({bound}) TO STDOUT (FORMAT BINARY)", sink)
    return sink.getvalue()


def _moments(market: Market, resolution: Resolution, start: datetime, end: datetime) -> NDArray[Any]:
    """Open times in [start, end), as one array: a row for each would be a message for each.

    In binary, an array is a header of 20 bytes, and per element its length and value. Around it stand the header of
    COPY, a field count and the length of the array (25 bytes), and a trailer of 2 bytes. None at all is null.
    """
    inner = f"SELECT open_time {_SERIES} AND open_time >= %s AND open_time < %s ORDER BY open_time"
    copied = _copied(f"SELECT array_agg(open_time) FROM ({inner}) AS series", [market.pk, resolution.value, start, end])  # noqa: S608 - fixed text, bound values
    elements = np.frombuffer(copied[45:-2], dtype=np.dtype([("size", ">i4"), ("value", ">i8")]))
    return elements["value"].astype("i8")


def _from_postgres(moments: Times) -> Times:
    """Unix seconds of a timestamptz as PostgreSQL sends it."""
    return moments // 1_000_000 + _POSTGRES_EPOCH


def _to_unix(moment: datetime) -> int:
    return int(moment.timestamp())


def _to_time(unix: int) -> datetime:
    return datetime.fromtimestamp(int(unix), UTC)
