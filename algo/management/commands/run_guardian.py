"""manage.py run_guardian: look after every open position, once a second, with PostgreSQL and the exchange alone."""

from __future__ import annotations

import logging
import signal
import threading
import time
from typing import Any

from django.core.management.base import BaseCommand
from django.db import DatabaseError, InterfaceError, OperationalError, close_old_connections

from algo.exchanges import CLOCK, account_provider
from algo.execution.advance import look_after
from algo.execution.quotes import Quotes
from algo.execution.reconcile import accounts_due
from algo.models import Account, AccountState, Heartbeat

logger = logging.getLogger("algo.guardian")

TICK_SECONDS = 1.0
HEARTBEAT_SECONDS = 5.0


class Command(BaseCommand):
    help = "Watch over every account once a second: protect, trail, exit, reconcile. Needs no Redis."

    def handle(self, *args: Any, **options: Any) -> None:
        stopping = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopping.set())
        logger.info("guardian started")
        guardian = Guardian(stopping)
        while not stopping.is_set():
            started = time.monotonic()
            guardian.tick()
            stopping.wait(max(TICK_SECONDS - (time.monotonic() - started), 0.0))
        logger.info("guardian stopped")


class Guardian:
    """One pass after the other. Everything it knows is in the database; a second guardian does no harm."""

    def __init__(self, stopping: threading.Event | None = None) -> None:
        self._stopping = stopping or threading.Event()
        self._quotes = Quotes(CLOCK)
        self._first = True
        self._beat_at = 0.0

    def tick(self) -> None:
        """One pass over all accounts that need it. The loop outlives a dead database and a dead exchange."""
        try:
            for account in self._due():
                if self._stopping.is_set():
                    return
                self._look_after(account)
            self._first = False
            self._heartbeat()
        except DatabaseError as exc:
            logger.error("no database, trying again: %s", exc)
            close_old_connections()

    def _due(self) -> list[Account]:
        if self._first:
            return list(Account.objects.exclude(state=AccountState.STOPPED))
        return list(accounts_due(CLOCK))

    def _look_after(self, account: Account) -> None:
        try:
            look_after(account, account_provider, CLOCK, quotes=self._quotes, reconcile_now=self._first)
        except (OperationalError, InterfaceError):  # the database is not there; a refused row is one account's trouble
            raise
        except Exception:  # outlives one account: the others are still to be looked after
            logger.exception("account=%s failed", account.name)

    def _heartbeat(self) -> None:
        if time.monotonic() - self._beat_at >= HEARTBEAT_SECONDS:
            Heartbeat.objects.update_or_create(name="guardian", defaults={"at": CLOCK.now()})
            self._beat_at = time.monotonic()
