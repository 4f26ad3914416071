"""How long ago something was, when a clock was set meanwhile."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace

import pytest

from algo.execution.times import LONG_AGO, age, age_by_both, sent_at_exchange
from tests.execution.views import NOW, ago

HOUR = 3600


@pytest.mark.parametrize(
    ("stamped", "exchange_ahead", "seconds"),
    [
        (ago(8), None, 8),
        (ago(8), 0, 8),
        (ago(8), 1, 8),  # the Date header has whole seconds: so little says nothing
        (ago(HOUR + 3), 0, HOUR + 3),
        (ago(HOUR + 3), -HOUR, 3),  # our clock was set forward since
        (ago(3), -HOUR, 3),  # it was wrong before as well
        (ago(3 - HOUR), HOUR, 3),  # it was set back since
        (ago(10), -5, 5),
    ],
)
def test_setting_our_clock_makes_nothing_old_before_its_time(stamped, exchange_ahead, seconds):
    difference = None if exchange_ahead is None else timedelta(seconds=exchange_ahead)
    assert age_by_both(SimpleNamespace(clock_difference=difference), stamped, NOW) == timedelta(seconds=seconds)


@pytest.mark.parametrize(("seconds_ahead", "expected"), [(5, timedelta(0)), (6, LONG_AGO)])
def test_a_stamp_that_lies_clearly_ahead_is_long_past(seconds_ahead, expected):
    assert age(NOW + timedelta(seconds=seconds_ahead), NOW) == expected


@pytest.mark.parametrize(
    ("stamped", "exchange_ahead", "expected"),
    [
        (ago(8), 0, ago(8)),
        (ago(8 - HOUR), HOUR, ago(8 - HOUR)),  # our clock was set back since: the stamp is right
        (ago(8), HOUR, ago(8)),  # it was wrong before as well, and it was an hour later: nobody can tell
        (ago(HOUR + 8), -HOUR, ago(2 * HOUR + 8)),  # our clock was set forward since, or before
        (ago(8 - HOUR), 0, ago(HOUR)),  # it was wrong then, and is right now
        (ago(8), -5, ago(13)),
        (ago(8), 1, ago(8)),
    ],
)
def test_an_order_is_looked_for_since_it_was_sent_or_earlier_whatever_became_of_our_clock(
    stamped, exchange_ahead, expected
):
    provider = SimpleNamespace(clock_difference=timedelta(seconds=exchange_ahead))
    assert sent_at_exchange(provider, stamped, NOW) == expected
