"""Old rows of the tables that are partitioned by time: candles, the journal, the histories of orders and deals.

Functions of the database do it, so that the platform's own role needs no right to make or drop a table, and can drop
nothing but candles. Each holds the whole table for a moment; where it does not get that within the lock timeout,
nothing is done, and tomorrow is another day.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import connection

AHEAD = timedelta(days=366)  # what comes later still has a place, and gets its partition with the next look
JOURNAL_KEPT = timedelta(days=30)


def partitions_prepare(now: datetime) -> int:
    """Have partitions for a year to come. Returns how many were made."""
    return _number("algo_partitions_prepare", now + AHEAD)


def journal_shrink(now: datetime) -> int:
    """Forget decisions that said nothing, of every month that ended 30 days ago. Those that said something stay.
    Returns how many went."""
    return _number("algo_journal_shrink", now - JOURNAL_KEPT)


def candles_drop(now: datetime, *, days: int) -> int:
    """Forget candles of every quarter that ended `days` ago; 0 keeps all. Returns how many partitions went."""
    return _number("algo_candles_drop", now - timedelta(days=days)) if days else 0


def _number(function: str, moment: datetime) -> int:
    with connection.cursor() as cursor:
        cursor.callproc(function, [moment])
        (number,) = cursor.fetchone()
    return int(number)
