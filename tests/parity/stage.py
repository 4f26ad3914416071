"""The whole live stack in one process, at the speed of the machine: recorded candles at the paper exchange, the real
clients over sockets, the real evaluation of strategies, the real `advance`, PostgreSQL; and a clock moved by hand."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import uvicorn

from algo.execution.advance import advance
from algo.execution.entries import evaluate_group
from algo.models import FINISHED_DEALS, Account, Deal, Market, StrategyConfig
from algo.services.markets import markets_refresh
from providers.nobitex.client import NobitexClient
from providers.paper.app import build_app
from providers.paper.engine import Exchange
from providers.paper.feeds.replay import ReplayFeed
from providers.paper.orders import Book
from providers.paper.profiles import venue_profiles
from providers.paper.store import Store
from providers.types import BookLevel, Resolution
from providers.wallex.client import WallexClient
from tests.execution.bench import HandClock, NoBudget
from tests.factories import make_account, make_config

TOKEN, KEY = "cd" * 20, "9|parityWALLEXkey"
TURNS = (20, 40, 55)  # seconds into a candle at which its walk reaches the extremes and the close
AFTER = 1  # seconds after each trade at which the platform looks


class OneTickReplay(ReplayFeed):
    """Recorded candles with a deep book of one tick of spread: what is filled is the price of the last trade and a
    tick, so that nothing but the engine's own model can make a fill differ."""

    def book(self, venue: str, pair: str, now_ms: int) -> Book:
        tick = self.last_tick(venue, pair, now_ms)
        if not len(tick):
            return Book((), ())
        spec = self.specs[pair]
        price, depth = spec.price(tick.prices[0]), Decimal(1000)
        return Book((BookLevel(price - spec.tick, depth),), (BookLevel(price + spec.tick, depth),), int(tick.times[0]))


@dataclass
class Stage:
    """One account and one strategy on the recording."""

    clock: HandClock
    data: Any
    venue: Any
    account: Account
    config: StrategyConfig
    begins: datetime
    ends: datetime

    def play(self, start: datetime, end: datetime) -> None:
        """Every candle that closes in [start, end]: decide a second later, then look where the price turns. The
        exchange plays every trade in its order, whoever looks."""
        at = start
        while at <= end:
            self._at(at + timedelta(seconds=AFTER))
            self.decide()
            self.look_after()
            for seconds in TURNS:
                if not self.has_deal():
                    break
                self._at(at + timedelta(seconds=seconds + AFTER))
                self.look_after()
            at += timedelta(minutes=1)

    def decide(self) -> list[str]:
        return evaluate_group(
            self.config.data_market,
            Resolution.M1,
            [self.config.pk],
            data_provider=self.data,
            book_provider=lambda name: self.venue,
            account_provider=lambda account: self.venue,
            clock=self.clock,
            on_planned=lambda account_id: None,
        )

    def look_after(self) -> None:
        if self.has_deal():
            advance(Account.objects.get(pk=self.account.pk), self.venue, self.clock)

    def has_deal(self) -> bool:
        return Deal.objects.filter(account=self.account).exclude(status__in=FINISHED_DEALS).exists()

    def _at(self, moment: datetime) -> None:
        self.clock._now = moment


@contextmanager
def staged(folder: Path, recording: Path, **config: Any) -> Iterator[Stage]:
    """The exchange with `recording` behind sockets, and a strategy that reads Nobitex and trades at Wallex."""
    feed, clock = OneTickReplay(recording), HandClock()
    clock._now = datetime.fromtimestamp(feed.starts_at, UTC) + timedelta(seconds=AFTER)
    exchange = Exchange(feed, clock, Store(folder / "paper.sqlite3"), venue_profiles(tuple(feed.specs)))
    held = {"USDT": Decimal(10_000), "BTC": Decimal(10)}
    balances = {"wallex": dict(held), "nobitex": dict(held)}
    exchange.open_account("trader", wallex_key=KEY, nobitex_token=TOKEN, balances=balances)
    with _served(exchange) as url:
        data = NobitexClient(f"{url}/nobitex", api_key=TOKEN, clock=clock, budget=NoBudget())
        venue = WallexClient(f"{url}/wallex", api_key=KEY, clock=clock, budget=NoBudget())
        for client in (data, venue):
            markets_refresh(client, now=clock.now())
        account = make_account(provider="wallex", environment="paper")
        market, source = (Market.objects.get(provider=name, symbol="BTCUSDT") for name in ("wallex", "nobitex"))
        row = make_config(account=account, market=market, data_market=source, **config)
        StrategyConfig.objects.filter(pk=row.pk).update(updated_at=clock.now())
        row.refresh_from_db()
        ends = datetime.fromtimestamp(feed.ends_at, UTC)
        yield Stage(clock, data, venue, account, row, datetime.fromtimestamp(feed.starts_at, UTC), ends)


@contextmanager
def _served(exchange: Exchange) -> Iterator[str]:
    # asyncio turns Nagle's algorithm off only where the protocol is named: else every answer takes 40 ms.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    app = build_app(exchange, rate_limits=False)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
