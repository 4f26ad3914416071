"""The file of recorded candles that `./run --replay` plays, judged before anything is started."""

from __future__ import annotations

import csv
import gzip
import math
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from launcher.console import LauncherError

HEADER = ["time", "open", "high", "low", "close", "volume"]
WARM_UP_CANDLES = 500
FEWEST_CANDLES = 50
PAIR_IN_NAME = re.compile(r"(BTC|ETH|DOGE|USDT)[-_/]?(USDT|IRT|TMN)")  # what the paper exchange trades
GZIP_MAGIC = b"\x1f\x8b"
LATEST_TIME = 10_000_000_000  # the year 2286; milliseconds given for seconds land far behind it


@dataclass(frozen=True, slots=True)
class Recording:
    """What a valid file holds: unix seconds of its first and last candle, of the one the replay starts at."""

    path: Path
    candles: int
    first: int
    last: int
    anchor: int

    @property
    def pair(self) -> str:
        """The market the file name speaks of (`binance_BTCUSDT_1m.csv.gz`); BTC/USDT when it names none."""
        named = PAIR_IN_NAME.search(self.path.name.upper())
        return f"{named[1]}/{named[2].replace('TMN', 'IRT')}" if named else "BTC/USDT"

    def describe(self, speed: float) -> str:
        hours = (self.last - self.anchor) / speed / 3600
        begin, end = (datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M") for at in (self.anchor, self.last))
        span = f"{begin} to {end} UTC, {hours:.1f} h at speed {speed:g}"
        return f"{self.path.name} ({self.pair}, {self.candles} candles): {span}"


def read_recording(path: Path) -> Recording:
    """Judge the whole file; LauncherError with a sentence that names the line. Reads only."""
    times: list[int] = []
    try:
        for number, row in enumerate(_rows(path), start=1):
            if number == 1:
                _refuse_header(path, row)
            elif row:
                times.append(_candle_time(path, number, row, times[-1] if times else None))
    except (OSError, EOFError, zlib.error) as failure:
        reason = failure.strerror if isinstance(failure, OSError) and failure.strerror else str(failure)
        raise _no(path, f"it cannot be read ({reason})") from failure
    except (UnicodeDecodeError, csv.Error) as failure:
        raise _no(path, "it is neither text nor gzip-compressed text") from failure
    if len(times) < FEWEST_CANDLES:
        raise _no(path, f"it holds {len(times)} candles; at least {FEWEST_CANDLES} are needed")
    start = WARM_UP_CANDLES if len(times) >= 5 * WARM_UP_CANDLES else len(times) // 5
    return Recording(path, len(times), times[0], times[-1], times[start])


def _rows(path: Path) -> Iterator[list[str]]:
    with path.open("rb") as raw:
        compressed = raw.read(2) == GZIP_MAGIC
    # Always through gzip's or a plain reader that decodes strictly; a byte-order mark is forgiven.
    opener = gzip.open if compressed else open
    with opener(path, "rt", encoding="utf-8-sig", newline="") as text:
        yield from csv.reader(text)


def _refuse_header(path: Path, row: list[str]) -> None:
    if row != HEADER:
        raise _no(path, f"its first line must be exactly {','.join(HEADER)}")


def _candle_time(path: Path, number: int, row: list[str], former: int | None) -> int:
    if len(row) != len(HEADER):
        raise _no(path, f"line {number} has {len(row)} columns instead of {len(HEADER)}")
    try:
        at = int(row[0])
        opened, high, low, close, volume = (float(cell) for cell in row[1:])
    except ValueError:
        raise _no(path, f"line {number} holds something that is not a number") from None
    if not 0 < at < LATEST_TIME:
        raise _no(path, f"line {number} has the time {at}; unix seconds are expected")
    if not all(map(math.isfinite, (opened, high, low, close, volume))):
        raise _no(path, f"line {number} holds a number that is not finite")
    if min(opened, close, low) <= 0 or high < max(opened, close, low) or low > min(opened, close) or volume < 0:
        raise _no(path, f"line {number} is no candle: prices above 0, low <= open and close <= high, volume >= 0")
    if former is not None and at <= former:
        raise _no(path, f"line {number} is not later than the line before it; candles must be in the order of time")
    return at


def _no(path: Path, reason: str) -> LauncherError:
    return LauncherError(f"{path} cannot be replayed: {reason}. Nothing was started and nothing was written.")
