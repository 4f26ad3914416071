"""Nobitex' order calls (contract: nobitex 6). Prices of rial markets enter in rial and become toman."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from providers.paper.engine import Exchange
from providers.paper.faces import nobitex_params as params
from providers.paper.faces import nobitex_wire as wire
from providers.paper.faces.nobitex_account import Call
from providers.paper.faces.nobitex_public import closed_symbols
from providers.paper.orders import Instruction, NotCancelable, OcoInstruction, Order, OrderRefused, State, UnknownOrder
from providers.types import ZERO, OrderType

_MOST_CANCELS = 20


class OrderCalls:
    """Placing, reading and cancelling. `count_order(account)` counts one more order of a batch (2.1)."""

    def __init__(self, exchange: Exchange, count_order: Callable[[str], None]) -> None:
        self._exchange = exchange
        self._venue = exchange.venues["nobitex"]
        self._count_order = count_order

    # -- placing -------------------------------------------------------------------------------------------------

    def add(self, call: Call) -> Any:
        return self._place(call, call.body)

    def _place(self, call: Call, body: dict[str, Any]) -> dict[str, Any]:
        base, quote = params.asset_of(body.get("srcCurrency")), params.asset_of(body.get("dstCurrency"))
        pair = f"{base}/{quote}"
        if wire.symbol_of(pair) in closed_symbols(self._exchange):
            raise params.Failure("MarketClosed", "Order Validation Failed")
        client_id = body.get("clientOrderId")
        if client_id is not None and not (isinstance(client_id, str) and 0 < len(client_id) <= 32):
            raise params.Failure("ParseError", "Invalid clientOrderId", 400)
        if str(body.get("mode", "")).lower() == "oco":
            legs = self._venue.submit_oco(call.account.name, self._oco(body, pair, client_id), call.now)
            return {"status": "ok", "orders": [self._row(leg) for leg in legs]}
        order = self._venue.submit(call.account.name, self._instruction(body, pair, client_id), call.now)
        return {"status": "ok", "order": self._row(order)}

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

    def batch_add(self, call: Call) -> Any:
        """Each order for itself, in the order asked; where the shared limit is hit the answer ends (6.9)."""
        items = call.body.get("data")
        if not isinstance(items, list) or not items:
            raise params.Failure("ParseError", "Missing list value: data", 400)
        results: list[dict[str, Any]] = []
        for item in items:
            try:
                self._count_order(call.account.name)
            except params.Failure:
                if not results:
                    raise
                break
            results.append(self._result(call, item))
        return {"status": "ok", "results": results}

    def _result(self, call: Call, item: object) -> dict[str, Any]:
        if not isinstance(item, dict):
            return params.failed_row(params.Failure("ParseError", "Invalid order"), {})
        body = item | {"pro": call.body.get("pro")}  # of the whole call
        try:
            return self._place(call, body)
        except params.Failure as failure:
            return params.failed_row(failure, body)
        except OrderRefused as refused:
            return params.failed_row(params.refusal(refused), body)

    # -- reading -------------------------------------------------------------------------------------------------

    def status(self, call: Call) -> Any:
        return {"status": "ok", "order": self._row(self._named(call, "id"))}

    def _named(self, call: Call, field: str) -> Order:
        """By id, else by client id, which finds working orders only (6.5)."""
        number, client_id = call.body.get(field), call.body.get("clientOrderId")
        if number is None and client_id is None:
            raise params.Failure("NullIdAndClientOrderId", "Both id and clientOrderId cannot be null")
        finds_all = bool(self._venue.profile.switch("client_id_finds_closed"))
        try:
            if number is not None:
                return self._venue.order(call.account.name, int(str(number)))
            return self._venue.order_by_client_id(call.account.name, str(client_id), working_only=not finds_all)
        except ValueError as exc:
            raise params.Failure("ParseError", f"Invalid integer value: {str(number)[:40]!r}", 400) from exc
        except UnknownOrder as exc:
            raise params.Failure("NotFound", "No Order matches the given query.", 404) from exc

    def orders(self, call: Call) -> Any:
        query, style = call.query, wire.Style.of(self._venue.profile)
        chosen = [order for order in self._venue.orders(call.account.name) if params.matches(order, query)]
        if "fromId" in query and "page" in query:
            raise params.Failure("ParseError", "page cannot be combined with fromId", 400)
        floor = params.int_of(query.get("fromId"), "fromId", 1)
        if "fromId" in query:
            chosen = [order for order in chosen if order.id > floor]
        params.sort_orders(chosen, query)
        row = wire.order_row if query.get("details") == "2" else wire.short_row
        page, _ = params.page_of(chosen, query, default=100)
        return {"status": "ok", "orders": [row(order, style) for order in page]}

    def open_count(self, call: Call) -> Any:
        kind = call.query.get("tradeType", "").lower()
        count = 0 if kind == "margin" else len(self._venue.working_orders(call.account.name))
        return {"status": "ok", "count": count}

    def trades(self, call: Call) -> Any:
        """Own fills of the last three days, newest first (6.10); `fromId` is inclusive."""
        since = call.now - timedelta(days=int(self._venue.profile.switch("trades_list_days")))
        trades = [trade for trade in self._venue.trades(call.account.name) if trade.executed_at >= since]
        if ("srcCurrency" in call.query) != ("dstCurrency" in call.query):
            raise params.Failure("ParseError", "srcCurrency and dstCurrency go together", 400)
        if "srcCurrency" in call.query:
            pair = f"{params.asset_of(call.query['srcCurrency'])}/{params.asset_of(call.query['dstCurrency'])}"
            trades = [trade for trade in trades if trade.pair == pair]
        floor = params.int_of(call.query.get("fromId"), "fromId", 0)
        chosen = [trade for trade in reversed(trades) if trade.id >= floor]
        page, has_next = params.page_of(chosen, call.query, default=30)
        style = wire.Style.of(self._venue.profile)
        return {"status": "ok", "trades": [wire.trade_row(trade, style) for trade in page], "hasNext": has_next}

    # -- cancelling ----------------------------------------------------------------------------------------------

    def update_status(self, call: Call) -> Any:
        order = self._named(call, "order")
        asked = str(call.body.get("status", "")).lower()
        if asked == "active" and order.state is State.NEW:
            raise params.Failure("SimInvalidTransition", "the exchange itself decides when this order becomes active")
        if asked != "canceled":
            raise params.Failure("SimInvalidTransition", "only a cancel is possible")
        try:
            self._venue.cancel(call.account.name, order.id, call.now)
        except NotCancelable as exc:
            raise params.Failure("SimInvalidTransition", "the order is closed already") from exc
        answer = {"status": "ok", "updatedStatus": "Canceled"}
        return answer | ({"order": self._row(order)} if self._venue.profile.switch("update_status_shows_order") else {})

    def cancel_old(self, call: Call) -> Any:
        """Leaves plain inactive stops alone; takes OCO legs (6.8)."""
        body = call.body
        hours = params.number_of(body.get("hours"))
        before = call.now - timedelta(hours=float(hours)) if hours is not None else call.now
        wanted = {name: body.get(name) for name in ("execution", "tradeType", "srcCurrency", "dstCurrency")}
        spares_stops = bool(self._venue.profile.switch("cancel_old_spares_stops"))
        for order in self._venue.working_orders(call.account.name):
            is_spared = spares_stops and order.state is State.INACTIVE and order.pair_id is None
            is_meant = order.created_at <= before and params.matches(order, wanted | {"status": "open"})
            if order.state.is_working and is_meant and not is_spared:
                self._try_cancel(call, order.id, "cancel-old")
        return {"status": "ok"}

    def cancel_batch(self, call: Call) -> Any:
        """At most 20 ids; keys of the answer are texts. Queued only, where so switched: poll until closed (6.9)."""
        numbers = self._batch(call.body.get("orderIds"))
        if self._venue.profile.switch("async_cancel_batch"):
            delay = timedelta(seconds=float(self._venue.profile.switch("cancel_batch_delay_seconds")))
            self._exchange.later(call.now + delay, lambda now: self._cancel_queued(call, numbers, now))
            rows = {str(number): {"status": "ok"} for number in numbers}
            return {"status": "ok", "message": "Orders are queued to be cancelled", "orders": rows}
        rows = {}
        for number in numbers:
            problem = self._try_cancel(call, number, "cancel-batch")
            rows[str(number)] = {"status": "ok"} if problem is None else {"status": "failed", "message": problem}
        return {"status": "ok", "message": "", "orders": rows}

    def _batch(self, asked: object) -> list[int]:
        if not isinstance(asked, list) or not asked:
            raise params.Failure("ParseError", "Order_ids list is empty", 400)
        if len(asked) > _MOST_CANCELS:
            raise params.Failure("ParseError", f"The maximum number of orderIds should be {_MOST_CANCELS}", 400)
        for each in asked:
            if isinstance(each, bool) or not str(each).isascii() or not str(each).isdigit():
                raise params.Failure("ParseError", f'Invalid integer value: "{str(each)[:40]}"', 400)
        return list(dict.fromkeys(int(str(each)) for each in asked))

    def _cancel_queued(self, call: Call, numbers: list[int], now: Any) -> None:
        for number in numbers:
            self._try_cancel(call, number, "cancel-batch", now)

    def _try_cancel(self, call: Call, number: int, reason: str, now: Any = None) -> str | None:
        """None, or why not."""
        try:
            self._venue.cancel(call.account.name, number, now or call.now, reason=reason)
        except UnknownOrder:
            return "SimNotFound"
        except NotCancelable:
            return "SimInvalidTransition"
        return None

    def _row(self, order: Order) -> dict[str, Any]:
        return wire.order_row(order, wire.Style.of(self._venue.profile))
