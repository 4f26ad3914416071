"""Real processes over real sockets in a private folder: servers for the whole run, the platform's own as parts ask.

PostgreSQL is durable and Valkey keeps a file, as `./run` has them; the paper exchange trades 50 markets and more. This
process has Django set up on the same database. Everything is gone at the end.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import psycopg2
import redis
import requests

from launcher.plan import Mode, Plan, make_plan, worker
from launcher.processes import child_environment, stop
from launcher.supervisor import Service, State, Supervisor

SERVERS = ("postgres", "valkey", "paper", "migrate")
COINS = 25  # on the paper exchange: two markets each, and USDT/IRT
NOT_INHERITED = (
    "DATABASE_URL", "REDIS_URL", "ALGO_TEST_SERVERS", "CLOCK_ANCHOR", "CLOCK_ANCHOR_REAL", "CLOCK_SPEED",
)  # fmt: skip
BLANK = "blank"  # the database as migrations leave it
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


class PlatformBroke(RuntimeError):
    """A process ended that nobody ended; the message has its last words."""


@dataclass
class Platform:
    """All processes of a run. Only what it started itself is ever signalled."""

    folder: Path
    plan: Plan
    servers: Supervisor
    http: requests.Session
    running: list[Supervisor] = field(default_factory=list)

    # --- what parts start ---

    @property
    def env(self) -> dict[str, str]:
        return self.plan.env

    def child_env(self) -> dict[str, str]:
        """The variables of a process of the platform."""
        return child_environment(self.env)

    def service(self, name: str, **changed: Any) -> Service:
        """A process as `./run` has it: `guardian`, `beat`, `stream_wallex`, `stream_nobitex`, `web` …"""
        found = next(each for each in self.plan.services if each.name == name)
        return replace(found, **{"env": self.child_env(), **changed})

    def worker(self, name: str, queues: str, processes: int, *, app: str = "algo_trade") -> Service:
        """A Celery worker on `queues` (comma separated) with so many processes; two need two names."""
        return replace(worker(f"worker-{name}", queues, processes, self.child_env(), app=app), stop_seconds=15)

    @contextlib.contextmanager
    def processes(self, *services: Service) -> Iterator[tuple[Service, ...]]:
        """Run these, ready from the first line of the block on; afterwards they are gone. PlatformBroke where one ended
        meanwhile."""
        supervisor = Supervisor(list(services), self.plan.logs)
        self.running.append(supervisor)
        try:
            supervisor.start()
            yield services
            self.check(services)
        finally:
            supervisor.stop()
            self.running.remove(supervisor)

    def check(self, services: tuple[Service, ...] = ()) -> None:
        """PlatformBroke where a process has ended by itself."""
        for each in (*self.servers.services, *services):
            if not each.once and each.process is not None and each.process.poll() is not None:
                words = each.log.read_text(errors="replace")[-2000:]
                raise PlatformBroke(f"{each.name} ended with code {each.process.returncode}:\n{words}")

    # --- a clean start for each part ---

    def fresh(self) -> None:
        """The database as migrations leave it, an empty Valkey, an exchange that has never traded. Call it while none
        of the platform's own processes run."""
        from django.db import connections

        connections.close_all()
        with self.database("postgres") as connection, connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE {self._database} WITH (FORCE)")
            cursor.execute(f"CREATE DATABASE {self._database} TEMPLATE {BLANK}")
        with redis.Redis.from_url(self.env["REDIS_URL"]) as client:
            client.flushall()
        self._fresh_exchange()

    def keep_blank(self) -> None:
        """Keep the database as it is now for `fresh`."""
        with self.database("postgres") as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {BLANK} TEMPLATE {self._database}")

    def _fresh_exchange(self) -> None:
        paper = self.server("paper")
        self._end(paper)
        for file in (self.folder / "paper").glob("paper.sqlite3*"):
            file.unlink()
        self._begin(paper)

    def restart(self, name: str, argv: Sequence[str | Path] | None = None) -> None:
        """End a server in order and start it again, with other words where some are given."""
        from django.db import connections

        connections.close_all()
        service = self.server(name)
        self._end(service)
        service.argv = argv or service.argv
        self._begin(service)

    def _end(self, service: Service) -> None:
        assert service.process is not None
        stop(service.process, signum=service.stop_signal, seconds=service.stop_seconds)

    def _begin(self, service: Service) -> None:
        service.state = State.WAITING
        self.servers.start()

    # --- what parts ask ---

    @property
    def _database(self) -> str:
        return urlparse(self.env["DATABASE_URL"]).path.lstrip("/")

    @contextlib.contextmanager
    def database(self, name: str = "") -> Iterator[Any]:
        """A connection of psycopg2 that commits each statement."""
        where = urlparse(self.env["DATABASE_URL"])
        connection = psycopg2.connect(
            host=unquote(where.netloc.rpartition("@")[2]), user=where.username, dbname=name or self._database
        )
        connection.autocommit = True
        try:
            yield connection
        finally:
            connection.close()

    def control(self, method: str, path: str, **more: Any) -> Any:
        """The answer of the paper exchange's control port (docs/paper-exchange.md); RuntimeError for a refusal."""
        answer = self.http.request(method, f"{self.env['PAPER_CONTROL_URL']}/paper{path}", timeout=30, **more)
        if not answer.ok:
            raise RuntimeError(f"the paper exchange refused {method} {path}: {answer.text}")
        return answer.json()

    def requests_since(self, number: int) -> list[dict[str, Any]]:
        """Every request that the exchange saw after the one with that number (0: all), oldest first."""
        found: list[dict[str, Any]] = []
        while page := self.control("GET", f"/requests?since={number}&limit=10000")["requests"]:
            found += page
            number = page[-1]["id"]
        return found

    def last_request(self) -> int:
        """The number of the newest request, for `requests_since`."""
        newest = self.control("GET", "/requests?newest=1")["requests"]
        return int(newest[-1]["id"]) if newest else 0

    def server(self, name: str) -> Service:
        """`postgres`, `valkey` or `paper`."""
        return next(each for each in self.servers.services if each.name == name)


# --- processor time and memory ---------------------------------------------------------------------------------------


def cpu_seconds(service: Service) -> float:
    """Processor time of a process and of all it started, those that ended included."""
    assert service.process is not None
    return sum(_cpu_ticks(pid) for pid in family(service.process.pid)) / TICKS_A_SECOND


def memory_mb(service: Service) -> float:
    """Resident memory of a process and of all it started; what they share counts once (PSS where the kernel tells)."""
    assert service.process is not None
    return sum(_memory_kb(pid) for pid in family(service.process.pid)) / 1024


def family(pid: int) -> list[int]:
    """A process and its descendants that live."""
    found, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{one}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
            found.append(one)
    return found


def _cpu_ticks(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return sum(map(int, fields[11:15]))  # utime, stime, and those of children that were waited for


def _memory_kb(pid: int) -> int:
    for name, word in (("smaps_rollup", "Pss:"), ("status", "VmRSS:")):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/{name}").read_text().splitlines():
                if line.startswith(word):
                    return int(line.split()[1])
    return 0


# --- start and end ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def running_platform(logs: Path | None = None) -> Iterator[Platform]:
    """The servers, with this process set up on them. Ended in every case, and the folder removed; what the processes
    said is copied to `logs` first."""
    for name in NOT_INHERITED:
        os.environ.pop(name, None)
    folder = Path(tempfile.mkdtemp(prefix="algo-bench-"))
    folder.chmod(0o711)  # the database's user passes through; its own folders are 0700
    try:
        plan = make_plan(Mode.CHECK, state_dir=folder)
        os.environ |= plan.env
        services = {service.name: service for service in plan.services}
        paper = services["paper"]
        paper.argv = [*paper.argv, "--seed", "1", "--coins", str(COINS)]
        servers = Supervisor([services[name] for name in SERVERS], plan.logs)
        platform = Platform(folder, plan, servers, requests.Session())
        platform.http.headers["x-paper-control"] = plan.secrets.paper_control_token
        yield from _lived(platform)
    finally:
        if logs is not None and (folder / "logs").exists():
            shutil.copytree(folder / "logs", logs, dirs_exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


def _lived(platform: Platform) -> Iterator[Platform]:
    try:
        platform.servers.start()
        platform.keep_blank()
        _set_up_django()
        yield platform
    finally:
        for supervisor in [*platform.running, platform.servers]:
            supervisor.stop()
        if platform.plan.postgres is not None:
            platform.plan.postgres.forget()


def _set_up_django() -> None:
    import django

    django.setup()
    from algo.live.join import join_other_processes

    join_other_processes()  # calls of this process count together with those of the workers


def wait_for(what: str, ready: Any, *, seconds: float = 60.0, every: float = 0.02) -> None:
    """Until `ready()` is true; RuntimeError that names `what` after so many seconds."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited {seconds:g} s in vain: {what}")
        time.sleep(every)


def end_with_the_terminal() -> None:
    """A closed terminal and SIGTERM end the run as Ctrl-C does: with everything cleaned up."""

    def leave(signum: int, frame: object) -> None:
        raise KeyboardInterrupt

    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, leave)
