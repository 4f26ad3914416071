"""What the bare steps cost on this machine, in this run: no platform can be quicker than what it is made of.

- `celery`: a task that does nothing, sent through Valkey to a worker with one process, until its result is back;
- `insert`: one row into a plain table, a transaction of its own on a durable PostgreSQL, by psycopg2;
- `http`: one GET of the paper exchange's cheapest address over a kept connection, by requests;
- `python`: processor time of a fixed piece of Python, for figures that are processor time: neither waits for anybody,
  so their ratio holds on a machine that others use too.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import requests

from benchmarks.live.measure import Options
from benchmarks.live.platform import Platform, PlatformBroke
from launcher import ROOT

FLOOR_APP = "benchmarks.live.floor_app"
CELERY, INSERT, HTTP, PYTHON = "celery", "insert", "http", "python"
WHAT = {
    CELERY: "round trip of a task that does nothing",
    INSERT: "one row, one transaction",
    HTTP: "one GET over a kept connection",
    PYTHON: "processor time of a row of 100 numbers to JSON and back",
}


@dataclass(slots=True)
class Floors:
    """Seconds of each bare step: medians of rounds, which may come from several moments of one run."""

    rounds: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in WHAT})

    @property
    def seconds(self) -> dict[str, float]:
        return {name: statistics.median(values) for name, values in self.rounds.items()}

    def measure(self, platform: Platform, options: Options) -> None:
        """Measure all of them once more."""
        count = options.size(200, 50)
        for name, each in ((CELERY, _celery), (INSERT, _insert), (HTTP, _http), (PYTHON, _python)):
            self.rounds[name] += each(platform, options.rounds, count)


def _celery(platform: Platform, rounds: int, count: int) -> list[float]:
    words = [sys.executable, "-m", FLOOR_APP, str(rounds), str(count)]
    with platform.processes(platform.worker("floor", "floor", 1, app=FLOOR_APP)):
        done = subprocess.run(words, cwd=ROOT, env=platform.child_env(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise PlatformBroke(f"the bare task was not timed:\n{done.stderr[-2000:]}")
    told: list[float] = json.loads(done.stdout)
    return told


def _insert(platform: Platform, rounds: int, count: int) -> list[float]:
    with platform.database() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE bare_step (id bigserial PRIMARY KEY, at timestamptz, text text)")
        try:
            return _timed(rounds, count, lambda: cursor.execute("INSERT INTO bare_step (at, text) VALUES (now(), 'x')"))
        finally:
            cursor.execute("DROP TABLE bare_step")


def _http(platform: Platform, rounds: int, count: int) -> list[float]:
    address = f"{platform.env['PAPER_URL']}/paper/health"
    with requests.Session() as wire:
        return _timed(rounds, count, lambda: wire.get(address, timeout=10).raise_for_status())


def _python(platform: Platform, rounds: int, count: int) -> list[float]:
    row = {f"number {each}": str(each / 7) for each in range(100)}
    return _timed(
        rounds, count, lambda: [float(value) for value in json.loads(json.dumps(row)).values()], time.thread_time
    )


def _timed(
    rounds: int, count: int, step: Callable[[], object], clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Of each round, the median of its steps; a first round warms up."""
    return [statistics.median(_steps(count, step, clock)) for _ in range(rounds + 1)][1:]


def _steps(count: int, step: Callable[[], object], clock: Callable[[], float]) -> Sequence[float]:
    taken = []
    for _ in range(count):
        began = clock()
        step()
        taken.append(clock() - began)
    return taken
