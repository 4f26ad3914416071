"""How the rooms beside the guardian speak to Redis: in time, or not at all."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

TIMEOUT = 0.25  # seconds
TROUBLE = (redis.RedisError, OSError)
T = TypeVar("T")


def connect(url: str, timeout: float = TIMEOUT) -> redis.Redis:
    """A client that answers or fails in time. It never repeats a command: a server that comes back empty must be
    noticed, not papered over."""
    return redis.Redis.from_url(
        url, socket_timeout=timeout, socket_connect_timeout=timeout, retry=Retry(NoBackoff(), 0), decode_responses=True
    )


class CarefulAsker:
    """Asks Redis, and after a failure leaves it alone for `left_alone` seconds, so that nobody waits for it each time.
    `on_failure` is told what went wrong, once per failure. Safe for threads."""

    def __init__(
        self,
        left_alone: float,
        on_failure: Callable[[Exception], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._left_alone, self._on_failure, self._monotonic = left_alone, on_failure, monotonic
        self._until = float("-inf")

    @property
    def is_leaving_alone(self) -> bool:
        return self._monotonic() < self._until

    def ask(self, question: Callable[[], T], otherwise: T) -> T:
        """What Redis answers; `otherwise` where it does not, or is being left alone."""
        if self.is_leaving_alone:
            return otherwise
        try:
            return question()
        except TROUBLE as exc:
            self._until = self._monotonic() + self._left_alone
            self._on_failure(exc)
            return otherwise
