"""The whole platform as processes in a private folder: started, hurt, healed, and at the end gone without a trace."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import requests

from launcher.plan import Mode, Plan, make_plan
from launcher.processes import kill_group, remove_tree, stop
from launcher.supervisor import Service, State, Supervisor
from tests.chaos.plan import Action, Span

PLATFORM = ("worker-orders", "worker", "beat", "stream_nobitex", "stream_wallex", "guardian")
SERVERS = ("postgres", "valkey", "paper", "migrate")
NOT_INHERITED = ("DATABASE_URL", "REDIS_URL", "ALGO_TEST_SERVERS")
BACK_AFTER = 1.0  # seconds until a process that ended by itself starts again
FAULT_TAIL = 1.0  # calls that were waiting when a fault ended


@dataclass
class Stack:
    """All processes of one run. Only what it started itself is ever signalled."""

    folder: Path
    seed: int
    speed: float
    names: tuple[str, ...] = PLATFORM
    twins: tuple[str, ...] = ("guardian",)  # of which a second one runs, as NAME-2
    anchor_real: float = field(default_factory=time.time)
    counts: Counter[str] = field(default_factory=Counter)
    kills: Counter[str] = field(default_factory=Counter)
    stops: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    crashes: Counter[str] = field(default_factory=Counter)
    outages: list[Span] = field(default_factory=list)
    incidents: list[Span] = field(default_factory=list)
    sends: list[dict[str, Any]] = field(default_factory=list)  # every order request the exchange saw
    calls: int = 0
    secrets: dict[str, str] = field(default_factory=dict)
    _resume: list[tuple[float, Service]] = field(default_factory=list)
    _faults: list[tuple[float, int, str]] = field(default_factory=list)
    _expected: dict[str, float] = field(default_factory=dict)  # process that was killed: when it may start again
    _down: dict[str, float] = field(default_factory=dict)
    _seen: Counter[str] = field(default_factory=Counter)  # of the exchange's present life
    _log_at: int = 0

    def __post_init__(self) -> None:
        """Decide everything; starts nothing. The environment of this process becomes that of the platform."""
        for name in NOT_INHERITED:
            os.environ.pop(name, None)
        anchors = {"CLOCK_ANCHOR_REAL": repr(self.anchor_real), "CLOCK_ANCHOR": repr(self.anchor_real)}
        os.environ |= anchors | {"CLOCK_SPEED": f"{self.speed:g}", "LOG_LEVEL": "INFO"}
        self.plan: Plan = make_plan(Mode.CHECK, state_dir=self.folder)
        os.environ |= self.plan.env
        services = {service.name: service for service in self.plan.services}
        services["paper"].argv = [*services["paper"].argv, "--seed", str(self.seed)]
        platform = [services[name] for name in self.names]
        platform += [replace(services[name], name=f"{name}-2") for name in self.twins]
        for each in platform:
            each.stop_signal = signal.SIGKILL  # also when this process dies: a stopped one would not heed another
        self.servers = Supervisor([services[name] for name in SERVERS], self.plan.logs)
        self.platform = Supervisor(platform, self.plan.logs)
        self.services = {each.name: each for each in (*self.servers.services, *platform)}
        self.http = requests.Session()
        self.http.headers["x-paper-control"] = self.plan.secrets.paper_control_token

    # --- start, keep alive, stop ---

    def start_servers(self) -> None:
        self.servers.start()

    def start_platform(self) -> None:
        self.platform.start()

    def look(self) -> None:
        """Whatever is due: restarts, continued processes, faults that end."""
        now = time.monotonic()
        for due, service in [each for each in self._resume if each[0] <= now]:
            self._resume.remove((due, service))
            _signal(service, signal.SIGCONT)
        for due, number, kind in [each for each in self._faults if each[0] <= now]:
            self._faults.remove((due, number, kind))
            self._control("DELETE", f"/faults/{number}")
        for supervisor in (self.servers, self.platform):
            for service in supervisor.look():
                if (since := self._down.pop(service.name, None)) is not None:
                    self.outages.append(Span(since, time.time() + FAULT_TAIL, service.name))
            for service in supervisor.services:
                self._schedule(service)

    def _schedule(self, service: Service) -> None:
        """When a process that ended comes back: as the plan says, or soon. It never has to be patient."""
        if service.crashes == 0 or service.state is not State.BACK_OFF:
            return
        due = self._expected.pop(service.name, None)
        if due is None:
            self.crashes[service.name] += 1
            due = time.monotonic() + BACK_AFTER
        service.crashes, service.next_look = 0, due

    def heal(self) -> None:
        """Nothing is wrong any more from here on; what is down comes back now."""
        self._control("DELETE", "/faults")
        self._faults.clear()
        for _, service in self._resume:
            _signal(service, signal.SIGCONT)
        self._resume.clear()

    def all_ready(self) -> bool:
        return all(service.state is State.READY for service in self.services.values())

    def close(self) -> None:
        """Everything we started is gone afterwards, in whatever state it was."""
        for service in self.platform.services:
            if service.process is not None:
                kill_group(service.process)
                service.process.wait()
        for name in ("paper", "migrate", "valkey"):
            if (process := self.services[name].process) is not None:
                kill_group(process)
                process.wait()
        postgres = self.services["postgres"].process
        if postgres is not None:
            stop(postgres, signum=signal.SIGINT, seconds=10)
        if self.plan.postgres is not None:
            self.plan.postgres.forget()

    def replace(self, name: str, seconds: float) -> float:
        """Tell one process to end, as an update does, and start it again; how long it took to end. RuntimeError where
        it does not end in order within `seconds`."""
        service = self.services[name]
        assert service.process is not None
        began = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        try:
            code = service.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"{name} did not end within {seconds:g} s of SIGTERM") from None
        if code != 0:
            raise RuntimeError(f"{name} ended with code {code} after SIGTERM")
        ended = time.monotonic() - began
        self._expected[name] = time.monotonic()
        return ended

    # --- hurting ---

    def perform(self, action: Action) -> None:
        handlers: dict[str, Callable[[Action], None]] = {
            "kill": self._kill,
            "stop": self._stop,
            "postgres_fast": lambda each: self._restart(each, signal.SIGINT),
            "postgres_immediate": lambda each: self._restart(each, signal.SIGQUIT),
            "valkey_restart": lambda each: self._restart(each, signal.SIGTERM),
            "valkey_lose_files": self._lose_files,
            "valkey_flush": self._flush,
            "exchange_kill": self._kill_exchange,
            "fault": self._fault,
        }
        handlers[action.kind](action)
        self.counts[action.kind] += 1

    def _kill(self, action: Action) -> None:
        service = self.services[action.target]
        if service.process is None or service.process.poll() is not None:
            return
        kill_group(service.process)
        service.process.wait()
        self.kills[service.name] += 1
        self._expected[service.name] = time.monotonic() + action.seconds
        self._resume = [each for each in self._resume if each[1] is not service]
        self._incident(action)

    def _stop(self, action: Action) -> None:
        service = self.services[action.target]
        if service.process is None or service.process.poll() is not None:
            return
        _signal(service, signal.SIGSTOP)
        self.stops[service.name] += 1
        self._resume.append((time.monotonic() + action.seconds, service))
        self._incident(action)

    def _incident(self, action: Action) -> None:
        self.incidents.append(Span(time.time(), time.time() + action.seconds, f"{action.kind} {action.target}"))

    def _restart(self, action: Action, signum: int) -> None:
        """End a server; `look` starts it again."""
        service = self.services[action.target]
        if service.process is None or service.process.poll() is not None:
            return
        self._down.setdefault(service.name, time.time())
        self._expected[service.name] = time.monotonic() + action.seconds
        service.process.send_signal(signum)

    def _lose_files(self, action: Action) -> None:
        """The broker dies, and its disk with it."""
        service = self.services["valkey"]
        if service.process is None or service.process.poll() is not None:
            return
        self._restart(action, signal.SIGKILL)
        service.process.wait()
        remove_tree(self.folder / "valkey" / "appendonlydir")

    def _flush(self, action: Action) -> None:
        import redis

        with contextlib.suppress(redis.RedisError), redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
            client.flushall()

    def _kill_exchange(self, action: Action) -> None:
        self.count_exchange()
        service = self.services["paper"]
        if service.process is None or service.process.poll() is not None:
            return
        self._down.setdefault("paper", time.time())
        self._expected["paper"] = time.monotonic() + action.seconds
        kill_group(service.process)
        self._faults.clear()
        self._seen, self._log_at = Counter(), 0
        self.kills["paper"] += 1

    def _fault(self, action: Action) -> None:
        rule = dict(action.details)
        rule["params"] = {
            name.removesuffix("_wall"): value * self.speed if name.endswith("_wall") else value
            for name, value in rule["params"].items()
        }
        made = self._control("POST", "/faults", json=rule)
        if made is None:
            return
        self.outages.append(
            Span(time.time(), time.time() + action.seconds + FAULT_TAIL, str(rule["kind"]), action.target)
        )
        self._faults.append((time.monotonic() + action.seconds, int(made["id"]), str(rule["kind"])))

    # --- the exchange's control port ---

    def _control(self, method: str, path: str, **more: Any) -> Any:
        """The answer; None while the exchange is away, or of what it has forgotten."""
        try:
            answer = self.http.request(method, f"{self.plan.env['PAPER_CONTROL_URL']}/paper{path}", timeout=10, **more)
        except requests.RequestException:
            return None
        if answer.status_code == 400:
            raise ValueError(answer.text)
        return answer.json() if answer.ok else None

    def control(self, method: str, path: str, **more: Any) -> Any:
        answer = self._control(method, path, **more)
        if answer is None:
            raise RuntimeError(f"the paper exchange did not answer {method} {path}")
        return answer

    def count_exchange(self) -> None:
        """Take over what the exchange counts in memory only: requests, orders sent, faults that struck."""
        told = self._control("GET", "/faults")
        if told is not None:
            seen = Counter({kind: int(count) for kind, count in told["injected"].items()})
            self.faults += seen - self._seen
            self._seen = seen
        while (page := self._control("GET", f"/requests?since={self._log_at}&limit=10000")) and page["requests"]:
            self._log_at = page["next_since"]
            self.calls += len(page["requests"])
            self.sends += [row for row in page["requests"] if row["method"] == "POST" and row["client_order_id"]]


def _signal(service: Service, signum: int) -> None:
    """To the whole session of a process of ours."""
    if service.process is not None and service.process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(service.process.pid, signum)


@contextlib.contextmanager
def running(seed: int, speed: float, **more: Any) -> Iterator[Stack]:
    """A stack in a folder of its own, whose processes are ended in every case. The folder is the caller's to remove."""
    folder = Path(tempfile.mkdtemp(prefix="algo-chaos-"))
    folder.chmod(0o711)  # the database's user passes through; its own folders are 0700
    stack = Stack(folder, seed, speed, **more)
    try:
        yield stack
    finally:
        stack.close()


def remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
