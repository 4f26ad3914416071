"""Work that only one process may do at a time, by a lock of PostgreSQL that a dead process lets go at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError, connection, connections

_TRY = "SELECT pg_try_advisory_lock(%s, %s)"


def need_own_session() -> None:
    """Raises ImproperlyConfigured where sessions are shared: a lock taken there would belong to everybody."""
    if settings.DATABASE_POOLED:
        raise ImproperlyConfigured(
            "DATABASE_POOLED is true: this process reaches PostgreSQL through a pool that shares sessions, and holds "
            "no lock there. Nothing was done. Give this process PostgreSQL's own address as DATABASE_URL, without "
            "DATABASE_POOLED; only the web application may go through the pool."
        )


@contextmanager
def alone(kind: int, number: int) -> Iterator[bool]:
    """Whether this process has work `number` of a `kind` to itself: False while another one does. Nobody waits."""
    need_own_session()
    key = [kind, number % 2**31]
    with connection.cursor() as cursor:
        cursor.execute(_TRY, key)
        taken = bool(cursor.fetchone()[0])
    try:
        yield taken
    finally:
        if taken:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s, %s)", key)


SILENT_SECONDS = 15.0  # a leader whose session did nothing for so long is taken for hung
_END_SILENT = """
    SELECT pg_terminate_backend(held.pid)
    FROM pg_locks held JOIN pg_stat_activity activity ON activity.pid = held.pid
    WHERE held.locktype = 'advisory' AND held.granted AND held.objsubid = 2
    AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND held.classid = %s AND held.objid = %s
    AND activity.query_start < clock_timestamp() - make_interval(secs => %s)
"""


class Lead:
    """The same for a process that works for as long as it lives: `take` again and again, at least every few seconds.

    It has a session of its own, which nobody closes between two pieces of work. Whoever waits ends the session of a
    leader that did not ask for `SILENT_SECONDS`: one that lives but does not move must not keep the work from being
    done. Not for several threads."""

    def __init__(self, kind: int, number: int = 0) -> None:
        need_own_session()
        self._key = [kind, number]
        self._connection = connections[DEFAULT_DB_ALIAS].copy()
        self.is_had = False

    def take(self) -> bool:
        """Whether this process has the work to itself, by an answer of the database right now. Waits for nobody; False
        also while the database is away."""
        try:
            self.is_had = self._still() if self.is_had else self._try()
        except (DatabaseError, InterfaceError):
            self.is_had = False
            self._connection.close()
        return self.is_had

    def let_go(self) -> None:
        """With its session. Safe to call again."""
        with suppress(DatabaseError, InterfaceError):
            if self.is_had:
                self._ask("SELECT pg_advisory_unlock(%s, %s)", self._key)  # now: a session takes a moment to end
        self.is_had = False
        self._connection.close()

    def _try(self) -> bool:
        if self._ask(_TRY, self._key):
            return True
        self._ask(_END_SILENT, [*self._key, SILENT_SECONDS])
        return False

    def _still(self) -> bool:
        """The lock lives and dies with its session: if that answers, it is held."""
        return bool(self._ask("SELECT 1", []))

    def _ask(self, sql: str, values: list[Any]) -> Any:
        with self._connection.cursor() as cursor:
            cursor.execute(sql, values)
            row = cursor.fetchone()
        return row[0] if row else None
