"""How the rooms beside the guardian speak to Redis: in time, or not at all."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from algo.live.redis_url import RedisPlace

TIMEOUT = 0.25  # seconds
TROUBLE = (redis.RedisError, OSError)
T = TypeVar("T")


def connect(url: str, timeout: float = TIMEOUT) -> redis.Redis:
    """A client that answers or fails in time. It never repeats a command: a server that comes back empty must be
    noticed, not papered over. Behind sentinels, each connection asks them who the master is."""
    bounds: dict[str, Any] = {"socket_timeout": timeout, "socket_connect_timeout": timeout}
    return redis.Redis(connection_pool=_pool(url, retry=Retry(NoBackoff(), 0), decode_responses=True, **bounds))


def connect_async(url: str, timeout: float, connect_timeout: float) -> redis.asyncio.Redis:
    """The same for a loop of asyncio."""
    place = RedisPlace.parse(url)
    bounds: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": connect_timeout,
        "retry": AsyncRetry(NoBackoff(), 0),
        "decode_responses": True,
    }
    if not place.sentinels:
        return redis.asyncio.Redis.from_url(url, **bounds)
    asked = place.of_sentinels | {"socket_timeout": connect_timeout, "socket_connect_timeout": connect_timeout}
    sentinel = AsyncSentinel(place.sentinels, sentinel_kwargs=asked, **place.of_servers, **bounds)
    return sentinel.master_for(place.master)


def _pool(url: str, **options: Any) -> redis.ConnectionPool:
    place = RedisPlace.parse(url)
    if not place.sentinels:
        return redis.ConnectionPool.from_url(url, **options)
    asked = place.of_sentinels | {name: value for name, value in options.items() if name in _OF_SENTINELS}
    sentinel = Sentinel(place.sentinels, sentinel_kwargs=asked, **place.of_servers, **options)
    return sentinel.master_for(place.master).connection_pool


_OF_SENTINELS = ("socket_timeout", "socket_connect_timeout", "retry")


class CachePool:
    """`pool_class` of Django's cache: connections to wherever REDIS_URL leads."""

    from_url = staticmethod(_pool)


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
