"""Recorded candles in a file: `time,open,high,low,close,volume` as CSV, gzip allowed.

`time` is the unix second at which the candle opened. One reader for everybody who plays or tests recorded prices.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from providers.types import Resolution

COLUMNS = ("time", "open", "high", "low", "close", "volume")
FORM = f"Expected a CSV file (gzip allowed) with the header line {','.join(COLUMNS)} and times in unix seconds."
_GZIP_MAGIC = b"\x1f\x8b"
_FIRST_SECOND, _LAST_SECOND = 0, 4_102_444_800  # 1970 to 2100: beyond are milliseconds, or nonsense

Floats = NDArray[np.float64]


class RecordedDataError(ValueError):
    """A file of recorded candles cannot be used; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class RecordedCandles:
    """Equally long arrays, strictly increasing in `open_time` (unix seconds). `notes` says what was left out and why;
    nothing is filled in."""

    open_time: NDArray[np.int64]
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.open_time)


@dataclass(frozen=True, slots=True)
class RecordedRows:
    """The same candles twice: as arrays, for checks, and as they are written, digit for digit: `lines[i]` is candle i
    as `time,open,high,low,close,volume` without its line end. An empty volume is written 0."""

    candles: RecordedCandles
    lines: list[str]


def read_candles_csv(path: str | Path) -> RecordedCandles:
    """The candles of a file, oldest first.

    Repeated identical rows count once; rows without a price, and candles that cannot be (a high below the low, a price
    of zero), are left out; an empty volume is zero. Raises RecordedDataError.
    """
    path = Path(path)
    columns, body = _read(path)
    return _clean(path, _parse(path, body, columns))[0]


def read_candle_rows(path: str | Path) -> RecordedRows:
    """As `read_candles_csv`, with the exact text of every candle. Raises RecordedDataError."""
    path = Path(path)
    columns, body = _read(path)
    rows = _parse(path, body, columns)
    lines = _lines(body, columns)
    if len(lines) != len(rows):
        raise RecordedDataError(f"{path} has fields that span lines. {FORM}")
    no_volume = np.flatnonzero(~np.isfinite(rows[:, 5])).tolist()
    candles, kept = _clean(path, rows)
    for line in no_volume:
        lines[line] = lines[line].rpartition(",")[0] + ",0"
    return RecordedRows(candles, [lines[index] for index in kept.tolist()])


def _read(path: Path) -> tuple[list[int], str]:
    """Where each of COLUMNS stands, and what follows the header."""
    with opened_text(path) as stream:
        return _columns(path, stream.readline()), stream.read()


def _lines(body: str, columns: Sequence[int]) -> list[str]:
    """The rows of a file in the order of COLUMNS, each with these fields only."""
    lines = [line for line in body.split("\n") if line.strip()]
    in_order = list(columns) == list(range(len(COLUMNS))) and '"' not in body
    if in_order and all(line.count(",") == len(COLUMNS) - 1 for line in lines):
        return lines
    return [",".join([fields[column].strip() for column in columns]) for fields in csv.reader(lines) if fields]


def resolution_of(open_time: NDArray[np.int64]) -> Resolution:
    """The length of the candles, from their most frequent spacing. Raises RecordedDataError."""
    if len(open_time) < 2:
        raise RecordedDataError("One candle does not tell how long it is. State the resolution, or use a longer file.")
    spacings, counts = np.unique(np.diff(open_time), return_counts=True)
    usual = int(spacings[np.argmax(counts)])
    for resolution in Resolution:
        if resolution.seconds == usual:
            return resolution
    raise RecordedDataError(
        f"The candles are {usual} seconds apart, which is no candle length of Nobitex or Wallex "
        f"({', '.join(Resolution)} minutes or days). Resample the file to one of these."
    )


@contextmanager
def opened_text(path: Path) -> Iterator[TextIO]:
    """The file as text, whatever it is packed in; every way in which that fails is a RecordedDataError."""
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == _GZIP_MAGIC
        with gzip.open(path, "rb") if packed else path.open("rb") as binary:
            yield io.TextIOWrapper(binary, encoding="utf-8-sig", newline=None)
    except FileNotFoundError:
        raise RecordedDataError(f"{path} does not exist. Check the path.") from None
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise RecordedDataError(f"{path} is a damaged gzip file. Download or copy it again.") from None
    except UnicodeDecodeError:
        raise RecordedDataError(f"{path} is not a text file. {FORM}") from None
    except OSError as exc:
        raise RecordedDataError(f"{path} cannot be read: {exc.strerror or exc}. Check the path.") from None


def _columns(path: Path, header: str) -> list[int]:
    """Where each of COLUMNS stands."""
    names = [name.strip().lower() for name in header.split(",")]
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        raise RecordedDataError(f"{path} has no column {', '.join(missing)}. {FORM}")
    return [names.index(name) for name in COLUMNS]


def _parse(path: Path, body: str, columns: Sequence[int]) -> Floats:
    """Rows x COLUMNS; NaN where a field is empty."""
    if not body.strip():
        raise RecordedDataError(f"{path} holds no candles, only the header line.")
    try:
        return np.loadtxt(io.StringIO(body), delimiter=",", usecols=columns, comments=None, ndmin=2)
    except ValueError:  # an empty field, or no number: the slow way knows the line
        return _parse_slowly(path, body, columns)


def _parse_slowly(path: Path, body: str, columns: Sequence[int]) -> Floats:
    rows = []
    for line, fields in enumerate(csv.reader(io.StringIO(body)), start=2):
        if not fields:
            continue
        try:
            rows.append([float(fields[column].strip() or "nan") for column in columns])
        except (ValueError, IndexError):
            raise RecordedDataError(f"{path}, line {line}: {','.join(fields)[:80]!r} is no candle. {FORM}") from None
    return np.array(rows, dtype=np.float64)


def _clean(path: Path, rows: Floats) -> tuple[RecordedCandles, NDArray[np.int64]]:
    """The usable candles, and which row each of them was."""
    notes: list[str] = []
    _check_times(path, rows[:, 0])
    rows = np.column_stack((rows, np.arange(len(rows), dtype=np.float64)))
    rows = _without(rows, np.asarray(~np.isfinite(rows[:, :5]).all(axis=1)), notes, "without a price")
    rows[~np.isfinite(rows[:, 5]), 5] = 0.0
    rows = _without(rows, impossible(*rows[:, 1:6].T), notes, "that cannot be (high, low, or a price at or below zero)")
    rows = _ordered(path, rows, notes)
    if not len(rows):
        raise RecordedDataError(f"{path} holds no usable candle ({'; '.join(notes)}). {FORM}")
    time, open_, high, low, close, volume, row = (np.ascontiguousarray(column) for column in rows.T)
    candles = RecordedCandles(time.astype(np.int64), open_, high, low, close, volume, tuple(notes))
    return candles, row.astype(np.int64)


def impossible(open_: Floats, high: Floats, low: Floats, close: Floats, volume: Floats) -> NDArray[np.bool_]:
    """True where a candle cannot have happened."""
    breached = (high < np.maximum(open_, close)) | (low > np.minimum(open_, close))
    return np.asarray(breached | (low <= 0) | (volume < 0))


def _check_times(path: Path, times: Floats) -> None:
    if not np.isfinite(times).all() or (times != np.floor(times)).any():
        raise RecordedDataError(f"{path} has times that are not whole unix seconds. {FORM}")
    if times.min() < _FIRST_SECOND or times.max() >= _LAST_SECOND:
        raise RecordedDataError(f"{path} has times that are not unix seconds; milliseconds, perhaps? {FORM}")


def _without(rows: Floats, unwanted: NDArray[np.bool_], notes: list[str], what: str) -> Floats:
    count = int(unwanted.sum())
    if not count:
        return rows
    notes.append(f"{count} rows {what} were left out")
    return rows[~unwanted]


def _ordered(path: Path, rows: Floats, notes: list[str]) -> Floats:
    """By time, each time once. Two different candles of one time are refused: nobody can tell which is true."""
    steps = np.diff(rows[:, 0])
    if (steps > 0).all():
        return rows
    if (steps < 0).any():
        notes.append("rows out of order were sorted")
        rows = rows[np.argsort(rows[:, 0], kind="stable")]
    repeated = np.concatenate(([False], np.diff(rows[:, 0]) == 0))
    differing = repeated[1:] & (rows[1:, :6] != rows[:-1, :6]).any(axis=1)
    if differing.any():
        time = int(rows[1:][differing][0, 0])
        raise RecordedDataError(f"{path} has two different candles at {time}. Remove the wrong one and try again.")
    return _without(rows, repeated, notes, "that repeat another")
