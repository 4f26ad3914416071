"""When a channel wants to be left in peace. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo


def quiet_until(now: datetime, begins: time | None, ends: time | None, zone: str) -> datetime | None:
    """When the quiet hours that hold at `now` end (UTC); None outside them, and where there are none.

    `begins` and `ends` are times of the clock in `zone`; from 22:00 to 07:00 goes over midnight. Equal ones are no
    quiet hours. Where the clock is moved forward over `ends`, they end at the moment it is moved.
    """
    if begins is None or ends is None or begins == ends:
        return None
    local = now.astimezone(ZoneInfo(zone))
    clock = local.time()
    is_quiet = begins <= clock < ends if begins < ends else clock >= begins or clock < ends
    if not is_quiet:
        return None
    day = local.date() if clock < ends else local.date() + timedelta(days=1)
    return datetime.combine(day, ends, tzinfo=local.tzinfo).astimezone(UTC)
