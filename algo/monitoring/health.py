"""Is the platform ready to trade? Each part with a reason, in time, whatever is down."""

from __future__ import annotations

import time
from collections.abc import Collection
from concurrent.futures import Future
from dataclasses import dataclass

import redis
from django.db import DatabaseError, InterfaceError, ProgrammingError, connection

from algo.monitoring import redis_facts
from algo.monitoring.bounded import Bounded, Remembered, Unanswered
from algo.selectors.health import (
    WORKER,
    CandlesHealth,
    ExchangeHealth,
    Life,
    ProcessHealth,
    candles_health,
    exchanges_used,
    house_health,
)
from providers.clock import clock_from_env

SECONDS = 1.2  # for everything: who asks waits no longer
REMEMBERED_SECONDS = 1.0
DATABASE, REDIS = "database", "redis"
FROM_DATABASE = ("beat", "workers", "guardian", "candles", "exchanges")
PARTS = (DATABASE, REDIS, *FROM_DATABASE)


@dataclass(frozen=True, slots=True)
class Part:
    """One part, whether it is as it should be, and why (not): a sentence without names, addresses or versions."""

    name: str
    ok: bool
    reason: str


def readiness(only: Collection[str] = PARTS) -> list[Part]:
    """The parts named, as they were found at most a second ago."""
    return [part for part in _remembered.get() if part.name in only]


def _look() -> list[Part]:
    """Asks both servers at once, and waits for both together no longer than `SECONDS`."""
    deadline = time.monotonic() + SECONDS
    of_redis, of_database = _redis.begin(redis_facts.ping), _database.begin(_from_database)
    broker = _server(REDIS, of_redis, deadline)
    failure = _failure(of_database, deadline)
    if failure:
        unknown = "Not known: the database does not tell."
        rest = [Part(name, ok=False, reason=unknown) for name in FROM_DATABASE]
        return [Part(DATABASE, ok=False, reason=failure), broker, *rest]
    return [Part(DATABASE, ok=True, reason="It answers."), broker, *of_database.result()]


def _server(name: str, asked: Future[None], deadline: float) -> Part:
    failure = _failure(asked, deadline)
    return Part(name, ok=not failure, reason=failure or "It answers.")


def _failure(asked: Future[object] | Future[None] | Future[list[Part]], deadline: float) -> str:
    """Why there is no answer; empty where there is one. What the driver says is not repeated: it may hold addresses."""
    try:
        asked.result(timeout=max(deadline - time.monotonic(), 0.0))
    except (TimeoutError, Unanswered, redis.TimeoutError):
        return "It takes the connection and does not answer."
    except ProgrammingError:
        return "It has not been migrated to this version: run manage.py migrate."
    except (DatabaseError, InterfaceError, redis.RedisError, OSError):
        return "It cannot be reached."
    return ""


def _from_database() -> list[Part]:
    """In a session of its own: one that was opened earlier proves less."""
    clock = clock_from_env()
    now = clock.now()
    try:
        processes, exchanges = house_health(now, speed=clock.speed)
        candles = candles_health(now, speed=clock.speed)
        used = exchanges_used()
    finally:
        connection.close()
    lives = {process.name: process for process in processes}
    return [
        _process("beat", [lives["beat"]]),
        _process("workers", [each for name, each in lives.items() if name.startswith(WORKER)]),
        _process("guardian", [lives["guardian"]]),
        _of_candles(candles),
        _of_exchanges([each for each in exchanges if each.name in used]),
    ]


def _process(name: str, processes: list[ProcessHealth]) -> Part:
    gone = [each for each in processes if each.life in (Life.SILENT, Life.NEVER)]
    if gone:
        return Part(name, ok=False, reason=" ".join(map(silence, gone)))
    ages = [each.age for each in processes if each.life is not Life.BUSY and each.age is not None]
    return Part(name, ok=True, reason=f"Last sign of life {max(ages, default=0.0):.0f} s ago.")


def silence(process: ProcessHealth) -> str:
    """Of a process that should give signs of life, in a sentence."""
    if process.age is None:
        return f"{process.name} has never given a sign of life."
    return f"{process.name} has been silent for {process.age:.0f} s."


def _of_candles(candles: list[CandlesHealth]) -> Part:
    late = [each for each in candles if each.is_late]
    if late:
        told = ", ".join(f"{each.resolution}: {each.age:.0f} s ago" for each in late)
        return Part("candles", ok=False, reason=f"The last closed candle is old ({told}).")
    if not candles:
        return Part("candles", ok=True, reason="No running strategy waits for candles.")
    ages = [f"{each.resolution}: {each.age:.0f} s ago" for each in candles if each.age is not None]
    told = f"The last closed candle: {', '.join(ages)}." if ages else "No strategy has decided yet."
    return Part("candles", ok=True, reason=told)


def _of_exchanges(exchanges: list[ExchangeHealth]) -> Part:
    away = [each for each in exchanges if each.is_away]
    if away:
        return Part("exchanges", ok=False, reason=" ".join(f"{each.name} does not answer." for each in away))
    if not exchanges:
        return Part("exchanges", ok=True, reason="None is in use.")
    return Part("exchanges", ok=True, reason=" ".join(map(_answered, exchanges)))


def _answered(exchange: ExchangeHealth) -> str:
    if exchange.answered is None:
        return f"{exchange.name} has not been called lately."
    return f"{exchange.name} answered {exchange.answered:.0f} s ago."


_database, _redis = Bounded(DATABASE), Bounded(REDIS)
_remembered: Remembered[list[Part]] = Remembered(_look, REMEMBERED_SECONDS, time.monotonic)
