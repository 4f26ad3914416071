"""Add what this process counted to the sums of all processes."""

from __future__ import annotations

import json
import logging
import threading
import time

from django.db import DatabaseError, InterfaceError, connection

from providers.tally import TALLY, Tally

logger = logging.getLogger("algo.tallies")

TELL_SECONDS = 10.0  # wall: so often at most
# In the order of the key, so that two processes never wait for each other's rows crosswise.
_ADD = """
    INSERT INTO algo_talliedsum (name, labels, value)
    SELECT * FROM unnest(%s::text[], %s::text[], %s::float8[]) AS told (name, labels, value) ORDER BY 1, 2
    ON CONFLICT (name, labels) DO UPDATE SET value = algo_talliedsum.value + excluded.value
"""


class Teller:
    """Tells the database what a tally holds, now and then, when its process calls in between two pieces of work.
    `process` says what kind of process it is: series of the guardian are never touched by a worker."""

    def __init__(self, process: str, tally: Tally = TALLY) -> None:
        self._process, self._tally = process, tally
        self._told_at = float("-inf")
        self._turn = threading.Lock()

    def tell_if_due(self) -> None:
        """Where the last time was long enough ago."""
        if time.monotonic() - self._told_at >= TELL_SECONDS:
            self.tell()

    def tell(self) -> None:
        """One statement. Where the database does not take it, it is kept for the next time: nobody's work fails for a
        statistic. Inside a transaction it waits, for that may be rolled back."""
        if connection.in_atomic_block or not self._turn.acquire(blocking=False):
            return
        try:
            self._told_at = time.monotonic()
            sums = self._tally.take()
            if not sums:
                return
            rows = [
                (name, json.dumps({**dict(labels), "process": self._process}, sort_keys=True), value)
                for (name, labels), value in sums.items()
            ]
            try:
                with connection.cursor() as cursor:
                    cursor.execute(_ADD, [list(column) for column in zip(*rows, strict=True)])
            except (DatabaseError, InterfaceError) as exc:
                self._tally.put_back(sums)
                logger.info("counts are told later: %s", type(exc).__name__)
        finally:
            self._turn.release()
