"""The addresses of Wallex and how often each may be called (contract: wallex 1.4, 3 to 5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from providers.budgets import FOR_STOPS, IN_BURSTS, Limit, Priority
from providers.http import Endpoint

# Documented: 20 order creations in 10 s, of which the platform's processes together use 15; elsewhere 100 calls a
# second, but polling market data is frowned upon and may be refused (contract: wallex 1.4). Hence apart: a refused
# chart must not silence the cancels.
LIMITS = {
    "orders": Limit(18, 10.0, IN_BURSTS, reserve=FOR_STOPS),
    "cancels": Limit(30, 10.0),
    "account": Limit(50, 10.0),
    "market_data": Limit(50, 10.0),
}

_EXITS = Priority.EXITS


def _public(name: str, path: str) -> Endpoint:
    return Endpoint(name, "GET", path, "market_data")


def _account(
    name: str, path: str, method: str = "GET", budget: str = "account", priority: Priority = _EXITS
) -> Endpoint:
    return Endpoint(name, method, path, budget, write=method != "GET", private=True, priority=priority)


MARKETS = _public("markets", "/v1/markets")
ACTIVE_MARKETS = _public("active_markets", "/hector/web/v1/markets")
CANDLES = _public("candles", "/v1/udf/history")
DEPTH = _public("depth", "/v1/depth")
DEPTH_ALL = _public("depth_all", "/v2/depth/all")
TRADES = _public("trades", "/v1/trades")
CURRENCIES = _public("currencies", "/v1/currencies")
CURRENCY_STATS = _public("currency_stats", "/v1/currencies/stats")
FAIR_PRICES = _public("fair_prices", "/v1/all-fairPrice")

PROFILE = _account("profile", "/v1/account/profile", priority=Priority.NORMAL)
FEES = _account("fees", "/v1/account/fee", priority=Priority.NORMAL)
BALANCES = _account("balances", "/v1/account/balances")

CREATE = _account("create_order", "/v1/account/orders", "POST", "orders", Priority.NORMAL)
PROTECT = replace(CREATE, priority=_EXITS)
FETCH = _account("fetch_order", "/v1/account/orders/{id}")
CANCEL = _account("cancel_order", "/v1/account/orders", "DELETE", "cancels")
OPEN = _account("open_orders", "/v1/account/openOrders")
HISTORY = _account("orders_since", "/v1/account/orders")
OWN_TRADES = _account("own_trades", "/v1/account/trades")

# The three documented ways to name the order of a DELETE, best first (contract: wallex 5.4).
DELETE_FORMS: tuple[Callable[[str], dict[str, Any]], ...] = (
    lambda order_id: {"path": f"{CANCEL.path}/{quote(order_id, safe='')}"},
    lambda order_id: {"params": {"clientOrderId": order_id}},
    lambda order_id: {"body": {"clientOrderId": order_id}},
)
