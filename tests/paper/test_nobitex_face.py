"""Nobitex' wire over a real socket: rial and toman, odd shapes, codes as the contract has them."""

from __future__ import annotations

import time
from decimal import Decimal
from uuid import uuid4

import pytest
import requests

from tests.paper.world import Server


def add(server: Server, **fields: object) -> dict[str, object]:
    asked = {"type": "buy", "srcCurrency": "btc", "dstCurrency": "usdt", "amount": "0.002", "pro": "yes"}
    return server.nobitex("POST", "/market/orders/add", json=asked | fields).json()


def last(server: Server, symbol: str = "BTCUSDT") -> Decimal:
    return Decimal(server.nobitex("GET", f"/v3/orderbook/{symbol}").json()["lastTradePrice"])


def at(price: Decimal, factor: str, grid: str = "0.01") -> str:
    return str((price * Decimal(factor)).quantize(Decimal(grid)))


def test_books_are_in_rial_and_candles_in_toman(server):
    book = server.nobitex("GET", "/v3/orderbook/BTCIRT", token=None).json()
    now = int(time.time())
    chart = server.nobitex("GET", f"/market/udf/history?symbol=BTCIRT&resolution=1&countback=2&to={now}").json()
    ratio = Decimal(book["lastTradePrice"]) / Decimal(str(chart["c"][-1]))
    assert Decimal("9.9") < ratio < Decimal("10.1")
    assert Decimal(book["bids"][0][0]) < Decimal(book["asks"][0][0])
    assert len(book["asks"]) == 24
    assert abs(book["lastUpdate"] / 1000 - time.time()) < 5


def test_all_books_stand_beside_the_status(server):
    answer = server.nobitex("GET", "/v3/orderbook/all", token=None).json()
    coins = ("BTC", "ETH", "DOGE", "XRP", "SOL", "ADA", "BNB", "TRX", "LTC", "TON")
    assert set(answer) == {"status", "USDTIRT", *(coin + quote for coin in coins for quote in ("USDT", "IRT"))}
    assert server.nobitex("GET", "/v3/orderbook/NOPE").json()["code"] == "SimUnknownSymbol"


def test_candles_are_numbers_at_most_500_a_page_newest_first_page(server):
    now = int(time.time())
    path = f"/market/udf/history?symbol=BTCUSDT&resolution=1&from={now - 86400}&to={now}"
    first, second = (server.nobitex("GET", f"{path}&page={page}").json() for page in (1, 2))
    assert len(first["t"]) == len(second["t"]) == 500
    assert second["t"][-1] + 60 == first["t"][0]
    assert first["t"] == sorted(first["t"])
    assert isinstance(first["c"][0], (int, float))


def test_the_candle_at_to_is_included_and_days_begin_in_tehran(server):
    now = int(time.time()) // 60 * 60
    path = "/market/udf/history?symbol=BTCUSDT&resolution="
    assert server.nobitex("GET", f"{path}1&from={now - 120}&to={now}").json()["t"] == [now - 120, now - 60, now]
    assert server.nobitex("GET", f"{path}1&countback=3&to={now}").json()["t"] == [now - 120, now - 60, now]
    days = server.nobitex("GET", f"{path}D&countback=3&to={now}").json()["t"]
    assert {day % 86_400 for day in days} == {20 * 3600 + 1800}  # 00:00 at +03:30


def test_chart_errors_have_their_own_shape(server):
    now = int(time.time())
    path = "/market/udf/history?symbol=BTCUSDT&resolution="
    assert server.nobitex("GET", f"{path}7&from=0&to={now}").json() == {"s": "error", "errmsg": "Invalid resolution!"}
    assert server.nobitex("GET", f"{path}1&from={now + 600}&to={now + 900}").json() == {"s": "no_data"}
    assert server.nobitex("GET", f"{path}1&to={now}").json()["s"] == "error"


def test_stats_and_options_speak_rial(server):
    stats = server.nobitex("GET", "/market/stats?srcCurrency=btc&dstCurrency=rls").json()["stats"]
    assert set(stats) == {"btc-rls"}
    assert Decimal("0.98") < Decimal(stats["btc-rls"]["latest"]) / last(server, "BTCIRT") < Decimal("1.02")
    options = server.nobitex("GET", "/v2/options").json()
    assert options["nobitex"]["minOrders"] == {"usdt": "11", "13": "11", "rls": "3000000", "2": "3000000"}
    assert options["nobitex"]["pricePrecisions"]["BTCIRT"] == "10"
    assert {"btc": "Bitcoin", "ton": "Toncoin"}.items() <= {
        row["coin"]: row["name"] for row in options["coins"]
    }.items()


def test_public_trades_are_newest_first(server):
    trades = server.nobitex("GET", "/v2/trades/USDTIRT").json()["trades"]
    assert len(trades) == 20
    assert [row["time"] for row in trades] == sorted((row["time"] for row in trades), reverse=True)


def test_auth_failures_have_another_shape(server):
    missing = server.nobitex("GET", "/users/profile", token=None)
    assert (missing.status_code, list(missing.json())) == (401, ["detail"])
    wrong = server.nobitex("GET", "/v2/wallets", token="00" * 20)
    assert (wrong.status_code, list(wrong.json())) == (401, ["detail"])


def test_unknown_addresses_answer_in_html(server):
    answer = server.nobitex("GET", "/market/global-stats")
    assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (404, "text/html")
    assert "<html>" in server.nobitex("GET", "/market/orders/list/").text  # the slash is significant


def test_wallets_exist_only_for_what_was_held_and_count_rial(server):
    short = server.nobitex("GET", "/v2/wallets").json()["wallets"]
    assert set(short) == {"USDT", "BTC", "RLS"}
    assert Decimal(short["RLS"]["balance"]) == 5_000_000_000
    rows = {row["currency"]: row for row in server.nobitex("GET", "/users/wallets/list").json()["wallets"]}
    assert Decimal(rows["rls"]["activeBalance"]) == 5_000_000_000
    assert rows["rls"]["rialBalance"] == 5_000_000_000
    assert server.nobitex("GET", "/v2/wallets?currencies=usdt").json()["wallets"].keys() == {"USDT"}
    assert server.nobitex("POST", "/users/wallets/balance", json={"currency": "rls"}).json()["balance"] == "5000000000"


def test_profile_tells_fees_in_percent(server):
    options = server.nobitex("GET", "/users/profile").json()["profile"]["options"]
    assert (options["fee"], options["feeUsdt"]) == ("0.35", "0.2")


def test_a_market_order_is_done_and_no_longer_found_by_its_client_id(server):
    name = uuid4().hex
    order = add(server, execution="market", clientOrderId=name)["order"]
    assert (order["status"], order["price"], order["srcCurrency"]) == ("Done", "market", "Bitcoin")
    assert (order["matchedAmount"], order["unmatchedAmount"], order["fee"]) == ("0.002", "0", "0.000004")
    gone = server.nobitex("POST", "/market/orders/status", json={"clientOrderId": name})
    assert (gone.status_code, gone.json()["code"]) == (404, "NotFound")
    found = server.nobitex("POST", "/market/orders/status", json={"id": order["id"]}).json()["order"]
    assert found["clientOrderId"] == name
    trade = server.nobitex("GET", "/market/trades/list").json()["trades"][0]
    assert (trade["orderId"], trade["market"], trade["fee"]) == (order["id"], "BTC-USDT", "0.000004")


def test_rial_orders_enter_and_leave_in_rial(server):
    price = at(last(server, "BTCIRT"), "0.9", "1")[:-1] + "0"
    order = add(server, dstCurrency="rls", amount="0.001", price=price)["order"]
    assert (order["price"], order["market"], order["dstCurrency"]) == (price, "BTC-RLS", "﷼")
    blocked = server.nobitex("GET", "/v2/wallets").json()["wallets"]["RLS"]["blocked"]
    assert Decimal(blocked) == Decimal(price) * Decimal("0.001")
    server.nobitex("POST", "/market/orders/update-status", json={"order": order["id"], "status": "canceled"})


def test_untouched_orders_show_numbers_where_others_show_text(server):
    order = add(server, price=at(last(server), "0.9"))["order"]
    assert (order["matchedAmount"], order["fee"], order["status"], order["averagePrice"]) == (0, 0, "Active", "0")
    cancelled = server.nobitex(
        "POST", "/market/orders/update-status", json={"order": order["id"], "status": "canceled"}
    )
    assert (cancelled.json()["updatedStatus"], cancelled.json()["order"]["status"]) == ("Canceled", "Canceled")
    again = server.nobitex("POST", "/market/orders/update-status", json={"order": order["id"], "status": "canceled"})
    assert (again.status_code, again.json()["code"]) == (200, "SimInvalidTransition")


def test_an_oco_answers_two_linked_legs_with_one_client_id(server):
    price, name = last(server), uuid4().hex
    legs = add(
        server, type="sell", mode="oco", price=at(price, "1.1"), stopPrice=at(price, "0.9"),
        stopLimitPrice=at(price, "0.89"), clientOrderId=name,
    )["orders"]  # fmt: skip
    assert [leg["execution"] for leg in legs] == ["Limit", "StopLimit"]
    assert [leg["status"] for leg in legs] == ["Active", "Inactive"]
    assert [leg["clientOrderId"] for leg in legs] == [name, None]
    assert [leg["pairId"] for leg in legs] == [legs[1]["id"], legs[0]["id"]]
    assert legs[1]["param1"] == at(price, "0.9").rstrip("0").rstrip(".")
    assert server.nobitex("POST", "/market/orders/cancel-old", json={}).json() == {"status": "ok"}
    for leg in legs:
        found = server.nobitex("POST", "/market/orders/status", json={"id": leg["id"]}).json()["order"]
        assert found["status"] == "Canceled"


def test_cancel_old_leaves_plain_inactive_stops(server):
    stop = add(server, type="sell", execution="stop_market", stopPrice=at(last(server), "0.8"))["order"]
    limit = add(server, price=at(last(server), "0.8"))["order"]
    server.nobitex("POST", "/market/orders/cancel-old", json={"tradeType": "spot"})
    listed = server.nobitex("GET", "/market/orders/list?details=2").json()["orders"]
    assert stop["id"] in [row["id"] for row in listed]
    assert limit["id"] not in [row["id"] for row in listed]
    assert server.nobitex("GET", "/market/orders/open-count").json()["count"] >= 1
    server.nobitex("POST", "/market/orders/update-status", json={"order": stop["id"], "status": "canceled"})


def test_the_list_hides_ids_unless_asked_and_crawls_forward(server):
    first = add(server, execution="market")["order"]["id"]
    more = [add(server, execution="market")["order"]["id"] for _ in range(3)]
    short = server.nobitex("GET", "/market/orders/list?status=all").json()["orders"][0]
    assert "id" not in short and "status" not in short
    path = f"/market/orders/list?status=all&details=2&order=id&fromId={first}&pageSize=2"
    assert [row["id"] for row in server.nobitex("GET", path).json()["orders"]] == more[:2]
    done = server.nobitex("GET", "/market/orders/list?status=done&details=2&execution=market&type=buy").json()["orders"]
    assert set(more) <= {row["id"] for row in done}
    assert server.nobitex("GET", "/market/orders/list?pageSize=101").json()["code"] == "ParseError"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"srcCurrency": "nope"}, "InvalidMarketPair"),
        ({"type": "hold", "price": "1"}, "ParseError"),
        ({"execution": "iceberg"}, "ParseError"),
        ({"amount": "x", "price": "1"}, "ParseError"),
        ({}, "InvalidOrderPrice"),
        ({"price": "1000", "amount": "0.1"}, "BadPrice"),
        ({"execution": "market", "price": "1000"}, "UnexpectedMarketPrice"),
        ({"execution": "market", "amount": "0.0001"}, "SmallOrder"),
        ({"execution": "market", "amount": "1"}, "OverValueOrder"),
        ({"type": "sell", "execution": "stop_market", "stopPrice": "9000000"}, "PriceConditionFailed"),
        (
            {"type": "sell", "mode": "oco", "price": "1", "stopPrice": "2", "stopLimitPrice": "3"},
            "PriceConditionFailed",
        ),
    ],
)
def test_refusals_carry_the_exchanges_own_codes_and_the_client_id(server, fields, code):
    answer = add(server, clientOrderId="mine", **fields)
    assert (answer["status"], answer["code"], answer["clientOrderId"]) == ("failed", code, "mine")


def test_the_same_order_twice_within_ten_seconds_is_a_duplicate_unless_pro(server):
    price = at(last(server), "0.85")
    first = add(server, price=price, pro="no")["order"]
    assert add(server, price=price, pro="no", clientOrderId="other")["code"] == "DuplicateOrder"
    assert add(server, price=price)["status"] == "ok"
    server.nobitex("POST", "/market/orders/cancel-old", json={})
    assert first["status"] == "Active"


def test_looking_up_nothing_is_refused(server):
    answer = server.nobitex("POST", "/market/orders/status", json={})
    assert answer.json()["code"] == "NullIdAndClientOrderId"


def test_forms_are_read_as_well_as_json(server):
    form = {"type": "buy", "execution": "market", "srcCurrency": "btc", "dstCurrency": "usdt", "amount": "0.002"}
    headers = {"Authorization": f"Token {'ab' * 20}"}
    answer = requests.post(
        f"{server.url}/nobitex/market/orders/add", data=form | {"pro": "yes"}, headers=headers, timeout=5
    )
    assert answer.json()["order"]["status"] == "Done"
