from __future__ import annotations

from datetime import UTC, datetime, time

import pytest

from algo.services.quiet_hours import quiet_until


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# Tehran is 3:30 ahead of UTC all year.
@pytest.mark.parametrize(
    ("now", "ends"),
    [
        ("2026-11-02 18:29", None),  # 21:59 there
        ("2026-11-02 18:30", "2026-11-03 03:30"),  # 22:00, until 07:00 tomorrow
        ("2026-11-02 21:00", "2026-11-03 03:30"),  # 00:30, until 07:00 today
        ("2026-11-03 03:29", "2026-11-03 03:30"),
        ("2026-11-03 03:30", None),  # 07:00
    ],
)
def test_a_night_goes_over_midnight(now, ends):
    assert quiet_until(at(now), time(22), time(7), "Asia/Tehran") == (at(ends) if ends else None)


@pytest.mark.parametrize(
    ("now", "ends"), [("2026-11-02 09:29", None), ("2026-11-02 09:30", "2026-11-02 10:30"), ("2026-11-02 10:30", None)]
)
def test_an_hour_of_the_day(now, ends):
    assert quiet_until(at(now), time(13), time(14), "Asia/Tehran") == (at(ends) if ends else None)


@pytest.mark.parametrize("hours", [(None, None), (time(7), time(7))])
def test_no_quiet_hours(hours):
    assert quiet_until(at("2026-11-02 20:00"), *hours, "Asia/Tehran") is None


def test_the_clock_of_the_zone_counts_on_the_day_it_is_moved():
    """Berlin, 25 October 2026: at 3 o'clock the clock goes back to 2. 07:00 is 06:00 UTC then."""
    assert quiet_until(at("2026-10-24 21:00"), time(22), time(7), "Europe/Berlin") == at("2026-10-25 06:00")
