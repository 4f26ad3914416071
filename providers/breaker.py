"""The circuit breaker of one exchange: an exchange that does not answer is left alone, except by what ends risk.

CLOSED, everything passes. After five failures in a row, or half of at least ten calls within 30 s, it is OPEN: calls
that begin or merely watch risk are refused at once, before anything is sent; after a pause one read at a time may try
whether the exchange is back. Exits, cancels and reconciliation are held back only for `PROBE_SECONDS` after a failed
call *of the same caller*, never longer, whatever happens to the others: one account whose orders cannot be read must
not keep another from its exit. Any success closes it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from typing import Protocol

from providers.budgets import Priority
from providers.errors import CircuitOpen

logger = logging.getLogger("providers.breaker")

IN_A_ROW = 5
SHARE, OF_AT_LEAST, WITHIN_SECONDS = 0.5, 10, 30.0
PAUSE_SECONDS = 5.0
PROBE_SECONDS = 3.0


class Breaker(Protocol):
    """What a session asks before, and tells after, every request. `caller` is whoever waits for his own failures only:
    a session's reads, and its writes, so that an order that cannot be read does not delay the exit beside it."""

    @property
    def is_open(self) -> bool: ...

    def admit(self, priority: Priority, *, is_read: bool, caller: Hashable = None) -> None:
        """Raises `CircuitOpen` before anything is sent."""
        ...

    def would_admit(self, priority: Priority, *, is_read: bool, caller: Hashable = None) -> bool:
        """Whether `admit` would raise nothing now. Takes no one's turn to try."""
        ...

    def succeeded(self) -> None:
        """The exchange answered, whatever it said."""
        ...

    def failed(self, caller: Hashable = None) -> None:
        """No usable answer: no connection, a timeout, 5xx, a page of the edge."""
        ...


class CircuitBreaker:
    """One per exchange and process, safe for threads."""

    def __init__(
        self,
        name: str,
        *,
        pause: float = PAUSE_SECONDS,
        probe: float = PROBE_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name, self._pause, self._probe, self._monotonic = name, pause, probe, monotonic
        self._lock = threading.Lock()
        self._outcomes: deque[tuple[float, bool]] = deque()  # (when, whether it failed)
        self._in_a_row = 0
        self._failed_at = self._answered_at = float("-inf")
        self._callers_failed_at: dict[Hashable, float] = {}
        self._probing_until = float("-inf")
        self._is_open = False

    @property
    def is_open(self) -> bool:
        return self._is_open

    def answered_seconds_ago(self) -> float | None:
        """Since the exchange last answered this process, whatever it said; None where it has not answered yet."""
        return None if self._answered_at == float("-inf") else max(self._monotonic() - self._answered_at, 0.0)

    def admit(self, priority: Priority, *, is_read: bool, caller: Hashable = None) -> None:
        with self._lock:
            if not self._is_open:
                return
            now = self._monotonic()
            wait = self._wait(now, priority, is_read, caller)
            if wait > 0:
                raise CircuitOpen(
                    f"{self._name} has not been answering: nothing was sent, safe to try again in {wait:.1f} s",
                    retry_after=wait,
                )
            if priority is not Priority.EXITS:
                self._probing_until = now + self._pause

    def would_admit(self, priority: Priority, *, is_read: bool, caller: Hashable = None) -> bool:
        with self._lock:
            return not self._is_open or self._wait(self._monotonic(), priority, is_read, caller) <= 0

    def _wait(self, now: float, priority: Priority, is_read: bool, caller: Hashable) -> float:
        if priority is Priority.EXITS:
            return self._callers_failed_at.get(caller, float("-inf")) + self._probe - now
        until = max(self._failed_at + self._pause, self._probing_until)
        return until - now if is_read else max(until - now, self._probe)

    def succeeded(self) -> None:
        with self._lock:
            self._note(failed=False)
            self._in_a_row = 0
            self._answered_at = self._monotonic()
            self._callers_failed_at.clear()
            if self._is_open:
                self._is_open = False
                self._outcomes.clear()
                logger.warning("circuit closed exchange=%s: it answers again", self._name)

    def failed(self, caller: Hashable = None) -> None:
        with self._lock:
            self._note(failed=True)
            self._in_a_row += 1
            self._failed_at = self._callers_failed_at[caller] = self._monotonic()
            self._probing_until = float("-inf")
            if not self._is_open and self._is_too_much():
                self._is_open = True
                logger.error(
                    "circuit open exchange=%s: it does not answer; no new positions there; exits and cancels go on "
                    "trying every %g s",
                    *(self._name, self._probe),
                )

    def _note(self, *, failed: bool) -> None:
        now = self._monotonic()
        self._outcomes.append((now, failed))
        while self._outcomes[0][0] < now - WITHIN_SECONDS:
            self._outcomes.popleft()

    def _is_too_much(self) -> bool:
        failures = sum(failed for _, failed in self._outcomes)
        share = failures >= SHARE * len(self._outcomes)
        return self._in_a_row >= IN_A_ROW or (len(self._outcomes) >= OF_AT_LEAST and share)
