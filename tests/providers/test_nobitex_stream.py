"""Nobitex' streams over real sockets, against a small server that keeps the contract (nobitex 7)."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed

from providers.errors import AuthFailed, RateLimited, Unavailable
from providers.nobitex.stream import NobitexMarketStream, NobitexOrderStream, stream_url
from providers.streams import StreamEvent, StreamState, TradeUpdate
from providers.types import Resolution, Side
from tests.providers.stream_servers import (
    NOW,
    QUICK,
    FakeCentrifugo,
    FakeRest,
    Heard,
    SteppedClock,
    book,
    candle,
    in_loop,
    rial_book,
    running,
    until,
)

BOOK, TRADES = "public:orderbook-BTCIRT", "public:trades-BTCIRT"
CANDLE = "public:candle-BTCIRT-1"
NOW_MS = int(NOW.timestamp() * 1000)
NOW_S = int(NOW.timestamp())


def market(server: FakeCentrifugo, rest: FakeRest, **changes: Any) -> NobitexMarketStream:
    timing = replace(QUICK, **changes)
    return NobitexMarketStream(server.base_url, rest=rest, clock=SteppedClock(), timing=timing)


def orders(server: FakeCentrifugo, rest: FakeRest, **changes: Any) -> NobitexOrderStream:
    timing = replace(QUICK, **changes)
    return NobitexOrderStream(server.base_url, rest=rest, clock=SteppedClock(), timing=timing)


def wire_candle(t: int = NOW_S, close: float = 100.5) -> dict[str, Any]:
    return {"t": t, "o": 100.0, "h": 101.25, "l": 99.5, "c": close, "v": 1.26}


# --- addresses ---


@pytest.mark.parametrize(
    ("base", "stream"),
    [
        ("https://apiv2.nobitex.ir", "wss://ws.nobitex.ir/connection/websocket"),
        ("https://apiv2.nobitex.ir/", "wss://ws.nobitex.ir/connection/websocket"),
        ("https://testnetapiv2.nobitex.ir", "wss://testnetws.nobitex.ir/connection/websocket"),
        ("http://127.0.0.1:8100/nobitex", "ws://127.0.0.1:8100/nobitex/connection/websocket"),
    ],
)
def test_the_stream_that_belongs_to_a_rest_address(base: str, stream: str) -> None:
    assert stream_url(base) == stream


def test_a_base_url_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="base URL"):
        stream_url("apiv2.nobitex.ir")


# --- what is asked for and delivered ---


@in_loop
async def test_connects_first_subscribes_to_every_channel_and_reads_snapshots_in_a_thread() -> None:
    rest = FakeRest()
    async with FakeCentrifugo() as server:
        stream = market(server, rest)
        stream.watch(["BTCIRT"], [Resolution.M1, Resolution.D1])
        async with running(stream) as heard:
            await until(lambda: len(server.subscribed()) == 4 and heard.books and rest.asked_candles)
        assert server.said()[0] == {"id": 1, "connect": {}}
        assert server.subscribed() == {BOOK, TRADES, CANDLE, "public:candle-BTCIRT-D"}
    assert heard.books[0].from_rest
    assert rest.thread not in (None, threading.get_ident())
    assert heard.states == [True, False]
    assert heard.last_reason == "stopped"


@in_loop
async def test_books_and_trades_are_rial_on_the_wire_and_candles_toman() -> None:
    async with FakeCentrifugo() as server:
        stream = market(server, FakeRest())
        stream.watch(["BTCIRT"], [Resolution.M1])
        async with running(stream) as heard:
            await until(lambda: len(server.subscribed()) == 3 and heard.books)
            await server.push(BOOK, rial_book("1200000", "1200010", NOW_MS + 1, last="1200005"))
            await server.push(TRADES, {"price": "1200000", "time": NOW_MS, "type": "sell", "volume": "0.000003"})
            await server.push(CANDLE, wire_candle(close=120000.5) | {"h": 120001, "o": 120000})
            await until(lambda: heard.pushed and heard.trades and heard.candles)
    pushed = heard.pushed[0]
    assert (pushed.best_bid, pushed.best_ask, pushed.last_price) == (120000, 120001, Decimal("120000.5"))
    assert heard.trades == [
        TradeUpdate("BTCIRT", Decimal(120000), Decimal("0.000003"), Side.SELL, NOW, received_at=NOW)
    ]
    assert heard.candles[-1].candle.close == Decimal("120000.5")
    assert not heard.candles[-1].is_closed


@in_loop
async def test_several_objects_in_one_frame_and_data_as_an_object_keep_their_decimals() -> None:
    async with FakeCentrifugo() as server:
        stream = market(server, FakeRest())
        stream.watch(["BTCUSDT"], [Resolution.M1])
        async with running(stream) as heard:
            await until(lambda: len(server.subscribed()) == 3)
            pushed = '{"push":{"channel":"public:candle-BTCUSDT-1","pub":{"data":DATA}}}'
            first = f'{{"t":{NOW_S},"o":0.1,"h":0.30000000000000004441,"l":0.1,"c":0.2,"v":1e-7,"new":{{}}}}'
            trade = server.frame("public:trades-BTCUSDT", {"price": "1", "time": NOW_MS, "volume": "0"}, as_text=False)
            await server.say(pushed.replace("DATA", first) + "\n{}\n" + trade)
            await until(lambda: heard.candles and heard.trades)
    assert heard.candles[-1].candle.high == Decimal("0.30000000000000004441")
    assert heard.candles[-1].candle.volume == Decimal("0.0000001")
    assert heard.trades[0].side is None


@in_loop
async def test_crossed_empty_older_and_repeated_books_are_dropped() -> None:
    rest = FakeRest(books={"BTCIRT": book("BTCIRT", "1", "2", NOW - timedelta(hours=1))})
    async with FakeCentrifugo() as server:
        stream = market(server, rest)
        stream.watch(["BTCIRT"], [])
        async with running(stream) as heard:
            await until(lambda: len(server.subscribed()) == 2 and heard.books)
            good = rial_book("100", "200", NOW_MS + 10)
            await server.push(BOOK, good)
            await server.push(BOOK, rial_book("200", "100", NOW_MS + 11))
            await server.push(BOOK, rial_book("200", "200", NOW_MS + 12))
            await server.push(BOOK, {"asks": [], "bids": [], "lastUpdate": NOW_MS + 13})
            await server.push(BOOK, rial_book("110", "120", NOW_MS + 9))
            await server.push(BOOK, good)
            await server.push(BOOK, rial_book("100", "300", NOW_MS + 10))  # another book of the same millisecond
            await server.push(BOOK, rial_book("150", "250", NOW_MS + 20))
            await until(lambda: heard.pushed and heard.pushed[-1].best_bid == 15)
    assert [(b.best_bid, b.best_ask) for b in heard.pushed] == [(10, 20), (10, 30), (15, 25)]
    assert stream.drops.counts == {"book_crossed_or_empty": 3, "book_out_of_order": 1, "book_repeated": 1}


@in_loop
async def test_a_repeated_trade_is_one_trade() -> None:
    async with FakeCentrifugo() as server:
        stream = market(server, FakeRest())
        stream.watch(["BTCIRT"], [])
        async with running(stream) as heard:
            await until(lambda: len(server.subscribed()) == 2)
            trade = {"price": "10", "time": NOW_MS, "type": "buy", "volume": "1"}
            for message in (trade, trade, trade | {"volume": "2"}):
                await server.push(TRADES, message)
            await until(lambda: len(heard.trades) == 2)
    assert [trade.quantity for trade in heard.trades] == [1, 2]


@in_loop
async def test_damaged_frames_cost_themselves_only_and_their_content_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    damaged = [
        "nonsense CANARY",
        "[1]",
        '{"id":"CANARY"}',
        '{"push":{"channel":5,"pub":{}}}',
        '{"push":{"pub":7}}',
        "1",
    ]
    damaged += ['{"push":{"channel":"public:orderbook-BTCIRT","pub":{"data":"{CANARY"}}}', '{"id":1,"error":3}']
    damaged += ['{"push":{"join":{}}}', '{"push":{"channel":"public:orderbook-BTCIRT","pub":{"info":4,"data":[1]}}}']
    async with FakeCentrifugo() as server:
        stream = market(server, FakeRest())
        stream.watch(["BTCIRT"], [])
        async with running(stream) as heard:
            await until(lambda: len(server.subscribed()) == 2 and heard.books)
            await server.say(*damaged, b"\xff\xfe")
            await server.push(BOOK, rial_book("100", "200", NOW_MS + 10))
            await until(lambda: heard.pushed)
    assert heard.states == [True, False]
    assert len(server.connections) == 1
    assert stream.drops.counts == {"frame_unreadable": 8, "book_unreadable": 2}
    assert "CANARY" not in caplog.text


# --- going and coming back ---


@in_loop
async def test_after_a_cut_it_comes_back_subscribes_again_and_reads_snapshots_again() -> None:
    rest = FakeRest(series=[candle(NOW - timedelta(minutes=n)) for n in (6, 5, 4, 3, 2, 1)])
    async with FakeCentrifugo() as server:
        stream = market(server, rest)
        stream.watch(["BTCIRT"], [Resolution.M1])
        async with running(stream) as heard:
            for cut in range(3):
                await until(lambda n=cut: len(server.connections) == n + 1 and len(server.subscribed()) == 3)
                await until(lambda n=cut: sum(b.from_rest for b in heard.books) == n + 1)
                await until(lambda n=cut: heard.closed.count(NOW - timedelta(minutes=2)) == n + 1)
                server.abort()
            await until(lambda: len(server.connections) == 4 and len(server.subscribed()) == 3)
    assert heard.states[:6] == [True, False] * 3
    *_, (_, _, start, _) = rest.asked_candles
    assert start <= NOW - timedelta(minutes=4)  # the last settled one began at -2: three closed ones are read again


@in_loop
async def test_a_gap_is_filled_with_every_candle_since_the_connection_was_good() -> None:
    rest = FakeRest(series=[candle(NOW - timedelta(minutes=n)) for n in (3, 2, 1)])
    clock = SteppedClock()
    async with FakeCentrifugo() as server:
        stream = NobitexMarketStream(server.base_url, rest=rest, clock=clock, timing=QUICK)
        stream.watch(["BTCIRT"], [Resolution.M1])
        async with running(stream) as heard:
            await until(lambda: NOW - timedelta(minutes=2) in heard.closed)
            rest.errors = [Unavailable("down")] * 2
            rest.series += [candle(NOW + timedelta(minutes=n)) for n in range(1000)]
            clock.forward(1000 * 60)
            server.abort()
            await until(lambda: NOW + timedelta(minutes=998) in heard.closed)
    assert set(heard.closed) >= {NOW + timedelta(minutes=n) for n in range(-3, 999)}


@in_loop
async def test_silence_is_noticed_and_pings_are_life() -> None:
    async with FakeCentrifugo() as server:
        stream = market(server, FakeRest(), silent_after=0.6)
        stream.watch(["BTCIRT"], [])
        async with running(stream) as heard:
            await until(lambda: len(server.subscribed()) == 2)
            for _ in range(8):
                await server.say("{}")
                await asyncio.sleep(0.1)
            assert len(server.connections) == 1
            assert {} in server.said()  # the answer to a ping
            await until(lambda: heard.states == [True, False, True])
    assert any("silent" in state.reason for state in heard.of(StreamState))


@in_loop
async def test_pings_without_the_data_asked_for_are_not_enough_for_ever() -> None:
    async with FakeCentrifugo() as server:
        stream = market(server, FakeRest(), stalled_after=0.2)
        stream.watch(["BTCIRT"], [])
        async with running(stream):
            await until(lambda: len(server.connections) == 1 and len(server.subscribed()) == 2)
            while len(server.connections) == 1:
                await asyncio.sleep(0.05)
                with suppress(ConnectionClosed):
                    await server.connections[0].send("{}")


@in_loop
async def test_a_book_nobody_speaks_of_is_read_by_rest() -> None:
    rest = FakeRest()
    async with FakeCentrifugo() as server:
        stream = market(server, rest, refresh_after=0.1)
        stream.watch(["BTCIRT"], [])
        async with running(stream) as heard:
            await until(lambda: sum(b.from_rest for b in heard.books) >= 3)
    assert len(server.connections) == 1


@in_loop
async def test_it_keeps_trying_a_server_that_is_not_there_and_says_so_once() -> None:
    async with FakeCentrifugo() as server:
        url = server.base_url
    stream = NobitexMarketStream(url, rest=FakeRest(), clock=SteppedClock(), timing=QUICK)
    stream.watch(["BTCIRT"], [])
    async with running(stream) as heard:
        await asyncio.sleep(0.4)
    assert heard.states == [False]


@in_loop
async def test_a_blunt_close_code_is_answered_with_a_long_wait() -> None:
    async with FakeCentrifugo() as server:
        stream = market(server, FakeRest(), backoff_longest=0.8)
        stream.watch(["BTCIRT"], [])
        async with running(stream):
            await until(lambda: len(server.subscribed()) == 2)
            loop = asyncio.get_running_loop()
            closed_at = loop.time()
            await server.last.close(3501, "bad request")
            await until(lambda: len(server.connections) == 2)
            assert 0.4 <= loop.time() - closed_at < 5


@in_loop
async def test_a_refused_channel_leaves_the_others() -> None:
    async with FakeCentrifugo() as server:
        server.refusals["public:orderbook-XIRT"] = {"code": 102, "message": "unknown channel"}
        stream = market(server, FakeRest())
        stream.watch(["BTCIRT", "XIRT"], [])
        async with running(stream) as heard:
            await until(lambda: len(server.subscribed()) == 4)
            await server.push(BOOK, rial_book("100", "200", NOW_MS + 1))
            await until(lambda: heard.pushed)
    assert stream.drops.counts["channel_refused"] == 1
    assert len(server.connections) == 1


@in_loop
async def test_an_error_of_the_sink_comes_out() -> None:
    def broken(event: StreamEvent) -> None:
        raise ValueError("a programming error")

    async with FakeCentrifugo() as server:
        stream = market(server, FakeRest())
        stream.watch(["BTCIRT"], [])
        with pytest.raises(ValueError, match="a programming error"):
            await stream.run(broken, asyncio.Event())


# --- watch ---


@in_loop
async def test_watch_changes_the_difference_on_the_same_connection() -> None:
    rest = FakeRest()
    async with FakeCentrifugo() as server:
        stream = market(server, rest)
        stream.watch(["BTCIRT", "ETHIRT"], [])
        async with running(stream) as heard:
            await until(lambda: len(server.subscribed()) == 4 and len(heard.books) == 2)
            stream.watch(["ETHIRT", "USDTIRT"], [Resolution.H1])
            wanted = {f"public:{kind}" for s in ("ETHIRT", "USDTIRT") for kind in (f"orderbook-{s}", f"trades-{s}")}
            wanted |= {"public:candle-ETHIRT-60", "public:candle-USDTIRT-60"}
            await until(lambda: server.subscribed() == wanted)
            await server.push(BOOK, rial_book("100", "200", NOW_MS + 1))
            await server.push("public:orderbook-ETHIRT", rial_book("100", "200", NOW_MS + 1))
            await until(lambda: heard.pushed and "USDTIRT" in rest.asked_books)
    assert len(server.connections) == 1
    assert [b.symbol for b in heard.pushed] == ["ETHIRT"]
    assert len([m for m in server.said() if "subscribe" in m and "ETHIRT" in m["subscribe"]["channel"]]) == 3


@in_loop
async def test_more_channels_than_one_connection_takes_are_spread() -> None:
    async with FakeCentrifugo() as server:
        stream = market(server, FakeRest())
        stream.most_channels = 5
        stream.watch([f"C{n}IRT" for n in range(5)], [])
        async with running(stream) as heard:
            await until(lambda: len(server.connections) == 3 and len(heard.books) == 5)
            await until(lambda: sum(len(server.subscribed(n)) for n in range(3)) == 10)
            assert max(len(server.subscribed(n)) for n in range(3)) == 4
            await until(lambda: heard.states == [True])
            server.abort()
            await until(lambda: heard.states == [True, False, True])
            stream.watch(["C0IRT"], [])
            await until(lambda: sum(c.state.name == "OPEN" for c in server.connections) == 1)
            assert heard.states == [True, False, True]


@in_loop
async def test_markets_move_to_new_connections_when_more_channels_each_leave_no_room() -> None:
    async with FakeCentrifugo() as server:
        stream = market(server, FakeRest())
        stream.most_channels = 8
        stream.watch([f"C{n}IRT" for n in range(4)], [])
        async with running(stream):
            await until(lambda: server.connections and len(server.subscribed()) == 8)
            stream.watch([f"C{n}IRT" for n in range(4)], [Resolution.M1, Resolution.H1])
            await until(lambda: len(server.connections) == 2)
            await until(lambda: [len(server.subscribed(n)) for n in (0, 1)] == [8, 8])
            assert server.subscribed(0).isdisjoint(server.subscribed(1))


# --- an account's hints ---

EVENT = {"orderId": 278339, "clientOrderId": "A1", "srcCurrency": "btc", "dstCurrency": "rls", "status": "Done"}
FILL = {"id": 12942226, "orderId": 520305923, "srcCurrency": "btc", "dstCurrency": "usdt", "price": "1", "amount": "1"}
PARAM = "canary-param-0123456789"
EXPIRING = {"client": "c", "version": "5", "ping": 25, "pong": True, "expires": True, "ttl": 1}


@in_loop
async def test_hints_name_the_order_and_book_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with FakeCentrifugo() as server:
        stream = orders(server, FakeRest(token_answers=["canary-token-0123456789"]))
        async with running(stream) as heard:
            await until(lambda: server.subscribed() == {f"private:orders#{PARAM}", f"private:trades#{PARAM}"})
            assert server.said()[0]["connect"] == {"token": "canary-token-0123456789"}
            await server.push(f"private:orders#{PARAM}", EVENT)
            await server.push(f"private:orders#{PARAM}", {"orderId": "x CANARY"})
            await server.push(f"private:trades#{PARAM}", FILL)
            await until(lambda: len(heard.hints) == 2)
        shown = repr(stream) + repr(heard.events)
    assert [(h.symbol, h.client_order_id, h.exchange_order_id) for h in heard.hints] == [
        ("BTCIRT", "A1", "278339"),
        ("BTCUSDT", None, "520305923"),
    ]
    logged = [record.getMessage() for record in caplog.records if record.name != "websockets.server"]  # our own server
    assert any("hint_unreadable" in line for line in logged)
    assert "canary" not in ("\n".join(logged) + shown).lower()


@in_loop
async def test_the_token_is_renewed_before_its_end_on_the_same_connection() -> None:
    rest = FakeRest(token_answers=["token-1", "token-2", "token-3"])
    async with FakeCentrifugo() as server:
        server.connect_reply = EXPIRING
        async with running(orders(server, rest)):
            await until(lambda: {"token": "token-3"} in [m.get("refresh") for m in server.said()])
        assert len(server.connections) == 1


@in_loop
async def test_a_server_that_does_not_tell_the_life_of_a_token_is_told_a_new_one_all_the_same() -> None:
    rest = FakeRest(token_answers=["token-1", "token-2"])
    async with FakeCentrifugo() as server, running(orders(server, rest, token_life=0.3)):
        await until(lambda: {"token": "token-2"} in [m.get("refresh") for m in server.said()])


@in_loop
async def test_a_key_that_is_refused_ends_the_stream_with_the_reason() -> None:
    rest = FakeRest(token_answers=[AuthFailed("HTTP 403: stop using it")])
    heard = Heard()
    async with FakeCentrifugo() as server:
        await asyncio.wait_for(orders(server, rest).run(heard, asyncio.Event()), 3)
    assert heard.states == [False]
    assert "refuses the key" in heard.last_reason
    assert rest.token_calls == 1


@in_loop
async def test_a_key_refused_at_the_renewal_ends_the_stream_and_is_not_asked_again() -> None:
    rest = FakeRest(token_answers=["token-1", AuthFailed("HTTP 403")])
    heard = Heard()
    async with FakeCentrifugo() as server:
        server.connect_reply = EXPIRING
        await asyncio.wait_for(orders(server, rest).run(heard, asyncio.Event()), 5)
    assert heard.states == [True, False]
    assert "refuses the key" in heard.last_reason
    assert rest.token_calls == 2


@in_loop
async def test_a_refused_private_channel_ends_the_stream() -> None:
    heard = Heard()
    async with FakeCentrifugo() as server:
        server.refusals["private:trades"] = {"code": 103, "message": "permission denied"}
        await asyncio.wait_for(orders(server, FakeRest()).run(heard, asyncio.Event()), 3)
    assert not heard.states[-1]
    assert "private:trades" in heard.last_reason
    assert PARAM not in heard.last_reason


@pytest.mark.parametrize("how", ["close", "reply"])
@in_loop
async def test_fresh_tokens_that_the_stream_calls_invalid_are_tried_three_times_and_no_more(how: str) -> None:
    rest, heard = FakeRest(), Heard()
    async with FakeCentrifugo() as server:
        if how == "close":
            server.close_on_connect = 3500
        else:
            server.connect_refusal = {"code": 101, "message": "unauthorized"}
        await asyncio.wait_for(orders(server, rest).run(heard, asyncio.Event()), 5)
    assert rest.token_calls == 3
    assert heard.states[-1] is False
    assert "tokens" in heard.last_reason


@in_loop
async def test_an_exchange_that_is_away_or_busy_is_asked_for_a_token_again_later() -> None:
    rest = FakeRest(token_answers=[Unavailable("down"), RateLimited("busy", retry_after=0.3), "token-1"])
    async with FakeCentrifugo() as server:
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with running(orders(server, rest)) as heard:
            await until(lambda: True in heard.states)
            assert loop.time() - began >= 0.3
    assert heard.states == [False, True, False]


@in_loop
async def test_an_expired_token_brings_a_new_connection_with_a_new_one() -> None:
    rest = FakeRest(token_answers=["token-1", "token-2"])
    async with FakeCentrifugo() as server:
        async with running(orders(server, rest)):
            await until(lambda: len(server.subscribed()) == 2)
            await server.last.close(3005, "connection expired")
            await until(lambda: len(server.connections) == 2 and len(server.subscribed()) == 2)
        assert server.said()[0]["connect"] == {"token": "token-2"}


# --- anything at all ---

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["push", "pub", "data", "channel", "id", "connect", "asks", "t"]), inner)
    ),
    max_leaves=8,
)
PAYLOADS = st.text(max_size=20) | JSON.map(json.dumps) | st.sampled_from(["[" * 5000, "1" * 5000, "{", "NaN", ""])


@settings(max_examples=15, deadline=None)
@given(frames=st.lists(PAYLOADS, min_size=1, max_size=20), payloads=st.lists(PAYLOADS, min_size=1, max_size=20))
def test_no_frame_and_no_payload_ends_a_stream(frames: list[str], payloads: list[str]) -> None:
    @in_loop
    async def live() -> None:
        async with FakeCentrifugo() as server:
            stream = market(server, FakeRest())
            stream.watch(["BTCIRT"], [Resolution.M1])
            async with running(stream) as heard:
                await until(lambda: len(server.subscribed()) == 3)
                for payload in payloads:
                    for channel in (BOOK, TRADES, CANDLE):
                        await server.push(channel, payload)
                await server.say(*(frame for frame in frames if frame))
                await until(lambda: True in heard.states)
                while not any(b.best_bid == 10 for b in heard.pushed):
                    await asyncio.sleep(0.02)
                    if server.last.state.name == "OPEN":
                        await server.push(BOOK, rial_book("100", "200", NOW_MS + 1))

    live()
