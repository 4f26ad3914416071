"""Nobitex' HTTP face (contract: nobitex 2, 4, 5, 6 and 11). Prices of rial markets enter in rial and become toman."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from providers.paper.engine import Account, Exchange, to_ms
from providers.paper.faces import nobitex_params as params
from providers.paper.faces import nobitex_tokens as tokens
from providers.paper.faces import nobitex_wire as wire
from providers.paper.faces.charts import day_figures, newest
from providers.paper.faces.common import (
    JSON,
    Handler,
    Limit,
    RateLimiter,
    client_ip,
    plain,
    positive_int,
)
from providers.paper.orders import (
    Instruction,
    NotCancelable,
    OcoInstruction,
    Order,
    OrderRefused,
    UnknownOrder,
)
from providers.types import ZERO, OrderType, Resolution

_TOKEN = re.compile(r"Token ([0-9a-f]{40})")
_MINUTE = 60.0
_ORDER_LIMIT = Limit(300, 10 * _MINUTE)
_NO_CREDENTIALS = "اطلاعات برای اعتبارسنجی ارسال نشده است."
_UNKNOWN_KEY = "توکن غیر مجاز"
_PAGE = 500  # candles in one answer


@dataclass(frozen=True, slots=True)
class Call:
    """One authenticated request."""

    request: Request
    account: Account
    now: datetime
    body: dict[str, Any]

    @property
    def query(self) -> Any:
        return self.request.query_params


class NobitexFace:
    """Routes of the simulated Nobitex."""

    def __init__(self, exchange: Exchange, limiter: RateLimiter) -> None:
        self._exchange = exchange
        self._venue = exchange.venues["nobitex"]
        self._limiter = limiter
        self._pairs = {wire.symbol_of(pair): pair for pair in self._venue.profile.markets}

    def routes(self) -> list[Route]:
        """Limits as in the contract's table (2.2); where it names none, none is counted."""
        public, private = self._public, self._private
        table: list[tuple[str, str, Handler]] = [
            ("GET", "/v3/orderbook/{symbol}", public(self.orderbook, Limit(300, _MINUTE))),
            ("GET", "/v2/trades/{symbol}", public(self.public_trades, Limit(60, _MINUTE))),
            ("GET", "/market/stats", public(self.stats, Limit(20, _MINUTE))),
            ("GET", "/market/udf/history", public(self.history, None)),
            ("GET", "/v2/options", public(self.options, None)),
            ("GET", "/users/profile", private(self.profile, None)),
            ("GET", "/users/wallets/list", private(self.wallets, Limit(20, 2 * _MINUTE))),
            ("GET", "/v2/wallets", private(self.short_wallets, Limit(15, _MINUTE))),
            ("POST", "/users/wallets/balance", private(self.wallet_balance, Limit(60, 2 * _MINUTE))),
            ("POST", "/market/orders/add", private(self.add, _ORDER_LIMIT)),
            ("POST", "/market/orders/status", private(self.status, Limit(300, _MINUTE))),
            ("GET", "/market/orders/list", private(self.orders, Limit(30, _MINUTE))),
            ("POST", "/market/orders/update-status", private(self.update_status, Limit(90, _MINUTE))),
            ("POST", "/market/orders/cancel-old", private(self.cancel_old, Limit(30, _MINUTE))),
            ("GET", "/market/orders/open-count", private(self.open_count, Limit(15, _MINUTE))),
            ("GET", "/market/trades/list", private(self.trades, Limit(30, _MINUTE))),
        ]
        routes = [Route(path, handler, methods=[method]) for method, path, handler in table]
        return [*routes, Route("/{path:path}", _not_found, methods=["GET", "POST", "PUT", "DELETE", "PATCH"])]

    # -- around every call ---------------------------------------------------------------------------------------

    def _public(self, handler: Callable[[Request, datetime], Any], limit: Limit | None) -> Handler:
        async def endpoint(request: Request) -> Response:
            try:
                self._count(limit, handler.__name__, client_ip(request))
                with self._exchange.operation() as now:
                    return JSON(handler(request, now))
            except params.Failure as failure:
                return params.failed(failure)

        return endpoint

    def _private(self, handler: Callable[[Call], Any], limit: Limit | None) -> Handler:
        async def endpoint(request: Request) -> Response:
            account = self._authenticated(request)
            if isinstance(account, Response):
                return account
            body: dict[str, Any] = {}
            try:
                self._count(limit, handler.__name__, account.name)
                body = await params.read_body(request)
                with self._exchange.operation() as now:
                    return JSON(handler(Call(request, account, now, body)))
            except params.Failure as failure:
                return params.failed(failure, body if handler.__name__ == "add" else None)
            except OrderRefused as refused:
                return params.failed(params.refusal(refused), body)

        return endpoint

    def _count(self, limit: Limit | None, *key: str) -> None:
        if limit is None:
            return
        verdict = self._limiter.hit(limit, "nobitex", *key)
        if not verdict.allowed:
            text = f"تعداد درخواست بیش از حد مجاز است. لطفا {verdict.back_off} ثانیه صبر کنید."
            raise params.Failure("TooManyRequests", text, 429, backOff=verdict.back_off, limit=limit.count)

    def _authenticated(self, request: Request) -> Account | Response:
        """Auth errors have their own shape (nobitex 2)."""
        header = request.headers.get("authorization")
        if not header:
            return JSON({"detail": _NO_CREDENTIALS}, 401)
        match = _TOKEN.fullmatch(header)
        account = self._exchange.account_for_nobitex(match[1]) if match else None
        return account or JSON({"detail": _UNKNOWN_KEY}, 401)

    # -- public --------------------------------------------------------------------------------------------------

    def orderbook(self, request: Request, now: datetime) -> Any:
        symbol = request.path_params["symbol"].upper()
        if symbol == "ALL":
            return {"status": "ok"} | {name: self._book(pair, now) for name, pair in self._pairs.items()}
        pair = self._pairs.get(symbol)
        if pair is None:
            raise params.Failure("SimUnknownSymbol", "there is no such market")
        return {"status": "ok", **self._book(pair, now)}

    def _book(self, pair: str, now: datetime) -> dict[str, Any]:
        book, at = self._venue.look(pair, now)
        return wire.book_row(book, self._venue.last.get(pair), pair.split("/")[1], to_ms(at))

    def public_trades(self, request: Request, now: datetime) -> Any:
        pair = self._pairs.get(request.path_params["symbol"].upper())
        if pair is None:
            raise params.Failure("SimUnknownSymbol", "there is no such market")
        spec, quote = self._exchange.feed.specs[pair], pair.split("/")[1]
        ticks = self._exchange.feed.ticks("nobitex", pair, to_ms(now) - 120_000, to_ms(now))
        newest_first = range(len(ticks) - 1, max(len(ticks) - 21, -1), -1)
        rows = [
            {
                "time": int(ticks.times[index]),
                "price": wire.money(spec.price(ticks.prices[index]), quote),
                "volume": plain(spec.volume(ticks.volumes[index])),
                "type": "buy" if ticks.buys[index] else "sell",
            }
            for index in newest_first
        ]
        return {"status": "ok", "trades": rows}

    def stats(self, request: Request, now: datetime) -> Any:
        wanted_src = request.query_params.get("srcCurrency")
        wanted_dst = request.query_params.get("dstCurrency")
        rows = {}
        for pair in self._pairs.values():
            src, dst = wire.stats_key(pair).split("-")
            if (wanted_src and src not in wanted_src.split(",")) or (wanted_dst and dst not in wanted_dst.split(",")):
                continue
            book = self._venue.depth(pair, now)
            day = day_figures(self._exchange, "nobitex", pair, now)
            rows[f"{src}-{dst}"] = wire.stats_row(book, day, pair.split("/")[1])
        return {"status": "ok", "stats": rows, "global": {}}

    def history(self, request: Request, now: datetime) -> Any:
        """At most 500 candles a page, page 1 the newest; `to` is included, `countback` overrides `from` (4.5)."""
        query = request.query_params
        try:
            seconds = Resolution(query.get("resolution", "")).seconds
        except ValueError:
            return {"s": "error", "errmsg": "Invalid resolution!"}
        pair = self._pairs.get(query.get("symbol", "").upper())
        if pair is None:
            return {"s": "error", "errmsg": "Invalid symbol!"}
        try:
            end = int(query["to"])
            start = end - int(query["countback"]) * seconds + 1 if "countback" in query else int(query["from"])
            page = positive_int(query.get("page"), 1, 1_000_000)
        except (KeyError, ValueError):
            return {"s": "error", "errmsg": "from, to, countback and page must be whole numbers"}
        found = newest(self._exchange, "nobitex", pair, seconds, start, end, now, _PAGE, page)
        return wire.chart_row(found) if len(found) else {"s": "no_data"}

    def options(self, request: Request, now: datetime) -> Any:
        return wire.options_row(list(self._venue.profile.markets.values()))

    # -- account -------------------------------------------------------------------------------------------------

    def profile(self, call: Call) -> Any:
        fees = {}
        for name, quote in (("fee", "IRT"), ("feeUsdt", "USDT")):
            rates = [m.taker_fee_rate for m in self._venue.profile.markets.values() if m.quote == quote]
            fees[name] = plain((rates[0] if rates else ZERO) * 100)
        options = {**fees, "isManualFee": False, "tfa": False, "socialLoginEnabled": False}
        person = {"firstName": "Paper", "email": f"{call.account.name}@paper.invalid", "username": call.account.name}
        verified = {"verifications": {"email": True, "mobile": True, "identity": True}, "pendingVerifications": {}}
        return {
            "status": "ok",
            "profile": {**person, **verified, "bankCards": [], "bankAccounts": [], "options": options,
                        "withdrawEligible": True},
            "tradeStats": {"monthTradesTotal": "0", "monthTradesCount": len(self._venue.trades(call.account.name))},
            "websocketAuthParam": tokens.auth_param(call.account),
        }  # fmt: skip

    def wallets(self, call: Call) -> Any:
        if call.query.get("type", "spot") != "spot":
            return {"status": "ok", "wallets": []}
        rows = [
            wire.wallet_row(wire.wallet_number(call.account.number, asset), balance, self._rial_price(asset))
            for asset, balance in self._venue.balances(call.account.name).items()
        ]
        return {"status": "ok", "wallets": rows}

    def short_wallets(self, call: Call) -> Any:
        wanted = [code for code in call.query.get("currencies", "").lower().split(",") if code]
        held = {} if call.query.get("type", "spot") != "spot" else self._venue.balances(call.account.name)
        rows = {
            wire.code_of(asset).upper(): wire.short_wallet(wire.wallet_number(call.account.number, asset), balance)
            for asset, balance in held.items()
            if not wanted or wire.code_of(asset) in wanted
        }
        return {"status": "ok", "wallets": rows}

    def wallet_balance(self, call: Call) -> Any:
        asset = params.asset_of(call.body.get("currency"))
        return {"balance": wire.money(self._venue.balance(call.account.name, asset).total, asset), "status": "ok"}

    def _rial_price(self, asset: str) -> Decimal:
        if asset == "IRT":
            return Decimal(wire.RIALS)
        return self._venue.last.get(f"{asset}/IRT", ZERO) * wire.RIALS

    # -- orders --------------------------------------------------------------------------------------------------

    def add(self, call: Call) -> Any:
        base, quote = params.asset_of(call.body.get("srcCurrency")), params.asset_of(call.body.get("dstCurrency"))
        pair = f"{base}/{quote}"
        client_id = call.body.get("clientOrderId")
        if client_id is not None and not (isinstance(client_id, str) and 0 < len(client_id) <= 32):
            raise params.Failure("ParseError", "Invalid clientOrderId", 400)
        if str(call.body.get("mode", "")).lower() == "oco":
            legs = self._venue.submit_oco(call.account.name, self._oco(call.body, pair, client_id), call.now)
            return {"status": "ok", "orders": [wire.order_row(leg) for leg in legs]}
        order = self._venue.submit(call.account.name, self._instruction(call.body, pair, client_id), call.now)
        return {"status": "ok", "order": wire.order_row(order)}

    def _instruction(self, body: dict[str, Any], pair: str, client_id: str | None) -> Instruction:
        kind = wire.EXECUTIONS.get(str(body.get("execution", "limit")).lower())
        if kind is None:
            raise params.Failure("ParseError", "Missing choices value", 400)
        quote = pair.split("/")[1]
        return Instruction(
            pair, params.side_of(body), kind, params.required(body, "amount"),
            price=None if kind is OrderType.STOP_MARKET else params.price_of(body, "price", quote),
            stop_price=params.price_of(body, "stopPrice", quote) if kind.is_stop else None,
            client_id=client_id,
            bypass_duplicate_guard=body.get("pro") == "yes",
        )  # fmt: skip

    def _oco(self, body: dict[str, Any], pair: str, client_id: str | None) -> OcoInstruction:
        quote = pair.split("/")[1]
        prices = [params.price_of(body, name, quote) for name in ("price", "stopPrice", "stopLimitPrice")]
        if None in prices:
            raise params.Failure("InvalidOrderPrice", "Order Validation Failed")
        target, stop, stop_limit = (price or ZERO for price in prices)
        return OcoInstruction(
            pair, params.side_of(body), params.required(body, "amount"), target, stop, stop_limit, client_id,
            bypass_duplicate_guard=body.get("pro") == "yes",
        )  # fmt: skip

    def status(self, call: Call) -> Any:
        return {"status": "ok", "order": wire.order_row(self._named(call, "id"))}

    def _named(self, call: Call, field: str) -> Order:
        """By id, else by client id, which finds working orders only (6.5)."""
        number, client_id = call.body.get(field), call.body.get("clientOrderId")
        if number is None and client_id is None:
            raise params.Failure("NullIdAndClientOrderId", "Both id and clientOrderId cannot be null")
        try:
            if number is not None:
                return self._venue.order(call.account.name, int(str(number)))
            return self._venue.order_by_client_id(call.account.name, str(client_id), working_only=True)
        except ValueError as exc:
            raise params.Failure("ParseError", f"Invalid integer value: {str(number)[:40]!r}", 400) from exc
        except UnknownOrder as exc:
            raise params.Failure("NotFound", "No Order matches the given query.", 404) from exc

    def orders(self, call: Call) -> Any:
        query = call.query
        chosen = [order for order in self._venue.orders(call.account.name) if params.matches(order, query)]
        if "fromId" in query and "page" in query:
            raise params.Failure("ParseError", "page cannot be combined with fromId", 400)
        floor = params.int_of(query.get("fromId"), "fromId", 1)
        if "fromId" in query:
            chosen = [order for order in chosen if order.id > floor]
        params.sort_orders(chosen, query)
        rows = [wire.order_row(o) if query.get("details") == "2" else wire.short_row(o) for o in chosen]
        return {"status": "ok", "orders": params.page_of(rows, query, default=100)[0]}

    def update_status(self, call: Call) -> Any:
        order = self._named(call, "order")
        if str(call.body.get("status", "")).lower() != "canceled":
            raise params.Failure("SimInvalidTransition", "only a cancel is possible")
        try:
            self._venue.cancel(call.account.name, order.id, call.now)
        except NotCancelable as exc:
            raise params.Failure("SimInvalidTransition", "the order is closed already") from exc
        return {"status": "ok", "updatedStatus": "Canceled", "order": wire.order_row(order)}

    def cancel_old(self, call: Call) -> Any:
        """Leaves plain inactive stops alone; takes OCO legs (6.8)."""
        body = call.body
        hours = params.number_of(body.get("hours"))
        before = call.now - timedelta(hours=float(hours)) if hours is not None else call.now
        wanted = {"execution": body.get("execution"), "tradeType": body.get("tradeType")}
        wanted |= {"srcCurrency": body.get("srcCurrency"), "dstCurrency": body.get("dstCurrency"), "status": "open"}
        for order in self._venue.working_orders(call.account.name):
            is_plain_stop = order.state.value == "INACTIVE" and order.pair_id is None
            if (
                order.state.is_working
                and not is_plain_stop
                and order.created_at <= before
                and params.matches(order, wanted)
            ):
                self._venue.cancel(call.account.name, order.id, call.now, reason="cancel-old")
        return {"status": "ok"}

    def open_count(self, call: Call) -> Any:
        return {"status": "ok", "count": len(self._venue.working_orders(call.account.name))}

    def trades(self, call: Call) -> Any:
        """Own fills of the last three days, newest first (6.10); `fromId` is inclusive."""
        since = call.now - timedelta(days=3)
        trades = [trade for trade in self._venue.trades(call.account.name) if trade.executed_at >= since]
        if ("srcCurrency" in call.query) != ("dstCurrency" in call.query):
            raise params.Failure("ParseError", "srcCurrency and dstCurrency go together", 400)
        if "srcCurrency" in call.query:
            pair = f"{params.asset_of(call.query['srcCurrency'])}/{params.asset_of(call.query['dstCurrency'])}"
            trades = [trade for trade in trades if trade.pair == pair]
        floor = params.int_of(call.query.get("fromId"), "fromId", 0)
        rows = [wire.trade_row(trade) for trade in reversed(trades) if trade.id >= floor]
        page, has_next = params.page_of(rows, call.query, default=30)
        return {"status": "ok", "trades": page, "hasNext": has_next}


async def _not_found(request: Request) -> Response:
    """Unknown addresses answer in HTML (nobitex 1)."""
    return HTMLResponse("<!doctype html><html><head><title>Not Found</title></head><body>404</body></html>", 404)
