"""Wallex' odd habits over a real socket: each behind its switch, at the contract's default unless switched."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from decimal import Decimal
from itertools import pairwise
from uuid import uuid4

import pytest
import requests

from tests.paper.world import Server, running, switched


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("switches"), "--seed", "4", "--no-rate-limits") as server:
        yield server


def last(server: Server) -> Decimal:
    return Decimal(server.wallex("GET", "/v1/trades?symbol=BTCUSDT").json()["result"]["latestTrades"][0]["price"])


def create(server: Server, key: str | None = None, **fields: str) -> requests.Response:
    asked = {"symbol": "BTCUSDT", "type": "LIMIT", "side": "BUY", "quantity": "0.001", "client_id": uuid4().hex[:20]}
    return server.wallex("POST", "/v1/account/orders", json=asked | fields, **({"key": key} if key else {}))


def opened(server: Server, **more: object) -> str:
    body = {"name": uuid4().hex[:12], "balances": {"wallex": {"USDT": "1000"}}} | more
    return server.control("POST", "/accounts", json=body).json()["wallex_key"]


class TestKeys:
    def test_an_expired_key_is_no_key(self, server):
        key = opened(server, wallex_key_expires_at="2020-01-01T00:00:00Z")
        answer = server.wallex("GET", "/v1/account/balances", key=key)
        assert (answer.status_code, answer.json()["code"]) == (401, 1201)

    def test_a_key_that_may_only_read_cannot_place_or_cancel(self, server):
        key = opened(server, wallex_scopes="READ")
        assert server.wallex("GET", "/v1/account/balances", key=key).status_code == 200
        for answer in (create(server, key, price="1000"), server.wallex("DELETE", "/v1/account/orders/x", key=key)):
            assert (answer.status_code, answer.json()["code"]) == (403, 403)

    def test_a_key_for_another_address_is_forbidden(self, server):
        key = opened(server, wallex_key_addresses=["10.0.0.7"])
        assert server.wallex("GET", "/v1/account/balances", key=key).status_code == 403

    def test_the_header_of_a_sub_account_is_accepted(self, server):
        headers = {"x-api-key": opened(server), "sub-account-client-id": "7"}
        answer = requests.get(f"{server.url}/wallex/v1/account/balances", headers=headers, timeout=5)
        assert answer.json()["result"]["balances"]["USDT"]["value"] == "1000"


class TestPublicLists:
    def test_what_else_is_public_has_its_documented_shape(self, server):
        stats = server.wallex("GET", "/v1/currencies/stats", key=None).json()["result"]
        btc = next(row for row in stats if row["key"] == "BTC")
        assert isinstance(btc["price"], float) and btc["ath"] is None and btc["percent_change_1y"] is None
        fair = server.wallex("GET", "/v1/all-fairPrice", key=None).json()["result"]
        assert abs(Decimal(fair["BTCUSDT"]) / last(server) - 1) < Decimal("0.01")
        otc = server.wallex("GET", "/v1/otc/markets", key=None).json()["result"]["BTCTMN"]
        assert (otc["tickSize"], otc["buyStatus"], otc["quoteAsset"]) == (0, "ENABLE", "TMN")
        assert "TON" in server.wallex("GET", "/v1/currencies", key=None).json()["result"]

    def test_trades_page(self, server):
        path = "/v1/trades?symbol=BTCUSDT&per_page=3&page="
        first, second = (server.wallex("GET", path + page).json()["result"]["latestTrades"] for page in "12")
        assert len(first) == len(second) == 3
        assert second[0]["timestamp"] < first[0]["timestamp"]

    def test_some_directions_are_empty_lists_and_the_others_add_up(self, server):
        symbols = server.wallex("GET", "/v1/markets", key=None).json()["result"]["symbols"]
        directions = [row["stats"]["direction"] for row in symbols.values()]
        assert directions.count([]) == 3  # one of seven, of 21 markets
        assert {sum(each.values()) for each in directions if each} == {100}
        with switched(server, "wallex", "empty_direction_every", 0):
            symbols = server.wallex("GET", "/v1/markets", key=None).json()["result"]["symbols"]
            assert all(row["stats"]["direction"] for row in symbols.values())

    def test_the_last_quantity_can_be_repaired_and_prices_can_be_numbers(self, server):
        with switched(server, "wallex", "last_quantity_is_price", False):
            stats = server.wallex("GET", "/v1/markets", key=None).json()["result"]["symbols"]["BTCUSDT"]["stats"]
            assert stats["lastQty"] != stats["lastPrice"]
        with switched(server, "wallex", "depth_price_as_number", True):
            book = server.wallex("GET", "/v1/depth?symbol=BTCUSDT", key=None).json()["result"]
            assert isinstance(book["ask"][0]["price"], float)

    def test_messages_change_unless_they_are_told_not_to(self, server):
        path = "/v1/all-fairPrice"
        assert len({server.wallex("GET", path).json()["message"] for _ in range(6)}) == 3
        with switched(server, "wallex", "rotate_messages", False):
            assert len({server.wallex("GET", path).json()["message"] for _ in range(4)}) == 1

    def test_candles_can_be_truthful(self, server):
        now = int(time.time())
        path = f"/v1/udf/history?symbol=BTCUSDT&resolution=240&from={now - 86_400}&to={now}"
        with switched(server, "wallex", "candle_quirks", False):
            times = server.wallex("GET", path, key=None).json()["t"]
        assert {b - a for a, b in pairwise(times)} == {14_400}


class TestOrders:
    def test_excess_digits_are_refused_cut_or_taken(self, server):
        price = f"{(last(server) * Decimal('0.9')).quantize(Decimal('0.01'))}7"
        seen = {}
        for mode in (1, 2, 3):
            with switched(server, "wallex", "precision_mode", mode):
                answer = create(server, price=price, quantity="0.001000009")
                seen[mode] = answer.status_code
                if answer.status_code == 201:
                    order = answer.json()["result"]
                    seen[mode] = (Decimal(order["price"]), Decimal(order["origQty"]))
                    server.wallex("DELETE", f"/v1/account/orders/{order['clientOrderId']}")
        assert seen == {
            1: 422,
            2: (Decimal(price[:-1]), Decimal("0.001")),
            3: (Decimal(price), Decimal("0.001000009")),
        }

    def test_an_order_of_any_digits_fills_whole(self, server):
        with switched(server, "wallex", "precision_mode", 3):
            order = create(server, type="MARKET", quantity="0.0010000000009").json()["result"]
        assert (order["status"], Decimal(order["executedQty"])) == ("FILLED", Decimal("0.0010000000009"))

    def test_the_minimum_can_spare_market_orders(self, server):
        assert create(server, type="MARKET", quantity="0.000001").json()["result"]["error_code"] == [1003]
        with switched(server, "wallex", "min_notional_on_market", False):
            assert create(server, type="MARKET", quantity="0.000001").status_code == 201

    def test_a_cancel_can_say_filled_as_it_once_did(self, server):
        name = create(server, price="1000").json()["result"]["clientOrderId"]
        with switched(server, "wallex", "canceled_shows_filled", True):
            row = server.wallex("DELETE", f"/v1/account/orders/{name}").json()["result"]
        assert (row["status"], row["active"], Decimal(row["executedQty"])) == ("FILLED", False, 0)
        assert server.wallex("GET", f"/v1/account/orders/{name}").json()["result"]["status"] == "CANCELED"
        with switched(server, "wallex", "delete_unknown_status", 404):
            assert server.wallex("DELETE", f"/v1/account/orders/{name}").status_code == 404

    def test_market_orders_can_be_off_in_a_market(self, server):
        with switched(server, "wallex", "market_type_disabled", "BTCUSDT"):
            symbols = server.wallex("GET", "/v1/markets").json()["result"]["symbols"]
            assert [s["isMarketTypeEnable"] for s in (symbols["BTCUSDT"], symbols["ETHUSDT"])] == [False, True]
            assert set(create(server, type="MARKET").json()["result"]) == {"type"}
            resting = create(server, price="1000")
        assert resting.status_code == 201
        server.wallex("DELETE", f"/v1/account/orders/{resting.json()['result']['clientOrderId']}")

    def test_lists_follow_the_other_documents_too(self, server):
        key = opened(server)
        with ExitStack() as stack:
            for name in ("order_lists_as_map", "empty_results_as_list"):
                stack.enter_context(switched(server, "wallex", name, True))
            assert server.wallex("GET", "/v1/account/openOrders", key=key).json()["result"] == []
            name = create(server, key, price="1000").json()["result"]["clientOrderId"]
            rows = server.wallex("GET", "/v1/account/openOrders", key=key).json()["result"]
            assert [row["clientOrderId"] for row in rows["BTCUSDT"]] == [name]
            assert server.wallex("GET", "/v1/account/orders/nobody", key=key).json()["result"] == []

    def test_the_price_of_an_untouched_order_can_be_honest_and_lists_can_hide_fills(self, server):
        key = opened(server)
        made = create(server, key, price="1000").json()["result"]
        assert Decimal(made["executedPrice"]) == 1000  # garbage, as on the exchange
        with (
            switched(server, "wallex", "executed_price_before_fills", False),
            switched(server, "wallex", "fills_in_lists", False),
        ):
            row = server.wallex("GET", "/v1/account/openOrders", key=key).json()["result"]["orders"][0]
        assert (Decimal(row["executedPrice"]), "fills" in row) == (0, False)

    def test_posts_tell_how_many_are_left(self, tmp_path):
        with running(tmp_path, "--seed", "4") as server:
            told = [create(server, price="x").headers["X-RateLimit-Remaining"] for _ in range(3)]
            assert told == ["19", "18", "17"]
            assert "X-RateLimit-Limit" not in server.wallex("GET", "/v1/account/balances").headers
            with switched(server, "wallex", "rate_limit_headers", False):
                assert "X-RateLimit-Limit" not in create(server, price="x").headers
            with switched(server, "wallex", "requests_per_second", 2):
                time.sleep(1.1)
                codes = [server.wallex("GET", "/v1/account/fee").status_code for _ in range(4)]
                assert codes == [200, 200, 429, 429]
