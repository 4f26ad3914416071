"""Wallex' HTTP face (contract: wallex 1, 3 to 6, 8 and 10).

Out, on purpose: instant trade (its markets can be read), margin, deposits, withdrawals, bank cards, the interactive
login. The header `sub-account-client-id` is accepted and changes nothing: each key belongs to one account here.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime
from decimal import ROUND_DOWN, Decimal
from typing import Any, TypeVar
from uuid import uuid4

from starlette.requests import Request
from starlette.routing import Route

from providers.paper import rules
from providers.paper.engine import Account, Exchange, digest
from providers.paper.faces import wallex_wire as wire
from providers.paper.faces.common import JSON, Handler, Limit, RateLimiter, Verdict, amount, client_ip, json_body
from providers.paper.faces.wallex_answers import Failure, invalid, page_in, refusal_of
from providers.paper.faces.wallex_public import PublicCalls, takes_market_orders
from providers.paper.keys import WALLEX
from providers.paper.orders import Instruction, NotCancelable, Order, OrderRefused, UnknownOrder
from providers.types import OrderType, Side

E = TypeVar("E", OrderType, Side)
T = TypeVar("T")

_KEY = re.compile(r"\d+\|[A-Za-z0-9]+")
_CLIENT_ID = re.compile(r"[A-Za-z0-9_]{1,36}")
_MESSAGES = ("The operation was successful", "عملیات با موفقیت انجام شد", "عملیات موفق")
_ORDER_SECONDS = 10.0  # window of the order limit (1.4)
READ, TRADE = "READ", "TRADE"


class WallexFace:
    """Routes of the simulated Wallex."""

    def __init__(self, exchange: Exchange, limiter: RateLimiter) -> None:
        self._exchange = exchange
        self._venue = exchange.venues["wallex"]
        self._market = PublicCalls(exchange)
        self._limiter = limiter
        self._messages = itertools.cycle(_MESSAGES)

    def routes(self) -> list[Route]:
        orders, market = "/v1/account/orders", self._market
        public, private = self._public, self._private
        table: list[tuple[str, str, Handler]] = [
            ("GET", "/v1/markets", public(market.markets)),
            ("GET", "/hector/web/v1/markets", public(market.hector)),
            ("GET", "/v1/depth", public(market.depth)),
            ("GET", "/v2/depth/all", public(market.depth_all)),
            ("GET", "/v1/trades", public(market.public_trades)),
            ("GET", "/v1/udf/history", public(market.history)),
            ("GET", "/v1/currencies", public(market.currencies)),
            ("GET", "/v1/currencies/stats", public(market.currency_stats)),
            ("GET", "/v1/all-fairPrice", public(market.fair_prices)),
            ("GET", "/v1/otc/markets", public(market.otc_markets)),
            ("GET", "/v1/account/profile", private(self.profile)),
            ("GET", "/v1/account/fee", private(self.fee)),
            ("GET", "/v1/account/balances", private(self.balances)),
            ("GET", "/v1/account/openOrders", private(self.open_orders)),
            ("GET", "/v1/account/trades", private(self.own_trades)),
            ("GET", orders, private(self.order_history)),
            ("POST", orders, private(self.create, TRADE)),
            ("DELETE", orders, private(self.cancel, TRADE)),
            ("GET", orders + "/{client_order_id}", private(self.order)),
            ("DELETE", orders + "/{client_order_id}", private(self.cancel, TRADE)),
        ]
        return [Route(path, handler, methods=[method]) for method, path, handler in table]

    def _switch(self, name: str) -> Any:
        return self._venue.profile.switch(name)

    # -- around every call ---------------------------------------------------------------------------------------

    def _public(self, handler: Callable[[Request, datetime], Any]) -> Handler:
        async def endpoint(request: Request) -> JSON:
            verdict: Verdict | None = None
            try:
                verdict = self._hit(self._other_limit(), "ip", client_ip(request))
                _check(verdict)
                with self._exchange.operation() as now:
                    answer = handler(request, now)
            except Failure as failure:
                return self._failed(failure, verdict)
            return answer if isinstance(answer, JSON) else self._ok(answer)

        return endpoint

    def _private(self, handler: Callable[..., Any], scope: str = READ) -> Handler:
        async def endpoint(request: Request) -> JSON:
            is_order = request.method == "POST"
            limit = Limit(int(self._switch("orders_per_10s")), _ORDER_SECONDS) if is_order else self._other_limit()
            verdict: Verdict | None = None
            try:
                account = self._authenticated(request, scope)
                verdict = self._hit(limit, "orders" if is_order else "any", account.name)
                _check(verdict)
                body = await self._body(request)
                with self._exchange.operation() as now:
                    answer = handler(request, account, now, body)
            except Failure as failure:
                return self._failed(failure, verdict, is_told=is_order)
            except OrderRefused as refused:
                return self._failed(refusal_of(refused), verdict, is_told=is_order)
            response = answer if isinstance(answer, JSON) else self._ok(answer)
            response.headers.update(self._limit_headers(verdict) if is_order else {})
            return response

        return endpoint

    def _other_limit(self) -> Limit:
        return Limit(int(self._switch("requests_per_second")), 1.0)

    def _hit(self, limit: Limit, *key: str) -> Verdict:
        return self._limiter.hit(limit, "wallex", *key)

    def _ok(self, result: Any, status: int = 200, **more: Any) -> JSON:
        message = next(self._messages) if self._switch("rotate_messages") else _MESSAGES[0]
        return JSON({"success": True, "message": message, "result": self._object(result), **more}, status)

    def _failed(self, failure: Failure, verdict: Verdict | None, *, is_told: bool = False) -> JSON:
        body = {"success": False, "code": failure.code, "message": str(failure), "result": self._object(failure.result)}
        is_told = is_told or failure.status == 429
        return JSON(body, failure.status, self._limit_headers(verdict) if is_told else {})

    def _object(self, result: Any) -> Any:
        """Where nothing is in it, an object may arrive as a list (2)."""
        is_empty = isinstance(result, dict) and not any(result.values())
        return [] if is_empty and self._switch("empty_results_as_list") else result

    def _limit_headers(self, verdict: Verdict | None) -> dict[str, str]:
        if verdict is None or not self._switch("rate_limit_headers"):
            return {}
        return {"X-RateLimit-Limit": str(verdict.count), "X-RateLimit-Remaining": str(verdict.remaining)}

    def _authenticated(self, request: Request, scope: str) -> Account:
        """An unknown or expired key is no key (401, 1201); one without the right is forbidden (403)."""
        text = request.headers.get("x-api-key", "")
        account = self._exchange.account_for_wallex(text) if _KEY.fullmatch(text) else None
        key = self._exchange.keys.get(WALLEX, digest(text))
        if account is None or (key is not None and not key.is_live(self._exchange.clock.now())):
            raise Failure(401, 1201, "کلید API نامعتبر است")
        if key is not None and (scope not in key.permissions or not key.may_come_from(client_ip(request))):
            raise Failure(403, 403, "شما به این بخش دسترسی ندارید")
        return account

    async def _body(self, request: Request) -> dict[str, Any]:
        try:
            return await json_body(request) if request.method in ("POST", "DELETE") else {}
        except ValueError as exc:
            raise Failure(400, 400, str(exc)) from exc

    # -- account -------------------------------------------------------------------------------------------------

    def profile(self, request: Request, account: Account, now: datetime, body: dict[str, Any]) -> Any:
        """Nobody's data, masked as the exchange masks it (4)."""
        masked = {"national_code": "00******00", "mobile_number": "0912*****00", "email": "p***@paper.invalid"}
        accepted = ("first_name", "last_name", "national_code", "mobile_number", "email")
        return {
            "tracking_id": account.number,
            "first_name": "Paper",
            "last_name": account.name,
            **masked,
            "birthday": "1990-01-01T00:00:00.000000Z",
            "verification": "FULLY",
            "commission": 0,
            "invite_code": "",
            "address": {},
            "phone_number": {},
            "settings": {},
            "status": dict.fromkeys(accepted, "ACCEPTED"),
            "kyc_info": {"details": {"mobile_activation": True, "personal_info": True}, "level": 1},
            "meta": {"disabled_features": []},
        }

    def fee(self, request: Request, account: Account, now: datetime, body: dict[str, Any]) -> Any:
        rows = {wire.symbol_of(pair): wire.fee_row(market) for pair, market in self._venue.profile.markets.items()}
        return {"default": [], **rows, "metaData": {"levels": [], "coin_levels": [], "latestTradesSum": 0}}

    def balances(self, request: Request, account: Account, now: datetime, body: dict[str, Any]) -> Any:
        held = self._venue.balances(account.name)
        listed = {asset for market in self._venue.profile.markets.values() for asset in (market.base, market.quote)}
        rows = [wire.balance_row(asset, held.get(asset)) for asset in sorted(listed | set(held))]
        return {"balances": {row["asset"]: row for row in rows}}

    # -- orders --------------------------------------------------------------------------------------------------

    def create(self, request: Request, account: Account, now: datetime, body: dict[str, Any]) -> Any:
        asked = self._instruction(body)
        if asked.type in (OrderType.MARKET, OrderType.STOP_MARKET):
            symbol = wire.symbol_of(asked.pair)
            if not takes_market_orders(self._venue.profile, symbol):
                raise invalid("type", "Market orders are not enabled for this symbol.")
        if self._venue.profile.precision_mode == 2:
            asked = self._cut(asked)
        return self._ok(self._row(self._venue.submit(account.name, asked, now)), 201)

    def _cut(self, asked: Instruction) -> Instruction:
        """Excess digits cut off silently (10, mode 2)."""
        market = self._venue.profile.markets[asked.pair]

        def cut(price: Decimal | None) -> Decimal | None:
            return None if price is None else rules.snap(price, market.tick_size, ROUND_DOWN)

        quantity = rules.snap(asked.quantity, market.step_size, ROUND_DOWN)
        return replace(asked, quantity=quantity, price=cut(asked.price), stop_price=cut(asked.stop_price))

    def _instruction(self, body: dict[str, Any]) -> Instruction:
        pair = self._market.pair(body.get("symbol"))
        kind = _enum(OrderType, body, "type")
        side = _enum(Side, body, "side")
        client_id = body.get("client_id")
        if client_id is not None and not (isinstance(client_id, str) and _CLIENT_ID.fullmatch(client_id)):
            raise invalid("client_id", "The client id may only contain letters, numbers, and underscores.")
        quantity = _decimal(body, "quantity")
        if quantity is None:
            raise invalid("quantity", "The quantity field is required.")
        takes_price = kind in (OrderType.LIMIT, OrderType.STOP_LIMIT)
        return Instruction(
            pair, side, kind, quantity,
            price=_decimal(body, "price") if takes_price else None,
            stop_price=_decimal(body, "stop_Price"),
            client_id=client_id or f"{kind}-{uuid4()}",
        )  # fmt: skip

    def order(self, request: Request, account: Account, now: datetime, body: dict[str, Any]) -> Any:
        client_id = request.path_params["client_order_id"]
        try:
            return self._row(self._venue.order_by_client_id(account.name, client_id))
        except UnknownOrder:
            raise Failure(404, 404, "سفارش یافت نشد") from None

    def cancel(self, request: Request, account: Account, now: datetime, body: dict[str, Any]) -> Any:
        """By path, by query or by body: all three are documented (5.4)."""
        named = request.path_params.get("client_order_id") or request.query_params.get("clientOrderId")
        client_id = str(named or body.get("clientOrderId") or "")
        try:
            order = self._venue.order_by_client_id(account.name, client_id)
            row = self._row(self._venue.cancel(account.name, order.id, now))
        except (UnknownOrder, NotCancelable):
            if int(self._switch("delete_unknown_status")) == 404:
                raise Failure(404, 404, "سفارش یافت نشد") from None
            raise invalid("clientOrderId", "The order does not exist or is not active.") from None
        return row | {"status": "FILLED"} if self._switch("canceled_shows_filled") else row

    def open_orders(self, request: Request, account: Account, now: datetime, body: dict[str, Any]) -> Any:
        orders = list(reversed(self._venue.working_orders(account.name)))
        if symbol := request.query_params.get("symbol"):
            pair = self._market.pair(symbol)
            orders = [order for order in orders if order.pair == pair]
        return self._orders(request, orders, shows_fills=bool(self._switch("fills_in_lists")))

    def order_history(self, request: Request, account: Account, now: datetime, body: dict[str, Any]) -> Any:
        """Newest first. `from` and `to` are days (UTC here), both included."""
        query = request.query_params
        orders = list(reversed(self._venue.orders(account.name)))
        if symbol := query.get("market"):
            pair = self._market.pair(symbol)
            orders = [order for order in orders if order.pair == pair]
        for name in ("type", "side"):
            if wanted := query.get(name):
                orders = [order for order in orders if getattr(order, name).value == wanted.upper()]
        first, last = _day(query.get("from"), "from", date.min), _day(query.get("to"), "to", date.max)
        chosen = [order for order in orders if first <= order.created_at.date() <= last]
        return self._orders(request, chosen, shows_fills=True)

    def own_trades(self, request: Request, account: Account, now: datetime, body: dict[str, Any]) -> Any:
        query = request.query_params
        trades = list(reversed(self._venue.trades(account.name)))
        if symbol := query.get("symbol"):
            pair = self._market.pair(symbol)
            trades = [trade for trade in trades if trade.pair == pair]
        if side := query.get("side"):
            trades = [trade for trade in trades if trade.side.value == side.upper()]
        chosen, info = _page(request, trades)
        return self._ok({"AccountLatestTrades": [wire.trade_row(trade) for trade in chosen]}, result_info=info)

    def _orders(self, request: Request, orders: list[Order], *, shows_fills: bool) -> JSON:
        """`orders`, or a map of symbols as one generation of the documents draws it (5.4)."""
        chosen, info = _page(request, orders)
        rows = [self._row(order) for order in chosen]
        if not shows_fills:
            rows = [{name: value for name, value in row.items() if name != "fills"} for row in rows]
        if not self._switch("order_lists_as_map"):
            return self._ok({"orders": rows}, result_info=info)
        by_symbol: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            by_symbol.setdefault(row["symbol"], []).append(row)
        return self._ok(by_symbol, result_info=info)

    def _row(self, order: Order) -> dict[str, Any]:
        profile = self._venue.profile
        return wire.order_row(order, profile.markets[order.pair], wire.Style.of(profile))


def _page(request: Request, rows: list[T]) -> tuple[list[T], dict[str, int]]:
    """The asked page, and `result_info` (1.1)."""
    first, size = page_in(request, default=50)
    chosen = rows[first : first + size]
    info = {"page": first // size + 1, "per_page": size, "count": len(chosen), "total_count": len(rows)}
    return chosen, info


def _check(verdict: Verdict) -> None:
    if not verdict.allowed:
        raise Failure(429, 429, "Too Many Attempts.")


def _enum(kind: type[E], body: dict[str, Any], field: str) -> E:
    try:
        return kind(str(body.get(field, "")).upper())
    except ValueError:
        raise invalid(field, f"The selected {field} is invalid.") from None


def _decimal(body: dict[str, Any], field: str) -> Decimal | None:
    try:
        return amount(body.get(field))
    except ValueError as exc:
        raise invalid(field, str(exc)) from exc


def _day(text: str | None, field: str, default: date) -> date:
    try:
        return date.fromisoformat(text) if text else default
    except ValueError:
        raise invalid(field, "The date must be YYYY-MM-DD.") from None
