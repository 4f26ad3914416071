"""The engine: every trade between two looks is played in order, and broken books end everything."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from providers.paper.engine import Exchange, from_ms, to_ms
from providers.paper.feeds.base import FeedError
from providers.paper.feeds.replay import ReplayFeed
from providers.paper.ledger import LedgerError
from providers.paper.orders import Instruction, State
from providers.paper.store import Store
from providers.types import OrderType, Side
from tests.paper.world import PAIR, D

START = 1747699200


@dataclass
class ManualClock:
    """Platform time that the test moves."""

    at: datetime
    speed: float = 1.0

    def now(self) -> datetime:
        return self.at

    def wall(self, seconds: float) -> timedelta:
        return timedelta(seconds=seconds)

    def monotonic(self) -> float:
        return self.at.timestamp()


@pytest.fixture
def world(tmp_path):
    rows = ["100,100,100,100,5", "100,106,99,105,5", "105,105,94,95,5", "95,95,95,95,5"]
    path = tmp_path / "c.csv"
    lines = [f"{START + 60 * n},{row}" for n, row in enumerate(rows)]
    path.write_text("time,open,high,low,close,volume\n" + "\n".join(lines) + "\n")
    clock = ManualClock(datetime.fromtimestamp(START + 30, UTC))

    def build() -> Exchange:
        exchange = Exchange(ReplayFeed(path), clock, Store(tmp_path / "p.sqlite3"))
        if "ann" not in exchange.accounts:
            held = {"BTC": D(10), "USDT": D(10_000)}
            balances = {"wallex": held, "nobitex": held}
            exchange.open_account("ann", wallex_key="1|a", nobitex_token="ab" * 20, balances=balances)
        return exchange

    return build, clock


def sell(exchange: Exchange, kind: OrderType, **prices: str):
    texts = {name: D(value) for name, value in prices.items()}
    with exchange.operation() as now:
        return exchange.venues["wallex"].submit("ann", Instruction(PAIR, Side.SELL, kind, D(1), **texts), now)


def test_one_look_plays_minutes_of_trades_in_their_order(world):
    build, clock = world
    exchange = build()
    target = sell(exchange, OrderType.LIMIT, price="105.50")
    stop = sell(exchange, OrderType.STOP_MARKET, stop_price="97")
    clock.at += timedelta(minutes=4)
    exchange.advance()
    assert (target.state, stop.state) == (State.FILLED, State.FILLED)
    assert target.closed_at < stop.triggered_at
    assert from_ms((START + 60) * 1000) < target.closed_at < from_ms((START + 120) * 1000)
    assert Decimal(95) < stop.average_price <= Decimal(97)


def test_looking_often_or_once_comes_to_the_same(world, tmp_path):
    build, clock = world
    results = []
    for steps in (1, 240):
        (tmp_path / "p.sqlite3").unlink(missing_ok=True)
        clock.at = datetime.fromtimestamp(START + 30, UTC)
        exchange = build()
        orders = [
            sell(exchange, OrderType.LIMIT, price="105.50"),
            sell(exchange, OrderType.STOP_LIMIT, stop_price="98", price="96"),
        ]
        for _ in range(steps):
            clock.at += timedelta(minutes=4) / steps
            exchange.advance()
        results.append([(order.state, order.filled_quote, order.closed_at) for order in orders])
        exchange.close()
    assert results[0] == results[1]


def test_what_happened_while_it_was_down_is_played_at_the_restart(world):
    build, clock = world
    exchange = build()
    stop = sell(exchange, OrderType.STOP_MARKET, stop_price="97")
    exchange._store.close()  # no goodbye: as if killed
    clock.at += timedelta(minutes=4)
    again = build()
    restored = again.venues["wallex"].order("ann", stop.id)
    assert restored.state is State.FILLED
    assert restored.triggered_at < from_ms((START + 180) * 1000)
    assert again.conservation() == "ok"


def test_a_restart_finds_every_field_as_it_was(world):
    build, _clock = world
    exchange = build()
    sell(exchange, OrderType.LIMIT, price="105.50")
    sell(exchange, OrderType.MARKET)
    sell(exchange, OrderType.STOP_LIMIT, stop_price="98", price="96")
    venue = exchange.venues["wallex"]
    before = list(venue.orders("ann")), venue.trades("ann"), venue.balances("ann"), venue.deposits("ann")
    exchange._store.close()
    restored = build().venues["wallex"]
    assert (
        list(restored.orders("ann")),
        restored.trades("ann"),
        restored.balances("ann"),
        restored.deposits("ann"),
    ) == (before)


def test_a_clock_behind_what_was_lived_is_refused(world):
    build, clock = world
    build().close()
    clock.at -= timedelta(minutes=5)
    with pytest.raises(FeedError, match="has lived until"):
        build()


def test_broken_books_stop_everything_and_are_not_kept(world):
    build, _clock = world
    exchange = build()
    exchange.venues["wallex"].ledger._balances["trader:ann", "BTC"] += 1
    with pytest.raises(LedgerError, match="made or lost"):
        sell(exchange, OrderType.MARKET)
    with pytest.raises(LedgerError, match="did not balance before"):
        exchange.advance()
    assert exchange.conservation() != "ok"
    exchange.close()
    restored = build()
    assert restored.venues["wallex"].orders("ann") == ()
    assert restored.conservation() == "ok"


def test_times_survive_the_way_to_milliseconds_and_back():
    for ms in (0, 1, 1747699200123, 1747699200999, 1795366153057):
        assert to_ms(from_ms(ms)) == ms
