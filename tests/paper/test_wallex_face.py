"""Wallex' wire over a real socket: shapes and codes as the contract has them."""

from __future__ import annotations

import re
import time
from decimal import Decimal
from uuid import uuid4

import pytest

from tests.paper.world import Server

PADDED = re.compile(r"\d+\.\d{16}")


def client_id() -> str:
    return f"T_{uuid4().hex[:20]}"


def last(server: Server) -> Decimal:
    return Decimal(server.wallex("GET", "/v1/trades?symbol=BTCUSDT").json()["result"]["latestTrades"][0]["price"])


def create(server: Server, **fields: str) -> object:
    asked = {"symbol": "BTCUSDT", "type": "LIMIT", "side": "BUY", "quantity": "0.001", "client_id": client_id()}
    return server.wallex("POST", "/v1/account/orders", json=asked | fields)


def error_of(answer: object) -> tuple[int, set[str], list[int]]:
    body = answer.json()
    assert body["success"] is False
    return answer.status_code, set(body["result"]) - {"error_code"}, body["result"].get("error_code", [])


def test_markets_give_grids_as_numbers_of_decimals(server):
    symbols = server.wallex("GET", "/v1/markets", key=None).json()["result"]["symbols"]
    coins = ("BTC", "ETH", "DOGE", "XRP", "SOL", "ADA", "BNB", "TRX", "LTC", "TON")
    assert set(symbols) == {"USDTTMN", *(coin + quote for coin in coins for quote in ("USDT", "TMN"))}
    btc, usdt = symbols["BTCUSDT"], symbols["USDTTMN"]
    assert (btc["tickSize"], btc["stepSize"], btc["minNotional"]) == (2, 8, 1)
    assert (usdt["tickSize"], usdt["stepSize"], usdt["minNotional"], usdt["quoteAsset"]) == (0, 2, 50_000, "TMN")
    assert btc["stats"]["lastQty"] == btc["stats"]["lastPrice"]  # a known defect of the exchange


def test_hector_lists_spot_markets_in_snake_case(server):
    rows = server.wallex("GET", "/hector/web/v1/markets", key=None).json()["result"]["markets"]
    btc = next(row for row in rows if row["symbol"] == "BTCTMN")
    assert (btc["is_spot"], btc["is_tmn_based"], btc["price_precision"], btc["amount_precision"]) == (True, True, 0, 8)


def test_depth_has_text_prices_and_number_quantities_best_first(server):
    book = server.wallex("GET", "/v1/depth?symbol=BTCTMN", key=None).json()["result"]
    asks, bids = ([Decimal(row["price"]) for row in book[side]] for side in ("ask", "bid"))
    assert asks == sorted(asks) and bids == sorted(bids, reverse=True) and bids[0] < asks[0]
    assert isinstance(book["ask"][0]["quantity"], float)
    assert PADDED.fullmatch(book["ask"][0]["sum"])


def test_an_unknown_symbol_is_echoed(server):
    answer = server.wallex("GET", "/v1/depth?symbol=NOPE", key=None)
    assert (answer.status_code, answer.json()["result"]) == (422, {"symbol": "NOPE"})


def test_candles_come_without_envelope_ascending_as_texts(server):
    now = int(time.time())
    chart = server.wallex("GET", f"/v1/udf/history?symbol=BTCUSDT&resolution=60&from={now - 86400}&to={now}").json()
    assert chart["s"] == "ok"
    assert {b - a for a, b in zip(chart["t"], chart["t"][1:], strict=False)} == {3600}
    assert PADDED.fullmatch(chart["c"][0])


@pytest.mark.parametrize(("asked", "spacing"), [("15", 60), ("240", 3600)])
def test_two_resolutions_lie_as_they_do_on_the_exchange(server, asked, spacing):
    now = int(time.time())
    path = f"/v1/udf/history?symbol=BTCUSDT&resolution={asked}&from={now - 3 * 86400}&to={now}"
    times = server.wallex("GET", path).json()["t"]
    assert times[1] - times[0] == spacing
    assert asked != "15" or times[0] >= now - 86_400


def test_five_minutes_are_an_error_and_the_future_is_no_data(server):
    now = int(time.time())
    path = "/v1/udf/history?symbol=BTCUSDT&resolution="
    assert server.wallex("GET", f"{path}5&from={now - 600}&to={now}").json()["s"] == "error"
    assert server.wallex("GET", f"{path}1&from={now + 600}&to={now + 1200}").json() == {
        "s": "no_data", "t": [], "o": [], "h": [], "l": [], "c": [], "v": [],
    }  # fmt: skip


@pytest.mark.parametrize("key", [None, "no-pipe", "9|unknown"])
def test_without_a_known_key_every_account_call_is_1201(server, key):
    answer = server.wallex("GET", "/v1/account/balances", key=key)
    assert (answer.status_code, answer.json()["code"], answer.json()["success"]) == (401, 1201, False)


def test_balances_list_every_asset_with_total_and_locked(server):
    rows = server.wallex("GET", "/v1/account/balances").json()["result"]["balances"]
    assert set(rows) == {"BTC", "ETH", "DOGE", "XRP", "SOL", "ADA", "BNB", "TRX", "LTC", "TON", "USDT", "TMN"}
    assert (rows["TMN"]["fiat"], rows["TMN"]["value"], rows["ETH"]["value"]) == (True, "500000000", "0")


def test_fees_come_beside_keys_that_are_no_markets(server):
    fees = server.wallex("GET", "/v1/account/fee").json()["result"]
    assert (fees["default"], fees["BTCUSDT"]["takerFeeRate"]) == ([], "0.00300000")
    assert set(fees["metaData"]) == {"levels", "coin_levels", "latestTradesSum"}


def test_a_market_buy_answers_201_filled_with_its_fee_in_base(server):
    answer = create(server, type="MARKET", quantity="0.002")
    order = answer.json()["result"]
    assert (answer.status_code, order["status"], order["active"], order["executedPercent"]) == (
        201,
        "FILLED",
        False,
        100,
    )
    assert (order["origSum"], order["sum"]) == (None, None)
    fill = order["fills"][0]
    assert (fill["feeAsset"], fill["isBuyer"], fill["feeCoefficient"]) == ("BTC", True, "0.0030000000000000")
    assert order["fee"] == "0.0000060000000000"
    assert Decimal(order["executedSum"]) == Decimal(fill["price"]) * Decimal("0.002")
    assert "id" not in order and "id" not in fill


def test_an_order_is_read_listed_and_cancelled_by_its_client_id(server):
    price = str((last(server) * Decimal("0.9")).quantize(Decimal("0.01")))
    made = create(server, price=price).json()["result"]
    name = made["clientOrderId"]
    assert (made["status"], made["active"], made["fills"]) == ("NEW", True, [])
    assert server.wallex("GET", f"/v1/account/orders/{name}").json()["result"]["clientOrderId"] == name
    listed = server.wallex("GET", "/v1/account/openOrders?symbol=BTCUSDT&per_page=100").json()
    assert name in [row["clientOrderId"] for row in listed["result"]["orders"]]
    assert listed["result_info"]["total_count"] >= 1
    cancelled = server.wallex("DELETE", f"/v1/account/orders/{name}").json()["result"]
    assert (cancelled["status"], cancelled["active"]) == ("CANCELED", False)
    assert server.wallex("DELETE", f"/v1/account/orders/{name}").status_code == 422


@pytest.mark.parametrize("form", ["query", "body"])
def test_the_older_forms_of_delete_work_too(server, form):
    name = create(server, price="1000").json()["result"]["clientOrderId"]
    more = {"params": {"clientOrderId": name}} if form == "query" else {"json": {"clientOrderId": name}}
    assert server.wallex("DELETE", "/v1/account/orders", **more).json()["result"]["status"] == "CANCELED"


def test_a_stop_needs_its_odd_field_and_echoes_it(server):
    stop = str((last(server) * Decimal("0.9")).quantize(Decimal("0.01")))
    assert error_of(create(server, type="STOP_MARKET", side="SELL", stopPrice=stop)) == (422, {"stop_Price"}, [])
    made = create(server, type="STOP_MARKET", side="SELL", stop_Price=stop).json()["result"]
    assert (made["status"], made["active"], Decimal(made["stopPrice"])) == ("NEW", True, Decimal(stop))
    server.wallex("DELETE", f"/v1/account/orders/{made['clientOrderId']}")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"symbol": "NOPE", "price": "1000"}, (422, {"symbol"}, [])),
        ({"type": "ICEBERG"}, (422, {"type"}, [])),
        ({"side": "HOLD"}, (422, {"side"}, [])),
        ({"quantity": "1e-3", "price": "1000"}, (422, {"quantity"}, [])),
        ({"quantity": "-1", "price": "1000"}, (422, {"quantity"}, [])),
        ({"quantity": "0.000000001", "price": "1000"}, (422, {"quantity"}, [])),
        ({}, (422, {"price"}, [])),
        ({"price": "1000.001"}, (422, {"price"}, [])),
        ({"price": "999.99"}, (422, {"quantity"}, [1003])),
        ({"price": "1000", "quantity": "100"}, (422, {"quantity"}, [1006])),
        ({"price": "1000", "stop_Price": "900"}, (422, {"stop_Price"}, [])),
        ({"price": "1000", "client_id": "no-hyphen"}, (422, {"client_id"}, [])),
    ],
)
def test_what_is_wrong_is_named(server, fields, expected):
    assert error_of(create(server, **fields)) == expected


def test_a_client_id_is_never_accepted_twice(server):
    name = create(server, type="MARKET").json()["result"]["clientOrderId"]
    assert error_of(create(server, type="MARKET", client_id=name)) == (422, {"client_id"}, [])


def test_unknown_orders_and_addresses_are_404(server):
    answer = server.wallex("GET", "/v1/account/orders/nobody")
    assert (answer.status_code, answer.json()["code"]) == (404, 404)
    assert server.wallex("GET", "/v1/market/klines").json() == {"message": "Not Found"}


def test_history_and_trades_page_and_filter(server):
    for _ in range(3):
        create(server, type="MARKET")
    today = time.strftime("%Y-%m-%d", time.gmtime())
    path = f"/v1/account/orders?market=BTCUSDT&type=MARKET&side=BUY&from={today}&to={today}&per_page=2"
    body = server.wallex("GET", path).json()
    assert [row["type"] for row in body["result"]["orders"]] == ["MARKET", "MARKET"]
    assert body["result_info"]["total_count"] >= 3
    trades = server.wallex("GET", "/v1/account/trades?symbol=BTCUSDT&side=buy&per_page=2").json()["result"]
    assert {"symbol", "price", "fee", "feeAsset", "isBuyer", "timestamp"} <= set(trades["AccountLatestTrades"][0])
    assert server.wallex("GET", "/v1/account/orders?per_page=1000").status_code == 422


def test_a_broken_body_is_a_400(server):
    assert server.wallex("POST", "/v1/account/orders", data="{").status_code == 400
