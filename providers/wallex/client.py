"""Wallex over REST (contract: wallex). Addresses and answers; the meaning of values is in mapping.py."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import quote

from pydantic import ValidationError

from providers.breaker import Breaker
from providers.budgets import InProcessBudget, Limit, Priority, RateBudget
from providers.clock import AnchoredClock, Clock
from providers.errors import (
    AlreadySubmitted,
    AuthFailed,
    BadPayload,
    OrderNotFound,
    OrderRejected,
    OutcomeUnknown,
    ProviderError,
    RejectReason,
    Unavailable,
)
from providers.http import CLIENT_VERSION, Answer, Endpoint, HeaderAuth, HttpSession
from providers.redaction import redact
from providers.types import (
    Balance,
    Candle,
    Capabilities,
    Fill,
    MarketRules,
    OcoRequest,
    OrderBook,
    OrderRef,
    OrderReport,
    OrderRequest,
    Resolution,
)
from providers.wallex import mapping
from providers.wallex.schemas import (
    AccountTradeSchema,
    BalanceSchema,
    DepthSchema,
    FeeSchema,
    MarketSchema,
    OrderSchema,
    TradeSchema,
)
from providers.wire import UdfHistory, as_list, as_mapping, check_spacing, from_seconds, parse, to_candles, within

logger = logging.getLogger(__name__)

# Documented: 20 order creations in 10 s; elsewhere far more, but polling is frowned upon (contract: wallex 1.4).
LIMITS = {"orders": Limit(15, 10.0), "default": Limit(50, 10.0)}

_EXITS = Priority.EXITS
MARKETS = Endpoint("markets", "GET", "/v1/markets")
FEES = Endpoint("fees", "GET", "/v1/account/fee", private=True)
CANDLES = Endpoint("candles", "GET", "/v1/udf/history")
DEPTH = Endpoint("depth", "GET", "/v1/depth")
TRADES = Endpoint("trades", "GET", "/v1/trades")
BALANCES = Endpoint("balances", "GET", "/v1/account/balances", private=True, priority=_EXITS)
CREATE = Endpoint("create_order", "POST", "/v1/account/orders", "orders", write=True, private=True)
PROTECT = replace(CREATE, priority=_EXITS)
FETCH = Endpoint("fetch_order", "GET", "/v1/account/orders/{id}", private=True, priority=_EXITS)
CANCEL = Endpoint("cancel_order", "DELETE", "/v1/account/orders", write=True, private=True, priority=_EXITS)
OPEN = Endpoint("open_orders", "GET", "/v1/account/openOrders", private=True, priority=_EXITS)
HISTORY = Endpoint("orders_since", "GET", "/v1/account/orders", private=True, priority=_EXITS)
OWN_TRADES = Endpoint("own_trades", "GET", "/v1/account/trades", private=True, priority=_EXITS)

# The three documented ways to name the order of a DELETE, best first (contract: wallex 5.4).
_DELETE_FORMS: tuple[Callable[[str], dict[str, Any]], ...] = (
    lambda order_id: {"path": f"{CANCEL.path}/{quote(order_id, safe='')}"},
    lambda order_id: {"params": {"clientOrderId": order_id}},
    lambda order_id: {"body": {"clientOrderId": order_id}},
)

_OUR_ID = re.compile(r"[A-Z0-9_]{1,32}")
_THEIR_ID = re.compile(r"[A-Z_]{3,12}-[0-9A-Fa-f-]{32,36}")  # made by the exchange: LIMIT-<uuid>
_PER_PAGE = 100
_MOST_PAGES = 100
_PLAUSIBLE_PAGE = 10  # no exchange cuts its pages shorter than this
_WINDOW = {Resolution.M1: 1440, Resolution.H1: 720, Resolution.D1: 720}  # candles asked for at once
_TRUNCATED_FROM = 100  # an answer this long that does not reach its ends may have been cut


class WallexClient:
    """`ExchangeProvider` for Wallex. Order ids are client ids there: `exchange_order_id` is what the exchange calls the
    order, `client_order_id` what we do; they differ only where the exchange made its own."""

    name = "wallex"

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        clock: Clock | None = None,
        budget: RateBudget | None = None,
        breaker: Breaker | None = None,
    ) -> None:
        self._clock = clock or AnchoredClock()
        self._http = HttpSession(
            self.name,
            base_url,
            auth=HeaderAuth("x-api-key", api_key.strip()) if api_key else None,
            budget=budget or InProcessBudget(LIMITS),
            breaker=breaker,
            headers={"Content-Type": "application/json", "User-Agent": f"algo_trade/{CLIENT_VERSION}"},
        )
        self._delete_form = 0

    def __repr__(self) -> str:
        return f"WallexClient({self._http!r})"

    @property
    def clock_difference(self) -> timedelta | None:
        """Theirs minus ours, by the Date of their last answer."""
        return self._http.clock_difference

    # --- market data ---

    def markets(self) -> Sequence[MarketRules]:
        """All spot markets. Fees: the account's with a key, else the documented ones. A market that cannot be read is
        left out and logged; none at all is BadPayload."""
        fees = self._http.call(FEES, answers.fees) if self._http.has_key else {}
        symbols = self._http.call(MARKETS, lambda answer: as_mapping(answers.mapping_of(answer).get("symbols"), "symbols"))
        rules = []
        for symbol, payload in symbols.items():
            try:
                rules.append(mapping.to_rules(parse(MarketSchema, payload), fees.get(symbol, mapping.DOCUMENTED_FEES)))
            except BadPayload as exc:
                logger.warning("market left out provider=wallex symbol=%s reason=%s", redact(symbol)[:40], exc)
        if not rules:
            raise BadPayload("wallex markets: not one readable market")
        return rules

    def candles(self, symbol: str, resolution: Resolution, start: datetime, end: datetime) -> Sequence[Candle]:
        """Only 1, 60 and 1D are asked for, because the other resolutions were seen to answer with finer candles
        (contract: wallex 3.6); the rest is gathered here on the UTC grid."""
        source = mapping.source_of(resolution)
        if source is resolution:
            return self._native_candles(symbol, source, start, end)
        first, last = mapping.bucket_start(start, resolution), end + resolution.duration
        return within(mapping.aggregate(self._native_candles(symbol, source, first, last), resolution), start, end)

    def order_book(self, symbol: str) -> OrderBook:
        depth = self._http.call(DEPTH, lambda answer: parse(DepthSchema, answers.result_of(answer)), params={"symbol": symbol})
        return mapping.to_book(symbol, depth, self._clock.now())

    def last_price(self, symbol: str) -> Decimal:
        def newest(answer: Answer) -> Decimal:
            trades = [parse(TradeSchema, trade) for trade in as_list(answers.mapping_of(answer).get("latestTrades"), "trades")]
            if not trades:
                raise BadPayload(f"{symbol} has no trades")
            return max(trades, key=lambda trade: trade.timestamp).price  # the first of equals: newest first on the wire

        return self._http.call(TRADES, newest, params={"symbol": symbol})

    # --- account ---

    def balances(self) -> dict[str, Balance]:
        def read(answer: Answer) -> list[Balance]:
            entries = as_mapping(answers.mapping_of(answer).get("balances"), "balances").values()
            return [mapping.to_balance(parse(BalanceSchema, entry)) for entry in entries]

        balances = {balance.asset: balance for balance in self._http.call(BALANCES, read)}
        for balance in balances.values():
            if balance.locked > balance.total:  # would disprove that `value` is the total
                logger.error("locked above total provider=wallex asset=%s", balance.asset)
        return {asset: balance for asset, balance in balances.items() if balance.total or balance.locked}

    def capabilities(self) -> Capabilities:
        """Stops are documented, not proven (contract: wallex 7): the probe of an account has the last word."""
        return Capabilities(stop_market=True, stop_limit=True, stops_lock_balance=True, finds_closed_by_client_id=True)

    # --- orders: writes ---

    def create_order(self, request: OrderRequest) -> OrderReport:
        body = answers.order_body(request)
        endpoint = PROTECT if request.type.is_stop else CREATE
        return self._http.call(endpoint, lambda answer: answers.created(answer, request), body=body)

    def create_oco(self, request: OcoRequest) -> tuple[OrderReport, OrderReport]:
        raise OrderRejected("Wallex has no OCO orders: nothing was sent", reason=RejectReason.INVALID, code="no_oco")

    def cancel_order(self, ref: OrderRef) -> OrderReport:
        """One DELETE; where that form of address does not exist (404, 405), the next documented form."""
        order_id = answers.order_id_of(ref)
        for attempt in range(len(_DELETE_FORMS)):
            form = (self._delete_form + attempt) % len(_DELETE_FORMS)
            report = self._http.call(CANCEL, lambda answer: answers.canceled(answer, ref), **_DELETE_FORMS[form](order_id))
            if report is not None:
                self._delete_form = form
                return report
        raise OrderNotFound(f"wallex cancel_order: {order_id} is unknown in every form of the call")

    # --- orders: reads ---

    def fetch_order(self, ref: OrderRef) -> OrderReport:
        ids = dict.fromkeys(order_id for order_id in (ref.exchange_order_id, ref.client_order_id) if order_id)
        if not ids:
            raise ValueError("an order without any id cannot be asked for")
        for order_id in ids:
            report = self._fetch(order_id, ref)
            if report is not None:
                return report
        raise OrderNotFound(f"wallex does not know {' or '.join(ids)}")

    def fetch_fills(self, report: OrderReport) -> Sequence[Fill]:
        """The fills stand in the order itself. Compare their sum with `filled_quantity`: the exchange may book late."""
        if report.fills_complete:
            return report.fills
        ref = OrderRef(report.symbol, report.client_order_id, report.exchange_order_id, report.created_at)
        return self.fetch_order(ref).fills

    def open_orders(self, symbol: str | None = None) -> Sequence[OrderReport]:
        return list(self._order_pages(OPEN, {"symbol": symbol} if symbol else {}, symbol))

    def orders_since(self, symbol: str, since: datetime) -> Sequence[OrderReport]:
        """History together with what is open: whether the history holds open orders is not documented. The days asked
        for are a day wider on both sides, because their zone is not documented either."""
        days = {"from": since - timedelta(days=1), "to": self._clock.now() + timedelta(days=1)}
        params = {"market": symbol, **{name: day.date().isoformat() for name, day in days.items()}}
        found = {report.exchange_order_id: report for report in self._order_pages(HISTORY, params, symbol)}
        found |= {report.exchange_order_id: report for report in self.open_orders(symbol)}
        recent = [r for r in found.values() if r.created_at is None or r.created_at >= since]
        return sorted(recent, key=lambda report: report.created_at or since)

    def own_trades(self, symbol: str, since: datetime) -> Sequence[Fill]:
        """Evidence only: these executions carry no order id, and their ids differ from those of `fetch_fills`. Where
        the exchange no longer has the call, the fills of the orders since then."""
        trades: dict[str, Fill] = {}
        for rows in self._pages(OWN_TRADES, {"symbol": symbol}, answers.trade_rows):
            if rows is None:
                return [f for r in self.orders_since(symbol, since) for f in r.fills if f.executed_at >= since]
            page = mapping.to_account_fills([parse(AccountTradeSchema, row) for row in rows])
            fresh = [fill for fill in page if fill.trade_id not in trades]
            trades |= {fill.trade_id: fill for fill in fresh}
            if not fresh or min(fill.executed_at for fill in page) < since:
                break
        return sorted((f for f in trades.values() if f.executed_at >= since), key=lambda fill: fill.executed_at)

    # --- how it is done ---

    def _native_candles(self, symbol: str, source: Resolution, start: datetime, end: datetime) -> list[Candle]:
        found: list[Candle] = []
        step = source.seconds
        cursor, stop = math.ceil(start.timestamp()), math.ceil(end.timestamp())
        while cursor < stop:
            window_end = min(cursor + _WINDOW[source] * step, stop)
            found += self._candle_window(symbol, source, cursor, window_end - 1)
            cursor = window_end
        return within(found, start, end)

    def _candle_window(self, symbol: str, source: Resolution, first: int, last: int) -> list[Candle]:
        """Candles from `first` to `last` (unix seconds, both included), asking again for ends that were cut off."""
        params = {"symbol": symbol, "resolution": mapping.NATIVE[source], "from": first, "to": last}
        history = self._http.call(CANDLES, answers.chart, params=params)
        if history.s not in ("ok", "no_data"):
            raise Unavailable(
                f"wallex has no {source} candles of {symbol}: {redact(str(history.errmsg or history.s))[:80]}"
            )
        if not history.t:
            return []
        candles = [c for c in to_candles(history) if from_seconds(first) <= c.open_time <= from_seconds(last)]
        check_spacing(candles, source)
        if len(candles) < _TRUNCATED_FROM:
            return candles
        begins, ends = int(candles[0].open_time.timestamp()), int(candles[-1].open_time.timestamp())
        if begins - source.seconds >= first:
            candles = self._candle_window(symbol, source, first, begins - 1) + candles
        if ends + source.seconds <= last:
            candles += self._candle_window(symbol, source, ends + source.seconds, last)
        return candles

    def _fetch(self, order_id: str, ref: OrderRef) -> OrderReport | None:
        def read(answer: Answer) -> OrderReport | None:
            known_no = answer.status == 404 and isinstance(answer.payload, dict)  # a page of the edge is no evidence
            return None if known_no else answers.one_order(answers.result_of(answer), ref)

        return self._http.call(FETCH, read, path=FETCH.path.format(id=quote(order_id, safe="")))

    def _order_pages(self, endpoint: Endpoint, params: Mapping[str, Any], symbol: str | None) -> Iterator[OrderReport]:
        """Every order of every page, each once; of one market where `symbol` is given, whatever the exchange sends."""
        seen: set[str] = set()
        for rows in self._pages(endpoint, params, answers.order_rows):
            orders = [(parse(OrderSchema, row), row) for row in rows or []]
            fresh = [(order, row) for order, row in orders if order.clientOrderId not in seen]
            if not fresh:
                return
            seen |= {order.clientOrderId for order, _ in fresh}
            yield from (mapping.to_report(order, row) for order, row in fresh if symbol in (None, order.symbol))

    def _pages(
        self, endpoint: Endpoint, params: Mapping[str, Any], rows_of: Callable[[Any], list[Any]]
    ) -> Iterator[list[Any] | None]:
        """The rows of page after page until an empty one, or until `result_info` counts no more. None: no such call.
        A page shorter than asked for proves nothing: the largest page the exchange gives is not documented."""

        def read(answer: Answer) -> tuple[list[Any], int | None] | None:
            if answer.status in (404, 405):
                return None
            result = answers.result_of(answer)
            return rows_of(result), answers.total_count(answer.payload)

        count = 0
        for page in range(1, _MOST_PAGES + 1):
            found = self._http.call(endpoint, read, params={**params, "page": page, "per_page": _PER_PAGE})
            if found is None:
                if endpoint is not OWN_TRADES:
                    raise BadPayload(f"wallex {endpoint.name}: no such call")
                yield None
                return
            rows, total = found
            count += len(rows)
            yield rows
            if len(rows) < _PLAUSIBLE_PAGE or (total is not None and count >= total and len(rows) < _PER_PAGE):
                return
        raise BadPayload(f"wallex {endpoint.name}: more than {_MOST_PAGES} pages: the list is not complete")
