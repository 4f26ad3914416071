"""A PostgreSQL of its own for worlds whose books are real: no other database is ever emptied for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from launcher.embedded import throw_away_postgres


@contextmanager
def running_server() -> Iterator[str]:
    """A server that ends with this process; yields the URL of its empty database."""
    with throw_away_postgres() as url:
        yield url


def make_tables() -> None:
    """Migrate, and let this process empty the tables of the ledger between two worlds. Django is set up."""
    from django.core.management import call_command
    from django.db import connection

    connection.settings_dict["OPTIONS"]["options"] += " -c algo.may_erase_history=on"
    call_command("migrate", verbosity=0)
