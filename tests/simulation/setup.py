"""Django without a server where the books are in memory; with one of its own where they are in PostgreSQL."""

from __future__ import annotations

import atexit
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

_DEFAULTS = {
    "DJANGO_SETTINGS_MODULE": "algo_trade.settings",
    "SECRET_KEY": "seeded worlds sign nothing, so that anybody may read this key",
    "FIELD_ENCRYPTION_KEYS": "A" * 43 + "=",
    "DATABASE_URL": "postgres://127.0.0.1/no-world-connects",
    "DEBUG": "false",
    "ALLOWED_HOSTS": "testserver",
}


@contextmanager
def prepare(ledger: str = "memory") -> Iterator[None]:
    """Make Django's models importable. Nothing is logged: what a world does stands in its trace."""
    logging.disable(logging.CRITICAL)
    if ledger == "orm":
        from tests.simulation.server import make_tables, running_server

        with running_server() as url:
            os.environ["DATABASE_URL"] = url
            _set_up()
            make_tables()
            yield
        return
    _set_up()
    yield


def prepare_process(ledger: str) -> None:
    """The same for a process of a pool, to its end. It stands here, where no model is imported: a process that begins
    imports what names its first function before it calls that."""
    prepared = prepare(ledger)
    prepared.__enter__()
    atexit.register(prepared.__exit__, None, None, None)


def _set_up() -> None:
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    import django

    django.setup()
