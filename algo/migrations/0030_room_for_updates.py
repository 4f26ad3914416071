"""Rows that change often get room beside them, and tables whose rows come and go are vacuumed early.

An update that changes no indexed column and finds room on its own page leaves no work for any index, and its former
version is cleared away by whoever reads the page next (PostgreSQL's "heap-only tuples"). Where there is no room, each
update writes every index anew and waits for vacuum.
"""

from django.db import migrations

# Percent of a page that inserts fill: the rest is for updates of what stands on it.
ROOM = {
    "algo_order": 85,
    "algo_deal": 85,
    "algo_account": 50,
    "algo_strategyconfig": 70,
    "algo_heartbeat": 30,
    "algo_market": 70,
    "algo_delivery": 80,
}
# Vacuumed when a fiftieth of it is dead, instead of a fifth; the two that only ever turn over, after a thousand rows.
EARLY = ("algo_order", "algo_deal", "algo_delivery", "algo_outboxevent")
AT_ONCE = ("algo_livechange", "algo_heartbeat")


def settings():
    for table, percent in ROOM.items():
        yield f"ALTER TABLE {table} SET (fillfactor = {percent})", f"ALTER TABLE {table} RESET (fillfactor)"
    names = "autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold"
    for tables, factor, rows in ((EARLY, 0.02, 50), (AT_ONCE, 0, 1000)):
        for table in tables:
            values = f"autovacuum_vacuum_scale_factor = {factor}, autovacuum_vacuum_threshold = {rows}"
            yield f"ALTER TABLE {table} SET ({values})", f"ALTER TABLE {table} RESET ({names})"


class Migration(migrations.Migration):
    dependencies = [("algo", "0029_partitioned_by_time")]

    operations = [migrations.RunSQL(there, back) for there, back in settings()]
