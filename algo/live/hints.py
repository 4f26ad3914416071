"""Hints of an order stream, passed on to the workers: "look at this account now". Nothing depends on one arriving."""

from __future__ import annotations

import logging
import threading
import time

from celery import current_app
from kombu.exceptions import OperationalError

logger = logging.getLogger("algo.feed")

APART_SECONDS = 0.5


class Hints:
    """Enqueues `advance_account`, from a thread of its own; what comes within half a second counts once."""

    def __init__(self, apart: float = APART_SECONDS) -> None:
        self._apart = apart
        self._waiting: set[int] = set()
        self._lock = threading.Lock()
        self._news = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hints", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def add(self, account_id: int) -> None:
        """Never blocks."""
        with self._lock:
            self._waiting.add(account_id)
        self._news.set()

    def _run(self) -> None:
        while True:
            self._news.wait()
            self._news.clear()
            with self._lock:
                waiting, self._waiting = self._waiting, set()
            for account_id in sorted(waiting):
                self._send(account_id)
            time.sleep(self._apart)

    def _send(self, account_id: int) -> None:
        try:
            current_app.send_task("algo.tasks.advance_account", args=[account_id], queue="orders", retry=False)
        except (OperationalError, OSError) as exc:
            logger.warning("hint not sent account=%s why=%s: the guardian looks anyway", account_id, exc)
