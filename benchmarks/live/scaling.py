"""What more workers bring, and what they cost the servers they share.

The same 1,000 strategies with stored candles are decided by 1, 2 and 4 worker processes on this host, and by 2 and 4 on
two more hosts (network namespaces, see `hosts.py`). Told for each: strategies in a second, how deep the queue got, what
Valkey and PostgreSQL had to do for one strategy. Nothing may be done twice: every message is done once, and every
strategy has one decision for its candle. docs/scaling.md works out larger numbers from these figures.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import redis

from benchmarks.live import floors as bare
from benchmarks.live.decision import Desk
from benchmarks.live.hosts import Hosts, hosts
from benchmarks.live.measure import PER_SECOND, SECONDS, Figure, Options, Skipped
from benchmarks.live.platform import Platform, cpu_seconds, memory_mb, wait_for
from launcher.supervisor import Service

NAME = "scaling"
STRATEGIES = 1_000
PROCESSES = (1, 2, 4)
ON_HOSTS = (2, 4)  # processes on both together
QUEUE = "strategies"
LOOK_SECONDS = 0.01
COUNTED = ("commands", "transactions", "wal_bytes", "decision_bytes")


def run(platform: Platform, floors: bare.Floors, options: Options) -> list[Figure]:
    size = options.size(STRATEGIES, 200)
    desk = Desk(platform, options)
    desk.choose(desk.prepare(size))
    figures = [figure for count in PROCESSES for figure in _here(desk, size, count)]
    figures += _elsewhere(platform, options, size)
    return figures


def _here(desk: Desk, size: int, count: int) -> list[Figure]:
    worker = desk.platform.worker("scale", QUEUE, count)
    return _measured(desk, size, f"scaling.{count}", f"{count} worker processes", (worker,))


def _elsewhere(platform: Platform, options: Options, size: int) -> list[Figure]:
    """The same on two hosts; a figure without rounds is not invented where there can be none."""
    try:
        with hosts(platform) as places:
            platform.fresh()
            desk = Desk(platform, options)
            desk.choose(desk.prepare(size))
            return [figure for count in ON_HOSTS for figure in _on_hosts(desk, places, size, count)]
    except Skipped as why:
        return [_left_out(str(why))]


def _on_hosts(desk: Desk, places: Hosts, size: int, count: int) -> list[Figure]:
    each = count // len(places.names)
    workers = tuple(
        places.inside(number, desk.platform.worker(f"scale{number}", QUEUE, each))
        for number in range(len(places.names))
    )
    return _measured(desk, size, f"scaling.hosts.{count}", f"{each} worker processes on each of two hosts", workers)


def _left_out(why: str) -> Figure:
    return Figure("scaling.hosts", f"two hosts were left out: {why}", "count", (0.0,), detail={"skipped": why})


def _measured(desk: Desk, size: int, name: str, who: str, workers: tuple[Service, ...]) -> list[Figure]:
    with desk.workers(*workers):
        desk.decide(size)  # every process knows its versions
        desk.decide(size)
        turns = [_turn(desk, size, workers) for _ in range(desk.options.rounds)]
    details = {"turns": [turn.told(size) for turn in turns]}
    rate = tuple(size / turn.seconds for turn in turns)
    return [
        Figure(name, f"strategies a second, {who}", PER_SECOND, rate, floor=bare.INSERT, detail=details),
        Figure(
            f"{name}.processor", f"processor time of one strategy, workers and PostgreSQL, {who}", SECONDS,
            tuple(turn.processor / size for turn in turns), floor=bare.PYTHON,
        ),
        Figure(f"{name}.queue", f"deepest queue, {who}", "messages", tuple(float(turn.deepest) for turn in turns)),
        Figure(
            f"{name}.done_twice", "messages done twice or not at all, decisions more than strategies", "count",
            tuple(float(turn.faults(size)) for turn in turns), target=0.0,
        ),
        Figure(
            f"{name}.valkey", "commands of Valkey for one strategy, the stream's included", "commands",
            tuple(turn.commands / size for turn in turns),
        ),
        Figure(
            f"{name}.postgres", "transactions of PostgreSQL for one strategy", "count",
            tuple(turn.transactions / size for turn in turns),
        ),
    ]  # fmt: skip


# --- one turn ---------------------------------------------------------------------------------------------------------


@dataclass
class Turn:
    """One pass over all strategies, and what it cost."""

    seconds: float
    depths: list[int]
    messages: Counter[str]
    decisions: int
    commands: int
    transactions: int
    wal_bytes: int
    cpu: dict[str, float]
    memory: dict[str, float]
    decision_bytes: int

    @property
    def processor(self) -> float:
        return sum(seconds for name, seconds in self.cpu.items() if name.startswith(("worker", "postgres")))

    @property
    def deepest(self) -> int:
        return max(self.depths, default=0)

    def faults(self, size: int) -> int:
        missed = abs(self.messages["sent"] - self.messages["done"])
        return missed + self.messages["again"] + abs(self.decisions - size)

    def told(self, size: int) -> dict[str, Any]:
        return {
            "seconds": round(self.seconds, 3),
            "deepest_queue": self.deepest,
            "mean_queue": round(statistics.fmean(self.depths), 1) if self.depths else 0.0,
            "messages": dict(self.messages),
            "decisions": self.decisions,
            "valkey_commands_a_second": round(self.commands / self.seconds),
            "postgres_transactions_a_second": round(self.transactions / self.seconds),
            "wal_bytes_of_a_strategy": round(self.wal_bytes / size),
            "journal_bytes_of_a_strategy": round(self.decision_bytes / size),
            "cpu_seconds": {name: round(value, 3) for name, value in self.cpu.items()},
            "memory_mb": {name: round(value, 1) for name, value in self.memory.items()},
        }


def _turn(desk: Desk, size: int, workers: tuple[Service, ...]) -> Turn:
    from algo.models import Decision

    platform = desk.platform
    with redis.Redis.from_url(platform.env["REDIS_URL"]) as client, _messages() as messages:
        depth = Depth(client)
        load = Load(platform, client, workers)
        desk.before_decide = [load.begin, depth.begin]
        try:
            seconds = desk.decide(size)
        finally:
            desk.before_decide = []
            depths = depth.end()
        cost = load.end()
        cost["commands"] -= len(depths)  # those were ours
        with suppress(RuntimeError):
            wait_for("every message done", lambda: messages["done"] >= messages["sent"], seconds=5)
        return Turn(seconds, depths, messages, Decision.objects.count(), **cost)


class Depth:
    """How many messages wait, looked at all the time by a thread."""

    def __init__(self, client: redis.Redis) -> None:
        self._client, self._found, self._stopping = client, list[int](), threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def begin(self) -> None:
        self._thread.start()

    def _look(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            self._found.append(int(self._client.llen(QUEUE)))

    def end(self) -> list[int]:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        return self._found


@dataclass
class Load:
    """What the servers and the workers did between `begin` and `end`."""

    platform: Platform
    client: redis.Redis
    workers: tuple[Service, ...]
    _before: dict[str, Any] = field(default_factory=dict)

    def begin(self) -> None:
        self._before = self._now()

    def end(self) -> dict[str, Any]:
        now = self._now()
        numbers = {name: now[name] - self._before[name] for name in COUNTED}
        cpu = {name: value - self._before["cpu"][name] for name, value in now["cpu"].items()}
        return {**numbers, "cpu": cpu, "memory": self._memory()}

    def _now(self) -> dict[str, Any]:
        with self.platform.database() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT pg_stat_force_next_flush()")
            cursor.execute(
                "SELECT xact_commit + xact_rollback, pg_current_wal_lsn() - '0/0' FROM pg_stat_database "
                "WHERE datname = current_database()"
            )
            transactions, wal_bytes = cursor.fetchone()
        return {
            "commands": int(self.client.info("stats")["total_commands_processed"]),
            "transactions": int(transactions),
            "wal_bytes": int(wal_bytes),
            "decision_bytes": self._decision_bytes(),
            "cpu": {each.name: cpu_seconds(each) for each in self._all()},
        }

    def _all(self) -> list[Service]:
        return [*self.workers, *(self.platform.server(name) for name in ("postgres", "valkey", "paper"))]

    def _memory(self) -> dict[str, float]:
        return {each.name: memory_mb(each) for each in self._all()}

    def _decision_bytes(self) -> int:
        """Of the journal with its indexes."""
        with self.platform.database() as connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('algo_decision') WHERE isleaf"
            )
            return int(cursor.fetchone()[0] or 0)


@contextmanager
def _messages() -> Iterator[Counter[str]]:
    """Messages of the queue that were sent and done, as the workers tell Flower. `expired`: they waited too
    long and were dropped, as is meant; `again`: done more than once."""
    from algo_trade.celery import app

    found: Counter[str] = Counter()
    ours: set[str] = set()
    done: set[str] = set()
    gone: set[str] = set()
    stopping = threading.Event()

    def sent(event: dict[str, Any]) -> None:
        if event.get("queue") == QUEUE:
            ours.add(event["uuid"])
        _count()

    def ended(event: dict[str, Any]) -> None:
        if event["uuid"] in done:
            found["again"] += 1
        done.add(event["uuid"])
        _count()

    def expired(event: dict[str, Any]) -> None:
        gone.add(event["uuid"])
        _count()

    def _count() -> None:
        found["sent"], found["done"], found["expired"] = len(ours - gone), len(ours & done), len(ours & gone)

    def listen() -> None:
        with app.connection_for_read() as connection:
            handlers = {"task-sent": sent, "task-succeeded": ended, "task-failed": ended, "task-revoked": expired}
            receiver = app.events.Receiver(connection, handlers=handlers)
            listening.set()
            while not stopping.is_set():
                with suppress(TimeoutError, OSError):
                    receiver.capture(limit=None, timeout=0.2, wakeup=False)

    listening = threading.Event()
    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    listening.wait(10)
    time.sleep(0.3)  # the subscription is on its way
    try:
        yield found
    finally:
        stopping.set()
        thread.join(5)
