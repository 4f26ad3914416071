"""The control port: loopback and token, faults, prices, time, the request log, the ledger, habits."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
import requests

from tests.paper.test_process import start
from tests.paper.world import CONTROL, TOKEN, Server, running


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("control"), "--seed", "4", "--no-rate-limits") as server:
        yield server


def now(server: Server) -> datetime:
    return datetime.fromisoformat(server.control("GET", "/clock").json()["now"])


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/faults"), ("POST", "/faults"), ("DELETE", "/requests"), ("POST", "/prices"), ("GET", "/ledger")],
)
def test_everything_needs_the_token(server, method, path):
    url = f"{server.control_url}/paper{path}"
    for headers in ({}, {"x-paper-control": "guess"}):
        answer = requests.request(method, url, headers=headers, json={} if method == "POST" else None, timeout=5)
        assert (answer.status_code, "x-paper-control" in answer.json()["error"]) == (401, True)
    assert requests.get(f"{server.control_url}/paper/health", timeout=5).json()["status"] == "ok"


@pytest.mark.parametrize(("method", "path"), [("POST", "/accounts"), ("POST", "/prices"), ("GET", "/faults")])
def test_the_exchanges_own_port_only_reads(server, method, path):
    answer = requests.request(
        method, f"{server.url}/paper{path}", headers={"x-paper-control": CONTROL}, json={}, timeout=5
    )
    assert answer.status_code in (404, 405)
    assert (
        requests.get(f"{server.url}/paper/accounts/demo", headers={"x-paper-control": CONTROL}, timeout=5).json()[
            "name"
        ]
        == "demo"
    )


def test_the_control_port_is_loopback_whatever_the_exchange_listens_on(tmp_path):
    with running(tmp_path, "--host", "0.0.0.0", "--allow-remote") as server:
        listening = listening_addresses()
        assert listening[server.port] == {"0.0.0.0"}
        assert listening[server.control_port] == {"127.0.0.1"}


def listening_addresses() -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    with Path("/proc/net/tcp").open() as table:
        for row in list(table)[1:]:
            fields = row.split()
            if fields[3] == "0A":  # LISTEN
                address, port = fields[1].split(":")
                text = ".".join(str(int(address[at : at + 2], 16)) for at in (6, 4, 2, 0))
                found.setdefault(int(port, 16), set()).add(text)
    return found


def test_a_control_port_needs_the_token_in_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("PAPER_CONTROL_TOKEN", raising=False)
    result = start("--data-dir", str(tmp_path / "d"), "--control-port", "0")
    assert (result.returncode, "needs PAPER_CONTROL_TOKEN" in result.stderr) == (2, True)


def test_a_control_port_in_use_is_told_in_a_sentence(tmp_path, server, monkeypatch):
    monkeypatch.setenv("PAPER_CONTROL_TOKEN", "x")
    result = start("--data-dir", str(tmp_path / "d"), "--control-port", str(server.control_port))
    assert (result.returncode, "choose another --control-port" in result.stderr) == (2, True)


def test_a_rule_is_put_in_force_listed_and_removed(server):
    number = server.add_fault("delay", venue="wallex", path="/v1/markets", params={"seconds": 0.01})
    server.wallex("GET", "/v1/markets")
    answer = server.control("GET", "/faults").json()
    (rule,) = [row for row in answer["rules"] if row["id"] == number]
    assert (rule["kind"], rule["matched"], rule["injected"]) == ("delay", 1, 1)
    assert rule["params"] == {"seconds": 0.01, "when": "before"}
    assert answer["injected"]["delay"] >= 1
    assert answer["kinds"]["delay"]["params"]["seconds"]["default"] == 10.0
    assert server.control("DELETE", f"/faults/{number}").json() == {"removed": 1}
    missing = server.control("DELETE", f"/faults/{number}")
    assert (missing.status_code, missing.json()["error"]) == (404, f"there is no fault rule {number}")
    server.add_fault("delay")
    assert server.control("DELETE", "/faults").json()["removed"] == 1


@pytest.mark.parametrize(
    ("path", "body", "sentence"),
    [
        ("/faults", {"kind": "earthquake"}, "no kind of fault"),
        ("/faults", {"kind": "delay", "params": {"seconds": "x"}}, "must be a number"),
        ("/prices", {"pair": "BTC/USDT"}, "price is needed"),
        ("/prices", {"pair": "ABC/XYZ", "price": "1"}, "not a pair"),
        ("/clock", {}, "advance_seconds"),
        ("/clock", {"pause": "yes"}, "true or false"),
        ("/clock", {"advance_seconds": "-5"}, "plain decimal"),
        ("/clock", {"advance_seconds": 0}, "more than nothing"),
        ("/clock", {"advance_seconds": 10**9}, "at most 30 days"),
        ("/switches", {"venue": "wallex", "name": "nonsense", "value": True}, "no switch nonsense"),
        ("/switches", {"venue": "kraken", "name": "stops_lock", "value": True}, "send {"),
        ("/streams/disconnect", {"venue": "kraken"}, "wallex or nobitex"),
        ("/accounts", {"name": "demo"}, "exists"),
    ],
)
def test_what_cannot_be_done_is_refused_with_a_sentence(server, path, body, sentence):
    answer = server.control("POST", path, json=body)
    assert (answer.status_code, sentence in answer.json()["error"]) == (400, True), answer.text


def test_an_address_that_does_not_exist_says_so(server):
    answer = server.control("GET", "/nothing")
    assert (answer.status_code, answer.json()["error"]) == (404, "GET /paper/nothing is not part of the control API")


def test_a_price_moves_on_both_exchanges(server):
    target = Decimal(server.control("GET", "/prices").json()["last"]["wallex"]["ETH/USDT"]) * 2
    server.move_price("ETH/USDT", str(target.quantize(Decimal("0.01"))))
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        last = server.control("GET", "/prices").json()["last"]
        if all(abs(Decimal(last[venue]["ETH/USDT"]) / target - 1) < Decimal("0.02") for venue in last):
            return
        time.sleep(0.1)
    raise AssertionError(last)


def test_time_stands_still_is_set_forward_and_goes_on_without_a_jump(server):
    assert server.control("POST", "/clock", json={"pause": True}).json()["paused"] is True
    first = now(server)
    time.sleep(0.05)
    assert now(server) == first
    server.control("POST", "/clock", json={"advance_seconds": "90.5"})
    assert now(server) == first + timedelta(seconds=90.5)
    assert server.control("POST", "/clock", json={"pause": False}).json()["paused"] is False
    assert timedelta(0) < now(server) - first - timedelta(seconds=90.5) < timedelta(seconds=2)


def test_what_time_was_set_to_survives_a_restart(tmp_path):
    with running(tmp_path, "--seed", "4") as server:
        server.control("POST", "/clock", json={"advance_seconds": 86_400})
        before = now(server)
        server.kill()
        server.start()
        assert timedelta(0) <= now(server) - before < timedelta(seconds=30)


def test_a_stop_triggers_in_the_time_that_is_skipped(server):
    last = Decimal(server.nobitex("GET", "/v3/orderbook/BTCUSDT").json()["lastTradePrice"])
    stop, below = (str((last * part).quantize(Decimal("0.01"))) for part in (Decimal("0.98"), Decimal("0.96")))
    asked = {"symbol": "BTCUSDT", "type": "STOP_MARKET", "side": "SELL", "quantity": "0.01", "stop_Price": stop}
    server.control("POST", "/clock", json={"pause": True})
    try:
        assert server.wallex("POST", "/v1/account/orders", json=asked | {"client_id": "SKIPPED"}).status_code == 201
        server.move_price("BTC/USDT", below)
        assert status_of(server, "SKIPPED") == "NEW"
        server.control("POST", "/clock", json={"advance_seconds": 60})
    finally:
        server.control("POST", "/clock", json={"pause": False})
    assert status_of(server, "SKIPPED") == "FILLED"


def status_of(server: Server, client_id: str) -> str:
    return server.wallex("GET", f"/v1/account/orders/{client_id}").json()["result"]["status"]


class TestRequestLog:
    def test_every_request_stands_in_it_once_with_what_it_was(self, server):
        server.control("DELETE", "/requests")
        server.nobitex("GET", "/v2/wallets?currencies=btc")
        server.nobitex("POST", "/market/orders/status", json={"clientOrderId": "LOGGED"})
        server.wallex("GET", "/v1/account/balances", key=None)
        answer = server.control("GET", "/requests").json()
        rows = [[row[name] for name in ("venue", "method", "path", "account", "status")] for row in answer["requests"]]
        assert rows == [
            ["nobitex", "GET", "/v2/wallets", "demo", 200],
            ["nobitex", "POST", "/market/orders/status", "demo", 404],
            ["wallex", "GET", "/v1/account/balances", None, 401],
        ]
        wallets, status, _ = answer["requests"]
        assert (wallets["query"], status["client_order_id"]) == ("currencies=btc", "LOGGED")
        assert wallets["monotonic"] < status["monotonic"]
        assert answer["next_since"] == answer["requests"][-1]["id"]
        assert TOKEN not in str(answer)

    def test_it_is_read_on_from_where_one_was(self, server):
        server.control("DELETE", "/requests")
        for _ in range(3):
            server.wallex("GET", "/v1/markets")
        first = server.control("GET", "/requests?limit=2").json()
        rest = server.control("GET", f"/requests?since={first['next_since']}").json()
        assert (len(first["requests"]), len(rest["requests"])) == (2, 1)
        assert server.control("GET", "/requests?newest=1").json()["requests"] == rest["requests"]
        assert server.control("GET", f"/requests?since={rest['next_since']}").json()["requests"] == []
        assert server.control("GET", "/requests?venue=nobitex").json()["requests"] == []
        assert server.control("GET", "/requests?since=x").status_code == 400

    def test_a_request_without_an_answer_has_no_status_and_names_its_fault(self, server):
        number = server.add_fault("drop_after", method="POST", nth=1)
        with pytest.raises(requests.ConnectionError):
            server.wallex("POST", "/v1/account/orders", json={"client_id": "GONE"})
        row = server.control("GET", "/requests?newest=1").json()["requests"][0]
        assert (row["status"], row["faults"], row["client_order_id"]) == (None, [number], "GONE")
        server.clear_faults()


def test_the_ledger_tells_every_posting_and_they_sum_to_zero(server):
    buy = {"symbol": "BTCUSDT", "type": "MARKET", "side": "BUY", "quantity": "0.01", "client_id": "LEDGER"}
    assert server.wallex("POST", "/v1/account/orders", json=buy).status_code == 201
    ledger = server.control("GET", "/ledger?venue=wallex").json()
    assert (ledger["conservation"], list(ledger["venues"])) == ("ok", ["wallex"])
    wallex = ledger["venues"]["wallex"]
    sums: dict[str, Decimal] = {}
    for row in wallex["postings"]:
        sums[row["asset"]] = sums.get(row["asset"], Decimal(0)) + Decimal(row["amount"])
    assert set(sums.values()) == {Decimal(0)}
    held = sum(Decimal(row["amount"]) for row in wallex["postings"]
               if (row["account"], row["asset"]) == ("trader:demo", "BTC"))  # fmt: skip
    assert Decimal(wallex["accounts"]["demo"]["balances"]["BTC"]["total"]) == held
    (order,) = [row for row in wallex["orders"] if row["client_order_id"] == "LEDGER"]
    assert (order["account"], order["status"]) == ("demo", "FILLED")
    assert server.control("GET", "/ledger?venue=x").status_code == 400


def test_a_habit_is_changed_while_it_runs(server):
    assert server.control("GET", "/switches").json()["wallex"]["stops_lock"]["value"] is True
    asked = {"venue": "wallex", "name": "depth_price_as_number", "value": True}
    assert server.control("POST", "/switches", json=asked).json() == asked
    price = server.wallex("GET", "/v1/depth?symbol=BTCUSDT").json()["result"]["ask"][0]["price"]
    assert isinstance(price, int | float)
    server.control("POST", "/switches", json=asked | {"value": False})
    assert isinstance(server.wallex("GET", "/v1/depth?symbol=BTCUSDT").json()["result"]["ask"][0]["price"], str)
