"""Faults on the wire, over real sockets: what arrives, what was done, and what the platform's own clients see."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from email.utils import parsedate_to_datetime

import pytest
import requests

from providers.budgets import InProcessBudget, Limit
from providers.errors import OrderNotFound, OutcomeUnknown
from providers.interface import ExchangeProvider
from providers.paper.app import build_app
from providers.paper.engine import Exchange
from providers.paper.faces.wire_faults import Answer, distorted
from providers.paper.faults import KINDS, FaultKind, FaultPlan, FaultRule
from providers.paper.feeds.synthetic import SyntheticFeed
from providers.paper.store import Store
from providers.provider_factory import create_provider
from providers.types import OrderRef, OrderRequest, OrderStatus, OrderType, Side
from tests.paper.test_engine import ManualClock
from tests.paper.test_process import wait_for
from tests.paper.test_real_clients import name
from tests.paper.world import KEY, PAIR, T0, TOKEN, Server, running

PLACE = {"wallex": "/v1/account/orders", "nobitex": "/market/orders/add"}


@pytest.fixture(scope="module")
def own_server(tmp_path_factory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("faults"), "--seed", "4", "--no-rate-limits") as server:
        yield server


@pytest.fixture
def server(own_server) -> Iterator[Server]:
    yield own_server
    own_server.clear_faults()


@pytest.fixture(params=["wallex", "nobitex"])
def client(request, server) -> ExchangeProvider:
    key = KEY if request.param == "wallex" else TOKEN
    budget = InProcessBudget({"default": Limit(1_000_000, 1.0)})
    return create_provider(request.param, base_url=f"{server.url}/{request.param}", api_key=key, budget=budget)


def price(client: ExchangeProvider, factor: str) -> Decimal:
    return (client.last_price("BTCUSDT") * Decimal(factor)).quantize(Decimal("0.01"))


def stop_request(client: ExchangeProvider, factor: str) -> OrderRequest:
    return OrderRequest(
        name(), "BTCUSDT", Side.SELL, OrderType.STOP_MARKET, Decimal("0.002"), stop_price=price(client, factor)
    )


def orders(server: Server, venue: str) -> list[str]:
    truth = server.control("GET", "/accounts/demo").json()["venues"][venue]
    return [row["client_order_id"] for row in truth["orders"]]


def body_of(client_id: str) -> dict[str, str]:
    return {"symbol": "BTCUSDT", "type": "LIMIT", "side": "BUY", "quantity": "0.001", "price": "50000",
            "client_id": client_id}  # fmt: skip


# --- the connection --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "is_there"), [("drop_before", False), ("drop_after", True)])
def test_a_dropped_connection_is_closed_without_one_byte(server, kind, is_there):
    server.add_fault(kind, venue="wallex", method="POST", nth=1)
    client_id, body = name(), b""
    raw = json.dumps(body_of(client_id)).encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as wire:
        head = f"POST /wallex/v1/account/orders HTTP/1.1\r\nHost: x\r\nx-api-key: {KEY}\r\n"
        wire.sendall(f"{head}Content-Type: application/json\r\nContent-Length: {len(raw)}\r\n\r\n".encode() + raw)
        body = wire.recv(1000)
    assert body == b""
    assert (client_id in orders(server, "wallex")) is is_there


def test_a_reset_is_a_reset(server):
    server.add_fault("drop_before", nth=1, params={"reset": True})
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as wire:
        wire.sendall(b"GET /wallex/v1/markets HTTP/1.1\r\nHost: x\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            wire.recv(1000)


def test_another_connection_of_the_same_client_goes_on(server):
    with requests.Session() as session:
        url = f"{server.url}/wallex/v1/markets"
        assert session.get(url, timeout=5).status_code == 200
        server.add_fault("drop_after", nth=1)
        with pytest.raises(requests.ConnectionError):
            session.get(url, timeout=5)
        assert session.get(url, timeout=5).status_code == 200


def test_a_request_held_back_is_done_although_its_sender_gave_up(server):
    server.add_fault("delay", method="POST", nth=1, params={"seconds": 2, "when": "before"})
    client_id = name()
    with pytest.raises(requests.ReadTimeout):
        requests.post(
            f"{server.url}/wallex/v1/account/orders", json=body_of(client_id), headers={"x-api-key": KEY}, timeout=0.2
        )
    assert client_id not in orders(server, "wallex")
    wait_for(lambda: client_id in orders(server, "wallex"), 8)


def test_an_answer_held_back_was_done_at_once(server):
    server.add_fault("delay", method="POST", nth=1, params={"seconds": 0.4, "when": "after"})
    began = time.monotonic()
    assert server.wallex("POST", "/v1/account/orders", json=body_of(name())).status_code == 201
    assert 0.4 <= time.monotonic() - began < 2


def test_a_body_dribbles_and_is_whole_in_the_end(server):
    whole = server.nobitex("GET", "/v2/wallets").content
    server.add_fault("slow_trickle", nth=1, params={"bytes_per_second": len(whole) * 2})
    began = time.monotonic()
    assert server.nobitex("GET", "/v2/wallets").content == whole
    assert 0.4 < time.monotonic() - began < 3


# --- the answer ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("venue", "told"),
    [
        ("wallex", {"success": False, "code": 503, "message": "injected fault", "result": {}}),
        ("nobitex", {"status": "failed", "code": "SimFault", "message": "injected fault"}),
    ],
)
def test_an_error_in_the_exchanges_own_words(server, venue, told):
    server.add_fault("http_error", venue=venue, params={"status": 503, "body": "json"}, nth=1)
    answer = getattr(server, venue)("GET", "/any")
    assert (answer.status_code, answer.json()) == (503, told)


def test_a_gateways_page_is_html(server):
    server.add_fault("http_error", nth=1)
    answer = server.wallex("GET", "/v1/markets")
    assert (answer.status_code, answer.headers["content-type"]) == (502, "text/html; charset=utf-8")


def test_a_429_tells_the_wait_where_it_is_asked_to(server):
    for told_in in ("header", "body", "both", "nowhere"):
        server.add_fault("rate_limited", nth=1, params={"seconds": 7, "told_in": told_in})
        answer = server.nobitex("GET", "/v2/wallets")
        in_header = answer.headers.get("retry-after") == "7"
        in_body = answer.json().get("backOff") == 7
        assert (answer.status_code, in_header, in_body) == (
            429, told_in in ("header", "both"), told_in in ("body", "both"),
        )  # fmt: skip


def test_a_failure_with_status_200(server):
    server.add_fault("success_false_200", nth=1)
    answer = server.wallex("POST", "/v1/account/orders", json=body_of("REFUSED200"))
    assert (answer.status_code, answer.json()["success"], answer.json()["code"]) == (200, False, 9999)
    assert "REFUSED200" not in orders(server, "wallex")


def test_a_key_is_revoked_for_one_account_and_public_data_stays(server):
    server.add_fault("key_revoked", account="demo")
    assert server.wallex("GET", "/v1/account/fee").json()["code"] == 1201
    assert server.nobitex("GET", "/v2/wallets").json()["detail"]
    assert server.wallex("GET", "/v1/markets", key=None).status_code == 200


def test_maintenance_lasts_by_the_exchanges_clock_and_ends_with_its_rule(server):
    server.add_fault("maintenance", venue="nobitex", params={"seconds": 300})
    for path in ("/v2/wallets", "/market/stats"):
        answer = server.nobitex("GET", path)
        assert (answer.status_code, answer.text[:9]) == (503, "<!doctype")
    assert server.wallex("GET", "/v1/markets").status_code == 200
    server.control("POST", "/clock", json={"advance_seconds": 301})
    assert server.nobitex("GET", "/v2/wallets").status_code == 200
    rule = server.add_fault("maintenance", venue="nobitex")
    assert server.nobitex("GET", "/v2/wallets").status_code == 503
    server.control("DELETE", f"/faults/{rule}")
    assert server.nobitex("GET", "/v2/wallets").status_code == 200


def test_a_skewed_clock_shows_in_the_date_and_in_every_time(server, client):
    placed = client.create_order(stop_request(client, "0.5"))
    client.last_price("BTCUSDT")
    assert abs(client.clock_difference) < timedelta(seconds=5)
    ref = OrderRef("BTCUSDT", placed.client_order_id, placed.exchange_order_id)
    before = client.fetch_order(ref)
    server.add_fault("clock_skew", params={"seconds": -90})
    after = client.fetch_order(ref)
    assert after.created_at - before.created_at == timedelta(seconds=-90)
    assert timedelta(seconds=-95) < client.clock_difference < timedelta(seconds=-85)


def test_the_date_is_told_once_and_is_now(server):
    answer = server.wallex("GET", "/v1/markets")
    stated = parsedate_to_datetime(answer.headers["date"])  # two headers would come joined by a comma
    assert abs(stated.timestamp() - time.time()) < 5


# --- what only a client can tell -------------------------------------------------------------------------------------


def test_an_answer_lost_after_the_effect_is_unknown_and_the_order_is_found(server, client):
    asked = stop_request(client, "0.51")
    server.add_fault("drop_after", venue=client.name, method="POST", path=PLACE[client.name], nth=1)
    with pytest.raises(OutcomeUnknown):
        client.create_order(asked)
    assert client.fetch_order(OrderRef("BTCUSDT", asked.client_order_id)).status is OrderStatus.OPEN


def test_a_request_lost_before_the_effect_is_unknown_and_the_order_is_not_found(server, client):
    asked = stop_request(client, "0.52")
    server.add_fault("drop_before", venue=client.name, method="POST", path=PLACE[client.name], nth=1)
    with pytest.raises(OutcomeUnknown):
        client.create_order(asked)
    with pytest.raises(OrderNotFound):
        client.fetch_order(OrderRef("BTCUSDT", asked.client_order_id))


@pytest.mark.parametrize("kind", ["stop_never_triggers", "triggered_stop_band_cancel"])
def test_a_stop_that_fails_in_a_gap(server, client, kind):
    placed = client.create_order(stop_request(client, "0.97"))
    server.add_fault(kind, venue=client.name)
    before = client.last_price("BTCUSDT")
    server.add_fault("price_gap", path=PAIR, params={"factor": "0.9"})
    wait_for(lambda: client.last_price("BTCUSDT") < before * Decimal("0.95"))
    ref = OrderRef("BTCUSDT", placed.client_order_id, placed.exchange_order_id, placed.created_at)
    if kind == "stop_never_triggers":
        assert client.fetch_order(ref).status is OrderStatus.OPEN
        server.clear_faults()
        wait_for(lambda: client.fetch_order(ref).status is OrderStatus.FILLED)
        return
    report = wait_for(lambda: (r := client.fetch_order(ref)).status.is_final and r)
    assert (report.status, report.filled_quantity) == (OrderStatus.CANCELED, 0)


def test_an_accepted_order_that_comes_to_the_market_late(server, client):
    server.add_fault("accept_delayed", venue=client.name, nth=1, params={"seconds": 1})
    asked = OrderRequest(name(), "BTCUSDT", Side.BUY, OrderType.MARKET, Decimal("0.001"), price=price(client, "1"))
    placed = client.create_order(asked)
    assert (placed.status, placed.filled_quantity) == (OrderStatus.OPEN, 0)
    ref = OrderRef("BTCUSDT", placed.client_order_id, placed.exchange_order_id, placed.created_at)
    wait_for(lambda: client.fetch_order(ref).status is OrderStatus.FILLED)


def test_a_stale_book_keeps_its_prices_and_its_time(server, client):
    first = client.order_book("BTCUSDT")
    server.add_fault("stale_book", params={"seconds": 5})
    time.sleep(1.2)  # a public answer is repeated for a second anyway
    frozen = client.order_book("BTCUSDT")
    time.sleep(2.2)
    again = client.order_book("BTCUSDT")
    assert (again.bids, again.asks) == (frozen.bids, frozen.asks)
    server.clear_faults()
    time.sleep(1.2)
    assert client.order_book("BTCUSDT").bids != frozen.bids
    if client.name == "nobitex":  # the only one that tells a book's time
        assert again.as_of == frozen.as_of >= first.as_of


# --- in process, without a wire --------------------------------------------------------------------------------------


def test_in_process_faults_wait_by_the_given_sleep_and_a_drop_is_an_error_of_the_call(tmp_path):
    exchange = Exchange(SyntheticFeed(3), ManualClock(T0), Store(tmp_path / "p.sqlite3"))
    app = build_app(exchange)
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    app.state.seam._sleep = sleep
    app.state.faults.add(FaultRule(FaultKind.DELAY, nth=1, params={"seconds": 3600}))
    app.state.faults.add(FaultRule(FaultKind.DROP_AFTER, nth=2))
    assert asyncio.run(call(app, "/nobitex/market/stats")) == 200
    assert slept == [3600.0]
    with pytest.raises(ConnectionAbortedError):
        asyncio.run(call(app, "/nobitex/market/stats"))
    assert [entry.status for entry in app.state.seam.log.newest(9)] == [200, None]


async def call(app, path: str) -> int:
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b"",
             "headers": [], "client": ("127.0.0.1", 1), "server": ("x", 1), "scheme": "http", "root_path": "",
             "http_version": "1.1"}  # fmt: skip
    await app(scope, receive, send)
    return sent[0]["status"]


# --- what is done to bodies ------------------------------------------------------------------------------------------


def changed(kind: FaultKind, body: object, **params: object) -> object:
    plan = FaultPlan()
    plan.add(FaultRule(kind, params=params))
    (fault,) = plan.decide("wallex", KINDS[kind].moments[0], "/", "ann")
    return json.loads(distorted(fault, Answer(200, json.dumps(body).encode())).body)


def test_wrong_types_leave_the_envelopes_flag_and_spoil_the_rest():
    body = {"success": True, "message": "ok", "result": {"price": "1.5", "count": 2, "active": True, "none": None}}
    assert changed(FaultKind.WRONG_TYPES, body) == {
        "success": True, "message": ["ok"],
        "result": {"price": ["1.5"], "count": {"value": 2}, "active": "True", "none": None},
    }  # fmt: skip


def test_the_first_fill_of_every_list_stands_twice():
    body = {"result": {"AccountLatestTrades": [{"n": 1}, {"n": 2}], "fills": [], "orders": [{"fills": [7]}]}}
    assert changed(FaultKind.DUPLICATE_FILL, body) == {
        "result": {"AccountLatestTrades": [{"n": 1}, {"n": 1}, {"n": 2}], "fills": [], "orders": [{"fills": [7, 7]}]}
    }


def test_times_are_shifted_in_their_own_units_and_spelling():
    body = {"lastUpdate": 1_700_000_000_000, "transactTime": 1_700_000_000, "created_at": "2026-01-01T00:00:00.000000Z",
            "timestamp": "2026-01-01T00:00:00.000000+00:00", "t": [1_700_000_000]}  # fmt: skip
    assert changed(FaultKind.CLOCK_SKEW, body, seconds=60) == {
        "lastUpdate": 1_700_000_060_000, "transactTime": 1_700_000_060, "created_at": "2026-01-01T00:01:00.000000Z",
        "timestamp": "2026-01-01T00:01:00.000000+00:00", "t": [1_700_000_000],
    }  # fmt: skip


@pytest.mark.parametrize("how", ["truncated", "garbage"])
def test_malformed_json_is_not_json(how):
    with pytest.raises(json.JSONDecodeError):
        changed(FaultKind.MALFORMED_JSON, {"success": True, "result": {}}, how=how)
