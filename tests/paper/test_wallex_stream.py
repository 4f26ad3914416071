"""Wallex' streams over real sockets."""

from __future__ import annotations

import json
import os
import time
from decimal import Decimal
from typing import Any

import pytest
import requests
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from providers.paper.engine import from_ms, to_ms
from tests.paper.stream_server import START, Paper, paper
from tests.paper.world import running

FAST = {"book_seconds": 0.05}


@pytest.fixture
def server(tmp_path):
    with paper(tmp_path, wallex=FAST) as server:
        yield server


def subscribe(connection: ClientConnection, *names: str) -> None:
    for name in names:
        connection.send(json.dumps(["subscribe", {"channel": name}]))


def heard(connection: ClientConnection, seconds: float = 1.0) -> list[Any]:
    """All frames that come until none did for so long."""
    frames = []
    try:
        while True:
            frames.append(json.loads(connection.recv(timeout=seconds)))
    except TimeoutError:
        return frames


def settled(server: Paper, *names: str) -> None:
    """Wait until the exchange has heard what was asked."""
    deadline = time.monotonic() + 3
    while not all(server.hub.has_listeners("wallex", name) for name in names):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def closing(connection: ClientConnection, seconds: float = 3) -> int | None:
    deadline = time.monotonic() + seconds
    try:
        while time.monotonic() < deadline:
            connection.recv(timeout=deadline - time.monotonic())
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else None
    raise AssertionError("the server did not close")


def test_the_first_frame_names_the_session(server):
    with server.raw("/wallex/ws") as connection:
        assert set(json.loads(connection.recv(timeout=3))) == {"sid"}


def test_sides_come_whole_best_first_as_numbers_and_only_on_change(server):
    names = "BTCTMN@buyDepth", "BTCTMN@sellDepth"
    with server.raw("/wallex/ws") as connection:
        subscribe(connection, *names)
        settled(server, *names)
        assert len(heard(connection, 0.4)) == 1  # the session alone
        server.pass_time(5)
        frames = dict(heard(connection, 0.5))
        assert set(frames) == set(names)
        rest = requests.get(
            f"http://127.0.0.1:{server.port}/wallex/v1/depth", params={"symbol": "BTCTMN"}, timeout=5
        ).json()["result"]
        for name, side in zip(names, ("bid", "ask"), strict=True):
            assert all(set(level) == {"quantity", "price", "sum"} for level in frames[name])
            assert all(isinstance(value, int | float) for level in frames[name] for value in level.values())
            assert [level["price"] for level in frames[name]] == [float(level["price"]) for level in rest[side]]
            assert [level["quantity"] for level in frames[name]] == [level["quantity"] for level in rest[side]]
        bids, asks = ([level["price"] for level in frames[name]] for name in names)
        assert (bids, asks) == (sorted(bids, reverse=True), sorted(asks))
        assert bids[0] < 99_750 < asks[0]  # toman: the second trade of the first candle


def test_trades_prices_and_stats(server, shared):
    names = "BTCTMN@trade", "all@price", "BTCTMN@marketCap"
    samples = shared / "data/documented/wallex"
    with server.raw("/wallex/ws") as connection:
        subscribe(connection, *names)
        settled(server, *names)
        server.pass_time(10)
        frames = [json.loads(connection.recv(timeout=6)) for _ in range(5)][1:]  # two trades, a price, the stats
        trades = [payload for name, payload in frames if name == "BTCTMN@trade"]
        assert [Decimal(each["price"]) for each in trades] == [99_750, 99_500]
        assert set(trades[0]) == set(json.loads((samples / "ws_trade.json").read_text()))
        assert (trades[0]["isBuyOrder"], trades[0]["quantity"]) == (False, "1.0000000000000000")
        at = from_ms(to_ms(START) + 5000)
        assert trades[0]["timestamp"] == at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        price = {"symbol": "BTCTMN", "price": "99500.0000000000000000", "24h_ch": -0.5}
        assert [payload for name, payload in frames if name == "all@price"] == [price]
        stats = next(payload for name, payload in frames if name == "BTCTMN@marketCap")
        documented = set(json.loads((samples / "ws_marketCap.json").read_text()))
        assert documented - set(stats) <= {"7d_ch", "7d_volume"}  # not in the stats of today (wallex 3.1)
        assert (stats["symbol"], stats["lastPrice"]) == ("BTCTMN", "99500.0000000000000000")


def test_what_is_not_understood_is_passed_over(server):
    with server.raw("/wallex/ws") as connection:
        for text in ("nothing", "{}", "[]", '["subscribe"]', '["subscribe",{"channel":7}]', '["unsubscribe",{}]'):
            connection.send(text)
        connection.send(b"bytes")
        subscribe(connection, "NOPE@trade", "BTCTMN@nope", "btctmn@trade", "BTCTMN@trade")
        settled(server, "BTCTMN@trade")
        server.pass_time(5)
        assert [frame[0] for frame in heard(connection)[1:]] == ["BTCTMN@trade"]


def test_fifty_messages_about_one_channel_are_the_most(server):
    with server.raw("/wallex/ws") as connection:
        subscribe(connection, *["BTCTMN@trade"] * 50, *["BTCTMN@buyDepth"] * 50)
        settled(server, "BTCTMN@buyDepth")
        assert len(heard(connection, 0.3)) == 1
        subscribe(connection, "BTCTMN@trade")
        assert closing(connection) == 1008


def test_a_stream_has_a_longest_life(tmp_path):
    with paper(tmp_path, wallex={"life_seconds": 0.5}) as server, server.raw("/wallex/ws") as connection:
        assert closing(connection) == 1001


def test_answered_pings_keep_a_stream_alive_for_so_many_pongs(tmp_path):
    """The library answers protocol pings by itself; three pongs reach until 0.6 s + 0.5 s."""
    switches = {"ping_seconds": 0.2, "pong_adds_seconds": 0.5, "most_pongs": 3}
    with paper(tmp_path, wallex=switches) as server, server.raw("/wallex/ws") as connection:
        began = time.monotonic()
        assert closing(connection) == 1001
        assert 0.9 < time.monotonic() - began < 2


def test_pings_as_json_need_an_answer_in_json(tmp_path):
    switches = {"ping_seconds": 0.2, "pong_adds_seconds": 0.6, "json_pings": True}
    with (
        paper(tmp_path, wallex=switches) as server,
        server.raw("/wallex/ws") as lively,
        server.raw("/wallex/ws") as dead,
    ):
        lively.recv(timeout=3)
        for _ in range(6):
            ping = json.loads(lively.recv(timeout=3))
            assert set(ping) == {"ping"}
            lively.send(json.dumps({"pong": ping["ping"]}))
        assert closing(dead) == 1001
        assert json.loads(lively.recv(timeout=3)).keys() == {"ping"}


def test_missing_pings_are_the_exchanges_fault(tmp_path):
    switches = {"ping_seconds": 0.1, "pong_adds_seconds": 0.3, "json_pings": True, **FAST}
    with paper(tmp_path, wallex=switches) as server:
        server.fault("stream_no_ping", venue="wallex", times=1)
        with server.raw("/wallex/ws") as connection:
            subscribe(connection, "BTCTMN@trade")
            assert len(heard(connection, 0.9)) == 1
            server.pass_time(5)
            assert heard(connection, 0.7)[0][0] == "BTCTMN@trade"


@pytest.mark.parametrize(
    ("kind", "prices"),
    [
        ("stream_gap", [99_750, 99_250]),
        ("stream_duplicate", [99_750, 99_500, 99_500, 99_250]),
        ("stream_out_of_order", [99_750, 99_250, 99_500]),
        ("stream_silent", [99_750]),
    ],
)
def test_the_second_frame_meets_with_a_fault(server, kind, prices):
    server.fault(kind, "BTCTMN@trade", venue="wallex", nth=2)
    with server.raw("/wallex/ws") as connection:
        subscribe(connection, "BTCTMN@trade")
        settled(server, "BTCTMN@trade")
        server.pass_time(15)
        assert [Decimal(payload["price"]) for _, payload in heard(connection)[1:]] == prices


def test_a_fault_cuts_the_connection_without_a_close_frame(server):
    server.fault("stream_disconnect", "BTCTMN@trade", venue="wallex", times=1)
    with server.raw("/wallex/ws") as connection:
        subscribe(connection, "BTCTMN@trade")
        settled(server, "BTCTMN@trade")
        server.pass_time(5)
        assert closing(connection) is None


def test_the_real_process_streams_without_warnings_and_stops_in_time(tmp_path):
    strict = {"PYTHONWARNINGS": "error::DeprecationWarning", "PATH": os.environ["PATH"]}
    with running(tmp_path, "--seed", "4", env=strict) as server:
        with connect(f"ws://127.0.0.1:{server.port}/wallex/ws", proxy=None) as connection:
            subscribe(connection, "BTCTMN@buyDepth")
            assert "sid" in json.loads(connection.recv(timeout=5))
            assert json.loads(connection.recv(timeout=5))[0] == "BTCTMN@buyDepth"
            assert server.stop() < 2
        assert server.process.stderr.read() == b""  # type: ignore[union-attr]
