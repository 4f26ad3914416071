"""From the ledger to Redis: every change that was noted becomes an event in the stream, once.

A thread of its own, in every live process; one of them leads, by a lock of PostgreSQL that a dead process lets go at
once. What may die when:

- before the events are in the stream: the changes are still noted, whoever leads next tells them;
- after that (also: Redis' answer was lost): changes stay noted for some seconds after they were told, and the newest
  events of the stream name those that they stand for: what is there is not told twice;
- Redis: changes wait in PostgreSQL. What it took and forgot (its file is written every second or two) is told again;
- PostgreSQL: it keeps them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import redis
from django.db import Error as DatabaseTrouble
from django.db import connection

from algo.live.redis_link import TROUBLE
from algo.live.updates.events import BEGIN, Event, event_of, reset
from algo.models import LiveChange
from algo.services.alone import alone
from algo.services.live_changes import changes_told, changes_waiting

logger = logging.getLogger("algo.live")

STREAM = "algo:live:1"
KEPT_EVENTS = 5_000  # about six megabytes; twice what a client catches up, and what is compared with what is noted
BATCH = 500
KEPT_SECONDS, MOST_KEPT = 5.0, 2_000  # changes that were told stay noted: longer than a Redis that dies may forget
COLLECT_SECONDS = 0.1  # what changes within so long is told once
AGAIN_SECONDS = 1.0
_LEADING = 0x4C49

Told = Callable[[Sequence[LiveChange]], list[Event]]


class Relay:
    """`told` turns changes into events: all of those that are given, in their order."""

    def __init__(self, server: redis.Redis, told: Told, *, stream: str = STREAM) -> None:
        self._redis, self._told, self._stream = server, told, stream
        self._sure = False  # whether it is known which of the noted changes are in the stream
        self._kept: dict[int, float] = {}  # those, and since when
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="live-relay", daemon=True)
        self.leads = False

    def start(self) -> None:
        self._thread.start()

    def stop(self, seconds: float = 1.0) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._lead()
            except DatabaseTrouble as exc:
                logger.warning("relay: no database (%s): trying again", type(exc).__name__)
            finally:
                self.leads = False
                connection.close()
            self._stopping.wait(AGAIN_SECONDS)

    def _lead(self) -> None:
        """While this process leads; returns at once where another one does."""
        with alone(_LEADING, 0) as leads:
            if not leads:
                return
            logger.info("relay leads")
            self.leads, self._sure = True, False
            while not self._stopping.is_set():
                self._stopping.wait(self._step())

    def _step(self) -> float:
        """Tell what waits; how long to wait before the next look."""
        try:
            return 0.0 if self.pass_on() == BATCH else COLLECT_SECONDS
        except TROUBLE as exc:
            self._sure = False
            logger.warning("relay: no Redis (%s): changes wait in the database", type(exc).__name__)
            return AGAIN_SECONDS

    def pass_on(self) -> int:
        """Tell the oldest changes that wait; how many there were."""
        if not self._sure:
            self._look_what_is_told()
        noted = changes_waiting(BATCH + len(self._kept))
        waiting = [change for change in noted if change.pk not in self._kept][:BATCH]
        if waiting:
            self._sure = False
            self._write(self._events(waiting))
            self._keep(waiting)
            self._sure = True
        self._let_go(time.monotonic() - KEPT_SECONDS)
        return len(waiting)

    def _keep(self, told: Sequence[LiveChange]) -> None:
        self._kept |= dict.fromkeys((change.pk for change in told), time.monotonic())

    def _let_go(self, before: float) -> None:
        """Changes that were told by then are removed, and the oldest of too many."""
        over = max(len(self._kept) - MOST_KEPT, 0)
        gone = [pk for number, (pk, at) in enumerate(self._kept.items()) if at <= before or number < over]
        if gone:
            changes_told(gone)
            for pk in gone:
                del self._kept[pk]

    def _events(self, changes: Sequence[LiveChange]) -> list[Event]:
        try:
            return self._told(changes)
        except DatabaseTrouble:
            raise
        except Exception:  # one row that cannot be told must not hold up all that come after it
            logger.exception("relay: %d changes cannot be told, pages are told to read anew", len(changes))
            return [reset("some changes could not be told", [change.key for change in changes])]

    def _write(self, events: Sequence[Event]) -> None:
        """All of them or none."""
        pipe = self._redis.pipeline(transaction=True)
        for event in events:
            pipe.xadd(self._stream, cast(Any, event.fields()), maxlen=KEPT_EVENTS, approximate=True)
        if len(pipe):
            pipe.execute()

    def _look_what_is_told(self) -> None:
        """Compare what is noted with the stream. An empty one gets a beginning: a place to come back to."""
        many = BATCH + MOST_KEPT
        newest = cast(list[tuple[str, dict[str, str]]], self._redis.xrevrange(self._stream, count=many))
        if not newest:
            self._redis.xadd(self._stream, cast(Any, Event(BEGIN, "{}").fields()))
        told = {key for _, fields in newest for key in event_of(fields).changes}
        self._kept = {}
        self._keep([change for change in changes_waiting(many) if change.key in told])
        self._sure = True
