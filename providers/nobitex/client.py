"""Nobitex over REST (contract: nobitex). Addresses and answers; the meaning of values is in mapping.py."""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from requests.auth import AuthBase

from providers.breaker import Breaker
from providers.budgets import InProcessBudget, Limit, Priority, RateBudget
from providers.clock import AnchoredClock, Clock
from providers.errors import (
    AlreadySubmitted,
    BadPayload,
    OrderNotFound,
    OrderRejected,
    OutcomeUnknown,
    ProviderError,
    RateLimited,
    RejectReason,
    Unavailable,
)
from providers.http import CLIENT_VERSION, Answer, Endpoint, HeaderAuth, HttpSession, stated_wait
from providers.nobitex import mapping
from providers.nobitex.mapping import Currencies, Pair, split_symbol
from providers.nobitex.schemas import (
    FailureSchema,
    MarketStatsSchema,
    OptionsSchema,
    OrderBookSchema,
    OrderSchema,
    OwnTradeSchema,
    ProfileOptionsSchema,
    ProfileSchema,
    TradeSchema,
    WalletSchema,
)
from providers.redaction import redact
from providers.types import (
    ZERO,
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
    OrderType,
    Resolution,
)
from providers.wire import UdfHistory, as_list, as_mapping, check_spacing, parse, to_candles, within

# Documented per address (contract: nobitex 2.2); where the documents are silent, as careful as for its neighbours.
LIMITS = {
    "orderbook": Limit(300, 60.0),
    "trades": Limit(60, 60.0),
    "stats": Limit(20, 60.0),
    "udf": Limit(120, 60.0),
    "options": Limit(12, 60.0),
    "profile": Limit(12, 60.0),
    "wallets": Limit(15, 60.0),
    "add": Limit(300, 600.0),
    "status": Limit(300, 60.0),
    "list": Limit(30, 60.0),
    "own_trades": Limit(30, 60.0),
    "update_status": Limit(90, 60.0),
}

_EXITS = Priority.EXITS
OPTIONS = Endpoint("options", "GET", "/v2/options", "options")
STATS = Endpoint("stats", "GET", "/market/stats", "stats")
PROFILE = Endpoint("profile", "GET", "/users/profile", "profile", private=True)
CANDLES = Endpoint("candles", "GET", "/market/udf/history", "udf")
BOOK = Endpoint("order_book", "GET", "/v3/orderbook/{symbol}", "orderbook")
TRADES = Endpoint("trades", "GET", "/v2/trades/{symbol}", "trades")
WALLETS = Endpoint("balances", "GET", "/v2/wallets", "wallets", private=True, priority=_EXITS)
ADD = Endpoint("create_order", "POST", "/market/orders/add", "add", write=True, private=True)
PROTECT = replace(ADD, priority=_EXITS)
ADD_OCO = replace(PROTECT, name="create_oco")
STATUS = Endpoint("fetch_order", "POST", "/market/orders/status", "status", private=True, priority=_EXITS)
LIST = Endpoint("list_orders", "GET", "/market/orders/list", "list", private=True, priority=_EXITS)
OWN_TRADES = Endpoint("own_trades", "GET", "/market/trades/list", "own_trades", private=True, priority=_EXITS)
UPDATE = Endpoint(
    "cancel_order", "POST", "/market/orders/update-status", "update_status", write=True, private=True, priority=_EXITS
)

_OUR_ID = re.compile(r"[A-Z0-9_]{1,32}")
_SYMBOL = re.compile(r"[A-Z0-9_]{2,40}")
_PAGE_SIZE = 100
_MOST_PAGES = 100
_OPTIONS_AGE = 600.0  # seconds that the names of currencies are kept


class TokenAuth(HeaderAuth):
    """`Authorization: Token <key>` (contract: nobitex 3.1)."""

    def __init__(self, token: str) -> None:
        super().__init__("Authorization", token.strip(), prefix="Token ")


class NobitexClient:
    """`ExchangeProvider` for Nobitex. Prices go in and come out in toman for IRT markets."""

    name = "nobitex"

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        auth: AuthBase | None = None,
        clock: Clock | None = None,
        budget: RateBudget | None = None,
        breaker: Breaker | None = None,
    ) -> None:
        """`api_key` is a token; another scheme is handed in as `auth`."""
        self._clock = clock or AnchoredClock()
        self._http = HttpSession(
            self.name,
            base_url,
            auth=auth or (TokenAuth(api_key) if api_key else None),
            budget=budget or InProcessBudget(LIMITS),
            breaker=breaker,
            headers={"User-Agent": f"TraderBot/algo_trade-{CLIENT_VERSION}"},
        )
        self._currencies = Currencies()
        self._currencies_until = -math.inf
        self._currencies_lock = threading.Lock()

    def __repr__(self) -> str:
        return f"NobitexClient({self._http!r})"

    @property
    def clock_difference(self) -> timedelta | None:
        """Theirs minus ours, by the Date of their last answer."""
        return self._http.clock_difference

    # --- market data ---

    def markets(self) -> Sequence[MarketRules]:
        """All spot markets. Fees: the account's with a key, else the documented ones."""
        options = self._options()
        stats = self._http.call(STATS, _stats)
        fees = self._http.call(PROFILE, _fees) if self._http.has_key else mapping.DOCUMENTED_FEES
        rules = mapping.to_rules(options, stats, fees)
        if not rules:
            raise BadPayload("nobitex options: not one readable market")
        return rules

    def candles(self, symbol: str, resolution: Resolution, start: datetime, end: datetime) -> Sequence[Candle]:
        """Charts are in toman on this wire: nothing is converted. At most 500 candles come at once; the next page is
        asked for by moving the end back, because the order of numbered pages is not documented (contract: 4.5)."""
        _checked(symbol)
        found: list[Candle] = []
        first, last = math.ceil(start.timestamp()), math.ceil(end.timestamp()) - 1
        while first <= last:
            page = self._chart(symbol, resolution, first, last)
            found += page
            earliest = int(page[0].open_time.timestamp()) if page else first
            if earliest <= first or earliest > last:
                break
            last = earliest - 1
        candles = within(found, start, end)
        check_spacing(candles, resolution)
        return candles

    def order_book(self, symbol: str) -> OrderBook:
        book = self._http.call(BOOK, lambda answer: parse(OrderBookSchema, _ok(answer)), path=_path(BOOK, symbol))
        return mapping.to_book(symbol, book)

    def last_price(self, symbol: str) -> Decimal:
        """From the order book, which may be asked five times as often as the trades."""
        return self.order_book(symbol).last_price or self._last_trade_price(symbol)

    # --- account ---

    def balances(self) -> dict[str, Balance]:
        def read(answer: Answer) -> list[Balance]:
            wallets = as_mapping(_ok(answer).get("wallets"), "wallets")
            return [mapping.to_balance(code, parse(WalletSchema, wallet)) for code, wallet in wallets.items()]

        balances = self._http.call(WALLETS, read)
        return {balance.asset: balance for balance in balances if balance.total or balance.locked}

    def capabilities(self) -> Capabilities:
        """Whether stops lock balance is not documented: taken as yes (contract: nobitex 8)."""
        return Capabilities(
            oco=True,
            stop_market=True,
            stop_limit=True,
            stops_lock_balance=True,
            finds_closed_by_client_id=False,
            market_takes_price=True,
        )

    # --- orders: writes ---

    def create_order(self, request: OrderRequest) -> OrderReport:
        body = _body(request)
        pair = split_symbol(request.symbol)

        def read(answer: Answer) -> OrderReport:
            payload = _accepted(answer, request.type.is_stop)
            report = self._report(payload.get("order"), pair)
            _same_order(report, request)
            return report

        return self._http.call(PROTECT if request.type.is_stop else ADD, read, body=body)

    def create_oco(self, request: OcoRequest) -> tuple[OrderReport, OrderReport]:
        body = _oco_body(request)
        pair = split_symbol(request.symbol)

        def read(answer: Answer) -> tuple[OrderReport, OrderReport]:
            rows = as_list(_accepted(answer, is_stop=True).get("orders"), "orders")
            limit, stop = mapping.oco_legs([self._report(row, pair) for row in rows])
            _same_order(limit, request)
            if stop.side is not request.side:
                raise BadPayload("the stop leg of the answer is on the other side")
            return limit, stop

        return self._http.call(ADD_OCO, read, body=body)

    def cancel_order(self, ref: OrderRef) -> OrderReport:
        """A refused cancel is `OrderNotFound`: the order is unknown or has ended; read it back. An answer that does not
        show the order as canceled is read back here."""
        report = self._http.call(UPDATE, lambda a: self._canceled(a, ref), body={"status": "canceled", **_name(ref)})
        if report is not None and report.status.is_final:
            return report
        known = replace(ref, exchange_order_id=report.exchange_order_id) if report else ref
        try:
            return self.fetch_order(known)
        except (OrderNotFound, Unavailable, BadPayload) as exc:
            if report is not None:
                return report
            raise OutcomeUnknown(f"nobitex took the cancel and did not show the order: look it up; {exc}") from None

    # --- orders: reads ---

    def fetch_order(self, ref: OrderRef) -> OrderReport:
        """By id, an order in any state; by client id only while it is open or waiting (contract: nobitex 6.5)."""
        name = _name(ref)
        body = {"id": name["order"]} if "order" in name else name
        report = self._http.call(STATUS, lambda answer: self._found(answer, ref), body=body)
        if report is None:
            raise OrderNotFound(f"nobitex does not show order {ref.exchange_order_id or ref.client_order_id}")
        return report

    def fetch_fills(self, report: OrderReport) -> Sequence[Fill]:
        """Fills of the last three days, oldest first. Compare their sum with `filled_quantity`: the list may lag."""
        if report.filled_quantity == 0:
            return []
        fills: dict[str, Fill] = {}
        for page in self._trade_pages(split_symbol(report.symbol)):
            fills |= {fill.trade_id: fill for fill in page if fill.exchange_order_id == report.exchange_order_id}
            complete = sum((fill.quantity for fill in fills.values()), ZERO) >= report.filled_quantity
            if complete or _all_older(page, report.created_at):
                break
        known = (replace(fill, client_order_id=report.client_order_id) for fill in fills.values())
        return sorted(known, key=lambda fill: (fill.executed_at, int(fill.trade_id)))

    def open_orders(self, symbol: str | None = None) -> Sequence[OrderReport]:
        """Crawled forward by id: rows that come and go between pages are neither skipped nor doubled."""
        found: dict[str, OrderReport] = {}
        after = 0
        for _ in range(_MOST_PAGES):
            params = {"status": "open", "order": "id", **({"fromId": after} if after else {})}
            rows, ids = self._order_rows(symbol, params)
            found |= {report.exchange_order_id or "": report for report in rows}
            if len(ids) < _PAGE_SIZE or max(ids) <= after:
                return list(found.values())
            after = max(ids)
        raise BadPayload(f"nobitex open orders: more than {_MOST_PAGES} pages: the list is not complete")

    def orders_since(self, symbol: str, since: datetime) -> Sequence[OrderReport]:
        """Crawled backward from the newest, which costs one call as a rule; rows that move to a later page when new
        ones come in are seen twice, never missed."""
        found: dict[str, OrderReport] = {}
        for page in range(1, _MOST_PAGES + 1):
            rows, ids = self._order_rows(symbol, {"status": "all", "order": "-id", "page": page})
            found |= {row.exchange_order_id or "": row for row in rows}
            times = [row.created_at for row in rows if row.created_at]
            if len(ids) < _PAGE_SIZE or (times and min(times) < since):
                recent = [row for row in found.values() if row.created_at is None or row.created_at >= since]
                return sorted(recent, key=lambda row: (row.created_at or since, int(row.exchange_order_id or 0)))
        raise BadPayload(f"nobitex orders: more than {_MOST_PAGES} pages: the list is not complete")

    def own_trades(self, symbol: str, since: datetime) -> Sequence[Fill]:
        """The exchange keeps three days (contract: nobitex 6.10)."""
        fills: dict[str, Fill] = {}
        for page in self._trade_pages(split_symbol(symbol)):
            fills |= {fill.trade_id: fill for fill in page}
            if _all_older(page, since):
                break
        recent = (fill for fill in fills.values() if fill.executed_at >= since)
        return sorted(recent, key=lambda fill: (fill.executed_at, int(fill.trade_id)))

    # --- how it is done ---

    def _options(self) -> OptionsSchema:
        options = self._http.call(OPTIONS, lambda answer: parse(OptionsSchema, _ok(answer)))
        with self._currencies_lock:
            self._currencies = Currencies(options.coins)
            self._currencies_until = time.monotonic() + _OPTIONS_AGE
        return options

    def _names(self) -> Currencies:
        if time.monotonic() > self._currencies_until:
            self._options()
        return self._currencies

    def _chart(self, symbol: str, resolution: Resolution, first: int, last: int) -> list[Candle]:
        params = {"symbol": symbol, "resolution": resolution.value, "from": first, "to": last}
        history = self._http.call(CANDLES, _udf, params=params)
        if history.s not in ("ok", "no_data"):
            reason = redact(str(history.errmsg or history.s))[:80]
            raise Unavailable(f"nobitex has no {resolution} candles of {symbol}: {reason}")
        return to_candles(history)

    def _last_trade_price(self, symbol: str) -> Decimal:
        def newest(answer: Answer) -> Decimal:
            trades = [parse(TradeSchema, trade) for trade in as_list(_ok(answer).get("trades"), "trades")]
            if not trades:
                raise BadPayload(f"{symbol} has no trades")
            return split_symbol(symbol).from_wire(max(trades, key=lambda trade: trade.time).price)

        return self._http.call(TRADES, newest, path=_path(TRADES, symbol))

    def _report(self, row: Any, pair: Pair | None) -> OrderReport:
        """One order. The market is the one asked about, unless the row says otherwise; then the row is believed."""
        raw = as_mapping(row, "order")
        order = parse(OrderSchema, raw)
        if pair is None or order.market:
            stated = mapping.pair_of(order, self._currencies if order.market else self._names())
            if pair is not None and stated != pair:
                raise BadPayload(f"the answer is about an order on {redact(stated.symbol)[:40]}")
            pair = stated
        return mapping.to_report(order, raw, pair)

    def _canceled(self, answer: Answer, ref: OrderRef) -> OrderReport | None:
        """The order after the cancel, or None where it was not sent."""
        payload = as_mapping(answer.payload, "the answer")
        if _is_refusal(answer, payload):
            failure = parse(FailureSchema, payload)
            _raise_if_limited(failure, payload)
            raise OrderNotFound(f"nobitex did not cancel: {_reason(answer, failure)}; read the order back")
        if not _ok(answer).get("order"):
            return None
        report = self._report(payload["order"], split_symbol(ref.symbol))
        _same_ref(report, ref)
        return report

    def _found(self, answer: Answer, ref: OrderRef) -> OrderReport | None:
        """The order; None for every documented way of saying that there is none (contract: nobitex 6.5)."""
        payload = as_mapping(answer.payload, "the answer")
        if _is_refusal(answer, payload) or (payload.get("status") == "ok" and not payload.get("order")):
            _raise_if_limited(parse(FailureSchema, payload), payload)
            return None
        report = self._report(_ok(answer).get("order"), split_symbol(ref.symbol))
        _same_ref(report, ref)
        return report

    def _order_rows(self, symbol: str | None, params: Mapping[str, Any]) -> tuple[list[OrderReport], list[int]]:
        """Spot orders of one page, and the ids of all its rows."""
        pair = split_symbol(symbol) if symbol else None
        always = {"details": 2, "tradeType": "spot", "pageSize": _PAGE_SIZE}

        def read(answer: Answer) -> tuple[list[OrderReport], list[int]]:
            rows = [as_mapping(row, "order") for row in as_list(_ok(answer).get("orders"), "orders")]
            orders = [parse(OrderSchema, row) for row in rows]
            ids = [order.id for order in orders if order.id is not None]
            if len(ids) != len(orders):
                raise BadPayload("an order without id in the list")
            spot = [row for row, order in zip(rows, orders, strict=True) if order.tradeType in (None, "Spot", "spot")]
            return [self._report(row, pair) for row in spot], ids

        return self._http.call(LIST, read, params={**always, **(pair.codes if pair else {}), **params})

    def _trade_pages(self, pair: Pair) -> Iterator[list[Fill]]:
        def read(answer: Answer) -> tuple[list[Fill], bool]:
            payload = _ok(answer)
            trades = [parse(OwnTradeSchema, row) for row in as_list(payload.get("trades"), "trades")]
            for trade in trades:
                if trade.market and mapping.pair_of(trade, self._currencies) != pair:
                    raise BadPayload("a trade of another market")
            more = bool(trades) and payload.get("hasNext", len(trades) == _PAGE_SIZE) is True
            return [mapping.to_fill(trade, pair) for trade in trades], more

        for page in range(1, _MOST_PAGES + 1):
            fills, more = self._http.call(OWN_TRADES, read, params={**pair.codes, "page": page, "pageSize": _PAGE_SIZE})
            yield fills
            if not more:
                return
        raise BadPayload(f"nobitex trades: more than {_MOST_PAGES} pages: the list is not complete")


# --- reading answers -------------------------------------------------------------------------------------------------


def _ok(answer: Answer) -> Mapping[str, Any]:
    """The body of a successful answer. Errors come with any status, mostly 200 (contract: nobitex 2)."""
    payload = as_mapping(answer.payload, "the answer")
    if answer.ok and payload.get("status") == "ok":
        return payload
    failure = parse(FailureSchema, payload)
    _raise_if_limited(failure, payload)
    raise BadPayload(f"refused with {_reason(answer, failure)}")


def _is_refusal(answer: Answer, payload: Mapping[str, Any]) -> bool:
    """Whether the exchange clearly said no: not a body that merely fails to say yes."""
    return payload.get("status") == "failed" or answer.status in (400, 404, 422)


def _accepted(answer: Answer, is_stop: bool) -> Mapping[str, Any]:
    """The body of an accepted order; otherwise what the refusal means."""
    payload = as_mapping(answer.payload, "the answer")
    if answer.ok and payload.get("status") == "ok":
        return payload
    failure = parse(FailureSchema, payload)
    _raise_if_limited(failure, payload)
    raise _refusal(answer, failure, is_stop)


def _refusal(answer: Answer, failure: FailureSchema, is_stop: bool) -> ProviderError:
    """A definite no needs a code of the table or a status that says so; anything else leaves the outcome open."""
    code, detail = failure.code_text, _reason(answer, failure)
    if code in mapping.DUPLICATES:
        return AlreadySubmitted(f"nobitex holds this order, or one like it, already: look it up; {detail}")
    if code in mapping.REASONS or answer.status in (400, 404, 405, 422):
        reason = mapping.REASONS.get(code, RejectReason.INVALID if answer.status in (400, 422) else RejectReason.OTHER)
        if code == "PriceConditionFailed" and not is_stop:
            reason = RejectReason.PRICE_OUT_OF_BAND
        return OrderRejected(f"nobitex refused the order: {detail}", reason=reason, code=code)
    return OutcomeUnknown(f"nobitex refused with a code that proves nothing: look the order up; {detail}")


def _raise_if_limited(failure: FailureSchema, payload: Mapping[str, Any]) -> None:
    if failure.code_text == "TooManyRequests":
        seconds = stated_wait({}, payload)
        raise RateLimited(
            "nobitex: called too often; nothing was done", retry_after=10.0 if seconds is None else seconds
        )


def _reason(answer: Answer, failure: FailureSchema) -> str:
    text = failure.message if failure.detail is None else failure.detail
    return redact(f"HTTP {answer.status} code {failure.code_text or 'none'}: {text}")[:300]


def _udf(answer: Answer) -> UdfHistory:
    payload = as_mapping(answer.payload, "the answer")
    if "s" not in payload:
        _ok(answer)  # raises what the error means
        raise BadPayload("a chart answer without status")
    return parse(UdfHistory, payload)


def _stats(answer: Answer) -> dict[str, MarketStatsSchema]:
    stats = as_mapping(_ok(answer).get("stats"), "stats")
    return {key: parse(MarketStatsSchema, entry) for key, entry in stats.items()}


def _fees(answer: Answer) -> ProfileOptionsSchema:
    return parse(ProfileSchema, _ok(answer).get("profile")).options


def _path(endpoint: Endpoint, symbol: str) -> str:
    _checked(symbol)
    return endpoint.path.format(symbol=symbol)


def _checked(symbol: str) -> None:
    """Raises BadPayload before a text that is no market becomes part of an address."""
    if not _SYMBOL.fullmatch(symbol):
        raise BadPayload(f"{symbol[:40]!r} is not a Nobitex market")
    split_symbol(symbol)


def _body(request: OrderRequest) -> dict[str, str]:
    """Checked before anything is sent: what cannot be an order is rejected here."""
    needs_price = request.type in (OrderType.LIMIT, OrderType.STOP_LIMIT)
    needed = [request.price] if needs_price else []
    needed += [request.stop_price] if request.type.is_stop else []
    _check(request, [request.quantity, *needed], [request.price] if request.price is not None else [])
    if request.stop_price is not None and not request.type.is_stop:
        raise OrderRejected(f"{request.type} takes no stop price: not sent", reason=RejectReason.INVALID)
    return mapping.to_wire_order(request)


def _oco_body(request: OcoRequest) -> dict[str, str]:
    _check(request, [request.quantity, request.price, request.stop_price, request.stop_limit_price], [])
    return mapping.to_wire_oco(request)


def _check(request: OrderRequest | OcoRequest, needed: Sequence[Decimal | None], optional: Sequence[Decimal]) -> None:
    if not _OUR_ID.fullmatch(request.client_order_id):
        raise OrderRejected("client_order_id must match [A-Z0-9_]{1,32}: not sent", reason=RejectReason.INVALID)
    if not all(value is not None and value.is_finite() and value > 0 for value in [*needed, *optional]):
        raise OrderRejected("an amount or price is missing or not positive: not sent", reason=RejectReason.INVALID)
    try:
        _checked(request.symbol)
    except BadPayload as exc:
        raise OrderRejected(f"{exc}: not sent", reason=RejectReason.INVALID) from None


def _same_order(report: OrderReport, request: OrderRequest | OcoRequest) -> None:
    """Raises BadPayload when the answer is about another order: one without our id must match in side and amount."""
    same_id = report.client_order_id == request.client_order_id
    looks_same = report.client_order_id is None and report.quantity == request.quantity
    if report.exchange_order_id is None or report.side is not request.side or not (same_id or looks_same):
        raise BadPayload(f"the answer is about order {redact(str(report.client_order_id))[:40]}")


def _same_ref(report: OrderReport, ref: OrderRef) -> None:
    asked, got = ref.exchange_order_id, report.exchange_order_id
    same = asked == got if asked else ref.client_order_id == report.client_order_id
    if not same:
        raise BadPayload(f"the answer is about order {got} ({redact(str(report.client_order_id))[:40]})")


def _name(ref: OrderRef) -> dict[str, Any]:
    """How a request names the order: by id when known (contract: nobitex 6.5, 6.7)."""
    if ref.exchange_order_id:
        if not ref.exchange_order_id.isdecimal():
            raise OrderNotFound(f"{redact(ref.exchange_order_id)[:40]!r} is no Nobitex order id")
        return {"order": int(ref.exchange_order_id)}
    if ref.client_order_id:
        return {"clientOrderId": ref.client_order_id}
    raise ValueError("an order without any id cannot be named to the exchange")


def _all_older(page: Sequence[Fill], moment: datetime | None) -> bool:
    """Whether pages after this one can be left out: it runs from new to old and ends before `moment`."""
    if moment is None or not page:
        return False
    times = [fill.executed_at for fill in page]
    return times == sorted(times, reverse=True) and times[-1] < moment
