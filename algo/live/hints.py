"""Hints of an order stream, passed on to the workers: "look at this account now". Nothing depends on one arriving."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from algo.queues import advance_told

GATHER_SECONDS = 0.02  # an exchange tells of one fill in several channels, one after the other
APART_SECONDS = 0.1


@dataclass(slots=True)
class _Waiting:
    due: float
    orders: set[str] = field(default_factory=set)


class Hints:
    """Enqueues `advance_account`, from a thread of its own. What an account has to be told within a moment is told
    once, and a tenth of a second lies between two hints for it; one account waits for no other."""

    def __init__(self, apart: float = APART_SECONDS, gather: float = GATHER_SECONDS) -> None:
        self._apart, self._gather = apart, gather
        self._waiting: dict[int, _Waiting] = {}
        self._rests_until: dict[int, float] = {}
        self._lock = threading.Lock()
        self._news = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hints", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def add(self, account_id: int, orders: Iterable[str] = ()) -> None:
        """Look at this account, and read these orders (as the exchange calls them) again. Never blocks."""
        now = time.monotonic()
        with self._lock:
            due = max(now + self._gather, self._rests_until.get(account_id, 0.0))
            self._waiting.setdefault(account_id, _Waiting(due)).orders.update(orders)
        self._news.set()

    def _run(self) -> None:
        while True:
            self._news.wait(self._until_next())
            self._news.clear()
            for account_id, orders in self._take_due().items():
                advance_told(account_id, sorted(orders))

    def _until_next(self) -> float | None:
        """Seconds; None where nothing waits."""
        with self._lock:
            due = min((each.due for each in self._waiting.values()), default=None)
        return None if due is None else max(due - time.monotonic(), 0.0)

    def _take_due(self) -> dict[int, set[str]]:
        now = time.monotonic()
        with self._lock:
            due = {pk: each.orders for pk, each in self._waiting.items() if each.due <= now}
            self._waiting = {pk: each for pk, each in self._waiting.items() if pk not in due}
            self._rests_until = {pk: until for pk, until in self._rests_until.items() if until > now}
            self._rests_until |= dict.fromkeys(due, now + self._apart)
        return due
