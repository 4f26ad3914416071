"""A soak: `python -m tests.chaos.soak FILE --minutes 60`.

Starts the very `./run --replay FILE --speed 60` of this checkout, adds accounts at both exchanges and strategies until
fifty decide, each with parameters of its own, and lets it trade. Every few seconds it reads how much memory and
processor time each process uses, how deep the queues are and what the logs say. At the end entries are stopped, open
deals come to their end, and then must hold: no process grew, nothing became slower, no log has an error or a
traceback, every process is the one that was started, and the books are those of the exchange to the last digit. Prints
one JSON object; exit code 1 where one of these does not hold.

FILE holds candles as `./run --replay` takes them, of one minute, and must be long enough: an hour at speed 60 needs
3,600 after the 500 that are history.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import requests

from launcher import ROOT
from launcher.console import LauncherError
from launcher.plan import Mode
from launcher.processes import child_environment, remove_tree, spawn, stop
from launcher.replay import Recording, read_recording
from launcher.session import SESSION_FILE, read_env, test_environment
from tests.chaos import flat, judge
from tests.chaos.gauges import Logs, Use, services_of, unexplained, without_numbers

READY_WITHIN = 300.0
SAMPLE_SECONDS = 10.0
TOLD_EVERY = 60.0
FLAT_WITHIN = 90.0
LEAVES_WITHIN = 60.0
SPARE_SECONDS = 300.0  # of the recording: for the start, the end, and what a machine is late by
REASON = "the soak is over"
NOT_INHERITED = {"DATABASE_URL", "REDIS_URL", "ALGO_TEST_SERVERS", "DJANGO_SETTINGS_MODULE", *test_environment()}
QUEUES = ("orders", "strategies", "market_data", "notifications", "backtests")
DEEP = 20  # messages of one queue that may wait at once
MAY_WAIT = (
    "backtests"  # each night every strategy is compared with its backtest: a message for each, when there is time
)
# Records of logs that are no trouble: (log, pattern of the record, why).
ALLOWED: tuple[tuple[str, str, str], ...] = ()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        "tests.chaos.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help="recorded candles of one minute")
    parser.add_argument("--minutes", type=float, default=60.0, help="of trading; start and end come on top")
    parser.add_argument("--warm-up", type=float, default=None, help="minutes of these that are not judged (a third)")
    parser.add_argument("--speed", type=float, default=60.0, help="platform time over wall time")
    parser.add_argument("--strategies", type=int, default=50)
    parser.add_argument("--accounts", type=int, default=5, help="at each exchange, beside those of the demonstration")
    parser.add_argument("--settle", type=float, default=90.0, help="seconds for open deals to end by themselves")
    parser.add_argument("--keep", type=Path, help="copy logs and readings into this folder")
    options = parser.parse_args(argv)
    if options.warm_up is None:
        options.warm_up = options.minutes / 3  # until what processes remember has filled
    if not 0 <= options.warm_up < options.minutes:
        parser.error("--warm-up must be shorter than --minutes")
    try:
        recording = read_recording(options.file.resolve())
        _refuse_short(recording, options)
    except LauncherError as refused:
        sys.stderr.write(f"{refused}\n")
        return 2
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # each ends the run as Ctrl-C does
        signal.signal(number, signal.default_int_handler)
    try:
        report = Soak(options, recording).report()
    except KeyboardInterrupt:
        return 130
    sys.stdout.write(json.dumps(report, indent=1) + "\n")
    return 1 if report["violations"] else 0


def _refuse_short(recording: Recording, options: argparse.Namespace) -> None:
    there = (recording.last - recording.anchor) / options.speed
    needed = options.minutes * 60 + options.settle + FLAT_WITHIN + SPARE_SECONDS
    if there < needed:
        raise LauncherError(
            f"{recording.path.name} lasts {there / 60:.1f} min at speed {options.speed:g}, and {needed / 60:.1f} min "
            "are needed. Nothing was started. Give a longer file, fewer --minutes or a lower --speed."
        )


@dataclass(frozen=True, slots=True)
class Reading:
    """One look: unix seconds, what each service uses, how many messages wait, bytes of the database."""

    at: float
    used: dict[str, Use]
    queues: dict[str, int]
    database: int
    not_ready: tuple[str, ...]  # parts of the platform that say of themselves that they are not well
    load: float  # of the whole machine, in the mean of a minute


@dataclass
class Soak:
    """From start to verdict."""

    options: argparse.Namespace
    recording: Recording
    began: float = field(default_factory=time.monotonic)
    readings: list[Reading] = field(default_factory=list)
    sends: list[dict[str, Any]] = field(default_factory=list)  # every order request the exchange saw
    calls: int = 0
    _log_at: int = 0
    _told_at: float = 0.0

    def report(self) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(prefix="algo-soak-") as folder:
            self.said = Path(folder) / "run.log"
            self.said.touch()
            self._launch()
            try:
                self._populate()
                told = self._trade()
            finally:
                code = self._leave()
            self.logs.look(time.time(), at_end=True)
            report = self._verdict(told, code)
            self._keep(report)
        return report

    # --- phases ---

    def _launch(self) -> None:
        """`./run` as a user types it, in a session of its own; it ends when we do, however we end."""
        env = {name: value for name, value in child_environment().items() if name not in NOT_INHERITED}
        words = [ROOT / "run", "--replay", self.options.file.resolve(), "--speed", f"{self.options.speed:g}"]
        self.say(self.recording.describe(self.options.speed))
        self.process = spawn(words, log=self.said, env=env)
        deadline = time.monotonic() + READY_WITHIN
        while "Ready in " not in self.said.read_text():
            if self.process.poll() is not None or time.monotonic() > deadline:
                stop(self.process, signum=signal.SIGINT, seconds=LEAVES_WITHIN)
                raise SystemExit(f"./run did not become ready:\n{self.said.read_text()[-3000:]}")
            time.sleep(0.2)
        self.env = read_env(SESSION_FILE)
        os.environ |= self.env
        self.logs = Logs(Mode.REPLAY.state_dir / "logs")

    def _populate(self) -> None:
        self.say("ready; strategies are created, checked and started")
        import django

        django.setup()
        from tests.chaos import soak_world

        self.world = soak_world
        names = ("CLOCK_ANCHOR_REAL", "CLOCK_ANCHOR", "CLOCK_SPEED")
        self.wall = soak_world.Wall(*(float(self.env[name]) for name in names))
        self.http = requests.Session()
        self.http.headers["x-paper-control"] = self.env["PAPER_CONTROL_TOKEN"]
        self.wallets, self.keys = soak_world.populate(
            self.control, self.recording.pair, strategies=self.options.strategies, accounts=self.options.accounts
        )
        import redis

        self.redis = redis.Redis.from_url(self.env["REDIS_URL"])
        self.say(f"{soak_world.running()} strategies run on {len(self.wallets)} accounts")

    def _trade(self) -> dict[str, Any]:
        """Everything that can only be asked while the platform runs."""
        begin = time.time()
        self._watch_until(lambda: time.time() >= begin + self.options.minutes * 60)
        judged = (begin + self.options.warm_up * 60, time.time())
        running = self.world.running()
        self._switch("no_entries")
        self.say("no more entries; open deals come to their end")
        self._watch_until(self.world.is_settled, within=self.options.settle)
        left = self.world.counts()["open"]
        self._switch("flatten")
        self.say(f"{left} deals still open are closed at the market")
        self._watch_until(self.world.is_settled, within=FLAT_WITHIN)
        return self._asked(begin, judged) | {"running_at_the_end": running, "closed_by_flatten": left}

    def _leave(self) -> int | None:
        """Ctrl-C in the terminal of `./run`; its exit code."""
        from django.conf import settings
        from django.db import connections

        if settings.configured:
            connections.close_all()
        stop(self.process, signum=signal.SIGINT, seconds=LEAVES_WITHIN)
        return self.process.returncode

    def _switch(self, level: str) -> None:
        from algo.services.audit import SHELL
        from algo.services.control import kill_switch_set

        kill_switch_set(level, reason=REASON, by=SHELL)

    # --- watching ---

    def _watch_until(self, is_over: Callable[[], bool], within: float = float("inf")) -> None:
        deadline, due = time.monotonic() + within, 0.0
        while time.monotonic() < deadline and not is_over():
            if time.monotonic() >= due:
                due = time.monotonic() + SAMPLE_SECONDS
                self._look()
            time.sleep(0.5)
        self._look()

    def _look(self) -> None:
        if self.process.poll() is not None:
            raise SystemExit(f"./run ended with code {self.process.returncode}:\n{self.said.read_text()[-3000:]}")
        now = time.time()
        self.readings.append(
            Reading(
                now,
                services_of(self.process.pid),
                {name: int(self.redis.llen(name)) for name in QUEUES},
                self.world.database_bytes(),
                self._not_ready(),
                os.getloadavg()[0],
            )
        )
        self.logs.look(now)
        while (page := self.control("GET", f"/requests?since={self._log_at}&limit=10000"))["requests"]:
            self._log_at = page["next_since"]
            self.calls += len(page["requests"])
            self.sends += [row for row in page["requests"] if row["method"] == "POST" and row["client_order_id"]]
        if time.monotonic() - self._told_at > TOLD_EVERY:
            self._told_at = time.monotonic()
            self.say(self._progress())

    def _not_ready(self) -> tuple[str, ...]:
        try:
            answer = requests.get(f"{self.env['WEB_URL']}/health/ready", timeout=5)
            parts = answer.json()["checks"] if answer.status_code == 503 else {}
        except (requests.RequestException, ValueError, KeyError):
            return ("no answer",)
        return tuple(f"{name}: {without_numbers(part['reason'])}" for name, part in parts.items() if not part["ok"])

    def _progress(self) -> str:
        newest = self.readings[-1]
        memory = sum(use.own for use in newest.used.values()) / flat.MEGABYTE
        waiting = {name: depth for name, depth in newest.queues.items() if depth}
        told = ", ".join(f"{name} {value}" for name, value in self.world.counts().items())
        serious = len(self.logs.serious)
        return f"{told}; memory {memory:.0f} MB; waiting {waiting or 'nothing'}; serious lines {serious}"

    def control(self, method: str, path: str, **more: Any) -> Any:
        """The paper exchange's control port."""
        answer = self.http.request(method, f"{self.env['PAPER_CONTROL_URL']}/paper{path}", timeout=60, **more)
        if not answer.ok:
            raise RuntimeError(f"the paper exchange refused {method} {path}: {answer.text[:300]}")
        return answer.json()

    def say(self, words: str) -> None:
        sys.stderr.write(f"[{time.monotonic() - self.began:7.1f} s] {words}\n")
        sys.stderr.flush()

    # --- what is asked before it ends ---

    def _asked(self, begin: float, judged: tuple[float, float]) -> dict[str, Any]:
        from algo.selectors.audit import broken_histories
        from tests.chaos import world

        truths = {name: self.control("GET", f"/accounts/{wallet}") for name, wallet in self.wallets.items()}
        venues = {name: told["venues"][self._venue(name)] for name, told in truths.items()}
        orders = {name: venue["orders"] for name, venue in venues.items()}
        trades = {name: venue["trades"] for name, venue in venues.items()}
        mine, deals, tickets = world.our_orders(), world.our_deals(self.options.speed), world.open_tickets()
        stretches = [each for deal in deals for each in self._stretches(deal, mine, orders, trades)]
        violations = [
            *(f"ledgers differ: {name} by {much}" for name, much in world.ledger_differences(truths).items()),
            *(f"the exchange's own books: {t['conservation']}" for t in truths.values() if t["conservation"] != "ok"),
            *judge.books_that_differ(mine, world.our_fills(), deals, orders, trades, self.sends),
            *judge.unexplained(tickets),
            *judge.too_long_naked(stretches),
            *(f"history: {each.subject} {each.subject_id}: {each.what}" for each in broken_histories()),
        ]
        if never := self.world.never_covered():
            violations.append(f"{never} deals were open and had neither stop nor exit at the exchange")
        since, until = map(self.wall.platform, judged)
        self.judged = judged
        raw = [each.raw for each in stretches]
        return {
            "violations": violations,
            "market_hours": round((judged[1] - begin) * self.options.speed / 3600, 1),
            "deals": self.world.deals_told(),
            "orders": dict(Counter(order.role for order in mine)),
            "fills": sum(map(len, trades.values())),
            "decisions": self.world.outcomes(since, until),
            "candles": self.world.candles_decided(since, until),
            "denials": world.denials(),
            "denial_messages": self.world.denial_messages(),
            "unprotected_seconds": flat.spread(raw),
            "delays": {
                **self.world.decision_delays(self.wall, since, until),
                "entry accepted": self.world.entry_delays(self.wall, since, until),
                "stop accepted": self.world.stop_delays(self.wall, since, until),
            },
            "tables": self.world.largest_tables(),
            "broker_keys": largest_keys(self.redis),
        }

    def _venue(self, account: str) -> str:
        return next(venue for venue in self.world.VENUES if venue in account)

    def _stretches(self, deal: Any, mine: Any, orders: Any, trades: Any) -> list[judge.Naked]:
        placed, traded = judge.of_deal(deal, mine, orders[deal.account], trades[deal.account])
        return judge.naked_stretches(
            deal, placed, traded, until=time.time(), wall=lambda text: self.wall.of(datetime.fromisoformat(text))
        )

    # --- verdict ---

    def _verdict(self, told: dict[str, Any], code: int | None) -> dict[str, Any]:
        delays = told.pop("delays")
        wrong, explained = unexplained(self.logs.serious, ALLOWED)
        memory, processor = self._memory(), self._processor()
        ended = [line for line in self.said.read_text().splitlines() if " ended " in line or "was killed" in line]
        latency = {name: _latency(readings) for name, readings in delays.items()}
        queues = {name: [each.queues[name] for each in self._judged()] for name in QUEUES}
        not_ready = Counter(part for each in self._judged() for part in each.not_ready)
        violations = [
            *told.pop("violations"),
            *(f"log: {sentence}" for sentence in wrong),
            *(f"process: {line.strip()}" for line in ended),
            *(f"memory of {name} grows: {told}" for name, told in memory.items() if told.get("grows")),
            *(f"slower: {name}: {told}" for name, told in latency.items() if told.get("grows")),
            *(
                f"queue {name}: {max(depths)} messages waited"
                for name, depths in queues.items()
                if name != MAY_WAIT and max(depths) > DEEP
            ),
            *(f"not ready: {part} in {count} of {len(self._judged())} looks" for part, count in not_ready.items()),
        ]
        if code != 0:
            violations.append(f"./run ended with code {code} after Ctrl-C")
        if told["running_at_the_end"] != self.options.strategies:
            violations.append(f"{told['running_at_the_end']} strategies ran at the end, not {self.options.strategies}")
        return {
            "ok": not violations,
            "minutes": self.options.minutes,
            "warm_up_minutes": self.options.warm_up,
            "speed": self.options.speed,
            "recording": self.recording.path.name,
            "strategies": self.options.strategies,
            "accounts": len(self.wallets),
            "wall_seconds": round(time.monotonic() - self.began, 1),
            "exchange_calls": self.calls,
            "machine_load_of_quarters": self._load(),
            **told,
            "latency_seconds": latency,
            "memory_mb": memory,
            "processor_cores": processor,
            "queues_deepest": {name: max(depths) for name, depths in queues.items()},
            "database_mb": self._database(),
            "tasks_seconds": {
                name: flat.spread([t for _, t in done]) for name, done in sorted(self.logs.tasks.items())
            },
            "log_lines": self.logs.lines,
            "log_explained": explained,
            "log_warnings": dict(self.logs.warnings.most_common(25)),
            "violations": violations,
        }

    def _judged(self) -> list[Reading]:
        """The readings of the time that is judged: after the warm-up, while it traded."""
        return [each for each in self.readings if self.judged[0] <= each.at <= self.judged[1]]

    def _memory(self) -> dict[str, dict[str, Any]]:
        series: dict[str, list[tuple[float, float]]] = defaultdict(list)
        whole: Counter[str] = Counter()
        for reading in self._judged():
            for name, use in reading.used.items():
                series[name].append((reading.at, float(use.own)))
                whole[name] = max(whole[name], use.whole)
        told: dict[str, dict[str, Any]] = {}
        for name, readings in sorted(series.items()):
            trend = flat.trend(readings)
            if trend is not None:
                told[name] = {
                    **{key: _mb(getattr(trend, key)) for key in ("first", "last", "growth", "per_hour")},
                    "most": _mb(max(value for _, value in readings)),
                    "with_files": _mb(whole[name]),
                    "grows": flat.memory_grows(trend),
                }
        return told

    def _tasks(self) -> dict[str, dict[str, float]]:
        """How long the tasks of the workers took, start and end included."""
        return {name: flat.spread([seconds for _, seconds in done]) for name, done in sorted(self.logs.tasks.items())}

    def _processor(self) -> dict[str, float]:
        """Cores that each service kept busy in the mean."""
        judged = self._judged()
        first, last = judged[0], judged[-1]
        seconds = last.at - first.at
        if not seconds:
            return {}
        return {
            name: round((use.processor - first.used.get(name, Use()).processor) / seconds, 3)
            for name, use in sorted(last.used.items())
        }

    def _load(self) -> list[float]:
        """Of the machine in the first and the last quarter: of all that runs on it, not only of the platform."""
        trend = flat.trend([(each.at, each.load) for each in self._judged()])
        return [] if trend is None else [round(trend.first, 1), round(trend.last, 1)]

    def _database(self) -> dict[str, float]:
        readings = [(each.at, float(each.database)) for each in self._judged()]
        return {
            "first": _mb(readings[0][1]),
            "last": _mb(readings[-1][1]),
            "per_hour": _mb(flat.slope(readings) * 3600),
        }

    def _keep(self, report: dict[str, Any]) -> None:
        """Evidence, where it was asked for."""
        folder: Path | None = self.options.keep
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        kept = folder / "logs"
        remove_tree(kept)
        subprocess.run(["cp", "-r", str(self.logs.folder), str(kept)], check=True)
        (kept / "run.log").write_text(self.said.read_text())
        rows = [
            {
                "at": round(each.at, 1),
                "own_mb": {name: _mb(use.own) for name, use in each.used.items()},
                "queues": each.queues,
                "database_mb": _mb(each.database),
                "not_ready": each.not_ready,
                "load": each.load,
            }
            for each in self.readings
        ]
        (folder / "readings.json").write_text(json.dumps(rows))
        serious = "\n\n".join(f"== {log}\n{record}" for log, record in self.logs.serious)
        (folder / "serious.txt").write_text(serious)
        (folder / "soak.json").write_text(json.dumps(report, indent=1))


def largest_keys(server: Any, count: int = 10) -> dict[str, int]:
    """Bytes of what the broker's server holds, by the words its keys begin with; the largest."""
    sizes: Counter[str] = Counter()
    for key in server.scan_iter(count=1000):
        sizes[":".join(key.decode(errors="replace").split(":")[:4])] += int(server.memory_usage(key) or 0)
    return dict(sizes.most_common(count))


def _latency(readings: flat.Readings) -> dict[str, Any]:
    """Half, and 95 of 100, in the first and the last quarter; it must not become slower at either."""
    told: dict[str, Any] = flat.spread([value for _, value in readings])
    grows = False
    for share in (0.5, 0.95):
        trend = flat.trend(readings, share)
        if trend is not None:
            told[f"p{share * 100:g}_of_quarters"] = [round(trend.first, 3), round(trend.last, 3)]
            grows |= flat.latency_grows(trend)
    return told | {"grows": grows}


def _mb(size: float) -> float:
    return round(size / flat.MEGABYTE, 2)


if __name__ == "__main__":
    sys.exit(main())
