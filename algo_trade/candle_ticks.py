"""When beat looks for closed candles: soon after each whole minute, for that is when every candle ends.

Ticks that come every few seconds from whenever beat happened to start would find a candle some seconds late. These are
tied to the platform's minute: `AFTER_CLOSE` behind it, once more in each of the seconds that follow (an exchange may
publish a candle late), and then as often as the schedule says.
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import UTC, datetime
from typing import Any

from celery.schedules import schedstate, schedule

from providers.clock import Clock

MINUTE = 60.0  # platform seconds: the shortest candle, and every other ends with one
AFTER_CLOSE = 0.25  # wall seconds
SOON_AFTER = (1.0, 2.0, 3.0, 4.0)  # wall seconds behind the first look


class CandleTicks(schedule):
    """`every` so many wall seconds from the first look of each platform minute on, and at `SOON_AFTER`."""

    def __init__(self, every: float, clock: Clock, **more: Any) -> None:
        super().__init__(every, **more)
        self._clock = clock
        self._minute = MINUTE / clock.speed
        looks = {number * every for number in range(max(round(self._minute / every + 0.5), 1))} | set(SOON_AFTER)
        self._looks = sorted(look for look in looks if look < self._minute)

    def is_due(self, last_run_at: datetime) -> schedstate:
        """Whether a look is due that was not made yet, and the wall seconds until the next one."""
        since_minute = (self._clock.now().timestamp() / self._clock.speed - AFTER_CLOSE) % self._minute
        place = bisect_right(self._looks, since_minute)
        late = since_minute - self._looks[place - 1]
        upcoming = self._looks[place] if place < len(self._looks) else self._minute
        age = (datetime.now(UTC) - last_run_at).total_seconds()
        return schedstate(age > late, max(upcoming - since_minute, 0.001))

    def __reduce__(self) -> Any:
        return type(self), (self.run_every.total_seconds(), self._clock)
