"""One clock for the whole platform, so that a replay can run faster than the world.

`now()` is platform time. At speed 1 it is the wall clock. In a replay every process is started with the same anchor
(`CLOCK_ANCHOR_REAL`, `CLOCK_ANCHOR`, `CLOCK_SPEED`) and therefore reads the same time without talking to the others.
The limits of calls are the exchange's own, per minute of its own: where they pass faster too, `CLOCK_CALLS` says so.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

# What CLOCK_MONOTONIC leaves out on Linux is the time a machine was suspended; an order is just as late after that.
_SINCE_BOOT: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def seconds_since_boot() -> float:
    """By a clock that nobody sets and that counts while the machine sleeps."""
    return time.clock_gettime(_SINCE_BOOT)


CLOCKS_DIFFER = timedelta(seconds=5)  # by so much two hosts' clocks may; what is further ahead, a wrong one stamped


class Clock(Protocol):
    """Where `now` comes from. `speed` is platform seconds per wall second."""

    @property
    def speed(self) -> float: ...

    def now(self) -> datetime:
        """Platform time, aware UTC."""
        ...

    def wall(self, seconds: float) -> timedelta:
        """How much platform time passes in `seconds` on the wall: deadlines of networks and processes are wall time."""
        ...

    def monotonic(self) -> float:
        """Wall seconds since some moment, never set back or forward: what elapsed time is measured with."""
        ...


@dataclass(frozen=True, slots=True)
class AnchoredClock:
    """Platform time that was `anchor` at wall time `anchor_real` (unix seconds) and runs `speed` times as fast."""

    anchor_real: float = 0.0
    anchor: float = 0.0
    speed: float = 1.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.anchor + (time.time() - self.anchor_real) * self.speed, UTC)

    def wall(self, seconds: float) -> timedelta:
        return timedelta(seconds=seconds * self.speed)

    def monotonic(self) -> float:
        return seconds_since_boot()


def clock_from_env(environ: Mapping[str, str] | None = None) -> AnchoredClock:
    """The clock this process was started with; the wall clock where nothing is said."""
    env = os.environ if environ is None else environ
    if "CLOCK_SPEED" not in env:
        return AnchoredClock()
    speed = float(env["CLOCK_SPEED"])
    if speed <= 0:
        raise ValueError("CLOCK_SPEED must be greater than zero")
    return AnchoredClock(float(env["CLOCK_ANCHOR_REAL"]), float(env["CLOCK_ANCHOR"]), speed)


def calls_factor(environ: Mapping[str, str] | None = None) -> float:
    """How many times the calls of its documents an exchange takes in a minute on the wall: as many as minutes of its
    own pass in it, where a replay says so (`CLOCK_CALLS`); else 1."""
    env = os.environ if environ is None else environ
    factor = float(env.get("CLOCK_CALLS", 1))
    if factor < 1:
        raise ValueError("CLOCK_CALLS must be at least one")
    return factor


@dataclass(frozen=True, slots=True)
class HostTime:
    """The time of this machine, in which networks are waited for; a simulated world hands in its own. `jitter` draws a
    wait between nothing and so many seconds, so that those who failed together do not come back together."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time  # unix seconds
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[float], float] = lambda most: random.uniform(0, most)  # noqa: S311 - no secret


HOST = HostTime()
