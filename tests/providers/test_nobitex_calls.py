"""Nobitex beyond the common protocol: whole-market reads, account reads, batches. On a real socket."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from providers.budgets import InProcessBudget, Limit, Priority
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
)
from providers.nobitex import mapping
from providers.nobitex.client import LIMITS, NobitexClient
from providers.nobitex.results import CancelAnswer, PublicTrade, Usage, every_row
from providers.redaction import redact
from providers.types import Balance, OrderRequest, OrderStatus, OrderType, Side
from tests.providers.conftest import NOBITEX_TOKEN, NOW, Reply, ScriptedExchange
from tests.providers.test_nobitex_client import (
    LIMIT_LEG,
    OCO,
    OPTIONS,
    STOP_LEG,
    failed,
    list_server,
    listed,
    ok,
    sell,
    trade_server,
)
from tests.providers.test_nobitex_client import trade as own_trade
from tests.providers.test_nobitex_mapping import order

BOOK = {"lastUpdate": 1726581829816, "asks": [["110", "1"]], "bids": [["100", "2"]]}


# --- market data ---


def test_the_books_of_all_markets_stand_beside_the_status(nobitex: NobitexClient, exchange: ScriptedExchange) -> None:
    exchange.replies(ok(BTCIRT=BOOK, BTCUSDT=BOOK, ODDEUR=BOOK, ETHIRT={"asks": []}, server="eu"))
    books = nobitex.order_books()
    assert exchange.requests[0].path.endswith("/v3/orderbook/all")
    assert {symbol: book.best_ask for symbol, book in books.items()} == {"BTCIRT": 11, "BTCUSDT": 110}
    assert books["BTCIRT"].last_price is None


def test_an_answer_without_one_readable_book_is_no_answer(nobitex: NobitexClient, exchange: ScriptedExchange) -> None:
    exchange.replies(ok(ETHIRT={"asks": []}))
    with pytest.raises(BadPayload):
        nobitex.order_books()


def test_depth_takes_a_time_that_is_text_and_levels_in_any_order(
    nobitex: NobitexClient, exchange: ScriptedExchange
) -> None:
    bids = [["7309999000", "2.200274"], ["7310000000", "2.199856"]]
    exchange.replies(ok(lastUpdate="1658565992195", bids=bids, asks=[["7409894000", "0.05"]], lastTradePrice="7417"))
    depth = nobitex.depth("BTCIRT")
    assert exchange.requests[0].path.endswith("/v2/depth/BTCIRT")
    assert [level.price for level in depth.bids] == [731_000_000, Decimal("730999900")]
    assert depth.as_of == datetime(2022, 7, 23, 8, 46, 32, 195000, tzinfo=UTC)
    assert depth.last_price == Decimal("741.7")


def test_public_trades_newest_first_with_what_is_told(nobitex: NobitexClient, exchange: ScriptedExchange) -> None:
    rows = [
        {"time": 1588689375066, "price": "20", "volume": "0", "type": "buy"},
        {"time": 1588689375067, "price": "1470000110", "volume": "0.002", "type": "sell"},
        {"time": 1588689375065, "price": "10"},
    ]
    exchange.replies(ok(trades=rows))
    found = nobitex.public_trades("BTCIRT")
    moment = datetime(2020, 5, 5, 14, 36, 15, 67000, tzinfo=UTC)
    assert found[0] == PublicTrade("BTCIRT", Decimal(147000011), Decimal("0.002"), Side.SELL, moment)
    assert [(trade.price, trade.quantity, trade.side) for trade in found[1:]] == [(2, 0, Side.BUY), (1, None, None)]


STATS = {
    "isClosed": False,
    "bestSell": "750",
    "latest": "0E-10",
    "dayClose": "740",
    "volumeSrc": "3",
    "volumeDst": "2200",
    "dayChange": "−5.12",
}


def test_market_stats_by_symbol_in_toman(nobitex: NobitexClient, exchange: ScriptedExchange) -> None:
    exchange.replies(ok(stats={"btc-rls": STATS, "btc-usdt": {}, "usdt-irr": {"isClosed": True}}, **{"global": {}}))
    found = nobitex.market_stats()
    assert set(found) == {"BTCIRT", "BTCUSDT", "USDTIRT"}
    day = found["BTCIRT"]
    assert (day.best_ask, day.last_price, day.close, day.volume, day.quote_volume) == (75, None, 74, 3, 220)
    assert day.change_rate == Decimal("-0.0512")
    assert (found["USDTIRT"].is_closed, found["BTCUSDT"].is_closed, found["BTCUSDT"].best_bid) == (True, None, None)


def test_the_stats_of_one_market_are_asked_for_by_code(nobitex: NobitexClient, exchange: ScriptedExchange) -> None:
    exchange.replies(ok(stats={"1m_pepe-rls": STATS}))
    assert set(nobitex.market_stats("1M_PEPEIRT")) == {"1M_PEPEIRT"}
    assert exchange.requests[0].query == {"srcCurrency": "1m_pepe", "dstCurrency": "rls"}


def test_a_fault_that_shows_a_day_ending_at_zero_claims_no_change(
    nobitex: NobitexClient, exchange: ScriptedExchange
) -> None:
    exchange.replies(ok(stats={"usdt-rls": STATS | {"dayClose": "0E-10", "dayChange": "-100.00"}}))
    assert nobitex.market_stats("USDTIRT")["USDTIRT"].change_rate is None


# --- account ---


def test_a_wallet_that_is_not_there_is_zero_and_not_an_error(
    nobitex: NobitexClient, exchange: ScriptedExchange
) -> None:
    exchange.replies(ok(wallets={}), ok(wallets=[]))
    assert nobitex.balances() == {}
    assert exchange.requests[0].query == {"type": "spot"}
    assert nobitex.balances() == {}, "an empty object is sometimes sent as a list"


def test_wallets_with_their_ids(nobitex: NobitexClient, exchange: ScriptedExchange) -> None:
    row = {
        "id": 7,
        "currency": "rls",
        "balance": "1000",
        "blockedBalance": "10",
        "rialBalance": 1000,
        "depositInfo": {},
    }
    exchange.replies(ok(wallets=[row, row | {"id": 8, "currency": "btc", "balance": "0E-10", "blockedBalance": 0}]))
    rial, bitcoin = nobitex.wallets()
    assert (rial.wallet_id, rial.balance, rial.value) == (7, Balance("IRT", Decimal(100), Decimal(1)), 100)
    assert (bitcoin.wallet_id, bitcoin.balance) == (8, Balance("BTC", Decimal(0), Decimal(0)))


@pytest.mark.parametrize(("asset", "code", "amount"), [("IRT", "rls", "1.02649975"), ("BTC", "btc", "10.2649975")])
def test_one_balance_by_asset(
    nobitex: NobitexClient, exchange: ScriptedExchange, asset: str, code: str, amount: str
) -> None:
    exchange.replies(ok(balance="10.2649975000"))
    assert nobitex.wallet_balance(asset) == Decimal(amount)
    assert (exchange.requests[0].method, exchange.requests[0].json) == ("POST", {"currency": code})


def test_limitations_in_toman(nobitex: NobitexClient, exchange: ScriptedExchange) -> None:
    limits = {"withdrawRialDaily": {"used": "0", "limit": "9000000000"}}
    exchange.replies(ok(limitations={"userLevel": "level2", "features": {"crypto_trade": False}, "limits": limits}))
    found = nobitex.limitations()
    assert (found.user_level, found.features) == ("level2", {"crypto_trade": False})
    assert found.limits == {"withdrawRialDaily": Usage(Decimal(0), Decimal(900000000))}


def test_fee_rates_are_fractions_and_the_documented_ones_without_a_key(exchange: ScriptedExchange) -> None:
    exchange.replies(ok(profile={"options": {"fee": "0.15", "feeUsdt": "0.1"}}))
    assert NobitexClient(exchange.url, api_key=NOBITEX_TOKEN).fee_rates() == {
        "IRT": Decimal("0.0015"),
        "USDT": Decimal("0.001"),
    }
    assert NobitexClient(exchange.url).fee_rates() == {"IRT": Decimal("0.0035"), "USDT": Decimal("0.002")}
    assert len(exchange.requests) == 1


def movement(n: int, **more: Any) -> dict[str, Any]:
    stamp = (NOW - timedelta(minutes=n)).isoformat()
    row = {"id": n, "currency": "rls", "amount": "−10", "created_at": stamp, "description": "trade"}
    return row | {"calculatedFee": "2"} | more


def test_the_movements_of_a_wallet_by_page(nobitex: NobitexClient, exchange: ScriptedExchange) -> None:
    exchange.replies(ok(transactions=[movement(1), movement(2)], hasNext=True), ok(transactions=[], hasNext=False))
    page = nobitex.wallet_transactions(7)
    assert [(row.transaction_id, row.asset, row.amount, row.fee) for row in page.rows] == [
        (1, "IRT", -1, Decimal("0.2")),
        (2, "IRT", -1, Decimal("0.2")),
    ]
    assert page.has_next
    assert not nobitex.wallet_transactions(7, page=2).has_next
    assert exchange.requests[1].query == {"wallet": "7", "page": "2", "pageSize": "100"}


def test_every_movement_of_all_pages(nobitex: NobitexClient, exchange: ScriptedExchange) -> None:
    exchange.replies(
        ok(transactions=[movement(1)], hasNext=True), ok(transactions=[movement(1), movement(2)], hasNext=False)
    )
    found = every_row(lambda n: nobitex.wallet_transactions(7, page=n), lambda row: row.transaction_id)
    assert [row.transaction_id for row in found] == [1, 2]


def test_the_history_of_all_wallets(nobitex: NobitexClient, exchange: ScriptedExchange) -> None:
    row = movement(5, currency="btc", amount="0.5", balance="0.7", tp="buy", type="Buy", calculatedFee=None)
    exchange.replies(ok(transactions=[row], hasNext=False))
    since, until = NOW - timedelta(days=90), NOW
    page = nobitex.transaction_history(asset="BTC", kind="buy", since=since, until=until, from_id=3)
    found = page.rows[0]
    assert (found.asset, found.kind, found.balance, found.fee) == ("BTC", "buy", Decimal("0.7"), None)
    asked = {"currency": "btc", "tp": "buy", "from": since.isoformat(), "to": until.isoformat(), "from_id": "3"}
    assert exchange.requests[0].query == asked | {"page": "1", "pageSize": "100"}
    for start, end in [(until, since), (since - timedelta(seconds=1), until), (NOW, NOW)]:
        with pytest.raises(ValueError, match="90 days"):
            nobitex.transaction_history(since=start, until=end)


# --- what opens a stream is a secret ---


@pytest.mark.parametrize(
    ("call", "payload", "path"),
    [
        ("ws_token", {"token": "eyJcanary.WS.token-9x"}, "/auth/ws/token/"),
        ("websocket_auth_param", {"profile": {}, "websocketAuthParam": "eyJcanary.WS.token-9x"}, "/users/profile"),
    ],
)
def test_what_opens_a_stream_is_masked_from_then_on(
    nobitex: NobitexClient, exchange: ScriptedExchange, call: str, payload: dict[str, Any], path: str
) -> None:
    exchange.replies(ok(**payload))
    secret = getattr(nobitex, call)()
    assert secret == "eyJcanary.WS.token-9x"
    assert exchange.requests[0].path.endswith(path)
    assert secret not in redact(f"subscribe private:orders#{secret}")


@pytest.mark.parametrize("value", [None, "", 7, "two words", "long-enough\n", "é" * 10])
def test_what_cannot_open_a_stream_is_no_answer(
    nobitex: NobitexClient, exchange: ScriptedExchange, value: object
) -> None:
    exchange.replies(ok(token=value, websocketAuthParam=value))
    for call in (nobitex.ws_token, nobitex.websocket_auth_param):
        with pytest.raises(BadPayload):
            call()


def test_a_refused_stream_token_is_a_matter_of_the_key(nobitex: NobitexClient, exchange: ScriptedExchange) -> None:
    exchange.replies(Reply({"detail": "?"}, 403))
    with pytest.raises(AuthFailed):
        nobitex.ws_token()
    assert len(exchange.requests) == 1


# --- order lists ---


def test_a_page_of_orders(nobitex: NobitexClient, exchange: ScriptedExchange) -> None:
    list_server(exchange, [listed(n, status="Done", matchedAmount="0.64") for n in range(1, 151)])
    first, second = nobitex.order_page("BTCIRT", status="close"), nobitex.order_page("BTCIRT", status="close", page=2)
    assert [page.has_next for page in (first, second)] == [True, False]
    assert [first.rows[0].exchange_order_id, second.rows[-1].exchange_order_id] == ["150", "1"]
    asked = {"details": "2", "tradeType": "spot", "pageSize": "100", "status": "close", "order": "-id", "page": "1"}
    assert exchange.requests[0].query == asked | {"srcCurrency": "btc", "dstCurrency": "rls"}
    with pytest.raises(ValueError, match="open, done, close, all"):
        nobitex.order_page("BTCIRT", status="closed")


def test_open_orders_are_counted(nobitex: NobitexClient, exchange: ScriptedExchange) -> None:
    exchange.replies(ok(count=2))
    assert nobitex.open_order_count() == 2
    assert exchange.requests[0].query == {"tradeType": "spot"}
    exchange.replies(ok(count=-1))
    with pytest.raises(BadPayload):
        nobitex.open_order_count()


def test_trades_from_a_cursor_include_it_and_come_by_id(nobitex: NobitexClient, exchange: ScriptedExchange) -> None:
    trade_server(exchange, [own_trade(n) for n in range(150, 401)])
    found = nobitex.own_trades_from(150, "BTCIRT")
    assert [int(fill.trade_id) for fill in found] == list(range(150, 401))
    asked = {"srcCurrency": "btc", "dstCurrency": "rls", "fromId": "150", "pageSize": "100"}
    assert [request.query for request in exchange.requests] == [asked | {"page": str(n)} for n in (1, 2, 3)]


def test_trades_of_all_markets_name_theirs(nobitex: NobitexClient, exchange: ScriptedExchange) -> None:
    unnamed = {name: value for name, value in own_trade(3).items() if name != "market"}
    rows = [own_trade(2) | {"market": "USDT-RLS"}, unnamed | {"srcCurrency": "Bitcoin", "dstCurrency": "﷼"}, unnamed]
    exchange.answer = lambda r: Reply(OPTIONS) if "options" in r.path else ok(trades=rows[:2], hasNext=False)
    assert [fill.symbol for fill in nobitex.own_trades_from(1)] == ["USDTIRT", "BTCIRT"]
    assert "srcCurrency" not in exchange.requests[0].query
    exchange.answer = lambda r: Reply(OPTIONS) if "options" in r.path else ok(trades=rows, hasNext=False)
    with pytest.raises(BadPayload, match="without a market"):
        nobitex.own_trades_from(1)


# --- placing several ---


def asked(n: int, **changes: Any) -> OrderRequest:
    return sell(client_order_id=f"T1_{n}", **changes)


def taken(n: int, **changes: Any) -> dict[str, Any]:
    return {"status": "ok", "order": order(id=n, clientOrderId=f"T1_{n}", **changes)}


def refused(n: int, code: str) -> dict[str, Any]:
    return {"status": "failed", "code": code, "message": "Order Validation Failed", "clientOrderId": f"T1_{n}"}


@pytest.mark.parametrize("orders", [7, True, "T1_1", {"id": 1}])
def test_a_damaged_result_of_a_batch_leaves_its_order_open(
    nobitex: NobitexClient, exchange: ScriptedExchange, orders: Any
) -> None:
    exchange.replies(ok(results=[{"status": "ok", "orders": orders}, taken(2)]))
    items = nobitex.create_orders([asked(1), asked(2)])
    assert [type(item.error) for item in items] == [OutcomeUnknown, type(None)]


def test_a_batch_tells_of_each_order(nobitex: NobitexClient, exchange: ScriptedExchange) -> None:
    requests = [asked(1), asked(2), asked(3), OCO, asked(5), asked(6), asked(7)]
    legs = {"status": "ok", "orders": [LIMIT_LEG, STOP_LEG]}
    results = [taken(1), refused(2, "OverValueOrder"), refused(3, "DuplicateClientOrderId"), legs, {"status": "ok"}]
    exchange.replies(ok(results=results))
    items = nobitex.create_orders(requests)
    assert exchange.requests[0].path.endswith("/market/orders/batch-add")
    assert [row["clientOrderId"] for row in exchange.requests[0].json["data"]] == [
        request.client_order_id for request in requests
    ]
    assert exchange.requests[0].json["data"][3]["mode"] == "oco"
    assert [item.request for item in items] == requests
    assert [[report.exchange_order_id for report in item.reports] for item in items] == [
        *(["1"], [], [], ["27", "28"]),
        *([], [], []),
    ]
    kinds = [type(item.error) for item in items]
    nothing = type(None)
    assert kinds[:5] == [nothing, OrderRejected, AlreadySubmitted, nothing, OutcomeUnknown]
    assert kinds[5:] == [RateLimited, RateLimited], (
        "a shorter list: the exchange stopped, nothing was done for the rest"
    )
    assert isinstance(items[1].error, OrderRejected)
    assert items[1].error.reason is RejectReason.INSUFFICIENT_BALANCE


def test_a_refused_stop_in_a_batch_is_crossed(nobitex: NobitexClient, exchange: ScriptedExchange) -> None:
    exchange.replies(ok(results=[refused(1, "PriceConditionFailed"), refused(2, "PriceConditionFailed")]))
    stop = asked(2, type=OrderType.STOP_LIMIT, stop_price=Decimal(4750))
    errors = [item.error for item in nobitex.create_orders([asked(1), stop])]
    assert [error.reason for error in errors if isinstance(error, OrderRejected)] == [
        RejectReason.PRICE_OUT_OF_BAND,
        RejectReason.STOP_ALREADY_CROSSED,
    ]


def test_a_limit_named_inside_a_batch_is_that_orders_own(nobitex: NobitexClient, exchange: ScriptedExchange) -> None:
    exchange.replies(ok(results=[taken(1), refused(2, "TooManyRequests") | {"backOff": 12}]))
    items = nobitex.create_orders([asked(1), asked(2)])
    assert isinstance(items[1].error, RateLimited)
    assert items[1].error.retry_after == 12


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(mode="reset"), OutcomeUnknown),
        (Reply({}, 502), OutcomeUnknown),
        (ok(), OutcomeUnknown),
        (ok(results=[taken(1), taken(2), taken(3)]), OutcomeUnknown),
        (ok(results=[taken(2), taken(1)]), OutcomeUnknown),
        (ok(results=[taken(1), taken(2) | {"clientOrderId": ["T1_2"]}]), OutcomeUnknown),
        (ok(results=[refused(2, "BadPrice"), taken(1)]), OutcomeUnknown),
        (failed("SomethingNew"), OutcomeUnknown),
        (failed("ParseError", 400), OrderRejected),
        (failed("TooManyRequests"), RateLimited),
        (Reply({"detail": "?"}, 401), AuthFailed),
    ],
)
def test_what_a_batch_as_a_whole_may_mean(
    nobitex: NobitexClient, exchange: ScriptedExchange, reply: Reply, error: type[ProviderError]
) -> None:
    exchange.replies(reply)
    with pytest.raises(error):
        nobitex.create_orders([asked(1), asked(2)])
    assert len(exchange.requests) == 1


@pytest.mark.parametrize(
    "requests",
    [
        [asked(n) for n in range(21)],
        [asked(1), asked(1, price=Decimal(5001))],
        [asked(1), asked(2, quantity=Decimal(0))],
    ],
)
def test_a_batch_that_cannot_be_is_not_sent(
    nobitex: NobitexClient, exchange: ScriptedExchange, requests: list[OrderRequest]
) -> None:
    with pytest.raises(OrderRejected):
        nobitex.create_orders(requests)
    assert nobitex.create_orders([]) == []
    assert exchange.requests == []


class Counting(InProcessBudget):
    def __init__(self) -> None:
        super().__init__({"default": Limit(10**6, 1.0)})
        self.taken: list[tuple[str, Priority, int]] = []

    def acquire(self, name: str, priority: Priority, calls: int = 1) -> None:
        self.taken.append((name, priority, calls))


def test_each_order_of_a_batch_counts_and_a_batch_with_a_stop_may_use_the_reserve(exchange: ScriptedExchange) -> None:
    budget = Counting()
    client = NobitexClient(exchange.url, api_key=NOBITEX_TOKEN, budget=budget)
    exchange.replies(ok(results=[]))
    client.create_orders([asked(1), asked(2), asked(3)])
    client.create_orders([asked(1), OCO])
    assert budget.taken == [("add", Priority.NORMAL, 3), ("add", Priority.EXITS, 2)]


def test_every_budget_of_an_address_has_a_limit() -> None:
    from providers.http import Endpoint
    from providers.nobitex import endpoints

    used = {value.budget for value in vars(endpoints).values() if isinstance(value, Endpoint)}
    assert used == set(LIMITS)


@pytest.mark.parametrize(
    ("name", "calls", "seconds"),
    [
        ("orderbook", 300, 60),
        ("depth", 300, 60),
        ("trades", 60, 60),
        ("stats", 20, 60),
        ("wallets_list", 20, 120),
        ("wallets", 15, 60),
        ("wallet_balance", 60, 120),
        ("transactions", 60, 120),
        ("history", 60, 3600),
        ("add", 300, 600),
        ("status", 300, 60),
        ("list", 30, 60),
        ("update_status", 90, 60),
        ("cancel_old", 30, 60),
        ("cancel_batch", 10, 60),
        ("open_count", 15, 60),
        ("own_trades", 30, 60),
    ],
)
def test_documented_limits(name: str, calls: int, seconds: int) -> None:
    assert (LIMITS[name].calls, LIMITS[name].seconds) == (calls, seconds)


# --- cancelling several ---


def test_cancels_are_queued_and_told_by_order(nobitex: NobitexClient, exchange: ScriptedExchange) -> None:
    immutable = "Systematically placed orders are immutable"
    verdicts = {"1": {"status": "failed", "message": immutable}, "2": {"status": "ok"}}
    exchange.replies(ok(message="", orders=verdicts))
    assert nobitex.cancel_orders(["2", "1", "3"]) == [
        CancelAnswer("2", True),
        CancelAnswer("1", False, immutable),
        CancelAnswer("3", None),
    ]
    assert exchange.requests[0].path.endswith("/market/orders/cancel-batch")
    assert exchange.requests[0].json == {"orderIds": [2, 1, 3]}


def test_cancels_that_are_queued_without_naming_one(nobitex: NobitexClient, exchange: ScriptedExchange) -> None:
    exchange.replies(ok(message="Orders are queued to be cancelled"))
    assert nobitex.cancel_orders(["2"]) == [CancelAnswer("2", None)]


def test_no_more_cancels_at_once_than_the_exchange_takes(nobitex: NobitexClient, exchange: ScriptedExchange) -> None:
    with pytest.raises(ValueError, match="at most 20"):
        nobitex.cancel_orders([str(n) for n in range(21)])
    with pytest.raises(OrderNotFound):
        nobitex.cancel_orders(["1", "٣"])
    assert nobitex.cancel_orders([]) == []
    assert exchange.requests == []


def test_cancel_old_is_for_spot_orders_only(nobitex: NobitexClient, exchange: ScriptedExchange) -> None:
    exchange.replies(ok())
    nobitex.cancel_old()
    nobitex.cancel_old("BTCIRT", older_than=timedelta(minutes=150), type=OrderType.STOP_LIMIT)
    assert exchange.requests[0].path.endswith("/market/orders/cancel-old")
    codes = {"srcCurrency": "btc", "dstCurrency": "rls"}
    assert [request.json for request in exchange.requests] == [
        {"tradeType": "spot"},
        {"tradeType": "spot", "execution": "stop_limit", "hours": 2.5} | codes,
    ]


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (failed("NotFound"), OutcomeUnknown),
        (Reply({"status": "failed", "error": "whatever"}), OutcomeUnknown),
        (Reply(mode="reset"), OutcomeUnknown),
        (failed("TooManyRequests"), RateLimited),
        (Reply({"detail": "?"}, 403), AuthFailed),
    ],
)
def test_what_a_refusal_of_several_cancels_means(
    exchange: ScriptedExchange, reply: Reply, error: type[ProviderError]
) -> None:
    exchange.replies(reply)
    nobitex = NobitexClient(exchange.url, api_key=NOBITEX_TOKEN)  # each kind of cancel has its own limit
    for cancel in (nobitex.cancel_old, lambda: nobitex.cancel_orders(["1"])):
        with pytest.raises(error):
            cancel()
    assert len(exchange.requests) == 2


def test_a_reason_in_the_field_error_is_told(nobitex: NobitexClient, exchange: ScriptedExchange) -> None:
    exchange.replies(Reply({"status": "failed", "error": "market closed for cancels"}))
    with pytest.raises(OutcomeUnknown, match="market closed for cancels"):
        nobitex.cancel_old()


# --- every refusal of the contract's table (6.4), and one that it does not have ---

REFUSALS = {
    "InvalidOrderPrice": RejectReason.INVALID,
    "BadPrice": RejectReason.PRICE_OUT_OF_BAND,
    "PriceConditionFailed": RejectReason.PRICE_OUT_OF_BAND,  # of a stop: crossed
    "OverValueOrder": RejectReason.INSUFFICIENT_BALANCE,
    "SmallOrder": RejectReason.BELOW_MINIMUM,
    "DuplicateOrder": None,
    "DuplicateClientOrderId": None,
    "InvalidMarketPair": RejectReason.INVALID,
    "MarketClosed": RejectReason.MARKET_CLOSED,
    "TradingUnavailable": RejectReason.OTHER,
    "FeatureUnavailable": RejectReason.OTHER,
    "ParseError": RejectReason.INVALID,
    "TradeLimitation": RejectReason.OTHER,
    "UnexpectedMarketPrice": RejectReason.PRICE_OUT_OF_BAND,
    "InvalidExecutionType": RejectReason.INVALID,
    "InvalidOrderType": RejectReason.INVALID,
    "InsufficientBalance": RejectReason.INSUFFICIENT_BALANCE,  # of the margin table
}


@pytest.mark.parametrize("code", REFUSALS)
def test_every_documented_refusal(nobitex: NobitexClient, exchange: ScriptedExchange, code: str) -> None:
    exchange.replies(failed(code))
    with pytest.raises(OrderRejected if REFUSALS[code] else AlreadySubmitted) as caught:
        nobitex.create_order(sell())
    if isinstance(caught.value, OrderRejected):
        assert (caught.value.reason, caught.value.code) == (REFUSALS[code], code)


def test_no_refusal_is_known_to_the_client_and_not_to_the_table() -> None:
    assert set(mapping.REASONS) | mapping.DUPLICATES == set(REFUSALS)


# --- quirks of the wire (contract: 1.1, 8) through a whole call ---


@pytest.mark.parametrize(
    "quirk",
    [
        {"matchedAmount": 0, "fee": 0},
        {"matchedAmount": "0E-10", "fee": "0"},
        {"price": "market"},
        {"dstCurrency": "ریال", "market": ...},
        {"market": "BTC-IRT"},
        {"amount": "0.6400000000", "unmatchedAmount": "0.64"},
        {"amount": "0_.6_4"},
        {"fee": "−5"},
        {"averagePrice": "", "param1": "47_500.00000000"},
        {"created_at": "2022-01-17T12:14:18.005896Z"},
        {"isMyOrder": False, "brandNew": {"deep": [1]}, "totalPrice": "?"},
        {"tradeType": "Spot", "partial": None, "pairId": None},
    ],
)
def test_awkward_ways_to_spell_the_same_order(
    nobitex: NobitexClient, exchange: ScriptedExchange, quirk: dict[str, Any]
) -> None:
    exchange.replies(ok(order=order(**quirk)))
    found = nobitex.create_order(sell(OrderType.STOP_MARKET))
    assert (found.quantity, found.filled_quantity, found.status) == (Decimal("0.64"), 0, OrderStatus.OPEN)
    assert (found.stop_price, found.symbol, found.average_price) == (4750, "BTCIRT", None)
    assert (found.created_at or NOW).tzinfo is UTC


def test_an_unknown_status_raises_wherever_an_order_is_read(nobitex: NobitexClient, exchange: ScriptedExchange) -> None:
    exchange.replies(ok(orders=[listed(1), listed(2, status="Sleeping")]))
    reads: list[Callable[[], Any]] = [
        lambda: nobitex.open_orders("BTCIRT"),
        lambda: nobitex.order_page("BTCIRT"),
        lambda: nobitex.orders_since("BTCIRT", NOW),
    ]
    for read in reads:
        with pytest.raises(BadPayload, match="status"):
            read()
