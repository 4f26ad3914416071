"""Keeps a set of processes running: started in order of need, restarted when they crash, stopped in order of safety.

One thread, one loop, ten looks a second. A service starts when all it `needs` are ready. A task (`once`) is ready when
it ended with 0. A service that crashes comes back after 1, 2, 4 … 30 seconds; one that keeps crashing before everything
was ready once ends the start with its last words.
"""

from __future__ import annotations

import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from launcher.console import LauncherError, say
from launcher.processes import fresh_log, kill_group, limit_log, spawn, tail

LOOK_SECONDS = 0.1
READY_LOOK_SECONDS = 0.2
START_SECONDS = 180.0
LONGEST_BACK_OFF_SECONDS = 30.0
STEADY_SECONDS = 60.0  # after so long without a crash the back-off starts again from one second
CRASHES_BEFORE_GIVING_UP = 4  # while starting
LOG_LOOK_SECONDS = 60.0


class State(Enum):
    WAITING = "waiting"
    RUNNING = "running"
    READY = "ready"
    BACK_OFF = "back-off"


def back_off_seconds(crashes: int) -> float:
    """The wait before restart number `crashes` (from 1): 1, 2, 4 … 30 seconds."""
    return min(2.0 ** (crashes - 1), LONGEST_BACK_OFF_SECONDS)


@dataclass(slots=True)
class Service:
    """One process: how it starts, what it needs first, when it counts as ready, how and when it is stopped.

    `stop_stage`: all of stage 0 are asked to leave together, then those of stage 1, and so on.
    """

    name: str
    argv: Sequence[str | Path]
    env: Mapping[str, str]
    needs: tuple[str, ...] = ()
    ready: Callable[[Service], bool] = lambda service: True
    once: bool = False
    before: Callable[[Path], None] | None = None  # called with the log before each start
    stop_signal: int = signal.SIGTERM
    stop_stage: int = 0
    stop_seconds: float = 5.0
    refusal: int | None = None  # the exit code that says: what I was told makes no sense, trying again is no use
    capture: bool = False  # keep stdout (of a task) for `output`

    state: State = State.WAITING
    process: subprocess.Popen[bytes] | None = None
    log: Path = Path()
    crashes: int = 0
    started_at: float = 0.0
    next_look: float = 0.0
    output: bytes = b""

    @property
    def alive_seconds(self) -> float:
        return time.monotonic() - self.started_at


@dataclass(slots=True)
class Supervisor:
    services: list[Service]
    logs: Path
    keep_open: Sequence[int] = ()  # descriptors the children inherit
    stopping: bool = False
    was_ready: bool = False
    _by_name: dict[str, Service] = field(default_factory=dict)
    _next_log_look: float = 0.0

    def __post_init__(self) -> None:
        self._by_name = {service.name: service for service in self.services}
        for service in self.services:
            service.log = fresh_log(self.logs, service.name)

    def catch_signals(self) -> None:
        """SIGINT, SIGTERM and a closed terminal all mean: stop everything, in order."""
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, self._on_signal)

    def _on_signal(self, signum: int, frame: object) -> None:
        if self.stopping:
            say("Already stopping; the data is being put away safely.")
        self.stopping = True

    def start(self, on_ready: Callable[[Service], None] = lambda service: None) -> bool:
        """Run until every service is ready (True) or a stop was asked for (False); LauncherError when one cannot."""
        deadline = time.monotonic() + START_SECONDS
        while not self.stopping:
            for service in self.look():
                on_ready(service)
            if all(service.state is State.READY for service in self.services):
                self.was_ready = True
                return True
            if time.monotonic() > deadline:
                late = [service.name for service in self.services if service.state is not State.READY]
                raise LauncherError(f"Not ready after {START_SECONDS:.0f} s: {', '.join(late)}. Logs: {self.logs}")
            time.sleep(LOOK_SECONDS)
        return False

    def run(self, each: Callable[[], bool] = lambda: True) -> None:
        """Keep everything running until a stop is asked for, or `each` answers False."""
        while not self.stopping and each():
            for service in self.look():
                say(f"{service.name} is running again")
            time.sleep(LOOK_SECONDS)

    def look(self) -> list[Service]:
        """Do whatever is due for each service; those that became ready just now."""
        became_ready: list[Service] = []
        for service in self.services:
            if self.stopping:
                break
            if self._advance(service):
                became_ready.append(service)
        if time.monotonic() > self._next_log_look:
            self._next_log_look = time.monotonic() + LOG_LOOK_SECONDS
            for service in self.services:
                limit_log(service.log)
        return became_ready

    def _advance(self, service: Service) -> bool:
        """One step of one service; True when it became ready by it."""
        now = time.monotonic()
        if service.state is State.WAITING:
            if all(self._by_name[name].state is State.READY for name in service.needs if name in self._by_name):
                self._start(service)
            return False
        if service.state is State.BACK_OFF:
            if now >= service.next_look:
                self._start(service)
            return False
        if service.once and service.state is State.READY:
            return False
        assert service.process is not None  # noqa: S101 - a running service has one
        code = service.process.poll()
        if code is not None:
            return self._ended(service, code)
        if service.state is State.RUNNING and not service.once and now >= service.next_look:
            service.next_look = now + READY_LOOK_SECONDS
            if service.ready(service):
                service.state = State.READY
                return True
        if service.crashes and service.alive_seconds > STEADY_SECONDS:
            service.crashes = 0
        return False

    def _start(self, service: Service) -> None:
        if service.before is not None:
            service.before(service.log)
        service.process = spawn(
            service.argv,
            log=service.log,
            env=service.env,
            death_signal=service.stop_signal,
            stdout=subprocess.PIPE if service.capture else None,
            keep_open=self.keep_open,
        )
        service.started_at = time.monotonic()
        service.state = State.RUNNING
        service.next_look = 0.0

    def _ended(self, service: Service, code: int) -> bool:
        assert service.process is not None  # noqa: S101
        kill_group(service.process)  # a worker's pool outlives a worker that was killed
        if service.once and code == 0:
            if service.process.stdout is not None:
                service.output = service.process.stdout.read()
            service.state = State.READY
            return True
        service.crashes += 1
        if code == service.refusal and not self.was_ready:
            raise LauncherError(
                f"{service.name} cannot start. {tail(service.log, 1)}\nEverything is stopped, the data is kept."
            )
        reason = f"by signal {-code}" if code < 0 else f"with code {code}"
        if service.once or (not self.was_ready and service.crashes >= CRASHES_BEFORE_GIVING_UP):
            raise LauncherError(
                f"{service.name} ended {reason} while starting. Its last words:\n{tail(service.log)}\n"
                f"Everything is stopped, the data is kept. The whole log: {service.log}"
            )
        wait = back_off_seconds(service.crashes)
        say(f"{service.name} ended {reason}; starting it again in {wait:.0f} s (log: {service.log})")
        service.state = State.BACK_OFF
        service.next_look = time.monotonic() + wait
        return False

    def stop(self) -> None:
        """Stop every process, stage by stage; one that does not leave in its time is killed. Leaves nothing behind."""
        self.stopping = True
        stages = sorted({service.stop_stage for service in self.services})
        for stage in stages:
            _stop_together([service for service in self.services if service.stop_stage == stage])


def _stop_together(services: Iterable[Service]) -> None:
    alive = [service for service in services if service.process is not None and service.process.poll() is None]
    for service in alive:
        assert service.process is not None  # noqa: S101
        service.process.send_signal(service.stop_signal)
    began = time.monotonic()
    for service in alive:
        assert service.process is not None  # noqa: S101
        try:
            service.process.wait(max(0.0, began + service.stop_seconds - time.monotonic()))
        except subprocess.TimeoutExpired:
            say(f"{service.name} did not stop in {service.stop_seconds:.0f} s and was killed")
        kill_group(service.process)
        service.process.wait()


def answers_http(url: str) -> bool:
    """Whether something at `url` (loopback) answers with success."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - our own child
            return bool(answer.status < 400)
    except (OSError, ValueError):
        return False


def said(words: str, *, or_alive_for: float = 20.0) -> Callable[[Service], bool]:
    """Ready when the log of this start contains `words`; a log level that hides them costs `or_alive_for` seconds."""

    def look(service: Service) -> bool:
        return words in tail(service.log, 200) or service.alive_seconds > or_alive_for

    return look
