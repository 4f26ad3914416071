"""Nobitex' streams over real sockets: by hand, frame for frame, and with Centrifugo's own Python client."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from centrifuge import Client, ClientEventHandler, DeltaType, SubscriptionEventHandler
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus

from providers.clock import AnchoredClock
from providers.paper.engine import to_ms
from providers.paper.faces import nobitex_tokens
from providers.paper.feeds.synthetic import SyntheticFeed
from tests.paper.stream_server import START, TOKENS, Centrifugo, Paper, paper, wait_until

BOOK, TRADES, CANDLE = "public:orderbook-BTCIRT", "public:trades-BTCIRT", "public:candle-BTCIRT-1"
PATH = "/connection/websocket"


@pytest.fixture
def server(tmp_path):
    with paper(tmp_path, book_seconds=0.05) as server:
        yield server


def token(server: Paper, name: str = "ann", *, age: float = 0) -> str:
    return nobitex_tokens.issue(server.exchange.accounts[name], datetime.now(UTC) - timedelta(seconds=age))


def url(server: Paper) -> str:
    return f"ws://127.0.0.1:{server.port}/nobitex{PATH}"


def param(server: Paper, name: str = "ann") -> str:
    return server.nobitex("/users/profile", account=name)["websocketAuthParam"]


def closing(client: Centrifugo, seconds: float = 3) -> tuple[int | None, str]:
    """(code, reason) the server closes with; code None where it just is gone."""
    deadline = time.monotonic() + seconds
    try:
        while time.monotonic() < deadline:
            client.next(deadline - time.monotonic())
    except ConnectionClosed as closed:
        return (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (None, "")
    raise AssertionError("the server did not close")


# -- commands --------------------------------------------------------------------------------------------------------


def test_a_public_connection_needs_no_token_and_does_not_expire(server):
    with server.centrifugo() as client:
        told = client.connected["connect"]
        assert set(told) == {"client", "version", "ping", "pong"}
        assert (told["ping"], told["pong"]) == (25, True)


def test_commands_may_share_a_frame_and_so_may_answers(server):
    with server.raw("/nobitex" + PATH) as connection:
        connection.send('{"connect":{},"id":1}\n{"id":2,"subscribe":{"channel":"public:orderbook-BTCIRT"}}\n')
        lines = [line for line in str(connection.recv(timeout=3)).split("\n")]
        while len(lines) < 2:
            lines += str(connection.recv(timeout=3)).split("\n")
        assert [json.loads(line)["id"] for line in lines] == [1, 2]
        assert json.loads(lines[1]) == {"id": 2, "subscribe": {}}


@pytest.mark.parametrize(
    "first",
    [
        '{"id":1,"subscribe":{"channel":"public:orderbook-BTCIRT"}}',
        "not json",
        "[]",
        '{"connect":{}}',
        '{"id":1,"connect":{}}\n{"id":2,"connect":{}}',
        b'{"id":1,"connect":{}}',
    ],
)
def test_whoever_breaks_the_protocol_is_closed_with_3501(server, first):
    with server.raw("/nobitex" + PATH) as connection:
        connection.send(first)
        assert closing(Centrifugo(connection)) == (3501, "bad request")


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ({"subscribe": {"channel": "public:orderbook-NOPE"}}, 102),
        ({"subscribe": {"channel": "public:orderbook-btcirt"}}, 102),
        ({"subscribe": {"channel": "public:orderbook-all"}}, 102),
        ({"subscribe": {"channel": "public:candle-BTCIRT-7"}}, 102),
        ({"subscribe": {"channel": "nobody:knows"}}, 102),
        ({"subscribe": {"channel": "private:secrets#x"}}, 102),
        ({"subscribe": {"channel": "private:orders#" + "0" * 32}}, 103),
        ({"subscribe": {"channel": BOOK}}, 105),
        ({"subscribe": {}}, 107),
        ({"subscribe": "text"}, 107),
        ({"refresh": {"token": "any"}}, 101),
        ({"publish": {}}, 104),
    ],
)
def test_refusals_have_centrifugos_codes(server, command, code):
    with server.centrifugo({"id": 2, "subscribe": {"channel": BOOK}}) as client:
        client.send({"id": 3, **command})
        answer = client.reply(3)
        assert answer["error"]["code"] == code
        assert set(answer["error"]) == {"code", "message"}


def test_channels_of_one_connection_are_limited(tmp_path):
    with paper(tmp_path, channels=2) as server, server.centrifugo() as client:
        assert "subscribe" in client.subscribe(2, BOOK)
        assert "subscribe" in client.subscribe(3, TRADES)
        assert client.subscribe(4, CANDLE)["error"]["code"] == 106
        client.send({"id": 5, "unsubscribe": {"channel": TRADES}})
        assert client.reply(5) == {"id": 5, "unsubscribe": {}}
        assert "subscribe" in client.subscribe(6, CANDLE)


def test_one_address_has_so_many_connections_and_no_more(tmp_path):
    with paper(tmp_path, connections=2) as server:
        with server.centrifugo(), server.centrifugo():
            with pytest.raises(InvalidStatus) as refused, server.raw("/nobitex" + PATH):
                pass
            assert refused.value.response.status_code == 429
        wait_until(lambda: not server.hub.connections)
        with server.centrifugo():
            pass


# -- public channels -------------------------------------------------------------------------------------------------


def test_the_book_is_whole_in_rial_and_told_only_on_change(server):
    with server.centrifugo({"id": 2, "subscribe": {"channel": BOOK}}) as client:
        client.reply(2)
        assert client.pushes(0.4) == []  # what was before is not told, nor what does not change
        server.pass_time(5)
        channel, book, offset = client.push()
        assert (channel, offset) == (BOOK, 1)
        assert client.pushes(0.4) == []
        # The second trade of the first candle is at 99,750 toman.
        assert book["lastTradePrice"] == "997500"
        assert book["lastUpdate"] == to_ms(START) + 5000
        assert Decimal(book["bids"][0][0]) < 997_500 < Decimal(book["asks"][0][0])
        assert [Decimal(row[0]) for row in book["asks"]] == sorted(Decimal(row[0]) for row in book["asks"])
        assert [Decimal(row[0]) for row in book["bids"]] == sorted(
            (Decimal(row[0]) for row in book["bids"]), reverse=True
        )
        rest = server.nobitex("/v3/orderbook/BTCIRT")
        assert (book["asks"], book["bids"]) == (rest["asks"], rest["bids"])
        server.pass_time(5)
        assert client.push()[2] == 2


def test_the_running_candle_is_in_toman_and_numbers(server, shared):
    sample = json.loads((shared / "data/documented/nobitex/ws_candle_data.json").read_text())
    with server.centrifugo({"id": 2, "subscribe": {"channel": CANDLE}}) as client:
        client.reply(2)
        server.pass_time(59)
        _, candle, _ = client.push()
        assert set(candle) == set(sample)
        opened = int(START.timestamp())
        assert candle == {"t": opened, "o": 100_000, "h": 103_000, "l": 99_000, "c": 102_000, "v": 12}
        server.pass_time(1)  # the next minute has one trade: 102,000
        assert client.push()[1] == {"t": opened + 60, "o": 102_000, "h": 102_000, "l": 102_000, "c": 102_000, "v": 2}
        server.pass_time(5)  # still the same ten seconds of the market
        assert client.pushes(1.3) == []


def test_every_trade_is_one_message_in_rial(server):
    with server.centrifugo({"id": 2, "subscribe": {"channel": TRADES}}) as client:
        client.reply(2)
        server.pass_time(25)
        trades = [payload for _, payload, _ in client.pushes()]
        # 99.75, 99.5, 99.25, 99, 100 thousand toman: four falls and a rise.
        assert [each["price"] for each in trades] == ["997500", "995000", "992500", "990000", "1000000"]
        assert [each["type"] for each in trades] == ["sell"] * 4 + ["buy"]
        assert [each["time"] for each in trades] == [to_ms(START) + 5000 * n for n in range(1, 6)]
        assert {each["volume"] for each in trades} == {"1"}


def test_stats_of_all_markets_say_irt_where_rest_says_rls(server):
    with server.centrifugo() as client:
        client.subscribe(2, "public:market-stats-all")
        client.subscribe(3, "public:market-stats-BTCIRT")
        server.pass_time(5)
        told = {channel: payload for channel, payload, _ in (client.push(7), client.push(7))}
        rest = server.nobitex("/market/stats")["stats"]["btc-rls"]
        assert told["public:market-stats-all"] == {"btc-irt": rest}
        assert told["public:market-stats-BTCIRT"] == rest


def test_a_channel_nobody_hears_costs_nothing_and_its_offset_goes_on(server):
    with server.centrifugo({"id": 2, "subscribe": {"channel": TRADES}}) as client:
        client.reply(2)
        server.pass_time(5)
        assert client.push()[2] == 1
        client.send({"id": 3, "unsubscribe": {"channel": TRADES}})
        client.reply(3)
        assert not server.hub.has_listeners("nobitex", TRADES)
        server.pass_time(5)
        assert client.pushes(0.7) == []
        client.subscribe(4, TRADES)
        server.pass_time(5)
        assert [offset for _, _, offset in client.pushes()] == [2]


def test_a_frame_is_made_once_for_all_who_listen(server):
    looks = []
    venue = server.exchange.venues["nobitex"]
    look = venue.look
    venue.look = lambda pair, now: looks.append(pair) or look(pair, now)
    with server.centrifugo() as one, server.centrifugo() as two, server.centrifugo() as three:
        began = time.monotonic()
        for client in (one, two, three):
            client.subscribe(2, BOOK)
        time.sleep(0.5)
        spent, beats = len(looks), (time.monotonic() - began) / 0.1
        assert spent <= beats + 3  # one of each beat, not three
        server.pass_time(5)
        first = one.push()
        assert (two.push(), three.push()) == (first, first)


def test_a_fast_market_does_not_flood(tmp_path):
    anchor = datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()
    clock = AnchoredClock(time.time(), anchor, 60.0)
    with paper(tmp_path, clock=clock, feed=SyntheticFeed(4)) as server:
        names = [f"public:orderbook-{s}" for s in ("BTCUSDT", "ETHUSDT")] + ["public:candle-BTCUSDT-1"]
        names.append("public:trades-BTCUSDT")
        with server.centrifugo() as client:
            for number, name in enumerate(names, start=2):
                client.subscribe(number, name)
            deadline, told = time.monotonic() + 3, []
            while time.monotonic() < deadline:
                told.append(client.push()[0])
        counts = {name: told.count(name) for name in names}
        assert 3 <= counts["public:orderbook-BTCUSDT"] <= 7  # at most two a second, of 180 that were
        assert 2 <= counts["public:candle-BTCUSDT-1"] <= 4  # once a second
        assert counts["public:trades-BTCUSDT"] <= 70  # ten in half a second


# -- private channels ------------------------------------------------------------------------------------------------


def test_private_channels_open_only_for_the_tokens_account(server):
    mine, theirs = f"private:orders#{param(server)}", f"private:orders#{param(server, 'bob')}"
    with server.centrifugo() as anonymous:
        assert anonymous.subscribe(2, mine)["error"] == {"code": 103, "message": "permission denied"}
    with server.centrifugo(connect_with={"token": token(server)}) as client:
        assert client.subscribe(2, theirs)["error"]["code"] == 103
        assert client.subscribe(3, mine) == {"id": 3, "subscribe": {}}


def test_orders_and_fills_are_told_as_documented(server, shared):
    samples = shared / "data/documented/nobitex"
    names = f"private:orders#{param(server)}", f"private:trades#{param(server)}"
    with server.centrifugo(connect_with={"token": token(server)}) as client:
        client.subscribe(2, names[0])
        client.subscribe(3, names[1])
        body = {"type": "buy", "execution": "market", "srcCurrency": "btc", "dstCurrency": "rls", "amount": "6"}
        made = server.nobitex("/market/orders/add", body | {"clientOrderId": "mine", "price": "1000000"}, "ann")[
            "order"
        ]
        told = dict((channel, payload) for channel, payload, _ in reversed(client.pushes(0.5)))
        order, trade = told[names[0]], told[names[1]]
        fills = server.nobitex("/market/trades/list", account="ann")["trades"]
        assert set(order) == set(json.loads((samples / "ws_private_orders_data.json").read_text()))
        assert set(trade) == set(json.loads((samples / "ws_private_trades_data.json").read_text()))
        assert (order["orderId"], order["clientOrderId"], order["side"]) == (made["id"], "mine", "Buy")
        assert (order["srcCurrency"], order["dstCurrency"], order["marketType"]) == ("btc", "rls", "Spot")
        assert (order["orderType"], order["status"], order["price"]) == ("Market", "Done", None)
        assert (order["amount"], order["filledAmount"]) == ("6", "6")
        assert Decimal(order["fee"]) == Decimal("0.0035") * 6  # base on buys, over all fills
        assert (order["tradeId"], order["tradePrice"]) == (fills[0]["id"], fills[0]["price"])
        first = fills[-1]
        same = ("id", "orderId", "timestamp", "type", "price", "amount", "total", "fee")
        assert {name: trade[name] for name in same} == {name: first[name] for name in same}
        assert (trade["srcCurrency"], trade["dstCurrency"]) == ("btc", "rls")
        bobs = server.nobitex("/market/orders/add", body | {"amount": "5"}, "bob")
        assert bobs["status"] == "ok"
        assert client.pushes(0.4) == []


def test_a_limit_order_is_told_when_it_rests_and_when_it_is_cancelled(server):
    with server.centrifugo(connect_with={"token": token(server)}) as client:
        client.subscribe(2, f"private:orders#{param(server)}")
        body = {"type": "sell", "srcCurrency": "btc", "dstCurrency": "rls", "amount": "4", "price": "1100000"}
        number = server.nobitex("/market/orders/add", body, "ann")["order"]["id"]
        _, rests, _ = client.push()
        assert (rests["status"], rests["price"], rests["side"], rests["filledAmount"]) == (
            "Active",
            "1100000",
            "Sell",
            "0",
        )
        assert (rests["tradeId"], rests["lastFillTime"], rests["avgFilledPrice"]) == (None, None, "0")
        server.nobitex("/market/orders/update-status", {"order": number, "status": "canceled"}, "ann")
        assert client.push()[1]["status"] == "Canceled"


# -- tokens ----------------------------------------------------------------------------------------------------------


def test_a_token_says_how_long_it_lives(server):
    with server.centrifugo(connect_with={"token": token(server)}) as client:
        told = client.connected["connect"]
        assert told["expires"] is True
        assert 1190 <= told["ttl"] <= 1200


def test_an_old_token_is_refused_and_a_forged_one_closes(server):
    with server.centrifugo(connect_with={"token": token(server, age=1201)}) as client:
        assert client.connected["error"] == {"code": 109, "message": "token expired"}
    good = token(server)
    for bad in ("x", "a.b.c", good[:-2] + ("AA" if good[-2:] != "AA" else "BB"), 7):
        with server.raw("/nobitex" + PATH) as connection:
            connection.send(json.dumps({"id": 1, "connect": {"token": bad}}))
            assert closing(Centrifugo(connection)) == (3500, "invalid token")


def test_new_keys_end_the_old_tokens_and_a_restart_does_not(tmp_path):
    with paper(tmp_path) as server:
        old = token(server)
    with paper(tmp_path) as server:
        with server.centrifugo(connect_with={"token": old}) as client:
            assert "connect" in client.connected
        server.call(
            lambda: server.exchange.open_account("ann", wallex_key="9|new", nobitex_token="cc" * 20, balances={})
        )
        with server.raw("/nobitex" + PATH) as connection:
            connection.send(json.dumps({"id": 1, "connect": {"token": old}}))
            assert closing(Centrifugo(connection)) == (3500, "invalid token")


def test_a_connection_ends_with_its_token_unless_that_is_renewed(tmp_path):
    with (
        paper(tmp_path, expired_seconds=0.3) as server,
        server.centrifugo(connect_with={"token": token(server, age=1198.5)}) as left,
        server.centrifugo(connect_with={"token": token(server, age=1198.5)}) as renewed,
    ):
        renewed.send({"id": 2, "refresh": {"token": token(server)}})
        assert renewed.reply(2)["refresh"]["ttl"] >= 1190
        assert closing(left, 4) == (3005, "connection expired")
        renewed.send({"id": 3, "refresh": {"token": token(server, age=1300)}})
        assert renewed.reply(3)["error"]["code"] == 109
        renewed.send({"id": 4, "refresh": {"token": token(server, "bob")}})
        assert closing(renewed) == (3500, "invalid token")


# -- while it lasts --------------------------------------------------------------------------------------------------


def test_pings_are_empty_objects_and_whoever_does_not_answer_is_dropped(tmp_path):
    with paper(tmp_path, ping_seconds=0.2, pong_seconds=0.4) as server:
        with server.centrifugo() as lively, server.centrifugo() as dead:
            for _ in range(4):
                assert lively.next() == {}
                lively.send({})
            assert closing(dead) == (3012, "no pong")
            lively.send({"id": 9, "unsubscribe": {"channel": BOOK}})
            assert lively.reply(9)["id"] == 9
        with server.raw("/nobitex" + PATH) as connection:
            assert closing(Centrifugo(connection)) == (3502, "stale")


def test_who_reads_too_slowly_is_dropped_and_others_are_not_held_up(server):
    subscribe = {"id": 2, "subscribe": {"channel": TRADES}}
    with server.centrifugo(subscribe) as quick, server.centrifugo(subscribe) as slow:
        slow.reply(2)
        quick.reply(2)
        sent = 0
        while len(server.hub.connections) == 2:  # what lies between the two sockets holds some frames, too
            server.call(lambda: server.hub.publish("nobitex", TRADES, ["x" * 200_000]))
            sent += 1
            assert quick.push()[2] == sent
            assert sent < 200
        with pytest.raises(ConnectionClosed):
            while True:
                slow.connection.recv(timeout=3)


def test_a_message_that_is_too_long_closes(server):
    with server.centrifugo() as client:
        client.connection.send(json.dumps({"id": 2, "subscribe": {"channel": "x" * 70_000}}))
        assert closing(client)[0] == 1009


# -- faults ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "offsets"),
    [
        ("stream_gap", [1, 3, 4]),
        ("stream_duplicate", [1, 2, 2, 3, 4]),
        ("stream_out_of_order", [1, 3, 2, 4]),
        ("stream_silent", [1]),
    ],
)
def test_the_second_frame_meets_with_a_fault(server, kind, offsets):
    server.fault(kind, TRADES, nth=2)
    with server.centrifugo({"id": 2, "subscribe": {"channel": TRADES}}) as client:
        client.reply(2)
        server.pass_time(20)
        assert [offset for _, _, offset in client.pushes()] == offsets


def test_silence_ends_with_its_time_or_its_rule(server):
    rule = server.fault("stream_silent", TRADES, times=1, params={"seconds": 600})
    with server.centrifugo({"id": 2, "subscribe": {"channel": TRADES}}) as client:
        client.reply(2)
        server.pass_time(10)
        assert client.pushes(0.8) == []
        server.call(lambda: server.exchange.faults.remove(rule))
        server.pass_time(5)
        assert [offset for _, _, offset in client.pushes()] == [3]


def test_a_fault_cuts_the_connection_without_a_close_frame(server):
    server.fault("stream_disconnect", TRADES, times=1)
    with server.centrifugo({"id": 2, "subscribe": {"channel": TRADES}}) as client:
        client.reply(2)
        server.pass_time(5)
        assert closing(client) == (None, "")


def test_without_pings_the_connection_stays_and_the_client_is_not_blamed(tmp_path):
    with paper(tmp_path, ping_seconds=0.1, pong_seconds=0.2) as server:
        server.fault("stream_no_ping", times=1)
        with server.centrifugo({"id": 2, "subscribe": {"channel": TRADES}}) as client:
            client.reply(2)
            with pytest.raises(TimeoutError):
                client.next(0.8)
            server.pass_time(5)
            assert client.push()[2] == 1


def test_a_fault_can_be_for_one_account_alone(server):
    server.fault("stream_gap", TRADES, account="ann")
    with server.centrifugo(connect_with={"token": token(server)}) as anns, server.centrifugo() as public:
        for client in (anns, public):
            client.subscribe(2, TRADES)
        server.pass_time(5)
        assert len(public.pushes()) == 1
        assert anns.pushes(0.3) == []


def test_all_streams_of_one_exchange_can_be_cut_at_once(server):
    with server.centrifugo() as one, server.centrifugo() as two, server.raw("/wallex/ws") as other:
        assert "sid" in str(other.recv(timeout=3))
        assert server.call(lambda: server.hub.disconnect("nobitex")) == 2
        assert [closing(client) for client in (one, two)] == [(None, ""), (None, "")]
        assert server.call(lambda: server.hub.disconnect(None)) == 1
        with pytest.raises(ConnectionClosedError):
            other.recv(timeout=3)


# -- Centrifugo's own client -----------------------------------------------------------------------------------------


class Heard(SubscriptionEventHandler):
    def __init__(self) -> None:
        self.payloads: asyncio.Queue = asyncio.Queue()

    async def on_publication(self, ctx) -> None:
        await self.payloads.put((ctx.pub.offset, ctx.pub.data))


class States(ClientEventHandler):
    def __init__(self) -> None:
        self.codes: list[int] = []

    async def on_connecting(self, ctx) -> None:
        self.codes.append(ctx.code)

    async def on_disconnected(self, ctx) -> None:
        self.codes.append(ctx.code)


def test_the_official_client_hears_books_and_orders_and_renews_its_token(tmp_path):
    async def listen(server: Paper) -> None:
        fetched = []

        async def get_token() -> str:
            fetched.append(1)
            return token(server, age=1198.2)  # a second or so left: the client has to renew it

        states, books, orders = States(), Heard(), Heard()
        client = Client(url(server), events=states, get_token=get_token, proxy=None)
        await client.connect()
        book = client.new_subscription(BOOK, books, delta=DeltaType.FOSSIL)
        mine = client.new_subscription(f"private:orders#{await asyncio.to_thread(param, server)}", orders)
        await book.subscribe()
        await mine.subscribe()
        await asyncio.gather(book.ready(), mine.ready())
        server.pass_time(5)
        offset, data = await asyncio.wait_for(books.payloads.get(), 3)
        assert (offset, json.loads(data)["lastTradePrice"]) == (1, "997500")
        body = {"type": "sell", "srcCurrency": "btc", "dstCurrency": "rls", "amount": "4", "price": "1100000"}
        await asyncio.to_thread(server.nobitex, "/market/orders/add", body, "ann")
        _, data = await asyncio.wait_for(orders.payloads.get(), 3)
        assert json.loads(data)["status"] == "Active"
        await asyncio.sleep(3)
        assert len(fetched) >= 3
        assert states.codes == [0]  # connected once, never dropped: pings answered, tokens renewed
        await client.disconnect()

    with paper(tmp_path, book_seconds=0.05, ping_seconds=0.5, pong_seconds=0.5, expired_seconds=1.0) as server:
        asyncio.run(asyncio.wait_for(listen(server), 20))


def test_the_official_client_comes_back_after_a_cut_and_stops_at_a_bad_token(server):
    async def listen() -> None:
        states = States()
        client = Client(url(server), events=states, proxy=None)
        heard = Heard()
        await client.connect()
        subscription = client.new_subscription(TRADES, heard)
        await subscription.subscribe()
        await subscription.ready()
        await asyncio.to_thread(server.call, lambda: server.hub.disconnect("nobitex"))
        await asyncio.to_thread(
            wait_until, lambda: server.hub.has_listeners("nobitex", TRADES) and len(states.codes) == 2
        )
        server.pass_time(5)
        assert (await asyncio.wait_for(heard.payloads.get(), 3))[0] == 1
        await client.disconnect()

        refused = States()
        client = Client(url(server), events=refused, token="forged", proxy=None)
        await client.connect()
        await asyncio.sleep(0.5)
        assert refused.codes[-1] == 3500
        await client.disconnect()

    asyncio.run(asyncio.wait_for(listen(), 20))


def test_the_account_token_is_not_a_stream_token(server):
    with server.raw("/nobitex" + PATH) as connection:
        connection.send(json.dumps({"id": 1, "connect": {"token": TOKENS["ann"]}}))
        assert closing(Centrifugo(connection)) == (3500, "invalid token")
