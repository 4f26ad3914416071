"""How often an exchange may be called, and who goes first when that gets tight.

A budget has a name (one per address of the exchange, or shared by several), a limit, and a reserve that only what ends
risk may use: exits, cancels, reconciliation. Downloads of history, for which nobody waits, take only what all others
leave. What is counted here is counted for one process; the platform's workers count together in Redis by the same
protocol.
"""

from __future__ import annotations

import contextvars
import math
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol

from providers.errors import RateLimited

DEFAULT = "default"  # names without a limit of their own share this one
RESERVE = 0.3  # of a burst, unless told
FOR_OTHERS = 0.9  # of a burst, left to everybody else by downloads, for which nobody waits
FOR_OTHERS_AT_ONCE = 0.5  # the same of a limit that may be used at once
FOR_STOPS = 0.5  # reserve of what places orders: every entry leaves a call for the stop that follows it
AT_ONCE = 1.0  # burst share of what comes all together: no bucket, its calls of the last window are counted
IN_BURSTS = 0.6  # burst share of what places orders: stops of several positions move in the same second
GUARDIAN_SHARE = 0.3  # of every limit: for the one process that must not need Redis, where the others count together
SHARED_SHARE = 0.6  # for the others; a tenth is left for clocks and connections that differ
TO_LEAVE = 0.2  # seconds that a write takes from its permission to the wire, at most
DEFAULT_RETRY_AFTER = 10.0  # contract: wallex 1.4
LONGEST_RETRY_AFTER = 300.0


class Priority(StrEnum):
    """Who goes first: what ends risk (exits, cancels, reconciliation) may use the reserve of a budget, what begins or
    watches risk all but that, and downloads of history only the top of a bucket that nobody else has used lately."""

    DOWNLOADS = "downloads"
    NORMAL = "normal"
    EXITS = "exits"


_priority: contextvars.ContextVar[Priority | None] = contextvars.ContextVar("rate_budget_priority", default=None)


@contextmanager
def budget_priority(priority: Priority) -> Iterator[None]:
    """Calls made inside use `priority`, e.g. a MARKET order that is an exit, which a client cannot tell by itself."""
    token = _priority.set(priority)
    try:
        yield
    finally:
        _priority.reset(token)


def current_priority(of_endpoint: Priority) -> Priority:
    """What the caller said, else what the address usually is."""
    return _priority.get() or of_endpoint


_time_to_send: contextvars.ContextVar[float | None] = contextvars.ContextVar("time_to_send", default=None)


@contextmanager
def send_within(seconds: float) -> Iterator[None]:
    """A write made inside leaves within so many seconds of its call, or not at all: waiting for a budget must not put
    an order on the wire whose reason is old."""
    token = _time_to_send.set(seconds)
    try:
        yield
    finally:
        _time_to_send.reset(token)


def time_to_send() -> float | None:
    return _time_to_send.get()


def without_waiting() -> AbstractContextManager[None]:
    """Calls made inside take what their budget has, or raise `RateLimited` at once."""
    return send_within(0.0)


def no_waiting(seconds: float) -> None:
    """In place of `sleep`, for who must not wait for a turn: a page that answers a person, a worker with other work."""
    raise RateLimited("The exchange is called too often at the moment; nothing was sent.", retry_after=seconds)


class RateBudget(Protocol):
    """Permission to call, per budget name. One may be shared by all clients behind one address."""

    def acquire(self, name: str, priority: Priority, calls: int = 1) -> None:
        """Take `calls` calls, waiting a little if need be. Raises `RateLimited`, before anything is sent."""
        ...

    def ready(self, name: str, priority: Priority, calls: int = 1) -> bool:
        """Whether `calls` calls would pass now without waiting. Takes nothing."""
        ...

    def refused(self, name: str, stated_seconds: float | None) -> float:
        """The exchange said 429, perhaps with a waiting time. Returns the seconds nobody will call `name`."""
        ...

    def observed(self, name: str, remaining: int) -> None:
        """The exchange said how many calls are left."""
        ...


class WatchedBudget(RateBudget, Protocol):
    """One that can say what is left of it."""

    def left(self) -> dict[str, float]:
        """Of each budget, the share of its burst that is there now: 1 is all of it, 0 that nobody may call."""
        ...


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `calls` in any `seconds`: a share of them (a third, unless told) may come as a burst, the rest is
    spread; or all of them may come `AT_ONCE`, where the `seconds` before saw none. `for_guardian`: whether the guardian
    makes such calls, so that a part has to be kept for it. `reserve`: the share of a burst that only what ends risk may
    use."""

    calls: int
    seconds: float
    burst_share: float = 1 / 3
    for_guardian: bool = True
    reserve: float = RESERVE

    @property
    def is_at_once(self) -> bool:
        return self.burst_share >= AT_ONCE

    @property
    def burst(self) -> float:
        return max(self.calls * self.burst_share, 1.0)

    def kept_from(self, priority: Priority) -> float:
        """Calls of a burst that `priority` leaves to those who go before it. A burst of one has nothing to keep."""
        if priority is Priority.EXITS:
            return 0.0
        for_others = FOR_OTHERS_AT_ONCE if self.is_at_once else FOR_OTHERS
        share = self.reserve if priority is Priority.NORMAL else max(self.reserve, for_others)
        return min(self.burst * share, self.burst - 1)

    @property
    def per_second(self) -> float:
        return max(self.calls - self.burst, 1.0) / self.seconds

    def share(self, fraction: float) -> Limit:
        """A part of this limit for one of several who do not see each other's calls; never less than one call."""
        return replace(self, calls=max(int(self.calls * fraction + 1e-9), 1))


def shares(limits: Mapping[str, Limit], fraction: float) -> dict[str, Limit]:
    """The same part of every limit."""
    return {name: limit.share(fraction) for name, limit in limits.items()}


def limits_times(limits: Mapping[str, Limit], factor: float) -> dict[str, Limit]:
    """So many times the calls of every limit, in the same time."""
    return {name: replace(limit, calls=int(limit.calls * factor)) for name, limit in limits.items()}


def shared_part(limits: Mapping[str, Limit]) -> dict[str, Limit]:
    """What is left for those who count together: all that is used of a limit that the guardian has no use for."""
    return {
        name: limit.share(SHARED_SHARE if limit.for_guardian else SHARED_SHARE + GUARDIAN_SHARE)
        for name, limit in limits.items()
    }


def silence_after(stated_seconds: float | None, strikes: int, limit: Limit) -> float:
    """Seconds to leave an address alone after a 429: what the exchange asked for, as long as its window can last; else
    10 s, doubled with every further refusal, up to 5 minutes (contract: wallex 1.4). Exits do not wait for the
    doubling, which is our guess: they count one strike."""
    if stated_seconds is not None:
        return min(max(stated_seconds, 0.5), max(limit.seconds, LONGEST_RETRY_AFTER))
    return min(DEFAULT_RETRY_AFTER * 2 ** min(max(strikes, 1) - 1, 5), LONGEST_RETRY_AFTER)


class WaitingBudget(ABC):
    """The waiting that every budget does: EXITS at most `exits_wait` seconds, the others `normal_wait`, and none longer
    than it may still be sent; then `RateLimited` tells when to come back."""

    def __init__(
        self,
        limits: Mapping[str, Limit],
        *,
        normal_wait: float = 2.0,
        exits_wait: float = 4.0,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._limits = self.documented(limits)
        self._normal_wait, self._exits_wait = normal_wait, exits_wait
        self._monotonic, self._sleep = monotonic, sleep

    @staticmethod
    def documented(limits: Mapping[str, Limit]) -> dict[str, Limit]:
        """`limits`, and one for the names that have none."""
        return {DEFAULT: Limit(60, 60.0), **limits}

    def budget_of(self, name: str) -> str:
        """The budget that calls under `name` are taken from."""
        return name if name in self._limits else DEFAULT

    def acquire(self, name: str, priority: Priority, calls: int = 1) -> None:
        give_up = self._monotonic() + self._longest_wait(priority)
        while (wait := self.take(name, priority, calls)) > 0:
            if self._monotonic() + wait > give_up:
                raise RateLimited(
                    f"the call budget {name} is spent: nothing was sent; try again in {wait:.1f} s", retry_after=wait
                )
            self._sleep(wait)

    def _longest_wait(self, priority: Priority) -> float:
        """Whoever waits longer than he may still send takes a call for nothing, and the next one finds none either."""
        allowed = time_to_send()
        usual = self._exits_wait if priority is Priority.EXITS else self._normal_wait
        return usual if allowed is None else min(usual, max(allowed - TO_LEAVE, 0.0))

    @abstractmethod
    def take(self, name: str, priority: Priority, calls: int) -> float:
        """Without waiting: zero when the calls were taken, else the seconds until they may be there."""


@dataclass(slots=True)
class _Bucket:
    """A token bucket: what was spent comes back evenly."""

    limit: Limit
    tokens: float
    updated: float
    silent_until: float
    exits_silent_until: float
    strikes: int = 0

    def refill(self, now: float) -> None:
        self.tokens = min(self.tokens + (now - self.updated) * self.limit.per_second, self.limit.burst)
        self.updated = now

    def spend(self, calls: float) -> None:
        self.tokens -= calls

    def seconds_until(self, tokens: float) -> float:
        return (tokens - self.tokens) / self.limit.per_second


@dataclass(slots=True)
class _Window(_Bucket):
    """A sliding window: what was spent comes back when its time is over."""

    spent: deque[float] = field(default_factory=deque)

    def refill(self, now: float) -> None:
        while self.spent and self.spent[0] <= now - self.limit.seconds:
            self.spent.popleft()
        self.tokens = float(self.limit.calls - len(self.spent))
        self.updated = now

    def spend(self, calls: float) -> None:
        self.spent.extend([self.updated] * math.ceil(calls))
        self.tokens -= math.ceil(calls)

    def seconds_until(self, tokens: float) -> float:
        return self.spent[math.ceil(tokens - self.tokens) - 1] + self.limit.seconds - self.updated


class InProcessBudget(WaitingBudget):
    """Token buckets and windows in this process, safe for threads."""

    def __init__(
        self,
        limits: Mapping[str, Limit],
        *,
        normal_wait: float = 2.0,
        exits_wait: float = 4.0,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(limits, normal_wait=normal_wait, exits_wait=exits_wait, monotonic=monotonic, sleep=sleep)
        self._buckets: dict[str, _Bucket] = {}
        self._lock = threading.Lock()

    def refused(self, name: str, stated_seconds: float | None) -> float:
        with self._lock:
            bucket = self._refilled(name)
            if bucket.updated > bucket.silent_until:  # calls in flight together are one strike
                long_ago = bucket.updated > bucket.silent_until + LONGEST_RETRY_AFTER
                bucket.strikes = 1 if long_ago else bucket.strikes + 1
            seconds = silence_after(stated_seconds, bucket.strikes, bucket.limit)
            for_exits = silence_after(stated_seconds, 1, bucket.limit)
            bucket.silent_until = max(bucket.silent_until, bucket.updated + seconds)
            bucket.exits_silent_until = max(bucket.exits_silent_until, bucket.updated + for_exits)
            kept = bucket.limit.kept_from(Priority.NORMAL) + 1  # exits first, afterwards
            bucket.spend(max(bucket.tokens - kept, 0.0))
            return seconds

    def observed(self, name: str, remaining: int) -> None:
        with self._lock:
            bucket = self._refilled(name)
            bucket.spend(max(bucket.tokens - max(remaining, 0), 0.0))

    def ready(self, name: str, priority: Priority, calls: int = 1) -> bool:
        with self._lock:
            return self._wait(self._refilled(name), priority, calls) == 0

    def take(self, name: str, priority: Priority, calls: int) -> float:
        with self._lock:
            bucket = self._refilled(name)
            wait = self._wait(bucket, priority, calls)
            if not wait:
                bucket.spend(calls)
            return wait

    def left(self) -> dict[str, float]:
        """Of each budget that was used."""
        with self._lock:
            buckets = {name: self._refilled(name) for name in list(self._buckets)}
            return {
                name: 0.0 if each.silent_until > each.updated else max(each.tokens, 0.0) / each.limit.burst
                for name, each in buckets.items()
            }

    def _wait(self, bucket: _Bucket, priority: Priority, calls: int) -> float:
        """Seconds. A batch larger than the burst takes the bucket below zero, once it is full: it pays with a longer
        wait of the next."""
        silent_until = bucket.exits_silent_until if priority is Priority.EXITS else bucket.silent_until
        if silent_until > bucket.updated:
            return silent_until - bucket.updated
        needed = min(bucket.limit.kept_from(priority) + calls, bucket.limit.burst)
        return max(bucket.seconds_until(needed), 0.001) if needed - bucket.tokens > 1e-9 else 0.0

    def _refilled(self, name: str) -> _Bucket:
        now = self._monotonic()
        key = self.budget_of(name)
        bucket = self._buckets.get(key)
        if bucket is None:
            limit = self._limits[key]
            kind = _Window if limit.is_at_once else _Bucket
            bucket = self._buckets[key] = kind(limit, limit.burst, now, now - 1, now - 1)
        bucket.refill(now)
        return bucket
