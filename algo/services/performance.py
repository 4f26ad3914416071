"""The sums over closed deals, counted anew: after the trading day's time zone changed, or where a check failed."""

from __future__ import annotations

from django.conf import settings
from django.db import connection, transaction

from algo.models import DealDay
from algo.selectors.performance import COUNTS, KEY, SUMS


@transaction.atomic
def performance_rebuild() -> int:
    """Count all closed deals by the trading day of the settings. Returns how many rows there are now.

    Deals that end meanwhile wait for it (a few seconds for a million deals) and are counted by their own trigger: what
    is committed by the time of the lock is in the sums, what is not, comes after them.
    """
    names = ", ".join((*KEY, *COUNTS, *SUMS))
    with connection.cursor() as cursor:
        cursor.execute(f"LOCK TABLE {DealDay._meta.db_table} IN EXCLUSIVE MODE")
        zone = settings.TRADING_DAY_TIME_ZONE.replace("'", "''")
        cursor.execute(  # STABLE: an immutable one would live on in the cached plans of other sessions
            "CREATE OR REPLACE FUNCTION algo_trading_day_zone() RETURNS text LANGUAGE sql STABLE AS "
            f"$$ SELECT '{zone}'::text $$"
        )
        cursor.execute("DELETE FROM algo_dealday")
        cursor.execute(f"INSERT INTO algo_dealday ({names}) SELECT {names} FROM algo_deal_days_sum()")  # noqa: S608
        return int(cursor.rowcount)
