"""`manage.py migrate`: Django's own, in a session that may pause between two statements of a transaction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.commands import migrate
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper


class Command(migrate.Command):
    def handle(self, *args: Any, **options: Any) -> Any:
        with unhurried(connections[options["database"]]):
            return super().handle(*args, **options)


@contextmanager
def unhurried(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """On a busy machine Python may need more than the settings' ten seconds between two statements. The waits for locks
    stay bounded: a migration holds nobody back for ever."""
    with connection.cursor() as cursor:
        cursor.execute("SET idle_in_transaction_session_timeout = 0")
    yield
    with connection.cursor() as cursor:  # not after a failure: the transaction is broken, and the command ends
        cursor.execute("RESET idle_in_transaction_session_timeout")
