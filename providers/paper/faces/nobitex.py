"""Nobitex' HTTP face (contract: nobitex 1 to 6 and 11): which address is what, who may ask it, and how often.

Out, on purpose: login (`/auth/login/`, an unknown address here: tokens come from the accounts file or the control
door), margin, deposits, withdrawals, the address book.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from providers.paper.engine import Exchange, to_ms
from providers.paper.faces import nobitex_params as params
from providers.paper.faces.common import JSON, Handler, Limit, RateLimiter, client_ip
from providers.paper.faces.nobitex_account import AccountCalls, Call
from providers.paper.faces.nobitex_auth import READ, TRADE, Doorman, NotAuthenticated
from providers.paper.faces.nobitex_orders import OrderCalls
from providers.paper.faces.nobitex_public import PublicCalls
from providers.paper.orders import OrderRefused

_MINUTE = 60.0
_ORDER_LIMIT = Limit(300, 10 * _MINUTE)
_ORDERS = "placed orders"  # the counter that every way of placing an order shares (2.1)
_CACHED_ANSWERS = 512
PublicHandler = Callable[[Request, datetime], Any]
PrivateHandler = Callable[[Call], Any]


@dataclass(frozen=True, slots=True)
class Private:
    """What one private address needs: `permission` of an API key (None: a token only), and its limit."""

    handler: PrivateHandler
    permission: str | None
    limit: Limit | None = None
    counter: str = ""  # its own, unless named
    is_order: bool = False  # failures tell the client id; forms are read (nobitex 1, 2)


class NobitexFace:
    """Routes of the simulated Nobitex."""

    def __init__(self, exchange: Exchange, limiter: RateLimiter, *, wall: Callable[[], float] = time.time) -> None:
        """`wall` is the time of signatures."""
        self._exchange = exchange
        self._wall = wall
        self._doorman = Doorman(exchange, limiter, wall=wall, monotonic=limiter.monotonic)
        self._market = PublicCalls(exchange)
        self._account = AccountCalls(exchange)
        self._trading = OrderCalls(exchange, self._count_order)
        self._cache: dict[tuple[str, bytes], tuple[int, Any]] = {}

    def routes(self) -> list[Route]:
        """Limits as in the contract's table (2.2); where it names none, none is counted."""
        routes = [Route(path, self._public(*row), methods=["GET"]) for path, row in self._public_table().items()]
        routes += [Route(path, self._private(row), methods=[way]) for way, path, row in self._private_table()]
        return [*routes, Route("/{path:path}", not_found, methods=["GET", "POST", "PUT", "DELETE", "PATCH"])]

    def _public_table(self) -> dict[str, tuple[PublicHandler, Limit | None]]:
        market = self._market
        return {
            "/v3/orderbook/{symbol}": (market.orderbook, Limit(300, _MINUTE)),
            "/v2/depth/{symbol}": (market.depth, Limit(300, _MINUTE)),
            "/v2/trades/{symbol}": (market.public_trades, Limit(60, _MINUTE)),
            "/market/stats": (market.stats, Limit(20, _MINUTE)),
            "/market/udf/history": (market.history, None),
            "/v2/options": (market.options, None),
        }

    def _private_table(self) -> list[tuple[str, str, Private]]:
        me, orders, keys = self._account, "/market/orders", "/apikeys"
        trading = self._trading
        two_minutes, hour = 2 * _MINUTE, 60 * _MINUTE
        return [
            ("GET", "/users/profile", Private(me.profile, READ)),
            ("GET", "/users/limitations", Private(me.limitations, READ)),
            ("POST", "/users/limitations", Private(me.limitations, READ)),
            ("GET", "/users/wallets/list", Private(me.wallets, READ, Limit(20, two_minutes))),
            ("GET", "/v2/wallets", Private(me.short_wallets, READ, Limit(15, _MINUTE))),
            ("POST", "/users/wallets/balance", Private(me.wallet_balance, READ, Limit(60, two_minutes))),
            ("GET", "/users/wallets/transactions/list",
             Private(me.wallet_transactions, READ, Limit(60, two_minutes))),
            ("GET", "/users/transactions-history", Private(me.transactions_history, READ, Limit(60, hour))),
            ("GET", "/auth/ws/token/", Private(me.stream_token, READ)),
            ("POST", "/auth/logout/", Private(me.logout, None)),
            ("POST", f"{keys}/create", Private(me.create_key, None)),
            ("GET", f"{keys}/list", Private(me.list_keys, None)),
            ("POST", keys + "/update/{public_key}", Private(me.update_key, None)),
            ("POST", keys + "/delete/{public_key}", Private(me.delete_key, None)),
            ("POST", f"{orders}/add", Private(trading.add, TRADE, _ORDER_LIMIT, _ORDERS, is_order=True)),
            ("POST", f"{orders}/batch-add", Private(trading.batch_add, TRADE, _ORDER_LIMIT)),
            ("POST", f"{orders}/status", Private(trading.status, READ, Limit(300, _MINUTE))),
            ("GET", f"{orders}/list", Private(trading.orders, READ, Limit(30, _MINUTE))),
            ("POST", f"{orders}/update-status", Private(trading.update_status, TRADE, Limit(90, _MINUTE))),
            ("POST", f"{orders}/cancel-old", Private(trading.cancel_old, TRADE, Limit(30, _MINUTE))),
            ("POST", f"{orders}/cancel-batch", Private(trading.cancel_batch, TRADE, Limit(10, _MINUTE))),
            ("GET", f"{orders}/open-count", Private(trading.open_count, None, Limit(15, _MINUTE))),
            ("GET", "/market/trades/list", Private(trading.trades, READ, Limit(30, _MINUTE))),
        ]  # fmt: skip

    # -- around every call ---------------------------------------------------------------------------------------

    def _public(self, handler: PublicHandler, limit: Limit | None) -> Handler:
        async def endpoint(request: Request) -> Response:
            try:
                self._doorman.check_address(request)
                self._doorman.count(limit, handler.__name__, client_ip(request))
                with self._exchange.operation() as now:
                    return JSON(self._cached(handler, request, now))
            except params.Failure as failure:
                return params.failed(failure)

        return endpoint

    def _cached(self, handler: PublicHandler, request: Request, now: datetime) -> Any:
        """The previous answer where it is younger than a second of the exchange's clock (2.2)."""
        lifetime = float(self._exchange.venues["nobitex"].profile.switch("public_cache_seconds")) * 1000
        key, now_ms = (request.scope["path"], request.scope["query_string"]), to_ms(now)
        kept = self._cache.get(key)
        if kept is not None and 0 <= now_ms - kept[0] < lifetime:
            return kept[1]
        answer = handler(request, now)
        if len(self._cache) >= _CACHED_ANSWERS:
            self._cache.clear()
        self._cache[key] = (now_ms, answer)
        return answer

    def _private(self, address: Private) -> Handler:
        async def endpoint(request: Request) -> Response:
            body: dict[str, Any] = {}
            asked = body if address.is_order else None
            try:
                raw = await request.body()
                call = self._admitted(request, raw, address)
                body |= call.body
                with self._exchange.operation() as now:
                    return JSON(address.handler(Call(request, call.account, now, call.wall, body)))
            except NotAuthenticated as refused:
                return JSON({"detail": str(refused)}, refused.status)
            except params.Failure as failure:
                return params.failed(failure, asked)
            except OrderRefused as refused:
                return params.failed(params.refusal(refused), asked)

        return endpoint

    def _admitted(self, request: Request, raw: bytes, address: Private) -> Call:
        """The call, once it is known whose it is and that it is not one too many."""
        now = self._exchange.clock.now()
        self._doorman.check_address(request)
        account = self._doorman.account_of(request, raw, address.permission, now)
        self._doorman.check_account(account.name)
        counter = address.counter or address.handler.__name__
        self._doorman.count(address.limit, counter, account.name, is_account=True)
        self._doorman.note_success(account.name)
        body = params.read_body(request, raw, forms=address.is_order)
        return Call(request, account, now, datetime.fromtimestamp(self._wall(), UTC), body)

    def _count_order(self, account: str) -> None:
        self._doorman.count(_ORDER_LIMIT, _ORDERS, account)


async def not_found(request: Request) -> Response:
    """Unknown addresses answer in HTML (nobitex 1)."""
    return HTMLResponse("<!doctype html><html><head><title>Not Found</title></head><body>404</body></html>", 404)
