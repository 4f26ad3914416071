"""Virtual time and processes that can be stopped at any call.

A process is a greenlet: real synchronous code that runs until it sleeps. Whoever sleeps lets the others run; nothing
else does. So the same seed runs the same steps in the same order, and a process can die or stall exactly where the
world wants it to.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from greenlet import GreenletExit, getcurrent, greenlet

from providers.clock import HostTime


class Died(GreenletExit):
    """The process is gone: nothing may catch this."""


class VirtualTime:
    """The platform's clock. `offset` is how wrong it is: the host's elapsed time is never wrong."""

    speed = 1.0

    def __init__(self, start: datetime) -> None:
        self.start = start
        self.elapsed = 0.0
        self.offset = timedelta(0)
        self._at = -1.0
        self._true = start

    def now(self) -> datetime:
        return self.true() + self.offset if self.offset else self.true()

    def true(self) -> datetime:
        """What a clock that is right would say."""
        if self._at != self.elapsed:
            self._at, self._true = self.elapsed, self.start + timedelta(microseconds=round(self.elapsed * 1e6))
        return self._true

    wall = staticmethod(lru_cache(lambda seconds: timedelta(seconds=seconds)))  # asked for the same few, and often

    def monotonic(self) -> float:
        return self.elapsed


class Process:
    """One process of the platform."""

    __slots__ = ("greenlet", "is_alive", "name", "on_end", "resume_at", "stalled_until", "waits")

    def __init__(self, name: str, work: Callable[[], Any], on_end: Callable[[Process], None] | None) -> None:
        self.name, self.is_alive, self.on_end = name, True, on_end
        self.greenlet = greenlet(work)
        self.stalled_until = 0.0
        self.waits = 0  # a wake-up that was meant for an earlier wait is none


class Scheduler:
    """Events in the order of time; of the same time, in the order they were made."""

    def __init__(self, time: VirtualTime) -> None:
        self.time = time
        self.processes: list[Process] = []
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0
        self._current: Process | None = None
        self._hub = getcurrent()

    @property
    def current(self) -> Process | None:
        return self._current

    def later(self, seconds: float, do: Callable[..., None], *args: Any) -> None:
        self._count += 1
        heapq.heappush(self._heap, (self.time.elapsed + seconds, self._count, do, args))

    def spawn(
        self, name: str, work: Callable[[], Any], *, after: float = 0.0, on_end: Callable[[Process], None] | None = None
    ) -> Process:
        process = Process(name, work, on_end)
        self.processes.append(process)
        self.later(after, self._resume, process, 0, None)
        return process

    def run(self, until: float) -> None:
        while self._heap and self._heap[0][0] <= until:
            at, _, do, args = heapq.heappop(self._heap)
            self.time.elapsed = max(at, self.time.elapsed)
            do(*args)
        self.time.elapsed = until

    def end(self) -> None:
        """Every process dies where it stands."""
        for process in list(self.processes):
            self.kill(process)
        self._heap.clear()

    # --- from inside a process --------------------------------------------------------------------------------------

    def sleep(self, seconds: float) -> Any:
        """Let the others run for so long; returns what `wake` was given, where somebody woke the process before."""
        process = self._current
        if process is None:
            raise RuntimeError("only a process can sleep")
        if not process.is_alive:  # its last words: nobody hears them
            raise Died
        process.waits += 1
        self.later(seconds, self._resume, process, process.waits, None)
        return self._hub.switch()

    def wake(self, process: Process, waits: int, value: Any) -> None:
        """End the wait number `waits` of a process now."""
        self._resume(process, waits, value)

    def stall(self, process: Process, seconds: float) -> None:
        """SIGSTOP for so long: whatever wakes it meanwhile finds it when it goes on."""
        process.stalled_until = max(process.stalled_until, self.time.elapsed + seconds)

    # --- from outside -----------------------------------------------------------------------------------------------

    def kill(self, process: Process) -> None:
        """SIGKILL."""
        if not process.is_alive:
            return
        process.is_alive = False
        if process.greenlet:  # it has begun
            before, self._current = self._current, process
            process.greenlet.parent = getcurrent()
            process.greenlet.throw(Died)
            self._current = before
        self._ended(process)

    def _resume(self, process: Process, waits: int, value: Any) -> None:
        if not process.is_alive or process.waits != waits:
            return
        left = process.stalled_until - self.time.elapsed
        if left > 0:
            self.later(left, self._resume, process, waits, value)
            return
        before, self._current = self._current, process
        process.waits += 1
        process.greenlet.parent = self._hub
        process.greenlet.switch(value) if process.greenlet else process.greenlet.switch()
        self._current = before
        if process.greenlet.dead:
            process.is_alive = False
            self._ended(process)

    def _ended(self, process: Process) -> None:
        if process not in self.processes:
            return
        self.processes.remove(process)
        if process.on_end is not None:
            process.on_end(process)


def host_of(scheduler: Scheduler, chance: Callable[[], float]) -> HostTime:
    """The host's time for exchange clients."""
    time = scheduler.time
    return HostTime(
        monotonic=time.monotonic,
        wall=lambda: time.now().timestamp(),
        sleep=scheduler.sleep,
        jitter=lambda most: most * chance(),
    )
