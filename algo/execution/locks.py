"""One worker per account at a time, held by the database session itself: a dead process lets go at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection

_NAMESPACE = 0x414C  # advisory locks of accounts


@contextmanager
def account_lock(account_id: int) -> Iterator[bool]:
    """Try the session-level advisory lock of an account; yields whether it is ours. Never waits.

    Needs a session of its own (no transaction pooling between). If the session dies, PostgreSQL frees the lock and the
    next statement of the old holder fails.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", [_NAMESPACE, account_id])
        held = bool(cursor.fetchone()[0])
    try:
        yield held
    finally:
        if held and connection.connection is not None and not connection.connection.closed:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s, %s)", [_NAMESPACE, account_id])
