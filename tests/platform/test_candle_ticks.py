"""Beat looks for closed candles soon after each minute, whenever it was started."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta

import pytest
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from algo_trade.beat import LOOKS_FOR_CANDLES, Entry
from algo_trade.candle_ticks import CandleTicks
from providers.clock import AnchoredClock

MINUTE = datetime(2026, 11, 2, 10, 0, tzinfo=UTC)


class At(AnchoredClock):
    """So many wall seconds after a whole minute of the platform's time."""

    seconds = 0.0

    def now(self) -> datetime:
        return MINUTE + timedelta(seconds=type(self).seconds * self.speed)


def look(seconds: float, *, last_run_ago: float, speed: float = 1.0, every: float = 5.0) -> tuple[bool, float]:
    """(whether a look is due, seconds until the next one) so many wall seconds after a minute."""
    At.seconds = seconds
    found = CandleTicks(every, At(speed=speed)).is_due(datetime.now(UTC) - timedelta(seconds=last_run_ago))
    return found.is_due, round(found.next, 6)


@pytest.mark.parametrize(
    ("seconds", "last_run_ago", "is_due", "until_next"),
    [
        (0.25, 5.0, True, 1.0),  # the first look behind the minute, then one in each second
        (0.26, 0.005, False, 0.99),  # it was made
        (1.25, 1.0, True, 1.0),
        (4.25, 1.0, True, 1.0),
        (5.25, 1.0, True, 5.0),  # from here on as often as the schedule says
        (7.0, 1.7, False, 3.25),
        (10.30, 5.05, True, 4.95),
        (55.25, 5.0, True, 5.0),
        (0.0, 4.7, False, 0.25),  # the minute is over, and the look behind it is not due yet
        (0.0, 6.0, True, 0.25),  # the look at 55.25 was missed: now rather than never
        (33.0, 3600.0, True, 2.25),  # beat was just started
    ],
)
def test_looks_are_tied_to_the_minute(seconds, last_run_ago, is_due, until_next):
    assert look(seconds, last_run_ago=last_run_ago) == (is_due, until_next)


def test_in_a_replay_each_of_its_minutes_is_looked_behind_once():
    """At speed 60 a minute lasts a second."""
    assert look(0.25, last_run_ago=1.0, speed=60.0, every=1.0) == (True, 1.0)
    assert look(0.30, last_run_ago=0.045, speed=60.0, every=1.0) == (False, 0.95)


def test_a_period_that_does_not_divide_the_minute_begins_anew_with_each():
    assert look(56.25, last_run_ago=7.0, every=7.0) == (True, 4.0)


def test_beats_that_compare_schedules_find_two_alike_equal():
    ticks = CandleTicks(5.0, At())
    assert ticks == CandleTicks(5.0, At()) != CandleTicks(7.0, At())
    assert pickle.loads(pickle.dumps(ticks)) == ticks


@pytest.mark.django_db
@pytest.mark.parametrize(("task", "is_tied"), [(LOOKS_FOR_CANDLES, True), ("algo.tasks.sweep_accounts", False)])
def test_only_the_look_for_candles_is_tied_to_the_minute(task, is_tied):
    every, _ = IntervalSchedule.objects.get_or_create(every=5, period=IntervalSchedule.SECONDS)
    row = PeriodicTask.objects.create(name="of this test", task=task, interval=every)
    assert isinstance(Entry(row).schedule, CandleTicks) is is_tied
