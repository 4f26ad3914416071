"""Reconciliation: 10,000 orders that work at the exchange compared with our books, and how many calls that takes.

A hundred accounts hold fifty deals each, with a stop and a target at rest. As many threads as the guardian has for an
exchange reconcile all of them: the list of open orders against our working ones, one market's orders of every status
and its trades against ours, the balance. Calls pass the guardian's own budget, in a time of its own: what they would
wait is counted and not slept. So a round tells two things: how long the work takes, on the wire, in the books and in
between, and how long the same takes where every call waits for its turn inside the limits.
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
from benchmarks.live.platform import Platform
from providers.budgets import GUARDIAN_SHARE, InProcessBudget, Priority, WaitingBudget, shares
from providers.errors import RateLimited
from providers.provider_factory import create_provider, documented_limits

ACCOUNTS, MARKETS = 100, 50
WITHIN = 10.0  # seconds
LONGEST_PAGE = 100  # orders of one answer, at both exchanges


def run(platform: Platform, floors: bare.Floors, options: Options) -> list[Figure]:
    from algo.models import Order
    from benchmarks.live import world
    from benchmarks.live.standing import open_deals, uncounted
    from providers.types import ProtectionMode

    pairs = world.markets()[:MARKETS]
    accounts = open_deals(platform, pairs, options.size(ACCOUNTS, 4), mode=ProtectionMode.FREE_STOPS)
    orders = Order.objects.filter(status="OPEN").count()
    with uncounted(platform):  # they come faster than any exchange would take them: their own time is told apart
        desk = Desk(accounts)
        desk.round()  # reads the code, opens the connections
        rounds = [desk.round() for _ in range(options.rounds)]
    return [*figures(orders, rounds), *slower_than_work(orders, rounds)]


@dataclass(slots=True)
class Round:
    """What it took to reconcile every account once."""

    seconds: float = 0.0
    waited: float = 0.0  # in the budget's own time
    calls: Counter[str] = field(default_factory=Counter)  # by budget
    over: int = 0  # calls beyond what the exchange documents, in any of its windows
    failed: list[str] = field(default_factory=list)


class OwnTime:
    """Real time, and what somebody would have slept."""

    def __init__(self) -> None:
        self.slept = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.slept

    def sleep(self, seconds: float) -> None:
        self.slept += seconds


class Counted(InProcessBudget):
    """The guardian's budget, in its own time; a call that it refuses for now waits until it may be made."""

    def __init__(self, own: OwnTime) -> None:
        limits = shares(documented_limits("wallex"), GUARDIAN_SHARE)
        super().__init__(limits, monotonic=own.monotonic, sleep=own.sleep)
        self.own = own
        self.made: list[tuple[float, str]] = []

    def acquire(self, name: str, priority: Priority, calls: int = 1) -> None:
        while True:
            try:
                super().acquire(name, priority, calls)
            except RateLimited as exc:
                self.own.sleep(exc.retry_after or 1.0)
            else:
                self.made += [(self.own.monotonic(), self.budget_of(name))] * calls
                return


class Desk:
    """All accounts, with the clients of one process."""

    def __init__(self, accounts: Sequence[Any]) -> None:
        from algo.exchanges import CLOCK, base_url

        self.clock, self.own = CLOCK, OwnTime()
        self.budget = Counted(self.own)
        self.clients = {
            account: create_provider(
                "wallex", base_url=base_url("wallex"), api_key=account.api_key(), clock=CLOCK, budget=self.budget
            )
            for account in accounts
        }

    def round(self) -> Round:
        from algo.management.commands.run_guardian import THREADS

        found = Round()
        self.budget.made.clear()
        slept, began = self.own.slept, time.perf_counter()
        with ThreadPoolExecutor(THREADS) as crew:
            found.failed = [error for error in crew.map(self._reconciled, self.clients) if error]
        found.seconds, found.waited = time.perf_counter() - began, self.own.slept - slept
        found.calls = Counter(name for _, name in self.budget.made)
        found.over = sum(_over(self.budget.made, name) for name in found.calls)
        return found

    def _reconciled(self, account: Any) -> str:
        """Why one account could not be reconciled; empty where it could."""
        from algo.execution.ledger_orm import OrmLedger
        from algo.execution.locks import account_lock
        from algo.execution.reconcile import reconcile
        from algo.models import Account, Ticket

        client = self.clients[account]
        with account_lock(account.pk, self.clock) as lease:
            if lease is None:
                return f"{account.name} is held by somebody else"
            Account.objects.filter(pk=account.pk).update(balances_read_at=None)  # it is read in every round
            ledger = OrmLedger(account, account.known_capabilities(client.capabilities()), lease.epoch)
            reconcile(ledger, client, self.clock)
        tickets = Ticket.objects.filter(account=account).count()
        return f"{account.name}: {tickets} tickets about orders that are in the books" if tickets else ""


def _over(made: Sequence[tuple[float, str]], name: str) -> int:
    """Calls of a budget that were beyond what the exchange takes from one address in one of its windows."""
    limit = documented_limits("wallex").get(name, WaitingBudget.documented({})["default"])
    times = sorted(at for at, of in made if of == name)
    return sum(
        at - times[number - limit.calls] < limit.seconds for number, at in enumerate(times) if number >= limit.calls
    )


def figures(orders: int, rounds: Sequence[Round]) -> list[Figure]:
    if failed := [why for each in rounds for why in each.failed]:
        raise RuntimeError(f"not every account was reconciled: {failed[0]}")
    work = tuple(each.seconds for each in rounds)
    detail = {"calls": dict(rounds[-1].calls), "calls_an_account": _calls(rounds[-1]) / ACCOUNTS}
    return [
        Figure(
            "reconcile.work",
            f"{orders} orders compared, without waiting for calls",
            SECONDS,
            work,
            WITHIN,
            detail=detail,
        ),
        Figure(
            "reconcile.order",
            "for one order",
            SECONDS,
            tuple(seconds / orders for seconds in work),
            floor=bare.INSERT,
        ),
        Figure(
            "reconcile.calls_over",
            "calls beyond the exchange's limits for one address",
            "calls",
            tuple(float(each.over) for each in rounds),
            0.0,
        ),
    ]


def slower_than_work(orders: int, rounds: Sequence[Round]) -> list[Figure]:
    """What the limits make of it. A list shows a hundred orders: so many calls have to be made, however it is done."""
    limit = documented_limits("wallex")["account"]
    most = limit.calls / limit.seconds
    least = orders / LONGEST_PAGE / most
    within = tuple(each.seconds + each.waited for each in rounds)
    detail = {
        "least_seconds_of_any_program": round(least, 1),
        "because": f"{LONGEST_PAGE} orders in a list, {most:g} lists a second from one address",
        "waited": round(rounds[-1].waited, 1),
    }
    what = f"{orders} orders compared inside the guardian's share of the limits"
    return [Figure("reconcile.within_limits", what, SECONDS, within, WITHIN, detail=detail)]


def _calls(of: Round) -> int:
    return sum(of.calls.values())
