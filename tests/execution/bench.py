"""A bench for `advance`: the paper exchange behind real sockets, with a clock and prices that a test moves by hand."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import requests
import uvicorn

from algo.execution.advance import Advanced, advance
from algo.execution.ledger_rows import order_plan
from algo.models import FINISHED_DEALS, Account, CloseReason, Deal, DealStatus, Market, Order, Role
from algo.selectors.audit import ledger_difference
from algo.services.markets import markets_refresh
from providers.budgets import Priority
from providers.nobitex.client import NobitexClient
from providers.paper.app import build_app, build_control_app
from providers.paper.engine import Exchange, to_ms
from providers.paper.feeds.base import Bars, PairSpec, Ticks
from providers.paper.orders import Book
from providers.paper.profiles import VenueProfile, venue_profiles
from providers.paper.store import Store
from providers.types import BookLevel, OrderStatus, OrderType, ProtectionMode, Side
from providers.wallex.client import WallexClient
from tests.factories import make_account, make_config, make_deal

CONTROL = "control-of-the-tests"
START = datetime(2026, 11, 2, 10, 0, tzinfo=UTC)
PAIRS = ("BTC/USDT", "BTC/IRT", "USDT/IRT")
_numbers = itertools.count(1)


class HandClock:
    """Time that passes when a test says so."""

    speed = 1.0

    def __init__(self) -> None:
        self._now = START

    def now(self) -> datetime:
        return self._now

    def wall(self, seconds: float) -> timedelta:
        return timedelta(seconds=seconds)

    def monotonic(self) -> float:
        return self._now.timestamp()

    def step(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)


class HandFeed:
    """Prices that a test sets. The book has one tick of spread and `depth` BTC on its only level."""

    name = "hand"
    ends_at = None

    def __init__(self, clock: HandClock) -> None:
        self.specs: Mapping[str, PairSpec] = {
            pair: PairSpec(pair, Decimal("0.01") if pair.endswith("USDT") else Decimal(1), Decimal("0.000001"), 0)
            for pair in PAIRS
        }
        self.clock = clock
        self.depth = Decimal(100)
        self._trades: dict[str, list[tuple[int, int]]] = {pair: [] for pair in PAIRS}
        for pair in PAIRS:
            self.set(pair, Decimal(100))

    def set(self, pair: str, price: Decimal) -> None:
        """The price of the trade that happens now."""
        self._trades[pair].append((to_ms(self.clock.now()), int(price / self.specs[pair].tick)))

    def price(self, pair: str) -> Decimal:
        return self.specs[pair].price(self._trades[pair][-1][1])

    def is_still(self, after_ms: int, until_ms: int) -> bool:
        return False

    def ticks(self, venue: str, pair: str, after_ms: int, until_ms: int) -> Ticks:
        rows = [row for row in self._trades[pair][-200:] if after_ms < row[0] <= until_ms]
        return Ticks(
            np.array([row[0] for row in rows], np.int64),
            np.array([row[1] for row in rows], np.int64),
            np.full(len(rows), 10**9, np.int64),
            np.ones(len(rows), np.bool_),
        )

    def last_tick(self, venue: str, pair: str, now_ms: int) -> Ticks:
        return self.ticks(venue, pair, self._trades[pair][-1][0] - 1, now_ms)

    def bars(self, venue: str, pair: str, start_s: int, end_s: int, now_ms: int) -> Bars:
        """One candle, of the last trade: enough for a market to count as open."""
        at, price = self._trades[pair][-1]
        minute = at // 60_000 * 60
        one = [(minute, price, price, price, price, 10**9)] if start_s <= minute < end_s else []
        return Bars(*(np.array([row[i] for row in one], np.int64) for i in range(6)))

    def complete_until(self, venue: str, pair: str, now_ms: int) -> int:
        return now_ms // 1000

    def book(self, venue: str, pair: str, now_ms: int) -> Book:
        at, price = self._trades[pair][-1]
        tick = self.specs[pair].tick
        bid, ask = BookLevel(self.specs[pair].price(price) - tick, self.depth), None
        ask = BookLevel(self.specs[pair].price(price) + tick, self.depth)
        return Book((bid,), (ask,), version=at)

    def nudge(self, pair: str, price: Decimal, now_ms: int) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Nothing to stop."""


class NoBudget:
    """Calls as many as a test makes: no waiting."""

    is_ready = True

    def acquire(self, name: str, priority: Priority, calls: int = 1) -> None: ...

    def ready(self, name: str, priority: Priority, calls: int = 1) -> bool:
        return self.is_ready

    def refused(self, name: str, stated_seconds: float | None) -> float:
        return stated_seconds or 1.0

    def observed(self, name: str, remaining: int) -> None: ...


class World:
    """The running exchange."""

    def __init__(self, folder: Path, profiles: tuple[VenueProfile, ...] | None = None) -> None:
        self.clock = HandClock()
        self.feed = HandFeed(self.clock)
        exchange = Exchange(self.feed, self.clock, Store(folder / "paper.sqlite3"), profiles or venue_profiles(PAIRS))
        self.exchange = exchange
        self.app = build_app(exchange, rate_limits=False)
        control = build_control_app(self.app, CONTROL)

        async def both(scope: Any, receive: Any, send: Any) -> None:
            """The exchange, and beside it the tester's door."""
            is_control = scope["type"] == "http" and scope["path"].startswith("/paper/")
            await (control if is_control else self.app)(scope, receive, send)

        # asyncio turns Nagle's algorithm off only where the protocol is named: else every answer takes 40 ms.
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(both, log_level="error", access_log=False, timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)

    @contextmanager
    def running(self) -> Iterator[World]:
        self._thread.start()
        deadline = time.monotonic() + 10
        while not self._server.started and time.monotonic() < deadline:
            time.sleep(0.01)
        try:
            yield self
        finally:
            self._server.should_exit = True
            self._thread.join(10)

    def control(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        headers = {"x-paper-control": CONTROL}
        answer = requests.request(method, f"{self.url}/paper{path}", headers=headers, timeout=10, **more)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def step(self, seconds: float) -> None:
        """Time passes and trades go on at the same prices."""
        self.clock.step(seconds)
        for pair in PAIRS:
            self.feed.set(pair, self.feed.price(pair))

    def trader(self, provider: str = "wallex", *, wallet: Mapping[str, str] | None = None) -> Trader:
        """A fresh account at the exchange and its row in the database, with 10,000 USDT, a BTC and a milliard
        toman unless `wallet` says otherwise. BTC stands at 100 in both currencies."""
        name = f"trader{next(_numbers)}"
        held = dict(wallet or {"USDT": "10000", "BTC": "1", "IRT": "1000000000"})
        keys = self.control("POST", "/accounts", json={"name": name, "balances": {provider: held}})
        budget = NoBudget()
        client: Any
        if provider == "wallex":
            client = WallexClient(f"{self.url}/wallex", api_key=keys["wallex_key"], clock=self.clock, budget=budget)
        else:
            client = NobitexClient(
                f"{self.url}/nobitex", api_key=keys["nobitex_token"], clock=self.clock, budget=budget
            )
        if not Market.objects.filter(provider=provider).exists():
            markets_refresh(client, now=self.clock.now())
        account = make_account(provider=provider, name=name, environment="paper")
        return Trader(self, name, account, client)


@dataclass
class Trader:
    """One account, looked after by calling `advance` by hand. `provider` may be wrapped by a test."""

    world: World
    name: str
    account: Account
    client: Any
    provider: Any = None
    pair: str = "BTC/USDT"
    config: Any = field(default=None)

    def __post_init__(self) -> None:
        self.provider = self.provider or self.client

    @property
    def market(self) -> Market:
        return Market.objects.get(provider=self.account.provider, pair=self.pair)

    def plan(
        self, *, side: Side = Side.BUY, quantity: str = "1", price: str = "100", mode: int | None = None, **rules: Any
    ) -> Deal:
        """A planned deal with its entry: stop 1 % behind, target 2 % ahead."""
        terms = {"stop_loss_percent": "1", "take_profit_percent": "2", **{k: str(v) for k, v in rules.items()}}
        self.config = self.config or make_config(account=self.account, market=self.market, data_market=self.market)
        at = Decimal(price)
        deal = make_deal(
            self.config,
            side=side,
            rules=terms,
            protection_mode=mode or ProtectionMode(self.account.protection or 4),
            planned_quantity=Decimal(quantity),
            planned_price=at,
            initial_stop_price=at * (1 - side.sign * Decimal("0.01")),
            stop_price=at * (1 - side.sign * Decimal("0.01")),
            target_price=at * (1 + side.sign * Decimal("0.02")),
            created_at=self.world.clock.now(),
        )
        order_plan(
            deal,
            role=Role.ENTRY,
            leg=1,
            side=side,
            kind=OrderType.MARKET,
            quantity=Decimal(quantity),
            price=None,
            stop_price=None,
            reason="test",
            now=self.world.clock.now(),
        )
        return deal

    def advance(self, **more: Any) -> Advanced:
        account = Account.objects.get(pk=self.account.pk)
        return advance(account, self.provider, self.world.clock, **more)

    def price(self, price: str | float, *, run: bool = True) -> None:
        """The market trades at `price` a second later; then the account is looked after once."""
        self.world.clock.step(1)
        for pair in PAIRS:
            at = Decimal(str(price)) if pair == self.pair else self.world.feed.price(pair)
            self.world.feed.set(pair, at)
        self.client.order_book(self.market.symbol)  # the exchange plays its trades when somebody asks
        if run:
            self.advance()

    def wait(self, seconds: int) -> None:
        """Look after the account once a second."""
        for _ in range(seconds):
            self.world.step(1)
            self.advance()

    def calm(self, most: int = 75) -> None:
        """Look after it until nothing is pending or unknown and the deal has ended or rests protected."""
        for _ in range(most):
            self.world.step(1)
            self.advance()
            unsure = Order.objects.filter(
                account=self.account,
                status__in=(OrderStatus.PENDING, OrderStatus.SUBMITTED, OrderStatus.CANCELING),
            )
            live = Deal.objects.filter(account=self.account).exclude(status__in=FINISHED_DEALS)
            if not unsure.exists() and not live.exclude(unprotected_since=None, exit_reason="").exists():
                return
        raise AssertionError(f"no rest after {most} s: {self.orders()} {self.deal()}")

    def deal(self) -> Deal:
        return Deal.objects.filter(account=self.account).latest("id")

    def orders(self, role: Role | None = None) -> list[Order]:
        found = Order.objects.filter(account=self.account).order_by("created_at", "id")
        return list(found.filter(role=role) if role else found)

    def roles(self, *statuses: OrderStatus) -> list[str]:
        """Roles of our orders in these statuses, oldest first."""
        return [order.role for order in self.orders() if order.status in statuses]

    def truth(self) -> dict[str, Any]:
        """What the exchange knows about the account."""
        return self.world.control("GET", f"/accounts/{self.name}")["venues"][self.account.provider]

    def total(self, asset: str) -> Decimal:
        return Decimal(self.truth()["balances"].get(asset, {"total": "0"})["total"])

    def books_agree(self) -> bool:
        difference = ledger_difference(self.account, self.truth())
        assert difference == 0, (difference, self.truth(), self.orders())
        return True


def opened(trader: Trader, **fields: object) -> Trader:
    """The trader with a deal that is open and protected."""
    trader.plan(**fields)  # type: ignore[arg-type]
    trader.advance(reconcile_now=True)  # as at every start; it reads the balances
    assert trader.deal().status == DealStatus.OPEN
    return trader


def closed(trader: Trader, reason: CloseReason) -> bool:
    deal = trader.deal()
    assert (deal.status, deal.close_reason) == (DealStatus.CLOSED, reason), (deal.note, trader.orders())
    assert not [order for order in trader.truth()["orders"] if order["status"] in ("OPEN", "INACTIVE")]
    assert deal.unprotected_since is None
    return trader.books_agree()
