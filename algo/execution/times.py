"""How long ago, when clocks may have been wrong.

A host's clock can jump by an hour and back, and what was stamped meanwhile stays in the books. Nothing may wait an hour
for that: a stamp that lies clearly ahead counts as long past. And what an exchange stamped is compared with the
exchange's own clock, as its last answer told it.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from providers.clock import CLOCKS_DIFFER
from providers.interface import ExchangeProvider

NOTABLE = timedelta(seconds=2)  # the Date header has whole seconds: less than this says nothing
LONG_AGO = timedelta(days=3650)
LONGEST_SEARCH = timedelta(hours=1)  # for an order of which nobody can say when it was sent
NO_TIME = timedelta(0)


def is_ahead(at: datetime, now: datetime) -> bool:
    """Whether `at` was stamped by a clock that was wrong."""
    return at - now > CLOCKS_DIFFER


def age(at: datetime, now: datetime) -> timedelta:
    """Since when `at` is past, never negative; very long where it lies ahead."""
    past = now - at
    if past >= NO_TIME:
        return past
    return LONG_AGO if is_ahead(at, now) else NO_TIME


def lead(provider: ExchangeProvider) -> timedelta:
    """By how much the exchange's clock is ahead of ours, as far as it is worth minding."""
    difference = provider.clock_difference
    return difference if difference is not None and abs(difference) > NOTABLE else timedelta(0)


def age_by_both(provider: ExchangeProvider, at: datetime, now: datetime) -> timedelta:
    """How long ago by our clock or by the exchange's, whichever says less: setting our clock makes nothing old before
    its time."""
    return min(age(at, now), age(at, now + lead(provider)))


def sent_at_exchange(provider: ExchangeProvider, sent: datetime, now: datetime) -> datetime:
    """A time of our books as the exchange would have it, never later than it was.

    Our clock may have been as wrong then as it is now, or right: the earlier of the two counts. A stamp that lies ahead
    all the same was made by a clock that nobody can correct any more: then it was within the hour."""
    by_exchange = now + lead(provider)
    earliest = min(sent, sent + lead(provider))
    return by_exchange - LONGEST_SEARCH if is_ahead(earliest, by_exchange) else earliest
