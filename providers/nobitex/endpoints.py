"""The addresses of Nobitex and how often each may be called (contract: nobitex 2.2)."""

from __future__ import annotations

from dataclasses import replace

from providers.budgets import AT_ONCE, FOR_STOPS, IN_BURSTS, Limit, Priority
from providers.http import Endpoint

# Documented per address; where the documents are silent (marked U), as careful as for its neighbours.
LIMITS = {
    "orderbook": Limit(300, 60.0),
    "depth": Limit(300, 60.0),
    "trades": Limit(60, 60.0),
    "stats": Limit(20, 60.0, for_guardian=False),
    # U; the candles of all markets end in the same second, and nothing that ends risk asks for them
    "udf": Limit(120, 60.0, AT_ONCE, for_guardian=False, reserve=0.0),
    "options": Limit(12, 60.0),  # U
    "profile": Limit(12, 60.0),  # U
    "limitations": Limit(12, 60.0),  # U
    "ws_token": Limit(12, 60.0),  # U
    "wallets": Limit(15, 60.0, IN_BURSTS),
    "wallets_list": Limit(20, 120.0),
    "wallet_balance": Limit(60, 120.0),
    "transactions": Limit(60, 120.0),
    "history": Limit(60, 3600.0),
    # shared by every way of placing an order; each order of a batch counts
    "add": Limit(300, 600.0, IN_BURSTS, reserve=FOR_STOPS),
    "status": Limit(300, 60.0),
    "list": Limit(30, 60.0),
    "own_trades": Limit(30, 60.0),
    "open_count": Limit(15, 60.0),
    "update_status": Limit(90, 60.0),
    "cancel_batch": Limit(10, 60.0),
    "cancel_old": Limit(30, 60.0),
}

_EXITS = Priority.EXITS


def _account(name: str, path: str, budget: str) -> Endpoint:
    return Endpoint(name, "GET", path, budget, private=True)


def _reconcile(name: str, path: str, budget: str, method: str = "GET") -> Endpoint:
    return Endpoint(name, method, path, budget, private=True, priority=_EXITS)


def _write(name: str, path: str, budget: str, priority: Priority = _EXITS) -> Endpoint:
    return Endpoint(name, "POST", path, budget, write=True, private=True, priority=priority)


OPTIONS = Endpoint("options", "GET", "/v2/options", "options")
STATS = Endpoint("stats", "GET", "/market/stats", "stats")
CANDLES = Endpoint("candles", "GET", "/market/udf/history", "udf")
BOOK = Endpoint("order_book", "GET", "/v3/orderbook/{symbol}", "orderbook")
BOOKS = Endpoint("order_books", "GET", "/v3/orderbook/all", "orderbook")
DEPTH = Endpoint("depth", "GET", "/v2/depth/{symbol}", "depth")
TRADES = Endpoint("trades", "GET", "/v2/trades/{symbol}", "trades")

PROFILE = _account("profile", "/users/profile", "profile")
LIMITATIONS = _account("limitations", "/users/limitations", "limitations")
WS_TOKEN = _account("ws_token", "/auth/ws/token/", "ws_token")
WALLETS = _reconcile("balances", "/v2/wallets", "wallets")
WALLETS_LIST = _account("wallets_list", "/users/wallets/list", "wallets_list")
WALLET_BALANCE = Endpoint("wallet_balance", "POST", "/users/wallets/balance", "wallet_balance", private=True)
TRANSACTIONS = _account("transactions", "/users/wallets/transactions/list", "transactions")
HISTORY = _account("transactions_history", "/users/transactions-history", "history")

STATUS = _reconcile("fetch_order", "/market/orders/status", "status", method="POST")
LIST = _reconcile("list_orders", "/market/orders/list", "list")
OWN_TRADES = _reconcile("own_trades", "/market/trades/list", "own_trades")
OPEN_COUNT = _reconcile("open_count", "/market/orders/open-count", "open_count")

ADD = _write("create_order", "/market/orders/add", "add", priority=Priority.NORMAL)
PROTECT = replace(ADD, priority=_EXITS)
ADD_OCO = replace(PROTECT, name="create_oco")
ADD_BATCH = _write("create_orders", "/market/orders/batch-add", "add", priority=Priority.NORMAL)
UPDATE = _write("cancel_order", "/market/orders/update-status", "update_status")
CANCEL_BATCH = _write("cancel_orders", "/market/orders/cancel-batch", "cancel_batch")
CANCEL_OLD = _write("cancel_old", "/market/orders/cancel-old", "cancel_old")
