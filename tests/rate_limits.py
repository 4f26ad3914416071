"""Proof that both clients stay inside every documented limit, however many workers call at once.

    .venv/bin/python -m tests.rate_limits --workers 8 --seconds 75

Starts a paper exchange that counts, eight worker processes that share their budgets through Redis (and one that keeps
the guardian's share for itself), and lets each of them call whatever there is as fast as it may. Then reads the
exchange's own log of requests: in no window of any limit may there be more than the contract allows, and no request
may have been refused for coming too often. Prints JSON; exit 1 otherwise.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

from algo.live.budgets import SharedBudget
from algo.live.redis_link import connect
from launcher.embedded import ensure_test_servers
from providers.budgets import GUARDIAN_SHARE, InProcessBudget, Priority, budget_priority, shares
from providers.errors import ProviderError
from providers.interface import ExchangeProvider
from providers.provider_factory import create_provider, documented_limits
from providers.types import OrderRef, OrderReport, OrderRequest, OrderType, Resolution, Side
from tests.paper.world import KEY, TOKEN, Server, running

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Documented:
    """One limit of a contract: of the requests whose `METHOD path` matches, at most `calls` in any `seconds`."""

    venue: str
    name: str
    pattern: str
    calls: int
    seconds: float


# Copied by hand from the contracts (nobitex 2.2, wallex 1.4), not from the clients.
LIMITS = (
    Documented("nobitex", "orderbook", r"GET .*/v3/orderbook/.*", 300, 60),
    Documented("nobitex", "trades", r"GET .*/v2/trades/.*", 60, 60),
    Documented("nobitex", "stats", r"GET .*/market/stats", 20, 60),
    Documented("nobitex", "v2 wallets", r"GET .*/v2/wallets", 15, 60),
    Documented("nobitex", "wallets list", r"GET .*/users/wallets/list", 20, 120),
    Documented("nobitex", "add", r"POST .*/market/orders/(add|batch-add)", 300, 600),
    Documented("nobitex", "status", r"POST .*/market/orders/status", 300, 60),
    Documented("nobitex", "list", r"GET .*/market/orders/list", 30, 60),
    Documented("nobitex", "update-status", r"POST .*/market/orders/update-status", 90, 60),
    Documented("nobitex", "cancel-old", r"POST .*/market/orders/cancel-old", 30, 60),
    Documented("nobitex", "own trades", r"GET .*/market/trades/list", 30, 60),
    Documented("wallex", "order creation", r"POST .*/v1/account/orders", 20, 10),
    Documented("wallex", "everything", r".*", 100, 1),
)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=75.0)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.worker:
        work(options.worker, options.url, time.monotonic() + options.seconds)
        return 0
    ensure_test_servers()  # they end with this process
    report = prove(options.workers, options.seconds)
    sys.stdout.write(json.dumps(report, indent=1) + "\n")
    return 0 if report["within_every_limit"] else 1


def prove(workers: int, seconds: float) -> dict[str, object]:
    """Run it, with the Redis that REDIS_URL names."""
    with tempfile.TemporaryDirectory() as folder, running(Path(folder), "--seed", "4") as server:
        run_workers(server, workers, seconds)
        return judged(requests_of(server), workers, seconds)


def run_workers(server: Server, workers: int, seconds: float) -> None:
    names = [*(f"worker{number}" for number in range(workers)), "guardian"]
    command = [sys.executable, "-m", "tests.rate_limits", "--seconds", str(seconds), "--url", server.url, "--worker"]
    processes = [subprocess.Popen([*command, name], cwd=ROOT, env=dict(os.environ)) for name in names]
    for process in processes:
        process.wait(seconds + 60)


def requests_of(server: Server) -> list[dict[str, object]]:
    """The whole log of the exchange, oldest first."""
    found: list[dict[str, object]] = []
    while True:
        since = found[-1]["id"] if found else 0
        page = server.control("GET", f"/requests?since={since}&limit=5000").json()["requests"]
        if not page:
            return found
        found += page


def judged(log: list[dict[str, object]], workers: int, seconds: float) -> dict[str, object]:
    rows = {}
    for limit in LIMITS:
        mine = [row for row in log if row["venue"] == limit.venue and matches(limit, row)]
        most = busiest_window([float(str(row["monotonic"])) for row in mine], limit.seconds)
        rows[f"{limit.venue} {limit.name}"] = {
            "requests": len(mine), "most_in_a_window": most, "allowed": limit.calls, "window_seconds": limit.seconds,
        }  # fmt: skip
    refused = [f"{row['venue']} {row['method']} {row['path']}" for row in log if row["status"] == 429]
    fine = not refused and all(row["most_in_a_window"] <= row["allowed"] for row in rows.values())
    return {
        "workers": workers, "seconds": seconds, "requests": len(log), "refused_429": refused, "limits": rows,
        "within_every_limit": fine and all(row["requests"] for row in rows.values()),
    }  # fmt: skip


def matches(limit: Documented, row: dict[str, object]) -> bool:
    return re.fullmatch(limit.pattern, f"{row['method']} {row['path']}") is not None


def busiest_window(times: Sequence[float], seconds: float) -> int:
    """The most events in any interval of that length, ends included."""
    times, most, first = sorted(times), 0, 0
    for last, at in enumerate(times):
        while at - times[first] > seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


# --- one worker -----------------------------------------------------------------------------------------------------


def work(name: str, url: str, until: float) -> None:
    """Call everything in turn, for the whole time, as fast as the budgets allow."""
    logging.disable(logging.CRITICAL)  # being refused by the budget is what this is about
    calls = [call for venue in ("wallex", "nobitex") for call in calls_of(client_of(venue, url, name), name)]
    while time.monotonic() < until:
        for call in calls:
            with suppress(ProviderError):
                call()
        time.sleep(0.01)


def client_of(venue: str, url: str, name: str) -> ExchangeProvider:
    base_url, limits = f"{url}/{venue}", documented_limits(venue)
    if name == "guardian":
        budget = InProcessBudget(shares(limits, GUARDIAN_SHARE), normal_wait=0.05, exits_wait=0.05)
    else:
        budget = SharedBudget(connect(os.environ["REDIS_URL"]), base_url, limits, normal_wait=0.05, exits_wait=0.05)
    return create_provider(venue, base_url=base_url, api_key=KEY if venue == "wallex" else TOKEN, budget=budget)


def calls_of(client: ExchangeProvider, name: str) -> Iterator[Callable[[], object]]:
    symbol, began, last = "BTCUSDT", datetime.now(UTC), Decimal(0)
    while not last:
        with suppress(ProviderError):
            last = client.last_price(symbol)

    def place(kind: OrderType, priority: Priority) -> Callable[[], object]:
        def call() -> object:
            far = (last * Decimal("0.8") + Decimal(uuid4().int % 100_000) / 100).quantize(Decimal("0.01"))
            price = {"price": far} if kind is OrderType.LIMIT else {"stop_price": far}
            side = Side.BUY if kind is OrderType.LIMIT else Side.SELL
            asked = OrderRequest(uuid4().hex[:24].upper(), symbol, side, kind, Decimal("0.0002"), **price)
            with budget_priority(priority):
                placed = client.create_order(asked)
                client.fetch_order(ref_of(placed))
            return client.cancel_order(ref_of(placed))

        return call

    def ref_of(report: OrderReport) -> OrderRef:
        return OrderRef(symbol, report.client_order_id, report.exchange_order_id, began)

    yield place(OrderType.LIMIT, Priority.NORMAL)
    yield place(OrderType.STOP_MARKET, Priority.EXITS)
    yield client.balances
    yield client.open_orders
    yield client.markets
    yield lambda: client.order_book(symbol)
    yield lambda: client.last_price(symbol)
    yield lambda: client.candles(symbol, Resolution.M1, began - timedelta(minutes=10), began)
    yield lambda: client.orders_since(symbol, began)
    yield lambda: client.own_trades(symbol, began)
    if client.name == "nobitex":
        yield lambda: client.public_trades(symbol)  # type: ignore[attr-defined]
        yield lambda: client.cancel_old(symbol, older_than=timedelta(hours=1))  # type: ignore[attr-defined]
        yield client.wallets  # type: ignore[attr-defined]


if __name__ == "__main__":
    sys.exit(main())
