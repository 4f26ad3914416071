"""What is asked of Redis to judge it: is it there, what waits in its queues, will it forget."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import redis
from django.conf import settings

from algo.live.redis_link import connect

TIMEOUT = 0.8  # seconds: a probe has one for everything


@lru_cache(maxsize=4)
def server(url: str) -> redis.Redis:
    return connect(url, TIMEOUT)


def ping() -> None:
    """Raises redis.RedisError or OSError."""
    server(settings.REDIS_URL).ping()


def queue_depths() -> dict[str, int]:
    """Messages that wait for a worker, by queue. One round trip."""
    ask = server(settings.REDIS_URL).pipeline(transaction=False)
    for queue in settings.QUEUES:
        ask.llen(queue)
    return dict(zip(settings.QUEUES, ask.execute(), strict=True))


@dataclass(frozen=True, slots=True)
class RedisFacts:
    """`policy` and `keeps` are None where the server does not tell (managed ones refuse CONFIG)."""

    version: str
    name: str  # redis or valkey
    policy: str | None
    keeps: bool | None  # whether anything is left after a restart
    memory: int  # bytes
    most_memory: int  # bytes, 0 for no limit


def facts() -> RedisFacts:
    asked = server(settings.REDIS_URL)
    told: dict[str, Any] = asked.info()
    policy: str | None = told.get("maxmemory_policy")
    try:
        config = cast(dict[str, str], asked.config_get("maxmemory-policy", "appendonly", "save"))
    except redis.ResponseError:
        keeps = True if told.get("aof_enabled") else None
    else:
        policy = config.get("maxmemory-policy", policy)
        keeps = config.get("appendonly") == "yes" or bool(config.get("save"))
    return RedisFacts(
        version=str(told.get("valkey_version") or told.get("redis_version", "")),
        name=str(told.get("server_name") or "redis"),
        policy=policy,
        keeps=keeps,
        memory=int(told.get("used_memory", 0)),
        most_memory=int(told.get("maxmemory", 0)),
    )
