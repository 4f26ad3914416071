"""Reconciliation: 10,000 orders that work at the exchange compared with our books, inside what the exchange takes.

A hundred accounts hold fifty deals each, with a stop and a target at rest. As many threads as the guardian has for an
exchange reconcile all of them: the list of open orders against our working ones, one market's orders of every status
and its trades against ours, the balance. The exchange counts the calls and refuses what is beyond its documented 100 a
second; the clients keep below that together. Told beside it: how long the same calls take where they wait for their
turn in the guardian's own budget, which is far more careful: about one a second.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from benchmarks.live import floors as bare
from benchmarks.live.measure import SECONDS, Figure, Options
from benchmarks.live.platform import Platform, cpu_seconds
from providers.budgets import GUARDIAN_SHARE, InProcessBudget, Limit, Priority
from providers.provider_factory import create_provider, documented_limits

ACCOUNTS, MARKETS = 100, 50
WITHIN = 10.0  # seconds
DOCUMENTED = Limit(90, 1.0, burst_share=0.1)  # a tenth below the 100 calls a second (contract: wallex 1.4)
TOO_OFTEN = 429


def run(platform: Platform, floors: bare.Floors, options: Options) -> list[Figure]:
    from algo.models import Order
    from benchmarks.live import world
    from benchmarks.live.standing import open_deals
    from providers.types import ProtectionMode

    pairs = world.markets()[:MARKETS]
    accounts = open_deals(platform, pairs, options.size(ACCOUNTS, 4), mode=ProtectionMode.FREE_STOPS)
    orders = Order.objects.filter(status="OPEN").count()
    desk = Desk(platform, accounts)
    desk.round()  # reads the code, opens the connections
    return figures(orders, len(accounts), [desk.round() for _ in range(options.rounds)])


@dataclass(slots=True)
class Round:
    """What it took to reconcile every account once."""

    seconds: float = 0.0
    calls: Counter[str] = field(default_factory=Counter)  # by budget
    refused: int = 0  # by the exchange, because they came too often
    processor: dict[str, float] = field(default_factory=dict)  # seconds, by process
    failed: list[str] = field(default_factory=list)


class Counted(InProcessBudget):
    """As much as the exchange documents, all accounts of an address together; it remembers what was called."""

    def __init__(self) -> None:
        super().__init__(dict.fromkeys(documented_limits("wallex"), DOCUMENTED), normal_wait=60.0, exits_wait=60.0)
        self.made: Counter[str] = Counter()

    def acquire(self, name: str, priority: Priority, calls: int = 1) -> None:
        super().acquire(name, priority, calls)
        self.made[self.budget_of(name)] += calls

    def ready(self, name: str, priority: Priority, calls: int = 1) -> bool:
        """No call is to spare: one market of an account has its turn, and no other besides."""
        return False


class Desk:
    """All accounts, with the clients of one process."""

    def __init__(self, platform: Platform, accounts: Sequence[Any]) -> None:
        from algo.exchanges import CLOCK, base_url

        self.platform, self.clock, self.budget = platform, CLOCK, Counted()
        self.clients = {
            account: create_provider(
                "wallex", base_url=base_url("wallex"), api_key=account.api_key(), clock=CLOCK, budget=self.budget
            )
            for account in accounts
        }

    def round(self) -> Round:
        from algo.management.commands.run_guardian import THREADS
        from algo.models import Account

        Account.objects.update(balances_read_at=None)  # they are read in every round
        self.budget.made.clear()
        found, first, processor = Round(), self.platform.last_request(), self._processor()
        began = time.perf_counter()
        with ThreadPoolExecutor(THREADS) as crew:
            found.failed = [error for error in crew.map(self._reconciled, self.clients) if error]
        found.seconds = time.perf_counter() - began
        found.processor = {name: seconds - processor[name] for name, seconds in self._processor().items()}
        found.calls = Counter(self.budget.made)
        found.refused = sum(each["status"] == TOO_OFTEN for each in self.platform.requests_since(first))
        return found

    def _processor(self) -> dict[str, float]:
        servers = {name: cpu_seconds(self.platform.server(name)) for name in ("postgres", "paper")}
        return {"platform": time.process_time(), **servers}

    def _reconciled(self, account: Any) -> str:
        """Why one account could not be reconciled; empty where it could."""
        from algo.execution.ledger_orm import OrmLedger
        from algo.execution.locks import account_lock
        from algo.execution.reconcile import reconcile
        from algo.models import Ticket

        client = self.clients[account]
        with account_lock(account.pk, self.clock) as lease:
            if lease is None:
                return f"{account.name} is held by somebody else"
            ledger = OrmLedger(account, account.known_capabilities(client.capabilities()), lease.epoch)
            reconcile(ledger, client, self.clock)
        tickets = Ticket.objects.filter(account=account).count()
        return f"{account.name}: {tickets} tickets about orders that are in the books" if tickets else ""


def figures(orders: int, accounts: int, rounds: Sequence[Round]) -> list[Figure]:
    if failed := [why for each in rounds for why in each.failed]:
        raise RuntimeError(f"not every account was reconciled: {failed[0]}")
    work = tuple(each.seconds for each in rounds)
    last = rounds[-1]
    detail = {
        "calls": dict(last.calls),
        "calls_of_an_account": round(sum(last.calls.values()) / accounts, 2),
        "processor_seconds": {name: round(seconds, 2) for name, seconds in last.processor.items()},
    }
    what = f"{orders} orders of {accounts} accounts compared"
    refused = tuple(float(each.refused) for each in rounds)
    own = tuple(in_own_budget(each.calls) for each in rounds)
    return [
        Figure("reconcile.all", what, SECONDS, work, WITHIN, detail=detail),
        Figure(
            "reconcile.order", "of it for one order", SECONDS, tuple(each / orders for each in work), floor=bare.INSERT
        ),
        Figure("reconcile.refused", "calls that the exchange refused meanwhile: too often", "calls", refused, 0.0),
        Figure("reconcile.own_budget", f"{what}, waiting for turns in the guardian's own budget", "seconds", own),
    ]


def in_own_budget(calls: Counter[str]) -> float:
    """Seconds that so many calls take at least in the guardian's share of what the platform allows itself."""
    limits = documented_limits("wallex")
    shares = {name: limits[name].share(GUARDIAN_SHARE) for name in calls}
    return max(max(count - shares[name].burst, 0.0) / shares[name].per_second for name, count in calls.items())
