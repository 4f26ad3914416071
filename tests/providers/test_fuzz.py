"""Whatever an exchange answers, a client returns values of the vocabulary or raises one of our errors."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from operator import methodcaller
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from providers.budgets import InProcessBudget, Limit
from providers.clock import HostTime
from providers.errors import OutcomeUnknown, ProviderError
from providers.http import _decode
from providers.nobitex.client import NobitexClient
from providers.transport import Reply, RequestsTransport
from providers.types import (
    OcoRequest,
    OrderRef,
    OrderReport,
    OrderRequest,
    OrderStatus,
    OrderType,
    Resolution,
    Side,
)
from providers.wallex.client import WallexClient
from tests.providers.test_nobitex_mapping import order as nobitex_order
from tests.providers.test_wallex_mapping import fill, order

START = datetime(2026, 1, 1, tzinfo=UTC)
FREE = InProcessBudget({"default": Limit(10**9, 1.0)})


def canned_reply(status: int, content: bytes) -> Reply:
    return Reply(status, {"Content-Type": "application/json"}, content)


def canned(monkeypatch: pytest.MonkeyPatch, status: int, content: bytes) -> None:
    """One answer to everything: the transport is proved elsewhere, on sockets."""
    monkeypatch.setattr(RequestsTransport, "send", lambda self, request: canned_reply(status, content))


def client_of(name: str) -> Any:
    cls = {"wallex": WallexClient, "nobitex": NobitexClient}[name]
    client = cls("http://127.0.0.1:9", api_key="0123456789" * 4, budget=FREE)
    client._http.host = HostTime(sleep=lambda seconds: None)
    return client


SYMBOL = {"wallex": "USDTTMN", "nobitex": "BTCIRT"}


# What one exchange has beside the protocol: name and arguments.
OWN_READS: dict[str, dict[str, tuple[Any, ...]]] = {
    "wallex": {
        **dict.fromkeys(["active_markets", "market_stats", "order_books", "currencies", "currency_stats"], ()),
        **dict.fromkeys(["fair_prices", "fees", "key_details"], ()),
        "public_trades": ("USDTTMN",),
    },
    "nobitex": {
        **dict.fromkeys(["order_books", "market_stats", "wallets", "limitations", "fee_rates", "key_details"], ()),
        **dict.fromkeys(["ws_token", "websocket_auth_param", "transaction_history", "order_page"], ()),
        "depth": ("BTCIRT",),
        "public_trades": ("BTCIRT",),
        "wallet_balance": ("IRT",),
        "wallet_transactions": (1,),
        "own_trades_from": (1,),
        "open_order_count": (),
    },
}


def calls(name: str) -> dict[str, Callable[[Any], Any]]:
    symbol, one = SYMBOL[name], Decimal(1)
    request = OrderRequest("T1ABC", symbol, Side.SELL, OrderType.LIMIT, one, price=one)
    oco = OcoRequest("T1ABC", symbol, Side.SELL, one, one, one, one)
    ref = OrderRef(symbol, "T1ABC", "26" if name == "nobitex" else None)
    report = OrderReport(symbol, Side.SELL, OrderStatus.FILLED, one, one, "T1ABC", "26")
    return {
        "markets": lambda c: c.markets(),
        "candles": lambda c: c.candles(symbol, Resolution.H1, START, START + timedelta(hours=5)),
        "order_book": lambda c: c.order_book(symbol),
        "last_price": lambda c: c.last_price(symbol),
        "balances": lambda c: c.balances(),
        "fetch_order": lambda c: c.fetch_order(ref),
        "fetch_fills": lambda c: c.fetch_fills(report),
        "open_orders": lambda c: c.open_orders(),
        "orders_since": lambda c: c.orders_since(symbol, START),
        "own_trades": lambda c: c.own_trades(symbol, START),
        "create_order": lambda c: c.create_order(request),
        "create_oco": lambda c: c.create_oco(oco),
        "cancel_order": lambda c: c.cancel_order(ref),
        **{read: methodcaller(read, *args) for read, args in OWN_READS[name].items()},
        **{write: methodcaller(write, *args) for write, args in own_writes(name, request, oco).items()},
    }


def own_writes(name: str, request: OrderRequest, oco: OcoRequest) -> dict[str, tuple[Any, ...]]:
    if name != "nobitex":
        return {}
    batch = [request, replace(oco, client_order_id="T2ABC")]
    return {"create_orders": (batch,), "cancel_orders": (["26", "27"],), "cancel_old": ()}


WRITES = {"create_order", "create_oco", "create_orders", "cancel_order", "cancel_orders", "cancel_old"}


NASTY_NUMBERS = [True, "1e400", "0E-10", "9" * 40, -1, 10**30, 1e300, 1767225600, 26, "NaN", "-", "market"]
NASTY_TEXTS = [
    "",
    "\x00\ud800",
    "2026-01-01T00:00:00Z",
    "0001-01-01T00:00:00+14:00",
    "ok",
    "failed",
    "USDTTMN",
    "T1ABC",
]
NASTY = st.sampled_from([None, [], {}, *NASTY_NUMBERS, *NASTY_TEXTS])
CHART = {"s": "ok", "t": [1767225600, 1767229200], **{name: ["1", "2"] for name in "ohlcv"}}
TRADE = {
    "id": 1,
    "orderId": 26,
    "time": 1767225600000,
    "timestamp": "2026-01-01T00:00:00Z",
    "type": "sell",
    "price": "1",
    "amount": "1",
}
TRADE |= {"fee": "0", "quantity": "1", "symbol": "USDTTMN", "isBuyer": True, "volume": "1"}
MARKET = {"symbol": "USDTTMN", "baseAsset": "USDT", "quoteAsset": "TMN", "stepSize": 2, "tickSize": 0, "minQty": 1}
MARKET |= {"stats": {"bidPrice": "1", "24h_ch": "-", "direction": [], "lastTradeSide": "BUY"}}
WALLET = {"asset": "TMN", "value": "1", "locked": "0", "balance": "1", "blocked": "0"}
GOOD: dict[str, dict[str, Any]] = {
    "wallex": {
        "success": True,
        "code": 422,
        "result": order(executedQty="1", fills=[fill("1", "1", 1)])
        | {"orders": [order()], "symbols": {"USDTTMN": MARKET | {"minNotional": 1}}, "balances": {"TMN": WALLET}}
        | {"latestTrades": [TRADE], "AccountLatestTrades": [TRADE], "error_code": [1003]}
        | {
            "ask": [{"price": "2", "quantity": 1}],
            "bid": [{"price": 1, "quantity": "1"}],
            "USDTTMN": {"takerFeeRate": "0", "makerFeeRate": "0"},
        }
        | {
            "markets": [
                {"symbol": "USDTTMN", "base_asset": "USDT", "quote_asset": "TMN"}
                | {"amount_precision": 2, "price_precision": 0, "is_spot": True, "price": "1e5"}
            ],
            "BTCTMN": {"ask": [], "bid": []},
            "USDT": {"key": "usdt", "rank": 1, "price": 1, "ath": 2, "networks": [{"name": "TRC20"}]},
            "ETHTMN": "5",
        },
        **CHART,
    },
    "nobitex": {
        "status": "ok",
        "code": "BadPrice",
        "order": nobitex_order(),
        "orders": [nobitex_order(pairId=27), nobitex_order(id=27, execution="Limit", param1=...)],
        "trades": [TRADE | {"market": "BTC-RLS"}],
        "wallets": {"RLS": WALLET},
        "stats": {"btc-rls": {"isClosed": False}},
        "profile": {"options": {"fee": "0.2"}},
        "token": "some.stream.token",
        "websocketAuthParam": "0123456789abcdef",
        "limitations": {"userLevel": "1", "features": {"x": True}, "limits": {"y": {"used": "0", "limit": "10"}}},
        "transactions": [TRADE | {"currency": "rls", "created_at": "2026-01-01T00:00:00Z", "calculatedFee": "0"}],
        "count": 2,
        "balance": "1",
        "BTCIRT": {"lastUpdate": 1767225600000, "asks": [["2", "1"]], "bids": []},
        "results": [
            {"status": "ok", "order": nobitex_order(execution="Limit", param1=...)},
            {
                "status": "ok",
                "orders": [
                    nobitex_order(pairId=27, clientOrderId=None),
                    nobitex_order(id=27, execution="Limit", param1=..., clientOrderId="T2ABC"),
                ],
            },
        ],
        "coins": [{"coin": "btc", "name": "Bitcoin"}],
        "nobitex": {"minOrders": {"rls": "1"}, "amountPrecisions": {"BTCIRT": "1"}, "pricePrecisions": {"BTCIRT": "1"}},
        "lastUpdate": 1767225600000,
        "lastTradePrice": "10",
        "asks": [["2", "1"]],
        "bids": [["1", "1"]],
        **CHART,
    },
}


# Where one exchange gives two forms to one name.
GOOD_FOR = {
    ("nobitex", "wallets"): {
        "status": "ok",
        "wallets": [{"id": 1, "currency": "rls", "balance": "1", "blockedBalance": "0", "rialBalance": 1}],
    },
    ("nobitex", "cancel_orders"): {"status": "ok", "orders": {"26": {"status": "failed", "message": "m"}, "27": None}},
}


def good(name: str, call: str) -> dict[str, Any]:
    return GOOD_FOR.get((name, call), GOOD[name])


def paths(node: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield (*at, key)
        yield from paths(value, (*at, key))


def damaged(payload: Any, path: tuple[Any, ...], value: Any) -> Any:
    copy = json.loads(json.dumps(payload))
    node = copy
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return copy


CASES = [(name, call) for name in GOOD for call in calls(name)]
PATHS = {case: list(paths(good(*case))) for case in CASES}
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def attempt(name: str, call: str) -> None:
    try:
        calls(name)[call](client_of(name))
    except OutcomeUnknown:
        assert call in WRITES, "a read has no outcome"
    except ProviderError:
        pass


@pytest.mark.parametrize(("name", "call"), CASES)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), status=st.sampled_from([200, 200, 200, 201, 400, 404, 422]))
def test_a_damaged_answer_gives_values_or_our_errors(
    monkeypatch: pytest.MonkeyPatch, name: str, call: str, data: st.DataObject, status: int
) -> None:
    payload = good(name, call)
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(PATHS[name, call]))
        try:
            payload = damaged(payload, path, data.draw(NASTY))
        except (KeyError, IndexError, TypeError):
            continue  # an earlier blow took this branch away
    canned(monkeypatch, status, json.dumps(payload).encode())
    attempt(name, call)


@pytest.mark.parametrize(("name", "call"), CASES)
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(payload=json_values, status=st.sampled_from([200, 400, 404, 422]))
def test_any_json_at_all_gives_values_or_our_errors(
    monkeypatch: pytest.MonkeyPatch, name: str, call: str, payload: Any, status: int
) -> None:
    canned(monkeypatch, status, json.dumps(payload).encode())
    attempt(name, call)


@pytest.mark.parametrize(("name", "call"), CASES)
def test_an_answer_nested_deep_in_an_unknown_field(monkeypatch: pytest.MonkeyPatch, name: str, call: str) -> None:
    payload = json.loads(json.dumps(good(name, call)))
    batched = [result.get("order") for result in payload.get("results") or []]
    for row in (payload.get("order"), payload.get("result"), *(payload.get("orders") or []), *batched):
        if isinstance(row, dict):
            row["unknown"] = "DEEP"
    content = json.dumps(payload).replace('"DEEP"', "[" * 800 + "]" * 800)
    canned(monkeypatch, 200, content.encode())
    attempt(name, call)


@given(st.binary(max_size=60))
def test_any_bytes_at_all_are_json_or_a_named_problem(content: bytes) -> None:
    payload, problem = _decode(canned_reply(200, content))
    assert problem in ("", "the body is not JSON")
    assert payload is None or not problem


@pytest.mark.parametrize("name", list(GOOD))
def test_the_undamaged_answer_is_understood_by_most_calls(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Otherwise the damage above would prove nothing."""
    understood = []
    for call, make in calls(name).items():
        canned(monkeypatch, 200, json.dumps(good(name, call)).encode())
        try:
            make(client_of(name))
        except ProviderError:
            continue
        understood.append(call)
    reads = {"markets", "candles", "order_book", "last_price", "balances", "fetch_order", "open_orders", "orders_since"}
    assert reads | {"own_trades", "fetch_fills"} | set(OWN_READS[name]) <= set(understood)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (rb'{"message": "a\ud800b"}', "a�b"),
        (rb'{"message": "\udc00"}', "�"),
        (rb'{"message": "\ud83d\ude00"}', "😀"),
        (rb'{"message": "\\ud800"}', r"\ud800"),  # the six letters, not a character
    ],
)
def test_half_a_surrogate_pair_reaches_no_log_and_no_database(body: bytes, text: str):
    payload, problem = _decode(canned_reply(200, body))
    assert (payload, problem) == ({"message": text}, "")
    assert str(payload).encode()
