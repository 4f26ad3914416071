"""The Nobitex client against a scripted exchange on a real socket."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from providers.errors import (
    AlreadySubmitted,
    AuthFailed,
    BadPayload,
    OrderNotFound,
    OrderRejected,
    OutcomeUnknown,
    ProviderError,
    RateLimited,
    RejectReason,
    Unavailable,
)
from providers.http import CLIENT_VERSION
from providers.interface import ExchangeProvider
from providers.nobitex.client import NobitexClient
from providers.transport import NoAuth
from providers.types import (
    OcoRequest,
    OrderRef,
    OrderReport,
    OrderRequest,
    OrderStatus,
    OrderType,
    ProtectionMode,
    Resolution,
    Side,
)
from tests.providers.conftest import NOBITEX_TOKEN, NOW, Reply, Request, ScriptedExchange
from tests.providers.test_nobitex_mapping import order

BY_ID = OrderRef("BTCIRT", "T1ABC", "26")
BY_CLIENT_ID = OrderRef("BTCIRT", "T1ABC")
OPTIONS = {
    "status": "ok",
    "coins": [{"coin": "btc", "name": "Bitcoin"}, {"coin": "rls", "name": "Rial", "stdName": "﷼"}],
    "nobitex": {
        "minOrders": {"rls": "3000000"},
        "amountPrecisions": {"BTCIRT": "1e-6"},
        "pricePrecisions": {"BTCIRT": "10"},
    },
}


def ok(**fields: Any) -> Reply:
    return Reply({"status": "ok"} | fields)


def failed(code: str, status: int = 200) -> Reply:
    return Reply(
        {"status": "failed", "code": code, "message": "Order Validation Failed", "clientOrderId": None}, status
    )


def sell(kind: OrderType = OrderType.LIMIT, **changes: Any) -> OrderRequest:
    prices = {"price": Decimal(5000), "stop_price": Decimal(4750) if kind.is_stop else None}
    base = {
        "client_order_id": "T1ABC",
        "symbol": "BTCIRT",
        "side": Side.SELL,
        "type": kind,
        "quantity": Decimal("0.64"),
    }
    return OrderRequest(**(base | prices | changes))


OCO = OcoRequest("T1ABC", "BTCIRT", Side.SELL, Decimal("0.64"), Decimal(5000), Decimal(4750), Decimal(4700))


def test_it_keeps_the_protocol(nobitex: NobitexClient) -> None:
    assert isinstance(nobitex, ExchangeProvider)
    found = nobitex.capabilities()
    assert found.protection_mode is ProtectionMode.NATIVE_OCO
    assert (found.stop_market, found.stop_limit, found.market_takes_price) == (True, True, True)
    assert found.stops_lock_balance
    assert not found.finds_closed_by_client_id
    assert NOBITEX_TOKEN not in repr(nobitex)


def test_calls_carry_the_token_and_name_themselves(nobitex: NobitexClient, exchange: ScriptedExchange) -> None:
    exchange.replies(ok(order=order()))
    nobitex.fetch_order(BY_ID)
    headers = exchange.requests[0].headers
    assert headers["Authorization"] == f"Token {NOBITEX_TOKEN}"
    assert headers["User-Agent"] == f"TraderBot/algo_trade-{CLIENT_VERSION}"


def test_another_way_of_signing_takes_the_tokens_place(exchange: ScriptedExchange) -> None:
    class Signed(NoAuth):
        def __call__(self, r: Any) -> Any:
            r.headers["Nobitex-Signature"] = f"{r.method} {r.path_url} {r.body.decode()}"
            return r

    exchange.replies(ok(order=order()))
    NobitexClient(exchange.url, auth=Signed()).fetch_order(BY_ID)
    sent = exchange.requests[0]
    assert sent.headers["Nobitex-Signature"] == f"POST {sent.path} {sent.body.decode()}"
    assert "Authorization" not in sent.headers


# --- create ---


def test_an_order_goes_out_in_rial_and_comes_back_in_toman(nobitex: NobitexClient, exchange: ScriptedExchange) -> None:
    exchange.replies(ok(order=order()))
    report = nobitex.create_order(sell(OrderType.STOP_MARKET))
    assert exchange.requests[0].path == "/some/prefix/market/orders/add"
    assert exchange.requests[0].json == {
        "type": "sell",
        "execution": "stop_market",
        "srcCurrency": "btc",
        "dstCurrency": "rls",
        "amount": "0.64",
        "stopPrice": "47500",
        "clientOrderId": "T1ABC",
    }
    assert (report.status, report.stop_price, report.exchange_order_id) == (OrderStatus.OPEN, 4750, "26")


@pytest.mark.parametrize(
    ("reply", "error", "reason"),
    [
        (failed("BadPrice"), OrderRejected, RejectReason.PRICE_OUT_OF_BAND),
        (failed("UnexpectedMarketPrice"), OrderRejected, RejectReason.PRICE_OUT_OF_BAND),
        (failed("OverValueOrder"), OrderRejected, RejectReason.INSUFFICIENT_BALANCE),
        (failed("SmallOrder"), OrderRejected, RejectReason.BELOW_MINIMUM),
        (failed("MarketClosed"), OrderRejected, RejectReason.MARKET_CLOSED),
        (failed("TradingUnavailable"), OrderRejected, RejectReason.OTHER),
        (failed("PriceConditionFailed"), OrderRejected, RejectReason.PRICE_OUT_OF_BAND),
        (failed("ParseError", 400), OrderRejected, RejectReason.INVALID),
        (failed("SomethingNew", 400), OrderRejected, RejectReason.INVALID),
        (failed("SomethingNew"), OutcomeUnknown, None),
        (failed("DuplicateOrder"), AlreadySubmitted, None),
        (failed("DuplicateClientOrderId"), AlreadySubmitted, None),
        (Reply({"status": "failed", "code": "TooManyRequests", "backOff": 12}), RateLimited, None),
        (Reply({"detail": "اطلاعات برای اعتبارسنجی ارسال نشده است."}, 401), AuthFailed, None),
        (Reply({"detail": "?"}), OutcomeUnknown, None),
        (Reply(b"<html>", 404, kind="text/html"), OutcomeUnknown, None),
        (ok(), OutcomeUnknown, None),
        (ok(order=order(clientOrderId="T1OTHER")), OutcomeUnknown, None),
        (ok(order=order(clientOrderId=None, amount="0.63")), OutcomeUnknown, None),
        (ok(order=order(type="buy")), OutcomeUnknown, None),
        (ok(order=order(market="ETH-RLS")), OutcomeUnknown, None),
        (ok(order=order(id=...)), OutcomeUnknown, None),
        (ok(order=order(status="Frozen")), OutcomeUnknown, None),
        (Reply(mode="reset"), OutcomeUnknown, None),
    ],
)
def test_what_an_answer_to_an_order_means(
    nobitex: NobitexClient,
    exchange: ScriptedExchange,
    reply: Reply,
    error: type[ProviderError],
    reason: RejectReason | None,
) -> None:
    exchange.replies(reply)
    with pytest.raises(error) as caught:
        nobitex.create_order(sell())
    assert type(caught.value) is error
    if reason is not None:
        assert caught.value.reason is reason  # type: ignore[attr-defined]
    assert len(exchange.requests) == 1


def test_a_failed_price_condition_of_a_stop_means_that_it_is_crossed(
    nobitex: NobitexClient, exchange: ScriptedExchange
) -> None:
    exchange.replies(failed("PriceConditionFailed"))
    for place in (lambda: nobitex.create_order(sell(OrderType.STOP_LIMIT)), lambda: nobitex.create_oco(OCO)):
        with pytest.raises(OrderRejected) as caught:
            place()
        assert caught.value.reason is RejectReason.STOP_ALREADY_CROSSED
        assert caught.value.code == "PriceConditionFailed"


@pytest.mark.parametrize(
    "change",
    [
        {"client_order_id": "a"},
        {"client_order_id": "A-B"},
        {"symbol": "BTCTMN"},
        {"symbol": "../IRT"},
        {"price": None},
        {"price": Decimal("Infinity")},
        {"quantity": Decimal(0)},
        {"stop_price": Decimal(1)},
        {"type": OrderType.STOP_LIMIT},
    ],
)
def test_what_cannot_be_an_order_is_rejected_before_it_is_sent(
    nobitex: NobitexClient, exchange: ScriptedExchange, change: dict[str, Any]
) -> None:
    with pytest.raises(OrderRejected):
        nobitex.create_order(sell(**change))
    assert exchange.requests == []


def leg(order_id: int, pair_id: int, **changes: Any) -> dict[str, Any]:
    return order(id=order_id, pairId=pair_id, **changes)


LIMIT_LEG = leg(27, 28, execution="Limit", param1=..., price="50000", status="Active")
STOP_LEG = leg(28, 27, execution="StopLimit", price="47000", clientOrderId=None)


def test_an_oco_gives_both_legs_limit_first(nobitex: NobitexClient, exchange: ScriptedExchange) -> None:
    exchange.replies(ok(orders=[STOP_LEG, LIMIT_LEG]))
    limit, stop = nobitex.create_oco(OCO)
    sent = exchange.requests[0].json
    assert (sent["mode"], sent["price"], sent["stopPrice"], sent["stopLimitPrice"]) == (
        "oco",
        "50000",
        "47500",
        "47000",
    )
    assert (limit.exchange_order_id, limit.pair_id, limit.price) == ("27", "28", 5000)
    assert (stop.exchange_order_id, stop.pair_id, stop.client_order_id) == ("28", "27", None)


@pytest.mark.parametrize(
    "rows", [[LIMIT_LEG], [LIMIT_LEG, LIMIT_LEG], [LIMIT_LEG | {"clientOrderId": "T1X"}, STOP_LEG], None]
)
def test_an_oco_answer_that_is_no_pair_leaves_the_outcome_open(
    nobitex: NobitexClient, exchange: ScriptedExchange, rows: Any
) -> None:
    exchange.replies(ok(orders=rows))
    with pytest.raises(OutcomeUnknown):
        nobitex.create_oco(OCO)


# --- cancel ---


def test_a_cancel_goes_by_id_and_shows_what_was_filled(nobitex: NobitexClient, exchange: ScriptedExchange) -> None:
    exchange.replies(ok(updatedStatus="Canceled", order=order(status="Canceled", matchedAmount="0.1")))
    report = nobitex.cancel_order(BY_ID)
    assert exchange.requests[0].path.endswith("/market/orders/update-status")
    assert exchange.requests[0].json == {"status": "canceled", "order": 26}
    assert (report.status, report.filled_quantity) == (OrderStatus.CANCELED, Decimal("0.1"))


def test_without_an_id_a_cancel_goes_by_client_id(nobitex: NobitexClient, exchange: ScriptedExchange) -> None:
    exchange.replies(ok(order=order(status="Canceled")))
    nobitex.cancel_order(BY_CLIENT_ID)
    assert exchange.requests[0].json == {"status": "canceled", "clientOrderId": "T1ABC"}


@pytest.mark.parametrize("first", [ok(updatedStatus="Canceled"), ok(order=order(status="Active"))])
def test_a_cancel_that_does_not_show_the_end_is_read_back(
    nobitex: NobitexClient, exchange: ScriptedExchange, first: Reply
) -> None:
    exchange.replies(first, ok(order=order(status="Done", matchedAmount="0.64")))
    assert nobitex.cancel_order(BY_ID).status is OrderStatus.FILLED
    assert exchange.requests[1].json == {"id": 26}


@pytest.mark.parametrize(
    ("replies", "error"),
    [
        ([failed("SimInvalidTransition")], OrderNotFound),
        ([failed("NotFound", 404)], OrderNotFound),
        ([ok(updatedStatus="Canceled"), failed("NotFound", 404)], OutcomeUnknown),
        ([ok(order=order(id=99))], OutcomeUnknown),
        ([Reply({"detail": "?"})], OutcomeUnknown),
        ([Reply(b"<html>", 404, kind="text/html")], OutcomeUnknown),
        ([Reply(mode="reset")], OutcomeUnknown),
    ],
)
def test_a_cancel_that_is_not_confirmed(
    nobitex: NobitexClient, exchange: ScriptedExchange, replies: list[Reply], error: type[ProviderError]
) -> None:
    exchange.replies(*replies)
    with pytest.raises(error):
        nobitex.cancel_order(BY_ID)


# --- reads of orders ---


def test_an_order_is_asked_for_by_id_else_by_client_id(nobitex: NobitexClient, exchange: ScriptedExchange) -> None:
    exchange.replies(ok(order=order()))
    nobitex.fetch_order(BY_ID)
    nobitex.fetch_order(BY_CLIENT_ID)
    assert [request.json for request in exchange.requests] == [{"id": 26}, {"clientOrderId": "T1ABC"}]


@pytest.mark.parametrize("reply", [failed("NotFound", 404), failed("SimUnknown"), ok(), ok(order=None)])
def test_every_way_of_saying_that_there_is_no_such_order(
    nobitex: NobitexClient, exchange: ScriptedExchange, reply: Reply
) -> None:
    exchange.replies(reply)
    with pytest.raises(OrderNotFound):
        nobitex.fetch_order(BY_ID)


@pytest.mark.parametrize(
    "reply",
    [
        ok(order=order(id=27)),
        ok(order=order(market="ETH-RLS")),
        Reply({}),
        Reply({"detail": "?"}),
        Reply(b"<html>", 404, kind="text/html"),
        Reply([]),
    ],
)
def test_what_is_neither_the_order_nor_a_clear_no_is_no_answer(
    nobitex: NobitexClient, exchange: ScriptedExchange, reply: Reply
) -> None:
    exchange.replies(reply)
    with pytest.raises(BadPayload):
        nobitex.fetch_order(BY_ID)


def listed(n: int, **changes: Any) -> dict[str, Any]:
    stamp = (NOW + timedelta(minutes=n - 300)).isoformat()
    return order(id=n, clientOrderId=f"T1_{n}", created_at=stamp, tradeType="Spot", market=..., **changes)


def list_server(exchange: ScriptedExchange, rows: list[dict[str, Any]]) -> None:
    """orders/list as the contract has it: fromId excludes itself, and is not combined with page."""

    def answer(request: Request) -> Reply:
        if "options" in request.path:
            return Reply(OPTIONS)
        query = request.query
        assert not ("fromId" in query and "page" in query)
        found = [row for row in rows if row["id"] > int(query.get("fromId", 0))]
        found.sort(key=lambda row: row["id"], reverse=query["order"] == "-id")
        first = (int(query.get("page", 1)) - 1) * 100
        return ok(orders=found[first : first + 100])

    exchange.answer = answer


def test_open_orders_are_crawled_forward_by_id(nobitex: NobitexClient, exchange: ScriptedExchange) -> None:
    list_server(exchange, [listed(n) for n in range(1, 251)])
    assert [report.exchange_order_id for report in nobitex.open_orders("BTCIRT")] == [str(n) for n in range(1, 251)]
    queries = [request.query for request in exchange.requests]
    assert [query.get("fromId") for query in queries] == [None, "100", "200"]
    always = {"details": "2", "tradeType": "spot", "pageSize": "100", "status": "open", "order": "id"}
    assert queries[0] == always | {"srcCurrency": "btc", "dstCurrency": "rls"}


@pytest.mark.parametrize("ids", [range(1, 101), range(250, 150, -1)], ids=["fromId ignored", "order ignored"])
def test_a_full_page_that_is_not_the_next_one_is_no_list(
    nobitex: NobitexClient, exchange: ScriptedExchange, ids: range
) -> None:
    """The newest hundred, or the first hundred again, are not all that is open."""

    exchange.answer = lambda request: ok(orders=[listed(n) for n in ids])
    with pytest.raises(BadPayload, match="not complete"):
        nobitex.open_orders("BTCIRT")


def test_names_that_cannot_be_read_anew_do_not_hide_the_open_orders(
    nobitex: NobitexClient, exchange: ScriptedExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    list_server(exchange, [listed(1)])
    assert [report.symbol for report in nobitex.open_orders()] == ["BTCIRT"]
    monkeypatch.setattr(nobitex, "_currencies_until", 0.0)  # long ago
    orders = exchange.answer
    exchange.answer = lambda request: Reply({}, 502) if "options" in request.path else orders(request)
    assert [report.symbol for report in nobitex.open_orders()] == ["BTCIRT"]


def test_names_that_are_refused_do_not_silence_the_open_orders(exchange: ScriptedExchange) -> None:
    list_server(exchange, [listed(1)])
    orders = exchange.answer
    exchange.answer = lambda request: Reply({"backOff": 60}, 429) if "options" in request.path else orders(request)
    nobitex = NobitexClient(exchange.url, api_key=NOBITEX_TOKEN)
    with pytest.raises(BadPayload, match="names of currencies"):
        nobitex.open_orders()
    assert len(exchange.requests) == 2, "each was asked once"
    assert [report.symbol for report in nobitex.open_orders("BTCIRT")] == ["BTCIRT"]


def test_open_orders_of_all_markets_find_theirs_by_name(nobitex: NobitexClient, exchange: ScriptedExchange) -> None:
    other = listed(2, srcCurrency="Strange", dstCurrency="Tether")
    list_server(exchange, [listed(1), other, listed(3) | {"tradeType": "Margin"}])
    assert [report.symbol for report in nobitex.open_orders()] == ["BTCIRT", "STRANGEUSDT"]


def test_orders_since_are_read_back_from_the_newest(nobitex: NobitexClient, exchange: ScriptedExchange) -> None:
    list_server(exchange, [listed(n, status="Done", matchedAmount="0.64") for n in range(1, 301)])
    since = NOW - timedelta(minutes=120)
    found = nobitex.orders_since("BTCIRT", since)
    assert [report.exchange_order_id for report in found] == [str(n) for n in range(180, 301)]
    assert [request.query["page"] for request in exchange.requests] == ["1", "2"]
    assert exchange.requests[0].query["status"] == "all"


def trade(n: int, order_id: int = 26, amount: str = "0.32") -> dict[str, Any]:
    stamp = (NOW + timedelta(seconds=n - 400)).isoformat()
    row = {"id": n, "orderId": order_id, "market": "BTC-RLS", "timestamp": stamp, "type": "sell"}
    return row | {"price": "50000", "amount": amount, "fee": "10"}


def trade_server(exchange: ScriptedExchange, rows: list[dict[str, Any]]) -> None:
    def answer(request: Request) -> Reply:
        page, size = int(request.query["page"]), int(request.query["pageSize"])
        newest_first = sorted(rows, key=lambda row: -row["id"])
        return ok(trades=newest_first[(page - 1) * size : page * size], hasNext=len(rows) > page * size)

    exchange.answer = answer


def filled(**changes: Any) -> OrderReport:
    done = {
        "side": Side.SELL,
        "status": OrderStatus.FILLED,
        "quantity": Decimal("0.64"),
        "filled_quantity": Decimal("0.64"),
    }
    known = {"client_order_id": "T1ABC", "exchange_order_id": "26", "created_at": NOW - timedelta(seconds=500)}
    return OrderReport(symbol="BTCIRT", **(done | known | changes))


def test_fills_are_found_by_order_and_no_page_too_many_is_read(
    nobitex: NobitexClient, exchange: ScriptedExchange
) -> None:
    trade_server(exchange, [trade(n, 99) for n in range(1, 400)] + [trade(400), trade(401)])
    fills = nobitex.fetch_fills(filled())
    assert [(f.trade_id, f.price, f.fee, f.client_order_id) for f in fills] == [
        ("400", 5000, 1, "T1ABC"),
        ("401", 5000, 1, "T1ABC"),
    ]
    assert len(exchange.requests) == 1
    assert exchange.requests[0].query == {"srcCurrency": "btc", "dstCurrency": "rls", "page": "1", "pageSize": "100"}


def test_fills_on_a_later_page_are_found(nobitex: NobitexClient, exchange: ScriptedExchange) -> None:
    trade_server(exchange, [trade(1), trade(2)] + [trade(n, 99) for n in range(3, 250)])
    assert len(nobitex.fetch_fills(filled())) == 2
    assert len(exchange.requests) == 3


def test_trades_before_the_order_are_not_paged_through(nobitex: NobitexClient, exchange: ScriptedExchange) -> None:
    trade_server(exchange, [trade(n, 99) for n in range(1, 1000)])
    assert nobitex.fetch_fills(filled(created_at=NOW + timedelta(seconds=580))) == []
    assert len(exchange.requests) == 1


def test_an_unfilled_order_costs_no_call(nobitex: NobitexClient, exchange: ScriptedExchange) -> None:
    assert nobitex.fetch_fills(filled(filled_quantity=Decimal(0))) == []
    assert exchange.requests == []


def test_own_trades_since_a_moment_oldest_first(nobitex: NobitexClient, exchange: ScriptedExchange) -> None:
    trade_server(exchange, [trade(n) for n in range(1, 301)])
    found = nobitex.own_trades("BTCIRT", NOW + timedelta(seconds=250 - 400))
    assert [int(fill.trade_id) for fill in found] == list(range(250, 301))
    assert len(exchange.requests) == 1


# --- market data and account ---


def test_markets_join_grids_state_and_the_accounts_fees(nobitex: NobitexClient, exchange: ScriptedExchange) -> None:
    def answer(request: Request) -> Reply:
        if "options" in request.path:
            return Reply(OPTIONS)
        if "stats" in request.path:
            return ok(stats={"btc-rls": {"isClosed": True, "latest": "0E-10"}})
        return ok(profile={"options": {"fee": "0.25", "feeUsdt": "0.1"}}, websocketAuthParam="x")

    exchange.answer = answer
    (rules,) = nobitex.markets()
    assert (rules.symbol, rules.is_open, rules.tick_size, rules.taker_fee_rate) == (
        "BTCIRT",
        False,
        1,
        Decimal("0.0025"),
    )
    public = NobitexClient(exchange.url).markets()[0]
    assert public.taker_fee_rate == Decimal("0.0035")


def test_balances_turn_rial_into_toman(nobitex: NobitexClient, exchange: ScriptedExchange) -> None:
    wallets = {
        "RLS": {"id": 1, "balance": "746212980", "blocked": "10"},
        "BTC": {"id": 2, "balance": "0E-10", "blocked": 0},
    }
    exchange.replies(ok(wallets=wallets))
    balances = nobitex.balances()
    assert set(balances) == {"IRT"}
    assert (balances["IRT"].total, balances["IRT"].locked) == (74621298, 1)


def test_the_last_price_comes_with_the_book_or_else_from_the_trades(
    nobitex: NobitexClient, exchange: ScriptedExchange
) -> None:
    book = {"lastUpdate": 1726581829816, "lastTradePrice": "1000", "asks": [], "bids": []}
    exchange.replies(ok(**book))
    assert nobitex.last_price("BTCIRT") == 100
    times = (1726581829816, 1726581829815)
    trades = [{"time": t, "price": p, "volume": "0"} for t, p in zip(times, ("30", "20"), strict=True)]
    exchange.replies(ok(**(book | {"lastTradePrice": "0"})), ok(trades=trades), ok(trades=[]))
    assert nobitex.last_price("BTCIRT") == 3
    assert [request.path.split("/")[-2] for request in exchange.requests[1:]] == ["orderbook", "trades"]


def test_a_refused_read_names_the_code(nobitex: NobitexClient, exchange: ScriptedExchange) -> None:
    exchange.replies(failed("InvalidSymbol"))
    with pytest.raises(BadPayload, match="InvalidSymbol"):
        nobitex.order_book("NOPEIRT")
    with pytest.raises(BadPayload):
        nobitex.order_book("../users/walletsIRT")
    assert len(exchange.requests) == 1


# --- candles ---

START = datetime(2026, 1, 1, tzinfo=UTC)


def chart_server(exchange: ScriptedExchange, listed_at: datetime = START, cap: int = 500) -> None:
    """Minutes since `listed_at`; a candle at `to` is included, and at most `cap`, the newest, come at once."""

    def answer(request: Request) -> Reply:
        first, last = int(request.query["from"]), int(request.query["to"])
        start = max(first, int(listed_at.timestamp()))
        times = list(range(-(-start // 60) * 60, last + 1, 60))[-cap:]
        if not times:
            return Reply({"s": "no_data"})
        return Reply(
            {"s": "ok", "t": times} | {name: [1950.25] * len(times) for name in "ohlc"} | {"v": [0] * len(times)}
        )

    exchange.answer = answer


@pytest.mark.parametrize(("minutes", "calls"), [(3, 1), (500, 1), (501, 2), (1600, 4)])
def test_long_ranges_are_paged_by_moving_the_end_back(
    nobitex: NobitexClient, exchange: ScriptedExchange, minutes: int, calls: int
) -> None:
    chart_server(exchange)
    candles = nobitex.candles("BTCIRT", Resolution.M1, START, START + timedelta(minutes=minutes))
    assert [candle.open_time for candle in candles] == [START + timedelta(minutes=n) for n in range(minutes)]
    assert len(exchange.requests) == calls
    assert all("page" not in request.query for request in exchange.requests)


def test_candles_of_irt_markets_are_toman_already(nobitex: NobitexClient, exchange: ScriptedExchange) -> None:
    chart_server(exchange)
    (candle,) = nobitex.candles("BTCIRT", Resolution.M1, START, START + timedelta(minutes=1))
    assert candle.close == Decimal("1950.25")


def test_the_time_before_a_listing_ends_the_paging(nobitex: NobitexClient, exchange: ScriptedExchange) -> None:
    chart_server(exchange, listed_at=START)
    candles = nobitex.candles("BTCIRT", Resolution.M1, START - timedelta(days=3), START + timedelta(minutes=10))
    assert len(candles) == 10
    assert len(exchange.requests) == 2


def test_a_resolution_that_is_refused_is_unavailable(nobitex: NobitexClient, exchange: ScriptedExchange) -> None:
    exchange.replies(Reply({"s": "error", "errmsg": "Invalid resolution!"}))
    with pytest.raises(Unavailable, match="Invalid resolution"):
        nobitex.candles("BTCIRT", Resolution.M1, START, START + timedelta(hours=1))
    assert len(exchange.requests) == 1
