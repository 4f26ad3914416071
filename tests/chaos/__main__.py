"""The chaos run: `python -m tests.chaos --minutes 5 --seed 1`.

The whole platform as processes, on private ports and in a private folder: PostgreSQL, Valkey, the paper exchange at
speed, workers, beat, streams and two guardians. A seeded plan kills and stops them, restarts the servers, loses the
broker's data and puts faults on the wire. After a calm, entries are switched off and everything is closed; then the
exchange's ledger and the database must agree to the last digit. Prints one JSON object; exit code 1 on any violation.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from typing import Any

from tests.chaos import judge
from tests.chaos.plan import Action, make_plan
from tests.chaos.stack import Stack, remove, running

LOOK_SECONDS = 0.05
TOLD_EVERY = 10.0
CALM_SECONDS = 45.0  # faults cleared, everything up, no entries: what is open has to be under cover by its end
SETTLE_SECONDS = 90.0  # then everything is closed, and whatever was unknown has been found out
REASON = "the chaos run is over"
# Tracebacks of outages that the run itself makes: (the record begins so, and ends so).
DATABASE_GONE = r"(OperationalError|InterfaceError|AdminShutdown|CrashShutdown|CannotConnectNow|ConnectionTimeout)"
BROKER_GONE = r"(kombu|redis)\.exceptions\.\w*(OperationalError|ConnectionError|TimeoutError|BusyLoadingError)"
EXPECTED: tuple[tuple[str, str], ...] = (
    ("", DATABASE_GONE),
    ("", r"^(psycopg|django\.db\.utils)\.DatabaseError: server closed the connection unexpectedly"),
    ("", BROKER_GONE),
    ("celery.beat Message Error: Couldn't apply scheduled task", "SchedulingError"),
)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        "tests.chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=5.0, help="of chaos; start, calm and end come on top")
    parser.add_argument("--seed", type=int, default=1, help="the same seed, the same plan")
    parser.add_argument("--speed", type=float, default=10.0, help="platform time over wall time")
    parser.add_argument("--keep", action="store_true", help="keep the folder with the logs in any case")
    parser.add_argument("--plan", action="store_true", help="print the plan and stop")
    options = parser.parse_args(argv)
    if options.minutes < 1 or options.speed < 1:
        parser.error("--minutes and --speed are at least 1")
    plan = make_plan(options.seed, options.minutes)
    if options.plan:
        sys.stdout.write("\n".join(map(str, plan)) + "\n")
        return 0
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # each ends the run as Ctrl-C does
        signal.signal(number, signal.default_int_handler)
    return run(plan, options)


def run(plan: list[Action], options: argparse.Namespace) -> int:
    folder, evidence = None, True
    try:
        with running(options.seed, options.speed) as stack:
            folder = stack.folder
            report = Run(stack, plan, options.minutes).report() | {"seed": options.seed, "minutes": options.minutes}
        evidence = bool(report["violations"])
        sys.stdout.write(json.dumps(report, indent=1) + "\n")
        return 1 if evidence else 0
    except KeyboardInterrupt:
        evidence = False
        return 130
    finally:
        if folder is not None and not evidence and not options.keep:
            remove(folder)
        elif folder is not None:
            sys.stderr.write(f"logs: {folder / 'logs'}\n")


class Run:
    """From start to verdict."""

    expected = EXPECTED

    def __init__(self, stack: Stack, plan: list[Action], minutes: float) -> None:
        self.stack, self.plan, self.minutes = stack, plan, minutes
        self.began = time.monotonic()
        self._told_at = 0.0
        self._calm_naked: list[str] = []

    def report(self) -> dict[str, Any]:
        self._start()
        self._hurt()
        self._calm()
        self._flatten()
        return self._judge()

    # --- phases ---

    def _start(self) -> None:
        self.say("starting the servers")
        self.stack.start_servers()
        import django

        django.setup()
        from tests.chaos.world import populate

        populate(self.stack)
        self.say("starting the platform")
        self.stack.start_platform()
        self.say(f"ready; {len(self.plan)} actions in {self.minutes:g} min")

    def _hurt(self) -> None:
        begin, due = time.monotonic(), list(self.plan)
        while (elapsed := time.monotonic() - begin) < self.minutes * 60:
            while due and due[0].at <= elapsed:
                action = due.pop(0)
                self.say(str(action))
                self.stack.perform(action)
            self._pause()

    def _calm(self) -> None:
        self.stack.heal()
        self._wait(self.stack.all_ready, 20, "all processes run")
        self._switch("no_entries")
        self.say("calm")
        end = time.monotonic() + CALM_SECONDS
        while time.monotonic() < end:
            self._pause()
        self._calm_naked = self._naked_now()

    def _flatten(self) -> None:
        self._switch("flatten")
        self.say("flatten")
        self._wait(self._is_settled, SETTLE_SECONDS, "everything is closed")

    def _switch(self, level: str) -> None:
        from algo.services.audit import PLATFORM
        from algo.services.control import kill_switch_set

        kill_switch_set(level, reason=REASON, by=PLATFORM)

    def _is_settled(self) -> bool:
        from tests.chaos.world import our_deals, our_orders

        return not list(judge.unfinished(our_deals(self.stack.speed), our_orders()))

    def _pause(self) -> None:
        self.stack.look()
        if time.monotonic() - self._told_at > TOLD_EVERY:
            self._told_at = time.monotonic()
            self.stack.count_exchange()
            self.say(self._progress())
        time.sleep(LOOK_SECONDS)

    def _wait(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """A condition that does not come true is judged later, by what it leaves behind."""
        deadline, asked = time.monotonic() + seconds, 0.0
        while time.monotonic() < deadline:
            self._pause()
            if time.monotonic() - asked > 0.5:
                asked = time.monotonic()
                if condition():
                    return
        self.say(f"not within {seconds:g} s: {what}")

    # --- what is told on the way ---

    def say(self, words: str) -> None:
        sys.stderr.write(f"[{time.monotonic() - self.began:6.1f} s] {words}\n")
        sys.stderr.flush()

    def _progress(self) -> str:
        """Straight from the database where it is up; the run must not stumble over an outage of its own making."""
        from django.db import Error, connection

        from algo.models import Deal, Fill, Order

        try:
            states = Counter(Deal.objects.values_list("status", flat=True))
            return f"deals {dict(states)}, orders {Order.objects.count()}, fills {Fill.objects.count()}"
        except Error as exc:
            return f"the database is away ({type(exc).__name__})"
        finally:
            connection.close()

    # --- verdict ---

    def _truths(self) -> dict[str, Any]:
        from tests.chaos.world import TRADERS

        return {name: self.stack.control("GET", f"/accounts/{name}") for name in TRADERS}

    def _books(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """(truths, orders by account, trades by account)."""
        from tests.chaos.world import TRADERS

        truths = self._truths()
        venues = {name: truths[name]["venues"][provider] for name, (provider, _) in TRADERS.items()}
        orders = {name: venue["orders"] for name, venue in venues.items()}
        return truths, orders, {name: venue["trades"] for name, venue in venues.items()}

    def _stretches(self, orders: dict[str, Any], trades: dict[str, Any]) -> list[judge.Naked]:
        from tests.chaos.world import our_deals, our_orders

        mine, found = our_orders(), []
        for deal in our_deals(self.stack.speed):
            placed, traded = judge.of_deal(deal, mine, orders[deal.account], trades[deal.account])
            found += judge.naked_stretches(
                deal,
                placed,
                traded,
                until=time.time(),
                wall=self._wall,
                outages=self.stack.outages,
                incidents=self.stack.incidents,
            )
        return found

    def _naked_now(self) -> list[str]:
        """Positions without cover at the end of the calm."""
        _, orders, trades = self._books()
        now = time.time()
        return [
            f"naked at the end of the calm: deal {each.deal} since {each.raw:.1f} s"
            for each in self._stretches(orders, trades)
            if now - each.end < 1 and each.raw > 5
        ]

    def _wall(self, moment: str) -> float:
        """Unix seconds of the wall for a time of the exchange."""
        at = datetime.fromisoformat(moment).timestamp()
        return self.stack.anchor_real + (at - self.stack.anchor_real) / self.stack.speed

    def _judge(self) -> dict[str, Any]:
        from tests.chaos import world

        self.stack.count_exchange()
        truths, orders, trades = self._books()
        mine, deals, tickets = world.our_orders(), world.our_deals(self.stack.speed), world.open_tickets()
        stretches = self._stretches(orders, trades)
        differences = world.ledger_differences(truths)
        logs = {path.name: path.read_text(errors="replace") for path in sorted(self.stack.plan.logs.glob("*.log*"))}
        evidence = {"exchange": truths, "orders": mine, "deals": deals, "naked": stretches, "denials": world.denials()}
        (self.stack.folder / "logs" / "evidence.json").write_text(json.dumps(evidence, indent=1, default=_plain))
        violations = [
            *(f"ledgers differ: {name} by {amount}" for name, amount in differences.items()),
            *(f"the exchange's own books: {t['conservation']}" for t in truths.values() if t["conservation"] != "ok"),
            *judge.books_that_differ(mine, world.our_fills(), deals, orders, trades, self.stack.sends),
            *judge.unexplained(tickets),
            *judge.too_long_naked(stretches),
            *self._calm_naked,
        ]
        for name, text in logs.items():
            violations += judge.unhandled(name, text, self.expected)
            violations += judge.secrets_told(name, text, self._secrets())
        return self._figures(deals, mine, trades, stretches, logs) | {
            "proven_flat": sorted(world.flat_proofs()),
            "tickets": dict(Counter(ticket.kind for ticket in tickets)),
            "violations": violations,
        }

    def _secrets(self) -> dict[str, str]:
        plan = self.stack.plan
        names = ("secret_key", "field_encryption_key", "valkey_password", "wallex_api_key", "nobitex_api_key",
                 "paper_control_token")  # fmt: skip
        return {name: getattr(plan.secrets, name) for name in names} | self.stack.secrets

    def _figures(
        self,
        deals: list[Any],
        mine: list[Any],
        trades: dict[str, Any],
        stretches: list[judge.Naked],
        logs: dict[str, str],
    ) -> dict[str, Any]:
        stack, told = self.stack, "\n".join(logs.values())
        raw, reachable = [each.raw for each in stretches], [each.reachable for each in stretches]
        booked = [deal.unprotected_seconds for deal in deals]
        return {
            "wall_seconds": round(time.monotonic() - self.began, 1),
            "speed": stack.speed,
            "deals": dict(Counter(deal.status for deal in deals)),
            "orders": dict(Counter(order.role for order in mine)),
            "fills": sum(map(len, trades.values())),
            "exchange_calls": stack.calls,
            "kills": dict(stack.kills),
            "stops": dict(stack.stops),
            "ended_by_themselves": dict(stack.crashes),
            "postgres_restarts": {name: stack.counts[f"postgres_{name}"] for name in ("fast", "immediate")},
            "valkey": {name: stack.counts[f"valkey_{name}"] for name in ("restart", "lose_files", "flush")},
            "fault_rules": stack.counts["fault"],
            "faults_injected": dict(sorted(stack.faults.items())),
            "unknown_outcomes": told.count("outcome unknown order="),
            "recovered_orders": told.count("recovered order="),
            "adopted_orders": told.count("adopting order="),
            "unprotected_seconds": {
                "reachable": _spread(reachable),
                "raw": _spread(raw),
                "as_booked_per_deal": _spread(booked),
            },
        }


def _plain(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)


def _spread(values: list[float]) -> dict[str, float]:
    figures = {"max": max(values, default=0.0), "p99": judge.percentile(values, 0.99), "sum": sum(values)}
    return {name: round(value, 2) for name, value in figures.items()}


if __name__ == "__main__":
    sys.exit(main())
