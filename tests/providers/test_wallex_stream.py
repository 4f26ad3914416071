"""Wallex' stream over real sockets, against a small server that keeps the contract (wallex 9)."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed

from providers.streams import TradeUpdate
from providers.types import BookLevel, Resolution, Side
from providers.wallex.stream import WallexMarketStream, stream_url
from tests.providers.stream_servers import (
    NOW,
    QUICK,
    FakeRest,
    FakeServer,
    SteppedClock,
    book,
    candle,
    in_loop,
    running,
    until,
)

CHANNELS = ["BTCTMN@buyDepth", "BTCTMN@sellDepth", "BTCTMN@trade"]


def market(server: FakeServer, rest: FakeRest | None = None, **changes: Any) -> WallexMarketStream:
    """Its REST book, 10 to 11, is there unless `rest` says otherwise."""
    timing = replace(QUICK, **changes)
    stream = WallexMarketStream(server.base_url, rest=rest or FakeRest(), clock=SteppedClock(), timing=timing)
    stream.watch(["BTCTMN"], [])
    return stream


def channels(server: FakeServer, number: int = -1) -> list[str]:
    said = server.said(number)
    assert all(message[0] == "subscribe" for message in said if isinstance(message, list))
    return [message[1]["channel"] for message in said if isinstance(message, list)]


def side(channel: str, *prices: str) -> str:
    levels = ",".join(f'{{"quantity":1e-06,"price":{price},"sum":1}}' for price in prices)
    return f'["{channel}",[{levels}]]'


def buys(*prices: str) -> str:
    return side("BTCTMN@buyDepth", *prices)


def sells(*prices: str) -> str:
    return side("BTCTMN@sellDepth", *prices)


@pytest.mark.parametrize(
    ("base", "stream"),
    [
        ("https://api.wallex.ir", "wss://api.wallex.ir/ws"),
        ("http://127.0.0.1:8100/wallex/", "ws://127.0.0.1:8100/wallex/ws"),
    ],
)
def test_the_stream_that_belongs_to_a_rest_address(base: str, stream: str) -> None:
    assert stream_url(base) == stream


@in_loop
async def test_subscribes_one_frame_per_channel_and_reads_a_snapshot() -> None:
    async with FakeServer() as server:
        server.welcome = ['{"sid":"0a1b"}']
        stream = market(server)
        async with running(stream) as heard:
            await until(lambda: sorted(channels(server)) == CHANNELS and heard.books)
    assert heard.books[0].from_rest
    assert heard.states == [True, False]
    assert stream.drops.counts == {}


@in_loop
async def test_the_two_sides_make_one_book_with_exact_decimals_in_either_shape() -> None:
    async with FakeServer() as server, running(market(server)) as heard:
        await until(lambda: heard.books)
        await server.say(buys("10.10", "9.5"))
        await server.say('["BTCTMN@sellDepth",{"1":{"quantity":2,"price":"12.000"},"0":{"quantity":3,"price":"11"}}]')
        await until(lambda: len(heard.pushed) == 2)
    one_millionth = Decimal("0.000001")
    assert heard.pushed[1].bids == (BookLevel(Decimal("10.1"), one_millionth), BookLevel(Decimal("9.5"), one_millionth))
    assert heard.pushed[1].asks == (BookLevel(Decimal(11), Decimal(3)), BookLevel(Decimal(12), Decimal(2)))
    assert heard.pushed[1].as_of == NOW


@in_loop
async def test_a_first_side_waits_for_the_other() -> None:
    rest = FakeRest(books={"BTCTMN": book("BTCTMN", "2", "1")})  # crossed: no snapshot to lean on
    async with FakeServer() as server, running(market(server, rest)) as heard:
        await until(lambda: rest.asked_books)
        await server.say(buys("10"), '["BTCTMN@trade",{"price":"1","quantity":"1","timestamp":"2022-06-26T11:14:09Z"}]')
        await until(lambda: heard.trades)
        assert not heard.books
        await server.say(sells("11"))
        await until(lambda: heard.books)


@in_loop
async def test_a_crossed_combination_is_dropped_until_the_other_side_comes() -> None:
    async with FakeServer() as server:
        stream = market(server)
        async with running(stream) as heard:
            await until(lambda: heard.books)  # 10 to 11
            await server.say(buys("12"), sells("13"), buys(), buys("12.5"))
            await until(lambda: len(heard.pushed) == 2)
    assert [(b.best_bid, b.best_ask) for b in heard.pushed] == [(12, 13), (Decimal("12.5"), 13)]
    assert stream.drops.counts == {"book_crossed_or_empty": 2}


@in_loop
async def test_a_side_that_fell_silent_is_read_anew_however_much_the_other_speaks() -> None:
    """The subscription of one side was lost: its prices must not be stamped with the time of the other's."""
    rest = FakeRest()
    async with FakeServer() as server, running(market(server, rest, refresh_after=0.3)) as heard:
        await until(lambda: heard.books)  # 10 to 11
        rest.books["BTCTMN"] = book("BTCTMN", "5", "6")
        for n in range(30):
            await server.say(buys(f"5.{n + 10}"))
            await asyncio.sleep(0.03)
            if heard.books[-1].book.best_ask == 6:
                break
        assert heard.books[-1].book.best_ask == 6
        assert heard.books[-1].from_rest


@in_loop
async def test_trades_tell_who_took() -> None:
    async with FakeServer() as server, running(market(server)) as heard:
        await until(lambda: len(channels(server)) == 3)
        trade = {"isBuyOrder": False, "quantity": "705.00", "price": "31704.0", "timestamp": "2022-06-26T11:14:09Z"}
        await server.say(json.dumps(["BTCTMN@trade", trade]))
        await server.say(json.dumps(["BTCTMN@trade", trade | {"isBuyOrder": True, "extra": []}]))
        await until(lambda: len(heard.trades) == 2)
    at = datetime(2022, 6, 26, 11, 14, 9, tzinfo=UTC)
    assert heard.trades[0] == TradeUpdate("BTCTMN", Decimal(31704), Decimal(705), Side.SELL, at, received_at=NOW)
    assert heard.trades[1].side is Side.BUY


@in_loop
async def test_damaged_frames_cost_themselves_only(caplog: pytest.LogCaptureFixture) -> None:
    damaged = ["CANARY", "[]", '["BTCTMN@buyDepth"]', "7", '["BTCTMN@buyDepth",[{"price":"CANARY"}]]', "[[],[]]"]
    damaged += ['["BTCTMN@trade",{"price":-1}]', '["BTCTMN@sellbuyDepth",[]]', '["UNKNOWN@buyDepth",[]]', '{"x":1}']
    async with FakeServer() as server:
        stream = market(server)
        async with running(stream) as heard:
            await until(lambda: heard.books)
            await server.say(*damaged, b"\xff\xfe", buys("10.5"))
            await until(lambda: heard.pushed)
    assert stream.drops.counts == {"frame_unreadable": 6, "book_unreadable": 1, "trade_unreadable": 1}
    assert len(server.connections) == 1
    assert "CANARY" not in caplog.text


@in_loop
async def test_pings_of_both_kinds_are_answered_and_are_life() -> None:
    async with FakeServer() as server:
        stream = market(server, silent_after=0.6)
        async with running(stream) as heard:
            await until(lambda: len(channels(server)) == 3)
            await server.say('{"ping": 1700000000}')
            await until(lambda: {"pong": 1700000000} in server.said())
            for _ in range(8):
                await asyncio.wait_for(await server.last.ping(), 1)
                await asyncio.sleep(0.1)
            assert len(server.connections) == 1
            await until(lambda: len(server.connections) == 2)
    assert heard.states[:2] == [True, False]


@in_loop
async def test_after_a_cut_it_subscribes_and_reads_again_and_trusts_no_old_side() -> None:
    async with FakeServer() as server:
        rest = FakeRest()
        stream = market(server, rest)
        async with running(stream) as heard:
            await until(lambda: heard.books)
            await server.say(buys("10.5"))
            await until(lambda: heard.pushed)
            rest.books["BTCTMN"] = book("BTCTMN", "2", "1")  # crossed: this time no snapshot to lean on
            server.abort()
            await until(lambda: len(server.connections) == 2 and len(channels(server)) == 3)
            await until(lambda: len(rest.asked_books) == 2)
            before = len(heard.books)
            await server.say(buys("10.7"))  # with the old side it would make a book
            await asyncio.sleep(0.1)
            assert len(heard.books) == before
            await server.say(sells("21"))
            await until(lambda: len(heard.books) == before + 1)
    assert heard.states == [True, False, True, False]


@in_loop
async def test_a_connection_is_renewed_before_the_exchange_ends_it() -> None:
    async with FakeServer() as server:
        stream = market(server, renew_after=0.3, backoff_first=5.0, backoff_longest=5.0)
        async with running(stream) as heard:
            await until(lambda: len(server.connections) == 3, 3)  # twice, and without the backoff of five seconds
            await until(lambda: heard.states[-1])
        reasons = {state.reason for state in heard.of(type(heard.events[0])) if hasattr(state, "reason")}
    assert all("renewed" in r or r in ("connected", "stopped") for r in reasons)


@in_loop
async def test_markets_are_spread_over_connections_and_both_sides_of_a_book_stay_together() -> None:
    symbols = [f"C{n:02}TMN" for n in range(20)]
    async with FakeServer() as server:
        stream = market(server)
        stream.watch(symbols, [])
        async with running(stream) as heard:
            await until(lambda: len(server.connections) == 2)
            await until(lambda: sum(len(channels(server, n)) for n in (0, 1)) == 60)
            await until(lambda: len(heard.books) == 20)
        asked = [set(channels(server, n)) for n in (0, 1)]
    assert sorted(len(channels) for channels in asked) == [21, 39]
    assert {c.partition("@")[0] for c in asked[0]}.isdisjoint(c.partition("@")[0] for c in asked[1])


@in_loop
async def test_watch_adds_on_the_same_connection_and_drops_by_coming_back() -> None:
    async with FakeServer() as server:
        stream = market(server)
        async with running(stream) as heard:
            await until(lambda: len(channels(server)) == 3)
            stream.watch(["BTCTMN", "ETHTMN"], [])
            await until(lambda: len(channels(server)) == 6)
            assert len(server.connections) == 1
            stream.watch(["ETHTMN"], [])
            await until(lambda: len(server.connections) == 2 and len(channels(server)) == 3)
            # Both sides: a first side alone waits for the snapshot, and the snapshot may be later than it.
            await server.say(buys("10.5"), side("ETHTMN@buyDepth", "10.5"), side("ETHTMN@sellDepth", "11"))
            await until(lambda: heard.pushed)
    assert {b.symbol for b in heard.pushed} == {"ETHTMN"}


@in_loop
async def test_closed_candles_come_from_rest() -> None:
    rest = FakeRest(series=[candle(NOW - timedelta(minutes=n)) for n in (4, 3, 2, 1, 0)])
    async with FakeServer() as server:
        stream = market(server, rest)
        stream.watch(["BTCTMN"], [Resolution.M1])
        async with running(stream) as heard:
            await until(lambda: heard.candles and heard.candles[-1].candle.open_time == NOW)
            clock = stream.clock
            assert isinstance(clock, SteppedClock)
            rest.series.append(candle(NOW + timedelta(minutes=1)))
            clock.forward(64)
            await until(lambda: NOW in heard.closed)
    assert heard.closed == [NOW - timedelta(minutes=n) for n in (4, 3, 2, 1, 0)]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(CHANNELS) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["price", "quantity", "timestamp", "ping", "sid"]), inner)
    ),
    max_leaves=8,
)
FRAMES = (
    st.text(max_size=20)
    | JSON.map(json.dumps)
    | st.tuples(st.sampled_from(CHANNELS), JSON).map(json.dumps)
    | st.binary(max_size=20)
    | st.sampled_from(["[" * 5000, "1" * 5000, "{", "NaN", '{"ping": 1e400}'])
)


@settings(max_examples=15, deadline=None)
@given(frames=st.lists(FRAMES, min_size=1, max_size=40))
def test_no_frame_ends_a_stream(frames: list[str | bytes]) -> None:
    @in_loop
    async def live() -> None:
        async with FakeServer() as server, running(market(server)) as heard:
            await until(lambda: heard.books)
            await server.say(*frames)
            while not any(b.best_bid == 1 and b.best_ask == 2 for b in heard.pushed):
                with suppress(ConnectionClosed):
                    await server.say(buys("1"), sells("2"))
                await asyncio.sleep(0.02)

    live()
