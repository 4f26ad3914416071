"""What may be stored as a candle, and what must not be: pure, over values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation

import numpy as np
from numpy.typing import NDArray

from algo.selectors.candles import shortest_spacing_slack
from providers.errors import BadPayload
from providers.types import Candle, Resolution

SMALLEST = Decimal(1).scaleb(-18)  # what an AmountField keeps
TOO_LARGE = Decimal(10) ** 20
ALIGNED_UP_TO = timedelta(minutes=30)  # Tehran is on a half hour: longer candles have a phase of their own
FINER_THAN_ASKED = 0.1  # share of too narrow spacings from which a series is of another candle length

# Toman and rial are a factor of ten apart; around it, what a price may do besides from one candle to the next.
UNIT_FACTOR = (8.0, 12.5)
SPIKES_ALLOWED = 0.01  # share of the candles; more of them are two units in turn, not flashes of a market

Floats = NDArray[np.float64]


class UnitJump(BadPayload):
    """The prices of a series change by a factor near ten and stay there: toman taken for rial, or the reverse."""


# --- one candle -----------------------------------------------------------------------------------------------------


def usable_candles(
    candles: Iterable[Candle], resolution: Resolution, *, start: datetime, end: datetime, now: datetime
) -> tuple[list[Candle], Counter[str]]:
    """Closed, possible candles of [start, end), each time once; and how many others there were, by reason.

    The running candle is no fault and is not counted. Expects ascending times; of two at one time the first counts.
    """
    kept: list[Candle] = []
    left_out: Counter[str] = Counter()
    duration, least = resolution.duration, shortest_spacing(resolution)
    grid = resolution.seconds if duration <= ALIGNED_UP_TO else 0
    last_closed, next_allowed = now - duration, start
    for candle in candles:
        opened = candle.open_time
        if opened > last_closed:
            continue
        if start <= opened < end and opened >= next_allowed and not _off(opened, grid) and is_possible(candle):
            kept.append(candle)
            next_allowed = opened + least
        else:
            left_out[_fault(candle, grid, start, end, kept[-1] if kept else None)] += 1
    return kept, left_out


def shortest_spacing(resolution: Resolution) -> timedelta:
    """The least time from one candle to the next."""
    return resolution.duration - timedelta(seconds=shortest_spacing_slack(resolution))


def _fault(candle: Candle, grid: int, start: datetime, end: datetime, before: Candle | None) -> str:
    """Why a candle cannot be kept."""
    if not start <= candle.open_time < end:
        return "not_asked_for"
    if not is_possible(candle):
        return "impossible"
    if _off(candle.open_time, grid):
        return "unaligned"
    return "repeated" if before and candle.open_time == before.open_time else "overlapping"


def _off(opened: datetime, grid: int) -> bool:
    return bool(grid) and opened.timestamp() % grid != 0


def is_possible(candle: Candle) -> bool:
    """Positive prices, the high on top and the low at the bottom, no negative volume, and all of it a number."""
    high, low = candle.high, candle.low
    try:
        return (
            SMALLEST <= low <= candle.open <= high < TOO_LARGE
            and low <= candle.close <= high
            and 0 <= candle.volume < TOO_LARGE
        )
    except InvalidOperation:  # NaN
        return False


# --- a series -------------------------------------------------------------------------------------------------------


def is_finer(open_time: NDArray[np.int64], resolution: Resolution) -> bool:
    """Whether ascending times are those of shorter candles."""
    spacing = np.diff(open_time)
    narrow = int(((spacing > 0) & (spacing < shortest_spacing(resolution).total_seconds())).sum())
    return narrow > 1 and narrow > FINER_THAN_ASKED * len(open_time)


@dataclass(frozen=True, slots=True)
class Jumps:
    """Where closes change by the factor of a unit: `lasting` from that index on, `spikes` for one candle only."""

    lasting: tuple[int, ...] = ()
    spikes: tuple[int, ...] = ()


def unit_jumps(close: Floats) -> Jumps:
    """A candle that is off by the factor of a unit while its two neighbours agree is a spike: a market can flash. What
    does not come back at once lasts, and so does a change at either end, where one neighbour is not known. Too many
    spikes are no flashes."""
    ratio = close[1:] / close[:-1]
    low, high = UNIT_FACTOR
    up, down = (ratio >= low) & (ratio <= high), (ratio <= 1 / low) & (ratio >= 1 / high)
    direction = up.astype(np.int8) - down.astype(np.int8)
    lasting: list[int] = []
    spikes: list[int] = []
    for step in np.flatnonzero(direction).tolist():  # from candle `step` to the next
        if lasting and lasting[-1] == step and direction[step - 1] == -direction[step]:
            spikes.append(lasting.pop())
        else:
            lasting.append(step + 1)
    if len(spikes) > max(1, SPIKES_ALLOWED * len(close)):
        return Jumps(tuple(sorted([*lasting, *spikes])))
    return Jumps(tuple(lasting), tuple(spikes))


def as_floats(amounts: Sequence[Decimal]) -> Floats:
    return np.array(amounts, dtype=np.float64)
