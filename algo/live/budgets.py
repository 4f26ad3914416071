"""Call budgets shared through Redis by every worker, the web and the commands.

An exchange counts per address of the caller, so all processes of one machine spend from the same limits. Each budget
is one token bucket in Redis (pyrate-limiter's GCRA: one number, changed in one atomic step), asked with a burst size
of each priority: NORMAL calls leave the reserve to exits, cancels and reconciliation, downloads of history leave nearly
all of it. What may come all at once (candles, which end together) is no bucket: the calls of its last window are
counted. What an exchange refuses (429, `backOff`) silences the address for everybody.

The guardian has no Redis and must not need one: it keeps a share of every limit for itself (`GUARDIAN_SHARE`), and the
others share the rest. While Redis does not answer, each process falls back to a small share of its own; the shares
add up to less than the documented limit.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import redis
from pyrate_limiter import GCRA, Rate, RedisStateStore
from redis.commands.core import Script

from algo.live.redis_link import CarefulAsker, connect
from providers.budgets import (
    LONGEST_RETRY_AFTER,
    InProcessBudget,
    Limit,
    Priority,
    WaitingBudget,
    shared_part,
    shares,
    silence_after,
)

logger = logging.getLogger("algo.budgets")

ALONE_SHARE = 0.03  # of each process, while Redis does not answer
REDIS_LEFT_ALONE = 5.0  # seconds after a failure
UNANSWERED = -1.0
_ALGORITHM = GCRA()

# Makes room for ARGV[4] calls at ARGV[1] (ms) where fewer than ARGV[3] were made in the ARGV[2] ms before it, and keeps
# them under names that begin with ARGV[5]; with an empty name it only looks. Returns the ms to wait, -1 for more calls
# than ever fit. (The library's own log of calls is never trimmed and does not survive a restart of Redis.)
_WINDOW = """
local now, window, limit, calls = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
if calls > limit then return -1 end
redis.call('ZREMRANGEBYSCORE', KEYS[1], 0, now - window)
local over = redis.call('ZCARD', KEYS[1]) + calls - limit
if over > 0 then
  return math.max(tonumber(redis.call('ZRANGE', KEYS[1], over - 1, over - 1, 'WITHSCORES')[2]) + window - now, 1)
end
if ARGV[5] ~= '' then
  for i = 1, calls do redis.call('ZADD', KEYS[1], now, ARGV[5] .. i) end
  redis.call('PEXPIRE', KEYS[1], window)
end
return 0
"""


@dataclass(frozen=True, slots=True)
class _Bucket:
    """A token bucket at `key`."""

    server: redis.Redis
    key: str
    limit: Limit

    def used(self) -> float:
        """The share of a burst that is spent."""
        rates = [rate_of(self.limit, Priority.EXITS)]
        return _ALGORITHM.consumed(rates, self._store().read(_ALGORITHM, rates), _now_ms()) / rates[0].burst

    def take(self, priority: Priority, calls: int) -> int | None:
        """Milliseconds to wait for so many calls, 0 where they were taken; None where they never fit."""
        verdict = self._store().check(_ALGORITHM, [rate_of(self.limit, priority)], _now_ms(), calls)
        if verdict.allowed:
            return 0
        return None if verdict.retry_after_ms is None else max(verdict.retry_after_ms, 1)

    def is_ready(self, priority: Priority, calls: int) -> bool:
        rates = [rate_of(self.limit, priority)]
        return _ALGORITHM.step(rates, self._store().read(_ALGORITHM, rates), _now_ms(), calls)[1].allowed

    def _store(self) -> RedisStateStore:
        return RedisStateStore(self.server, self.key)


@dataclass(frozen=True, slots=True)
class _Window:
    """The calls of the last window at `key`, by their times."""

    server: redis.Redis
    key: str
    limit: Limit
    script: Script

    def used(self) -> float:
        """The share of all calls that is spent."""
        made: Any = self.server.zcount(self.key, _now_ms() - int(self.limit.seconds * 1000), "+inf")
        return float(made) / self.limit.calls

    def take(self, priority: Priority, calls: int) -> int | None:
        """Milliseconds to wait for so many calls, 0 where they were taken; None where they never fit."""
        waits = self._run(priority, calls, taken_as=uuid.uuid4().hex)
        return None if waits < 0 else waits

    def is_ready(self, priority: Priority, calls: int) -> bool:
        return self._run(priority, calls, taken_as="") == 0

    def _run(self, priority: Priority, calls: int, *, taken_as: str) -> int:
        most = self.limit.calls - int(self.limit.kept_from(priority))
        arguments: list[int | str] = [_now_ms(), int(self.limit.seconds * 1000), most, calls, taken_as]
        return int(self.script(keys=[self.key], args=arguments))


class SharedBudget(WaitingBudget):
    """`RateBudget` counted in Redis; `where` names the exchange and its address. Safe for threads."""

    def __init__(
        self,
        server: redis.Redis,
        where: str,
        limits: Mapping[str, Limit],
        *,
        normal_wait: float = 2.0,
        exits_wait: float = 4.0,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(
            shared_part(self.documented(limits)),
            normal_wait=normal_wait,
            exits_wait=exits_wait,
            monotonic=monotonic,
            sleep=sleep,
        )
        self._redis, self._where = server, where
        self._window = server.register_script(_WINDOW)
        self._alone = InProcessBudget(shares(self.documented(limits), ALONE_SHARE), monotonic=monotonic, sleep=sleep)
        self._asker = CarefulAsker(REDIS_LEFT_ALONE, self._note_failure, monotonic)

    # --- the three verbs ---

    def refused(self, name: str, stated_seconds: float | None) -> float:
        alone = self._alone.refused(name, stated_seconds)
        return self._asker.ask(lambda: self._silence(self.budget_of(name), stated_seconds), otherwise=alone)

    def observed(self, name: str, remaining: int) -> None:
        self._alone.observed(name, remaining)
        known = self.budget_of(name)
        kept_ms = int(min(max(self._limits[known].seconds / 10, 0.5), 10.0) * 1000)
        self._asker.ask(lambda: bool(self._redis.set(self._key(known, "left"), remaining, px=kept_ms)), otherwise=False)

    def take(self, name: str, priority: Priority, calls: int) -> float:
        known = self.budget_of(name)
        wait = self._asker.ask(lambda: self._take_shared(known, priority, calls), otherwise=UNANSWERED)
        return self._alone.take(name, priority, calls) if wait == UNANSWERED else wait

    def ready(self, name: str, priority: Priority, calls: int = 1) -> bool:
        known = self.budget_of(name)
        if self._asker.is_leaving_alone:
            return self._alone.ready(name, priority, calls)
        return self._asker.ask(lambda: self._ready_shared(known, priority, calls), otherwise=False)

    def left(self) -> dict[str, float]:
        """For all who count together; while Redis is left alone, for this process."""
        if self._asker.is_leaving_alone:
            return self._alone.left()
        return self._asker.ask(self._left_shared, otherwise={})

    # --- in Redis ---

    def _left_shared(self) -> dict[str, float]:
        found = {}
        for name in self._limits:
            silent = self._redis.pttl(self._key(name, _silence(Priority.NORMAL))) > 0
            found[name] = 0.0 if silent else max(1 - self._count(name).used(), 0.0)
        return found

    def _take_shared(self, name: str, priority: Priority, calls: int) -> float:
        limit = self._limits[name]
        if wait := self._told_to_wait(name, priority, calls):
            return wait
        count = self._count(name)
        waits_ms = count.take(priority, calls)
        if waits_ms is None:
            return limit.seconds  # a batch that is larger than the bucket never fits
        wait = waits_ms / 1000
        if wait > limit.seconds:  # no bucket takes so long to fill: it was written before the clock was set back
            self._redis.delete(count.key)
            return 0.1
        return wait

    def _ready_shared(self, name: str, priority: Priority, calls: int) -> bool:
        if self._told_to_wait(name, priority, calls):
            return False
        return self._count(name).is_ready(priority, calls)

    def _told_to_wait(self, name: str, priority: Priority, calls: int) -> float:
        """Seconds, by what the exchange itself said lately."""
        ask = self._redis.pipeline(transaction=False)
        ask.pttl(self._key(name, _silence(priority)))
        ask.get(self._key(name, "left"))
        silent_ms, left = ask.execute()
        if silent_ms > 0:
            return float(silent_ms) / 1000
        kept = 0 if priority is Priority.EXITS else self._limits[name].reserve * self._limits[name].calls
        # too few left: the exchange counts calls that we do not know of
        return 0.5 if left is not None and int(left) < calls + kept else 0.0

    def _count(self, name: str) -> _Bucket | _Window:
        limit = self._limits[name]
        if limit.is_at_once:
            return _Window(self._redis, self._key(name, "window"), limit, self._window)
        return _Bucket(self._redis, self._key(name, "bucket"), limit)

    def _silence(self, name: str, stated_seconds: float | None) -> float:
        """Calls in flight together are one strike: only the first of them finds the address not silenced."""
        silent, strikes = self._key(name, _silence(Priority.NORMAL)), self._key(name, "strikes")
        if self._redis.pttl(silent) <= 0:
            self._redis.incr(strikes)
            self._redis.expire(strikes, int(2 * LONGEST_RETRY_AFTER))
        limit = self._limits[name]
        seconds = silence_after(stated_seconds, int(self._redis.get(strikes) or 1), limit)
        self._silent_for(silent, seconds)
        self._silent_for(self._key(name, _silence(Priority.EXITS)), silence_after(stated_seconds, 1, limit))
        return seconds

    def _silent_for(self, key: str, seconds: float) -> None:
        if self._redis.pttl(key) < seconds * 1000:
            self._redis.set(key, 1, px=int(seconds * 1000))

    def _key(self, name: str, what: str) -> str:
        return f"algo:budget:1:{self._where}:{name}:{what}"

    def _note_failure(self, exc: Exception) -> None:
        logger.warning(
            "Redis does not answer (%s): for %g s this process keeps to its own small share of the calls to %s",
            *(type(exc).__name__, REDIS_LEFT_ALONE, self._where),
        )


def _now_ms() -> int:
    return int(time.time() * 1000)


def rate_of(limit: Limit, priority: Priority) -> Rate:
    """The bucket of a limit: some of its calls at once, the rest spread over its time, so that no window of that
    length ever sees more; who goes later sees it smaller by what is kept from him."""
    burst = int(limit.burst)
    kept = int(limit.kept_from(priority))
    return Rate(max(limit.calls - burst, 1), int(limit.seconds * 1000), burst=burst - kept)


def _silence(priority: Priority) -> str:
    return "silent-exits" if priority is Priority.EXITS else "silent"


def shared_budgets(url: str) -> Callable[[str, str, Mapping[str, Limit]], SharedBudget]:
    """What makes the budget of one exchange at one address, counted in the Redis at `url`."""
    server = connect(url)

    def budget(provider: str, base_url: str, limits: Mapping[str, Limit]) -> SharedBudget:
        return SharedBudget(server, f"{provider}@{base_url.rstrip('/').partition('://')[2]}", limits)

    return budget
