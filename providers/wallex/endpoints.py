"""The addresses of Wallex and how often each may be called (contract: wallex 1.4, 3 to 5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from providers.budgets import Limit, Priority
from providers.http import Endpoint

# Documented: 20 order creations in 10 s; elsewhere far more, but polling is frowned upon (contract: wallex 1.4).
LIMITS = {"orders": Limit(15, 10.0), "default": Limit(50, 10.0)}

_EXITS = Priority.EXITS


def _account(name: str, path: str, method: str = "GET", priority: Priority = _EXITS) -> Endpoint:
    return Endpoint(name, method, path, write=method != "GET", private=True, priority=priority)


MARKETS = Endpoint("markets", "GET", "/v1/markets")
ACTIVE_MARKETS = Endpoint("active_markets", "GET", "/hector/web/v1/markets")
CANDLES = Endpoint("candles", "GET", "/v1/udf/history")
DEPTH = Endpoint("depth", "GET", "/v1/depth")
DEPTH_ALL = Endpoint("depth_all", "GET", "/v2/depth/all")
TRADES = Endpoint("trades", "GET", "/v1/trades")
CURRENCIES = Endpoint("currencies", "GET", "/v1/currencies")
CURRENCY_STATS = Endpoint("currency_stats", "GET", "/v1/currencies/stats")
FAIR_PRICES = Endpoint("fair_prices", "GET", "/v1/all-fairPrice")

PROFILE = _account("profile", "/v1/account/profile", priority=Priority.NORMAL)
FEES = _account("fees", "/v1/account/fee", priority=Priority.NORMAL)
BALANCES = _account("balances", "/v1/account/balances")

CREATE = replace(_account("create_order", "/v1/account/orders", "POST"), budget="orders", priority=Priority.NORMAL)
PROTECT = replace(CREATE, priority=_EXITS)
FETCH = _account("fetch_order", "/v1/account/orders/{id}")
CANCEL = _account("cancel_order", "/v1/account/orders", "DELETE")
OPEN = _account("open_orders", "/v1/account/openOrders")
HISTORY = _account("orders_since", "/v1/account/orders")
OWN_TRADES = _account("own_trades", "/v1/account/trades")

# The three documented ways to name the order of a DELETE, best first (contract: wallex 5.4).
DELETE_FORMS: tuple[Callable[[str], dict[str, Any]], ...] = (
    lambda order_id: {"path": f"{CANCEL.path}/{quote(order_id, safe='')}"},
    lambda order_id: {"params": {"clientOrderId": order_id}},
    lambda order_id: {"body": {"clientOrderId": order_id}},
)
