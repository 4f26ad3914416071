"""The Wallex client against a scripted exchange on a real socket."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from providers.budgets import Priority
from providers.errors import (
    AlreadySubmitted,
    AuthFailed,
    BadPayload,
    OrderNotFound,
    OrderRejected,
    OutcomeUnknown,
    ProviderError,
    RejectReason,
    Unavailable,
)
from providers.interface import ExchangeProvider
from providers.types import OcoRequest, OrderRef, OrderRequest, OrderStatus, OrderType, ProtectionMode, Resolution, Side
from providers.wallex.client import CREATE, PROTECT, WallexClient
from tests.providers.conftest import NOW, WALLEX_KEY, Reply, Request, ScriptedExchange
from tests.providers.test_wallex_mapping import fill, order

REF = OrderRef("USDTTMN", client_order_id="T1ABC")


def ok(result: Any, status: int = 200, **more: Any) -> Reply:
    return Reply({"success": True, "message": "عملیات موفق", "result": result} | more, status)


def refused(status: int, code: int, result: Any = None) -> Reply:
    return Reply({"success": False, "code": code, "message": "نه", "result": result or {}}, status)


def buy(**changes: Any) -> OrderRequest:
    base = {"symbol": "USDTTMN", "side": Side.BUY, "type": OrderType.LIMIT, "price": Decimal(228900)}
    return OrderRequest(**({"client_order_id": "T1ABC", "quantity": Decimal(10)} | base | changes))


def test_it_keeps_the_protocol(wallex: WallexClient) -> None:
    assert isinstance(wallex, ExchangeProvider)
    assert wallex.capabilities().protection_mode is ProtectionMode.LOCKING_STOPS
    assert wallex.capabilities().finds_closed_by_client_id
    assert WALLEX_KEY not in repr(wallex)


def test_an_order_is_sent_with_our_id_and_read_back(wallex: WallexClient, exchange: ScriptedExchange) -> None:
    exchange.replies(ok(order(executedQty="4", executedSum="915600", fills=[fill("228900", "4", 1, "0.008")]), 201))
    report = wallex.create_order(buy())
    sent = exchange.requests[0]
    assert (sent.method, sent.path) == ("POST", "/some/prefix/v1/account/orders")
    assert sent.json == {
        "symbol": "USDTTMN",
        "type": "LIMIT",
        "side": "BUY",
        "quantity": "10",
        "price": "228900",
        "client_id": "T1ABC",
    }
    assert sent.headers["x-api-key"] == WALLEX_KEY
    assert sent.headers["Content-Type"] == "application/json"
    assert report.status is OrderStatus.PARTIALLY_FILLED
    assert (report.exchange_order_id, report.client_order_id) == ("T1ABC", "T1ABC")
    assert (report.fills[0].fee, report.fills_complete) == (Decimal("0.008"), True)


def test_an_id_made_by_the_exchange_is_kept_beside_ours(wallex: WallexClient, exchange: ScriptedExchange) -> None:
    theirs = "LIMIT-670f7c34-d609-40d3-b98e-0150640d79cb"
    exchange.replies(ok(order(clientOrderId=theirs), 201))
    report = wallex.create_order(buy())
    assert (report.exchange_order_id, report.client_order_id) == (theirs, "T1ABC")


@pytest.mark.parametrize(
    "change",
    [
        {"clientOrderId": "T1OTHER"},
        {"symbol": "BTCTMN"},
        {"side": "SELL"},
        {"type": "MARKET"},
        {"clientOrderId": "LIMIT-670f7c34-d609-40d3-b98e-0150640d79cb", "origQty": "9"},
        {"status": "STRANGE"},
        {"origQty": None},
    ],
)
def test_an_answer_about_another_order_leaves_the_outcome_open(
    wallex: WallexClient, exchange: ScriptedExchange, change: dict[str, Any]
) -> None:
    exchange.replies(ok(order(**change), 201))
    with pytest.raises(OutcomeUnknown) as caught:
        wallex.create_order(buy())
    assert not isinstance(caught.value, AlreadySubmitted)
    assert len(exchange.requests) == 1


@pytest.mark.parametrize(
    ("reply", "error", "reason"),
    [
        (refused(422, 422, {"error_code": [1003]}), OrderRejected, RejectReason.BELOW_MINIMUM),
        (
            refused(422, 422, {"error_code": [1006], "quantity": ["x"]}),
            OrderRejected,
            RejectReason.INSUFFICIENT_BALANCE,
        ),
        (refused(422, 422, {"price": ["x"]}), OrderRejected, RejectReason.INVALID),
        (refused(400, 77), OrderRejected, RejectReason.OTHER),
        (refused(200, 422, {"error_code": [1006]}), OrderRejected, RejectReason.INSUFFICIENT_BALANCE),
        (refused(422, 422, {"client_id": ["not unique"]}), AlreadySubmitted, None),
        (refused(200, 9999), OutcomeUnknown, None),
        (refused(418, 9999), OutcomeUnknown, None),
        (Reply({"message": "?"}), OutcomeUnknown, None),
        (Reply([]), OutcomeUnknown, None),
        (ok(None, 201), OutcomeUnknown, None),
        (refused(200, 1201), AuthFailed, None),
        (refused(401, 1201), AuthFailed, None),
        (refused(403, 403), AuthFailed, None),
    ],
)
def test_what_a_refusal_means(
    wallex: WallexClient,
    exchange: ScriptedExchange,
    reply: Reply,
    error: type[ProviderError],
    reason: RejectReason | None,
) -> None:
    exchange.replies(reply)
    with pytest.raises(error) as caught:
        wallex.create_order(buy())
    assert type(caught.value) is error
    if reason is not None:
        assert caught.value.reason is reason  # type: ignore[attr-defined]
    assert len(exchange.requests) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"client_order_id": "lower"},
        {"client_order_id": "WITH-HYPHEN"},
        {"client_order_id": "A" * 33},
        {"client_order_id": ""},
        {"price": None},
        {"quantity": Decimal(0)},
        {"type": OrderType.STOP_MARKET},
        {"quantity": Decimal("NaN")},
    ],
)
def test_what_cannot_be_an_order_is_rejected_before_it_is_sent(
    wallex: WallexClient, exchange: ScriptedExchange, change: dict[str, Any]
) -> None:
    with pytest.raises(OrderRejected) as caught:
        wallex.create_order(buy(**change))
    assert caught.value.reason is RejectReason.INVALID
    assert exchange.requests == []


def test_stops_may_use_the_reserve_of_the_budget() -> None:
    assert (CREATE.priority, PROTECT.priority) == (Priority.NORMAL, Priority.EXITS)
    assert CREATE.budget == PROTECT.budget


def test_there_is_no_oco(wallex: WallexClient, exchange: ScriptedExchange) -> None:
    one = Decimal(1)
    with pytest.raises(OrderRejected):
        wallex.create_oco(OcoRequest("T1", "USDTTMN", Side.SELL, one, one, one, one))
    assert exchange.requests == []


# --- cancel ---


def test_a_cancel_names_the_order_in_the_path(wallex: WallexClient, exchange: ScriptedExchange) -> None:
    exchange.replies(ok(order(active=False, status="CANCELED", executedQty="3", executedSum="686700")))
    report = wallex.cancel_order(REF)
    assert (exchange.requests[0].method, exchange.requests[0].path) == (
        "DELETE",
        "/some/prefix/v1/account/orders/T1ABC",
    )
    assert (report.status, report.filled_quantity) == (OrderStatus.CANCELED, 3)


def delete_form(request: Request) -> str:
    if request.path.endswith("/T1ABC"):
        return "path"
    return "query" if request.query else "body"


@pytest.mark.parametrize(("works", "tried"), [("query", ["path", "query"]), ("body", ["path", "query", "body"])])
def test_other_forms_of_cancel_are_tried_and_the_working_one_is_kept(
    wallex: WallexClient, exchange: ScriptedExchange, works: str, tried: list[str]
) -> None:
    def answer(request: Request) -> Reply:
        if delete_form(request) != works:
            return Reply(b"<html>", 405, kind="text/html")
        return ok(order(active=False, status="CANCELED"))

    exchange.answer = answer
    wallex.cancel_order(REF)
    wallex.cancel_order(REF)
    assert [delete_form(request) for request in exchange.requests] == [*tried, works]
    assert exchange.requests[-1].query in ({}, {"clientOrderId": "T1ABC"})


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (refused(422, 422), OrderNotFound),
        (refused(404, 404), OrderNotFound),
        (refused(200, 1), OutcomeUnknown),
        (ok(order(clientOrderId="T1OTHER")), OutcomeUnknown),
        (Reply(mode="reset"), OutcomeUnknown),
    ],
)
def test_a_cancel_that_is_not_confirmed(
    wallex: WallexClient, exchange: ScriptedExchange, reply: Reply, error: type[ProviderError]
) -> None:
    exchange.replies(reply)
    with pytest.raises(error):
        wallex.cancel_order(REF)


# --- reads of orders ---


def test_an_order_is_asked_for_by_its_id(wallex: WallexClient, exchange: ScriptedExchange) -> None:
    exchange.replies(ok(order()))
    assert wallex.fetch_order(REF).status is OrderStatus.OPEN
    assert exchange.requests[0].path == "/some/prefix/v1/account/orders/T1ABC"


def test_the_exchanges_own_id_is_tried_first_and_ours_next(wallex: WallexClient, exchange: ScriptedExchange) -> None:
    exchange.replies(refused(404, 404), ok(order()))
    wallex.fetch_order(OrderRef("USDTTMN", "T1ABC", "LIMIT-1"))
    assert [request.path.rpartition("/")[2] for request in exchange.requests] == ["LIMIT-1", "T1ABC"]


def test_a_404_with_json_is_not_found_and_one_with_a_page_is_no_answer(
    wallex: WallexClient, exchange: ScriptedExchange
) -> None:
    exchange.replies(refused(404, 404))
    with pytest.raises(OrderNotFound):
        wallex.fetch_order(REF)
    exchange.replies(Reply(b"<html>", 404, kind="text/html"))
    with pytest.raises(BadPayload):
        wallex.fetch_order(REF)


@pytest.mark.parametrize("change", [{"clientOrderId": "T1OTHER"}, {"symbol": "BTCTMN"}])
def test_an_answer_about_another_order_is_no_answer(
    wallex: WallexClient, exchange: ScriptedExchange, change: dict[str, Any]
) -> None:
    exchange.replies(ok(order(**change)))
    with pytest.raises(BadPayload):
        wallex.fetch_order(REF)


def test_fills_come_from_the_order_unless_they_are_known(wallex: WallexClient, exchange: ScriptedExchange) -> None:
    exchange.replies(ok(order(executedQty="4", fills=None)), ok(order(executedQty="4", fills=[fill("1", "4", 1)])))
    bare = wallex.fetch_order(REF)
    assert [f.quantity for f in wallex.fetch_fills(bare)] == [4]
    full = wallex.fetch_order(REF)
    calls = len(exchange.requests)
    assert wallex.fetch_fills(full) == full.fills
    assert len(exchange.requests) == calls


ROWS = [order(clientOrderId=f"T1_{n}") for n in range(45)]


@pytest.mark.parametrize(
    "shape", [lambda rows: {"orders": rows}, lambda rows: rows, lambda rows: {"USDTTMN": rows[:5], "x": rows[5:]}]
)
@pytest.mark.parametrize("page_size", [20, 45, 100])
def test_all_pages_of_open_orders_are_read_whatever_their_shape_and_size(
    wallex: WallexClient, exchange: ScriptedExchange, shape: Callable[[list[Any]], Any], page_size: int
) -> None:
    def answer(request: Request) -> Reply:
        page = int(request.query["page"]) - 1
        return ok(shape(ROWS[page * page_size : (page + 1) * page_size]))

    exchange.answer = answer
    assert len({report.client_order_id for report in wallex.open_orders("USDTTMN")}) == 45
    assert exchange.requests[0].query["per_page"] == "100"


def test_an_exchange_that_repeats_its_page_does_not_hold_us_for_ever(
    wallex: WallexClient, exchange: ScriptedExchange
) -> None:
    exchange.replies(ok({"orders": ROWS}))
    assert len(wallex.open_orders()) == 45
    assert len(exchange.requests) == 2


@pytest.mark.parametrize("total", [46, 90])
def test_a_repeated_page_is_not_the_whole_list_where_the_exchange_counts_more(
    wallex: WallexClient, exchange: ScriptedExchange, total: int
) -> None:
    exchange.replies(ok({"orders": ROWS}, result_info={"total_count": total}))
    with pytest.raises(BadPayload, match="not complete"):
        wallex.open_orders()


def test_a_list_that_holds_one_unreadable_order_is_no_answer(wallex: WallexClient, exchange: ScriptedExchange) -> None:
    exchange.replies(ok({"orders": [*ROWS, order(status="STRANGE")]}))
    with pytest.raises(BadPayload):
        wallex.open_orders()


def test_other_markets_orders_are_left_out_whatever_the_exchange_sends(
    wallex: WallexClient, exchange: ScriptedExchange
) -> None:
    exchange.replies(ok([order(), order(clientOrderId="X", symbol="BTCTMN")]))
    assert [report.symbol for report in wallex.open_orders("USDTTMN")] == ["USDTTMN"]


def test_orders_since_joins_history_and_open_orders(wallex: WallexClient, exchange: ScriptedExchange) -> None:
    otc = order(clientOrderId="OTC-1", type="OTC", status="FILLED", executedQty="10", active=False)
    history = [
        order(clientOrderId="OLD", created_at="2026-01-01T09:59:59Z", active=False, status="CANCELED"),
        order(clientOrderId="B", created_at="2026-01-01T11:00:00Z", active=False, status="CANCELED"),
        otc | {"created_at": "2026-01-01T10:30:00Z"},
    ]

    def answer(request: Request) -> Reply:
        return ok({"orders": [order()]}) if "openOrders" in request.path else ok({"a": history})

    exchange.answer = answer
    found = wallex.orders_since("USDTTMN", NOW - timedelta(hours=2))
    assert [report.client_order_id for report in found] == ["T1ABC", "OTC-1", "B"]
    assert found[1].type is None
    query = exchange.requests[0].query
    assert (query["market"], query["from"], query["to"]) == ("USDTTMN", "2025-12-31", "2026-01-02")


def test_own_trades_are_evidence_without_an_order(wallex: WallexClient, exchange: ScriptedExchange) -> None:
    rows = [fill("100", "1", second) | {"symbol": "USDTTMN"} for second in (9, 8, 7)]
    exchange.replies(ok({"AccountLatestTrades": rows}))
    trades = wallex.own_trades("USDTTMN", datetime(2026, 1, 1, 10, 0, 8, tzinfo=UTC))
    assert [trade.executed_at.second for trade in trades] == [8, 9]
    assert trades[0].exchange_order_id is trades[0].client_order_id is None


def test_without_a_trades_call_the_orders_tell(wallex: WallexClient, exchange: ScriptedExchange) -> None:
    def answer(request: Request) -> Reply:
        if "trades" in request.path:
            return Reply({"success": False, "code": 404}, 404)
        return ok({"orders": [order(executedQty="4", fills=[fill("1", "4", 1)])]})

    exchange.answer = answer
    trades = wallex.own_trades("USDTTMN", NOW - timedelta(hours=3))
    assert [(trade.client_order_id, trade.quantity) for trade in trades] == [("T1ABC", 4)]


# --- market data and account ---

MARKET = {
    "symbol": "USDTTMN",
    "baseAsset": "USDT",
    "quoteAsset": "TMN",
    "stepSize": 2,
    "tickSize": 0,
    "minQty": 1,
    "minNotional": 5,
}


def test_markets_carry_the_accounts_fees_and_unreadable_ones_are_left_out(
    wallex: WallexClient, exchange: ScriptedExchange, caplog: pytest.LogCaptureFixture
) -> None:
    def answer(request: Request) -> Reply:
        if "fee" in request.path:
            rates = {"makerFeeRate": "0.001", "takerFeeRate": "0.0015", "recent_days_sum": 0}
            return ok({"USDTTMN": rates, "default": [], "metaData": {"levels": []}})
        return ok({"symbols": {"USDTTMN": MARKET, "XTMN": MARKET | {"symbol": "XTMN"}, "BAD": {"symbol": "BAD"}}})

    exchange.answer = answer
    rules = {rule.symbol: rule for rule in wallex.markets()}
    assert set(rules) == {"USDTTMN", "XTMN"}
    assert rules["USDTTMN"].taker_fee_rate == Decimal("0.0015")
    assert rules["XTMN"].taker_fee_rate == Decimal("0.003"), "the documented rate, where the account's list has none"
    assert "BAD" in caplog.text


def test_without_a_key_markets_have_the_documented_fees(exchange: ScriptedExchange) -> None:
    exchange.replies(ok({"symbols": {"USDTTMN": MARKET}}))
    client = WallexClient(exchange.url)
    assert client.markets()[0].maker_fee_rate == Decimal("0.002")
    with pytest.raises(AuthFailed):
        client.balances()
    assert len(exchange.requests) == 1


def test_balances_are_total_and_locked_without_the_empty_ones(wallex: WallexClient, exchange: ScriptedExchange) -> None:
    def asset(name: str, value: str, locked: str) -> dict[str, Any]:
        return {"asset": name, "faName": "نام", "fiat": name == "TMN", "value": value, "locked": locked}

    exchange.replies(ok({"balances": {"TMN": asset("TMN", "1000", "250"), "BTC": asset("BTC", "0.00000000", "0")}}))
    balances = wallex.balances()
    assert set(balances) == {"TMN"}
    assert balances["TMN"].available == 750


def test_the_last_price_is_that_of_the_newest_trade(wallex: WallexClient, exchange: ScriptedExchange) -> None:
    def trade(price: str, stamp: str) -> dict[str, Any]:
        return {"symbol": "X", "quantity": "1", "price": price, "isBuyOrder": True, "timestamp": stamp}

    trades = [
        trade("10", "2026-01-01T10:00:05Z"),
        trade("11", "2026-01-01T10:00:05Z"),
        trade("12", "2026-01-01T10:00:01Z"),
    ]
    exchange.replies(ok({"latestTrades": trades}), ok({"latestTrades": []}))
    assert wallex.last_price("USDTTMN") == 10
    with pytest.raises(BadPayload):
        wallex.last_price("USDTTMN")


def test_an_unknown_symbol_is_no_answer(wallex: WallexClient, exchange: ScriptedExchange) -> None:
    exchange.replies(Reply({"success": False, "code": 422, "message": "نماد", "result": {"symbol": ["NOPE"]}}, 422))
    with pytest.raises(BadPayload, match="symbol"):
        wallex.order_book("NOPE")


# --- candles ---

START = datetime(2026, 1, 1, tzinfo=UTC)
STEPS = {"1": 60, "60": 3600, "1D": 86400}


def chart_server(exchange: ScriptedExchange, *, cap: int = 10_000, missing: set[int] = frozenset()) -> None:  # type: ignore[assignment]
    """Serves at most `cap` of the newest candles in the range; candle n after START closes at n + 1."""

    def answer(request: Request) -> Reply:
        step = STEPS[request.query["resolution"]]
        first, last = int(request.query["from"]), int(request.query["to"])
        times = [t for t in range(-(-first // step) * step, last + 1, step) if t not in missing][-cap:]
        prices = [f"{(t - int(START.timestamp())) // step + 1}.0000000000000000" for t in times]
        if not times or int(prices[0].split(".")[0]) < 1:
            return Reply({"s": "no_data", "t": []})
        columns = {name: prices for name in "ohlc"} | {"v": ["1.0"] * len(times)}
        return Reply({"s": "ok", "t": times, **columns})

    exchange.answer = answer


def test_native_candles_have_their_start_and_not_their_end(wallex: WallexClient, exchange: ScriptedExchange) -> None:
    chart_server(exchange)
    candles = wallex.candles("BTCTMN", Resolution.H1, START, START + timedelta(hours=3))
    assert [candle.open_time.hour for candle in candles] == [0, 1, 2]
    assert candles[0].close == 1


@pytest.mark.parametrize("cap", [10_000, 300])
def test_long_ranges_are_read_in_windows_and_cut_answers_are_completed(
    wallex: WallexClient, exchange: ScriptedExchange, cap: int
) -> None:
    chart_server(exchange, cap=cap)
    candles = wallex.candles("BTCTMN", Resolution.M1, START, START + timedelta(minutes=3000))
    assert [candle.close for candle in candles] == list(range(1, 3001))


def test_other_resolutions_are_gathered_from_truthful_ones(wallex: WallexClient, exchange: ScriptedExchange) -> None:
    chart_server(exchange, missing={int(START.timestamp()) + 900 + 60 * n for n in range(15)})
    candles = wallex.candles("BTCTMN", Resolution.M15, START + timedelta(minutes=1), START + timedelta(hours=1))
    assert {request.query["resolution"] for request in exchange.requests} == {"1"}
    assert [candle.open_time.minute for candle in candles] == [30, 45], "begun before the start, or missing: left out"
    assert (candles[0].open, candles[0].close, candles[0].volume) == (31, 45, 15)


def test_finer_candles_than_asked_for_are_no_answer(wallex: WallexClient, exchange: ScriptedExchange) -> None:
    begin = int(START.timestamp())
    times = [begin + 60 * n for n in range(120)]
    exchange.replies(Reply({"s": "ok", "t": times} | {name: ["1"] * 120 for name in "ohlcv"}))
    with pytest.raises(BadPayload):
        wallex.candles("BTCTMN", Resolution.H1, START, START + timedelta(hours=5))


def test_no_data_is_an_empty_list_and_an_error_is_unavailable(wallex: WallexClient, exchange: ScriptedExchange) -> None:
    exchange.replies(Reply({"s": "no_data"}))
    assert wallex.candles("BTCTMN", Resolution.H1, START, START + timedelta(hours=2)) == []
    exchange.replies(Reply({"s": "error", "errmsg": "no"}))
    with pytest.raises(Unavailable):
        wallex.candles("BTCTMN", Resolution.H1, START, START + timedelta(hours=2))
