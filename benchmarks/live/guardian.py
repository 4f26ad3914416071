"""The guardian: 500 open deals over 50 markets, each looked at every two seconds, on less than half a core.

A real `manage.py run_guardian` watches ten accounts with a protected deal on each of 50 markets; the deals of one of
them trail. Measured once with the streams of the exchange running, as production has them, and once without, where
prices come by polling alone, inside the guardian's share of the exchange's limits. Told: its processor time as a share
of one core, the seconds between two looks at the same deal (a pass over an account that ends has looked at each of its
deals), and, as the proof that a look is one, the seconds from a move of the price at the exchange until the deals that
trail have it written down.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from benchmarks.live import floors as bare
from benchmarks.live.measure import SECONDS, Figure, Options, latency, quantile
from benchmarks.live.platform import Platform, cpu_seconds, memory_mb, wait_for
from launcher.supervisor import Service
from providers.budgets import GUARDIAN_SHARE
from providers.provider_factory import documented_limits

ACCOUNTS, MARKETS = 10, 50
HALF_A_CORE, EVERY_TWO_SECONDS = 0.5, 2.0
WINDOW = 15.0  # seconds of one round
WARM_UP = 12.0  # to read the code, reconcile every account and settle
MOVED = Decimal("1.003")  # a rise worth writing down: a best price is noted from 0.1 % on
MOVED_PAIRS = 5  # of one round
SEEN_WITHIN = 20.0  # seconds after which a move is given up


def run(platform: Platform, floors: bare.Floors, options: Options) -> list[Figure]:
    from algo.models import Deal
    from benchmarks.live import world
    from benchmarks.live.standing import open_deals
    from providers.types import ProtectionMode

    pairs = world.markets()[:MARKETS]
    accounts = options.size(ACCOUNTS, 2)
    open_deals(platform, pairs, accounts, mode=ProtectionMode.LOCKING_STOPS, trailing=1)
    deals = Deal.objects.count()
    figures = []
    for name, streams, how in (
        ("streams", ("stream_wallex",), "prices by the exchange's stream"),
        ("polling", (), "prices by polling alone"),
    ):
        figures += Watch(platform, options, pairs).measured(f"guardian.{name}", streams, f"{deals} deals, {how}")
    return figures


@dataclass
class Round:
    """What one window of time showed."""

    seconds: float = 0.0
    cpu: float = 0.0
    looks: int = 0  # at one deal each
    gaps: list[float] = field(default_factory=list)  # between two looks at the same deal
    seen: list[float] = field(default_factory=list)  # from a move of the price to the row that says so


class Watch:
    """A guardian at work, and somebody who watches it."""

    def __init__(self, platform: Platform, options: Options, pairs: Sequence[str]) -> None:
        from algo.models import Account, Deal

        self.platform, self.options, self.pairs = platform, options, pairs
        self.deals_of: Counter[int] = Counter(Deal.objects.values_list("account_id", flat=True))
        self.trails = int(Account.objects.earliest("pk").pk)

    def measured(self, name: str, streams: Sequence[str], what: str) -> list[Figure]:
        with ExitStack() as running:
            running.enter_context(self.platform.processes(*map(self.platform.service, streams)))
            [guardian] = running.enter_context(self.platform.processes(self._guardian()))
            time.sleep(WARM_UP)
            first = self.platform.last_request()
            began = time.monotonic()
            rounds = [self._round(guardian, number) for number in range(self.options.rounds)]
            calls = self._calls(guardian, first, time.monotonic() - began)
            memory = memory_mb(guardian)
        return list(self._figures(name, what, rounds, {"memory_mb": round(memory, 1), **calls}))

    def _guardian(self) -> Service:
        return self.platform.service("guardian", needs=())

    # --- watching ---

    def _round(self, guardian: Service, number: int) -> Round:
        found = Round()
        cpu, began = cpu_seconds(guardian), time.monotonic()
        seconds = self.options.size(int(WINDOW), 6)
        last: dict[int, datetime] = {}
        while time.monotonic() - began < seconds:
            for account, at in self._advanced():
                if account in last and at != last[account]:
                    found.gaps += [(at - last[account]).total_seconds()] * self.deals_of[account]
                    found.looks += self.deals_of[account]
                last[account] = at
            time.sleep(0.1)
        found.cpu, found.seconds = cpu_seconds(guardian) - cpu, time.monotonic() - began
        found.seen = self._moves(number)
        self.platform.check((guardian,))
        return found

    def _advanced(self) -> list[tuple[int, datetime]]:
        """When the last pass over each account ended."""
        from algo.models import Account

        rows = Account.objects.exclude(advanced_at=None).filter(pk__in=self.deals_of)
        return list(rows.values_list("pk", "advanced_at"))

    def _moves(self, number: int) -> list[float]:
        """Let some prices rise, and wait until the deals that trail have noticed."""
        first = number * MOVED_PAIRS
        pairs = [self.pairs[each % len(self.pairs)] for each in range(first, first + MOVED_PAIRS)]
        pairs = [pair for pair in pairs if pair != "USDT/IRT"]  # all prices in toman hang on it
        before = self._best(pairs)
        last = self.platform.control("GET", "/prices")["last"]["wallex"]
        waiting = {}
        for pair in pairs:
            price = max(Decimal(last[pair]), before[pair]) * MOVED
            waiting[pair] = time.monotonic()
            self.platform.control("POST", "/prices", json={"pair": pair, "price": str(price)})
        seen: dict[str, float] = {}

        def all_seen() -> bool:
            best = self._best([pair for pair in pairs if pair not in seen])
            seen.update(
                (pair, time.monotonic() - waiting[pair]) for pair, price in best.items() if price > before[pair]
            )
            return len(seen) == len(pairs)

        wait_for("a move of the price in the rows of the deals that trail", all_seen, seconds=SEEN_WITHIN)
        return list(seen.values())

    def _best(self, pairs: Sequence[str]) -> dict[str, Decimal]:
        from algo.models import Deal

        rows = Deal.objects.filter(account=self.trails, market__pair__in=pairs)
        return dict(rows.values_list("market__pair", "best_price"))

    def _calls(self, guardian: Service, first: int, seconds: float) -> dict[str, Any]:
        """What the guardian asked of the exchange, by address, and how much of its share that is."""
        assert guardian.process is not None
        asked = Counter(f"{each['method']} {_address(each['path'])}" for each in self.platform.requests_since(first))
        limits = {
            name: limit.calls * GUARDIAN_SHARE / limit.seconds for name, limit in documented_limits("wallex").items()
        }
        spent: dict[str, int] = defaultdict(int)
        for address, count in asked.items():
            spent[_budget(address)] += count
        return {
            "calls_per_second": {address: round(count / seconds, 2) for address, count in asked.most_common()},
            "of_share": {name: round(spent[name] / seconds / limit, 2) for name, limit in limits.items()},
        }

    # --- what is told ---

    def _figures(self, name: str, what: str, rounds: Sequence[Round], detail: dict[str, Any]) -> Iterator[Figure]:
        share = tuple(each.cpu / each.seconds for each in rounds)
        yield Figure(f"{name}.core", f"of one core: {what}", "cores", share, HALF_A_CORE, detail=detail)
        longest = tuple(quantile(each.gaps, 0.99) for each in rounds)
        gaps = {"longest": max(max(each.gaps) for each in rounds), "looks": sum(each.looks for each in rounds)}
        middle = quantile([gap for each in rounds for gap in each.gaps], 0.5)
        yield Figure(
            f"{name}.between_looks",
            f"between two looks at the same deal, 99 of 100: {what}",
            SECONDS,
            longest,
            EVERY_TWO_SECONDS,
            p50=middle,
            p99=quantile([gap for each in rounds for gap in each.gaps], 0.99),
            detail=gaps,
        )
        cost = tuple(each.cpu / each.looks for each in rounds)
        yield Figure(f"{name}.look", f"of processor for one look at one deal: {what}", SECONDS, cost, floor=bare.INSERT)
        yield latency(
            f"{name}.move_seen", f"from a move of the price to the deal's row: {what}", [each.seen for each in rounds]
        )


def _address(path: str) -> str:
    """Without what is different in every call."""
    path = path.partition("?")[0].removeprefix("/wallex")
    return "/v1/account/orders/{id}" if path.startswith("/v1/account/orders/") else path


def _budget(address: str) -> str:
    method, _, path = address.partition(" ")
    if not path.startswith("/v1/account"):
        return "market_data"
    if path.startswith("/v1/account/orders"):
        return {"POST": "orders", "DELETE": "cancels"}.get(method, "account")
    return "account"
