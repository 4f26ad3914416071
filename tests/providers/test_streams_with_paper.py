"""The real stream clients against the paper exchange's stream faces, as processes: two readings of one contract."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal

import pytest

from providers.budgets import InProcessBudget, Limit
from providers.clock import AnchoredClock
from providers.interface import ExchangeProvider
from providers.provider_factory import create_market_stream, create_order_stream, create_provider
from providers.streams import CandleUpdate
from providers.types import OrderRequest, OrderType, Resolution, Side
from tests.paper.world import TOKEN, Server
from tests.paper.world import running as paper
from tests.providers.stream_servers import Heard, in_loop, running, until

MINUTE = timedelta(minutes=1)
SYMBOLS = {"nobitex": ["BTCIRT", "ETHIRT", "BTCUSDT"], "wallex": ["BTCTMN", "ETHTMN", "BTCUSDT"]}
FAULTS = ("stream_duplicate", "stream_out_of_order", "stream_gap")
CUTS = 2


@pytest.fixture(scope="module")
def clock() -> AnchoredClock:
    """A minute of the market takes two seconds."""
    now = time.time()
    return AnchoredClock(now, now, 30.0)


@pytest.fixture(scope="module")
def server(clock: AnchoredClock, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    env = {
        "CLOCK_SPEED": str(clock.speed),
        "CLOCK_ANCHOR_REAL": repr(clock.anchor_real),
        "CLOCK_ANCHOR": repr(clock.anchor),
    }
    with paper(tmp_path_factory.mktemp("paper"), "--seed", "4", "--no-rate-limits", env=env) as server:
        yield server


def client(server: Server, name: str, clock: AnchoredClock) -> ExchangeProvider:
    budget = InProcessBudget({"default": Limit(1_000_000, 1.0)})
    key = TOKEN if name == "nobitex" else None
    return create_provider(name, base_url=f"{server.url}/{name}", api_key=key, clock=clock, budget=budget)


@asynccontextmanager
async def market(server: Server, name: str, clock: AnchoredClock) -> AsyncIterator[Heard]:
    rest = client(server, name, clock)
    stream = create_market_stream(name, base_url=f"{server.url}/{name}", rest=rest, clock=clock)
    assert stream is not None
    stream.watch(SYMBOLS[name], [Resolution.M1])
    async with running(stream) as heard:
        yield heard


def closed(heard: Heard, symbol: str) -> list[CandleUpdate]:
    return [update for update in heard.candles if update.is_closed and update.symbol == symbol]


@pytest.mark.parametrize("name", SYMBOLS)
@in_loop
async def test_no_candle_is_missing_and_no_book_crossed_after_disconnects_and_disorder(
    name: str, server: Server, clock: AnchoredClock
) -> None:
    for kind in FAULTS:
        server.add_fault(kind, venue=name, probability=0.1)
    async with market(server, name, clock) as heard:
        for cut in range(CUTS):
            await until(
                lambda n=cut: heard.states.count(True) == n + 1 and len(closed(heard, SYMBOLS[name][0])) > 4 * n
            )
            books = len(heard.pushed)
            await until(lambda n=books: len(heard.pushed) > n + 3)
            await asyncio.to_thread(server.add_fault, "stream_disconnect", venue=name, nth=1)
            await until(lambda n=cut: heard.states.count(False) == n + 1)
        await until(lambda: heard.states.count(True) == CUTS + 1)
        await asyncio.sleep(3)
    server.clear_faults()
    assert all(update.book.is_usable for update in heard.books)
    for symbol in SYMBOLS[name]:
        assert {update.book.symbol for update in heard.books} == set(SYMBOLS[name])
        opened = {update.candle.open_time for update in closed(heard, symbol)}
        first, last = min(opened), max(opened)
        assert opened == {first + n * MINUTE for n in range((last - first) // MINUTE + 1)}
        assert clock.now() - last < 8 * MINUTE  # sixteen seconds on the wall
        truth = {c.open_time: c for c in client(server, name, clock).candles(symbol, Resolution.M1, first, last)}
        told = {update.candle.open_time: update.candle for update in closed(heard, symbol)}
        assert {at: told[at] for at in truth} == truth


@pytest.mark.parametrize("name", SYMBOLS)
@in_loop
async def test_streamed_prices_are_in_the_units_of_rest(name: str, server: Server, clock: AnchoredClock) -> None:
    async with market(server, name, clock) as heard:
        await until(lambda: heard.pushed and heard.trades and heard.candles)
        rest = client(server, name, clock)
        for symbol in SYMBOLS[name]:
            await until(lambda s=symbol: any(b.symbol == s for b in heard.pushed), 10)
            mid = (await asyncio.to_thread(rest.order_book, symbol)).mid_price
            assert mid is not None
            streamed = [b.mid_price for b in heard.pushed if b.symbol == symbol]
            streamed += [t.price for t in heard.trades if t.symbol == symbol]
            streamed += [u.candle.close for u in heard.candles if u.symbol == symbol]
            assert all(Decimal("0.8") < price / mid < Decimal("1.25") for price in streamed if price)


@in_loop
async def test_an_order_gives_its_account_a_hint(server: Server, clock: AnchoredClock) -> None:
    rest = client(server, "nobitex", clock)
    stream = create_order_stream("nobitex", base_url=f"{server.url}/nobitex", rest=rest, clock=clock)
    async with running(stream) as heard:
        await until(lambda: heard.states == [True])
        await asyncio.sleep(0.3)
        price = (await asyncio.to_thread(rest.order_book, "BTCIRT")).best_ask
        request = OrderRequest("HINT1", "BTCIRT", Side.BUY, OrderType.LIMIT, Decimal("0.001"), price)
        report = await asyncio.to_thread(rest.create_order, request)
        await until(lambda: heard.hints)
    hint = heard.hints[0]
    assert (hint.symbol, hint.client_order_id, hint.exchange_order_id) == ("BTCIRT", "HINT1", report.exchange_order_id)


@in_loop
async def test_a_revoked_key_ends_the_hints_for_good(server: Server, clock: AnchoredClock) -> None:
    rest = client(server, "nobitex", clock)
    stream = create_order_stream("nobitex", base_url=f"{server.url}/nobitex", rest=rest, clock=clock)
    assert stream is not None
    heard = Heard()
    server.add_fault("key_revoked", venue="nobitex")
    try:
        await asyncio.wait_for(stream.run(heard, asyncio.Event()), 5)
    finally:
        server.clear_faults()
    assert heard.states == [False]
    assert "refuses the key" in heard.last_reason
