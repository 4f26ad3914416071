"""Wallex' HTTP face (contract: wallex 1, 3 to 6 and 10)."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, TypeVar
from uuid import uuid4

from starlette.requests import Request
from starlette.routing import Route

from providers.paper.engine import Account, Exchange, to_ms
from providers.paper.faces import wallex_wire as wire
from providers.paper.faces.charts import chart, day_figures
from providers.paper.faces.common import (
    JSON,
    Handler,
    Limit,
    RateLimiter,
    amount,
    client_ip,
    json_body,
    places,
    positive_int,
)
from providers.paper.orders import Instruction, NotCancelable, Order, OrderRefused, Refusal, UnknownOrder
from providers.types import OrderType, Side

E = TypeVar("E", OrderType, Side)

ORDER_LIMIT = Limit(20, 10.0)  # contract: wallex 1.4
OTHER_LIMIT = Limit(100, 1.0)
_KEY = re.compile(r"\d+\|[A-Za-z0-9]+")
_CLIENT_ID = re.compile(r"[A-Za-z0-9_]{1,36}")
_MESSAGES = ("The operation was successful", "عملیات با موفقیت انجام شد", "عملیات موفق")
_RESOLUTIONS = {
    "1": 60, "15": 900, "60": 3600, "180": 10800, "240": 14400, "360": 21600, "480": 28800, "720": 43200,
    "D": 86400, "1D": 86400, "2D": 172800, "3D": 259200,
}  # fmt: skip
_FIELDS = {
    Refusal.UNKNOWN_PAIR: "symbol",
    Refusal.NO_PRICE_YET: "symbol",
    Refusal.PRICE_PRECISION: "price",
    Refusal.PRICE_MISSING: "price",
    Refusal.STOP_PRECISION: "stop_Price",
    Refusal.STOP_MISSING: "stop_Price",
    Refusal.STOP_UNEXPECTED: "stop_Price",
    Refusal.STOP_EQUALS_LAST: "stop_Price",
    Refusal.DUPLICATE_CLIENT_ID: "client_id",
}
_CODES = {Refusal.BELOW_MIN_NOTIONAL: 1003, Refusal.INSUFFICIENT_BALANCE: 1006}


class Failure(Exception):
    """An answer other than success."""

    def __init__(self, status: int, code: int, message: str, result: Any = None) -> None:
        super().__init__(message)
        self.status, self.code = status, code
        self.result = {} if result is None else result


def invalid(field: str, text: str, code: int | None = None) -> Failure:
    """The validation envelope: the specific code, if any, is in `error_code` (1.3)."""
    result: dict[str, Any] = {field: [text]}
    if code is not None:
        result["error_code"] = [code]
    return Failure(422, 422, "The given data was invalid.", result)


class WallexFace:
    """Routes of the simulated Wallex."""

    def __init__(self, exchange: Exchange, limiter: RateLimiter) -> None:
        self._exchange = exchange
        self._venue = exchange.venues["wallex"]
        self._limiter = limiter
        self._messages = itertools.cycle(_MESSAGES)
        self._pairs = {wire.symbol_of(pair): pair for pair in self._venue.profile.markets}
        self._created = datetime(2024, 1, 1, tzinfo=UTC)

    def routes(self) -> list[Route]:
        orders = "/v1/account/orders"
        table: list[tuple[str, str, Handler]] = [
            ("GET", "/v1/markets", self._public(self.markets)),
            ("GET", "/hector/web/v1/markets", self._public(self.hector)),
            ("GET", "/v1/depth", self._public(self.depth)),
            ("GET", "/v2/depth/all", self._public(self.depth_all)),
            ("GET", "/v1/trades", self._public(self.public_trades)),
            ("GET", "/v1/udf/history", self._public(self.history)),
            ("GET", "/v1/account/profile", self._private(self.profile)),
            ("GET", "/v1/account/fee", self._private(self.fee)),
            ("GET", "/v1/account/balances", self._private(self.balances)),
            ("GET", "/v1/account/openOrders", self._private(self.open_orders)),
            ("GET", "/v1/account/trades", self._private(self.own_trades)),
            ("GET", orders, self._private(self.order_history)),
            ("POST", orders, self._private(self.create, ORDER_LIMIT)),
            ("DELETE", orders, self._private(self.cancel)),
            ("GET", orders + "/{client_order_id}", self._private(self.order)),
            ("DELETE", orders + "/{client_order_id}", self._private(self.cancel)),
        ]
        return [Route(path, handler, methods=[method]) for method, path, handler in table]

    # -- around every call ---------------------------------------------------------------------------------------

    def _public(self, handler: Callable[[Request, datetime], Any]) -> Handler:
        async def endpoint(request: Request) -> JSON:
            try:
                self._count(request, OTHER_LIMIT, "ip", client_ip(request))
                with self._exchange.operation() as now:
                    answer = handler(request, now)
            except Failure as failure:
                return _failed(failure)
            return answer if isinstance(answer, JSON) else self._ok(answer)

        return endpoint

    def _private(self, handler: Callable[..., Any], limit: Limit = OTHER_LIMIT) -> Handler:
        async def endpoint(request: Request) -> JSON:
            try:
                account = self._authenticated(request)
                self._count(request, limit, request.method if limit is ORDER_LIMIT else "any", account.name)
                body = await self._body(request)
                with self._exchange.operation() as now:
                    answer = handler(request, account, now, body)
            except Failure as failure:
                return _failed(failure)
            except OrderRefused as refused:
                return _failed(_refusal(refused))
            return answer if isinstance(answer, JSON) else self._ok(answer)

        return endpoint

    def _ok(self, result: Any, status: int = 200, **more: Any) -> JSON:
        return JSON({"success": True, "message": next(self._messages), "result": result, **more}, status)

    def _count(self, request: Request, limit: Limit, *key: str) -> None:
        verdict = self._limiter.hit(limit, "wallex", *key)
        if not verdict.allowed:
            raise Failure(429, 429, "Too Many Attempts.", {"limit": limit.count})

    def _authenticated(self, request: Request) -> Account:
        key = request.headers.get("x-api-key", "")
        account = self._exchange.account_for_wallex(key) if _KEY.fullmatch(key) else None
        if account is None:
            raise Failure(401, 1201, "کلید API نامعتبر است")
        return account

    async def _body(self, request: Request) -> dict[str, Any]:
        try:
            return await json_body(request) if request.method in ("POST", "DELETE") else {}
        except ValueError as exc:
            raise Failure(400, 400, str(exc)) from exc

    def _pair(self, symbol: Any) -> str:
        pair = self._pairs.get(str(symbol or "").upper())
        if pair is None:
            raise invalid("symbol", "The selected symbol is invalid.")
        return pair

    # -- public --------------------------------------------------------------------------------------------------

    def markets(self, request: Request, now: datetime) -> Any:
        name = self._venue.profile.name
        rows = {}
        for pair, market in self._venue.profile.markets.items():
            day = day_figures(self._exchange, name, pair, now)
            rows[wire.symbol_of(pair)] = wire.market_row(market, self._venue.depth(pair, now), day, self._created)
        return {"symbols": rows}

    def hector(self, request: Request, now: datetime) -> Any:
        markets = self._venue.profile.markets.items()
        days = {pair: day_figures(self._exchange, "wallex", pair, now) for pair, _ in markets}
        return {"markets": [wire.hector_row(market, days[pair], self._created) for pair, market in markets]}

    def depth(self, request: Request, now: datetime) -> Any:
        symbol = request.query_params.get("symbol")
        if str(symbol or "").upper() not in self._pairs:
            raise Failure(422, 422, "The selected symbol is invalid.", {"symbol": symbol})
        return self._depth_of(self._pair(symbol), now)

    def depth_all(self, request: Request, now: datetime) -> Any:
        return {symbol: self._depth_of(pair, now) for symbol, pair in self._pairs.items()}

    def _depth_of(self, pair: str, now: datetime) -> dict[str, Any]:
        book = self._venue.depth(pair, now)
        as_number = self._venue.profile.switch("depth_price_as_number")
        sides = {"ask": book.asks, "bid": book.bids}
        return {name: wire.depth_rows(levels, price_as_number=as_number) for name, levels in sides.items()}

    def public_trades(self, request: Request, now: datetime) -> Any:
        symbol = str(request.query_params.get("symbol", "")).upper()
        pair = self._pair(symbol)
        spec = self._exchange.feed.specs[pair]
        ticks = self._exchange.feed.ticks("wallex", pair, to_ms(now) - 120_000, to_ms(now))
        rows = []
        for index in range(len(ticks) - 1, max(len(ticks) - 51, -1), -1):
            price, volume = spec.price(ticks.prices[index]), spec.volume(ticks.volumes[index])
            at = datetime.fromtimestamp(int(ticks.times[index]) / 1000, UTC)
            rows.append(
                {
                    "symbol": symbol, "quantity": places(volume), "price": places(price),
                    "sum": places(price * volume), "isBuyOrder": bool(ticks.buys[index]), "timestamp": wire.iso(at),
                }
            )  # fmt: skip
        return {"latestTrades": rows}

    def history(self, request: Request, now: datetime) -> Any:
        """Candles without envelope; `15` and `240` lie as they do on the exchange, if the switch is on (3.6)."""
        query = request.query_params
        try:
            pair = self._pairs[query.get("symbol", "").upper()]
            seconds = _RESOLUTIONS[query.get("resolution", "")]
            start, end = int(query["from"]), int(query["to"])
        except (KeyError, ValueError):
            return JSON({"s": "error", "errmsg": "Invalid parameters"})
        if self._venue.profile.switch("candle_quirks"):
            if query["resolution"] == "15":
                seconds, start = 60, max(start, min(end, int(now.timestamp())) - 86_400)
            elif query["resolution"] == "240":
                seconds = 3600
        found = chart(self._exchange, "wallex", pair, seconds, start, end, now)
        columns = {"o": found.open, "h": found.high, "l": found.low, "c": found.close, "v": found.volume}
        texts = {name: [places(value) for value in column] for name, column in columns.items()}
        return JSON({"s": "ok" if len(found) else "no_data", "t": found.times, **texts})

    # -- account -------------------------------------------------------------------------------------------------

    def profile(self, request: Request, account: Account, now: datetime, body: dict[str, Any]) -> Any:
        return {"tracking_id": account.number, "first_name": "Paper", "last_name": account.name, "commission": 0,
                "verification": "FULLY", "settings": {}, "status": {}, "meta": {"disabled_features": []}}  # fmt: skip

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
        order = self._venue.submit(account.name, self._instruction(body), now)
        return self._ok(self._row(order), 201)

    def _instruction(self, body: dict[str, Any]) -> Instruction:
        pair = self._pair(body.get("symbol"))
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
            return self._row(self._venue.cancel(account.name, order.id, now))
        except (UnknownOrder, NotCancelable):
            raise invalid("clientOrderId", "The order does not exist or is not active.") from None

    def open_orders(self, request: Request, account: Account, now: datetime, body: dict[str, Any]) -> Any:
        orders = list(reversed(self._venue.working_orders(account.name)))
        if symbol := request.query_params.get("symbol"):
            pair = self._pair(symbol)
            orders = [order for order in orders if order.pair == pair]
        return self._paged(request, [self._row(order) for order in orders], "orders")

    def order_history(self, request: Request, account: Account, now: datetime, body: dict[str, Any]) -> Any:
        """Newest first. `from` and `to` are days (UTC here), both included."""
        query = request.query_params
        orders = list(reversed(self._venue.orders(account.name)))
        if symbol := query.get("market"):
            pair = self._pair(symbol)
            orders = [order for order in orders if order.pair == pair]
        for name in ("type", "side"):
            if wanted := query.get(name):
                orders = [order for order in orders if getattr(order, name).value == wanted.upper()]
        first, last = _day(query.get("from"), "from", date.min), _day(query.get("to"), "to", date.max)
        chosen = [order for order in orders if first <= order.created_at.date() <= last]
        return self._paged(request, [self._row(order) for order in chosen], "orders")

    def own_trades(self, request: Request, account: Account, now: datetime, body: dict[str, Any]) -> Any:
        query = request.query_params
        trades = list(reversed(self._venue.trades(account.name)))
        if symbol := query.get("symbol"):
            pair = self._pair(symbol)
            trades = [trade for trade in trades if trade.pair == pair]
        if side := query.get("side"):
            trades = [trade for trade in trades if trade.side.value == side.upper()]
        return self._paged(request, [wire.trade_row(trade) for trade in trades], "AccountLatestTrades")

    def _paged(self, request: Request, rows: list[dict[str, Any]], name: str) -> JSON:
        try:
            page = positive_int(request.query_params.get("page"), 1, 1_000_000)
            size = positive_int(request.query_params.get("per_page"), 50, 100)
        except ValueError as exc:
            raise invalid("page", str(exc)) from exc
        chosen = rows[(page - 1) * size : page * size]
        info = {"page": page, "per_page": size, "count": len(chosen), "total_count": len(rows)}
        return self._ok({name: chosen}, result_info=info)

    def _row(self, order: Order) -> dict[str, Any]:
        return wire.order_row(order, self._venue.profile.markets[order.pair])


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


def _refusal(refused: OrderRefused) -> Failure:
    return invalid(_FIELDS.get(refused.refusal, "quantity"), str(refused), _CODES.get(refused.refusal))


def _failed(failure: Failure) -> JSON:
    body = {"success": False, "code": failure.code, "message": str(failure), "result": failure.result}
    headers = {}
    if failure.status == 429:
        headers = {"X-RateLimit-Limit": str(failure.result["limit"]), "X-RateLimit-Remaining": "0"}
    return JSON(body, failure.status, headers)
