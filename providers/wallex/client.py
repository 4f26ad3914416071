"""Wallex over REST (contract: wallex). Which call, with what; addresses are in endpoints.py, what an answer means in
answers.py, the meaning of values in mapping.py. OTC, margin, withdrawals and bank data are left out on purpose."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import requests

from providers.breaker import Breaker
from providers.budgets import InProcessBudget, RateBudget
from providers.clock import HOST, AnchoredClock, Clock, HostTime
from providers.errors import BadPayload, OrderNotFound, OrderRejected, RejectReason, Unavailable
from providers.http import CLIENT_VERSION, Answer, Endpoint, HeaderAuth, HttpSession
from providers.redaction import redact
from providers.transport import Transport
from providers.types import (
    Balance,
    Candle,
    Capabilities,
    Fill,
    KeyDetails,
    MarketRules,
    OcoRequest,
    OrderBook,
    OrderRef,
    OrderReport,
    OrderRequest,
    Resolution,
)
from providers.wallex import answers, mapping
from providers.wallex.endpoints import (
    ACTIVE_MARKETS,
    BALANCES,
    CANCEL,
    CANDLES,
    CREATE,
    CURRENCIES,
    CURRENCY_STATS,
    DELETE_FORMS,
    DEPTH,
    DEPTH_ALL,
    FAIR_PRICES,
    FEES,
    FETCH,
    HISTORY,
    LIMITS,
    MARKETS,
    OPEN,
    OWN_TRADES,
    PROFILE,
    PROTECT,
    TRADES,
)
from providers.wallex.results import ActiveMarket, Currency, CurrencyStats, FeeRates, MarketStats, PublicTrade
from providers.wallex.schemas import (
    AccountTradeSchema,
    ActiveMarketSchema,
    BalanceSchema,
    CurrencyStatsSchema,
    DepthSchema,
    MarketSchema,
    MarketStatsSchema,
    OrderSchema,
)
from providers.wire import as_mapping, check_spacing, from_seconds, parse, to_candles, within

__all__ = ["CREATE", "LIMITS", "PROTECT", "WallexClient"]

logger = logging.getLogger(__name__)

_PER_PAGE = 100
_MOST_PAGES = 100
_PLAUSIBLE_PAGE = 10  # no exchange cuts its pages shorter than this
_WINDOW = {Resolution.M1: 1440, Resolution.H1: 720, Resolution.D1: 720}  # candles asked for at once
_TRUNCATED_FROM = 100  # an answer this long that does not reach its ends may have been cut


class _KeyAuth(HeaderAuth):
    """The key, and the sub-account it acts for (contract: wallex 1). Neither goes to public addresses."""

    def __init__(self, api_key: str, sub_account_client_id: str | None) -> None:
        super().__init__("x-api-key", api_key)
        if sub_account_client_id is not None and not re.fullmatch(r"[!-~]+", sub_account_client_id):
            raise ValueError("the sub-account's client id is empty or holds spaces or non-ASCII characters")
        self._sub_account = sub_account_client_id

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._sub_account:
            r.headers["sub-account-client-id"] = self._sub_account
        return super().__call__(r)


class WallexClient:
    """`ExchangeProvider` for Wallex. Order ids are client ids there: `exchange_order_id` is what the exchange calls the
    order, `client_order_id` what we do; they differ only where the exchange made its own."""

    name = "wallex"

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        sub_account_client_id: str | None = None,
        clock: Clock | None = None,
        budget: RateBudget | None = None,
        breaker: Breaker | None = None,
        transport: Transport | None = None,
        host: HostTime = HOST,
    ) -> None:
        self._clock = clock or AnchoredClock()
        self._http = HttpSession(
            self.name,
            base_url,
            auth=_KeyAuth(api_key.strip(), sub_account_client_id) if api_key else None,
            budget=budget or InProcessBudget(LIMITS, monotonic=host.monotonic, sleep=host.sleep),
            breaker=breaker,
            headers={"Content-Type": "application/json", "User-Agent": f"algo_trade/{CLIENT_VERSION}"},
            transport=transport,
            host=host,
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

        def rules(payload: Any) -> MarketRules:
            market = parse(MarketSchema, payload)
            return mapping.to_rules(market, fees.get(market.symbol, mapping.DOCUMENTED_FEES))

        return self._http.call(MARKETS, lambda answer: answers.rows_of(answers.symbols(answer), rules, "market"))

    def market_stats(self) -> dict[str, MarketStats]:
        """The last 24 hours of every market, by symbol."""

        def read(answer: Answer) -> list[MarketStats]:
            return answers.rows_of(answers.symbols(answer), lambda p: to_stats(parse(MarketStatsSchema, p)), "market")

        to_stats = mapping.to_market_stats
        return {stats.symbol: stats for stats in self._http.call(MARKETS, read)}

    def active_markets(self) -> Sequence[ActiveMarket]:
        """The current list of markets, spot and others. It names no minimums: `markets` does."""

        def read(answer: Answer) -> list[ActiveMarket]:
            rows = answers.named_rows(answers.mapping_of(answer).get("markets"))
            return answers.rows_of(rows, lambda p: mapping.to_active_market(parse(ActiveMarketSchema, p)), "market")

        return self._http.call(ACTIVE_MARKETS, read)

    def candles(self, symbol: str, resolution: Resolution, start: datetime, end: datetime) -> Sequence[Candle]:
        """Only 1, 60 and 1D are asked for, because the other resolutions were seen to answer with finer candles
        (contract: wallex 3.6); the rest is gathered here on the UTC grid."""
        source = mapping.source_of(resolution)
        if source is resolution:
            return self._native_candles(symbol, source, start, end)
        first, last = mapping.bucket_start(start, resolution), end + resolution.duration
        return within(mapping.aggregate(self._native_candles(symbol, source, first, last), resolution), start, end)

    def order_book(self, symbol: str) -> OrderBook:
        def read(answer: Answer) -> DepthSchema:
            return parse(DepthSchema, answers.result_of(answer))

        return mapping.to_book(symbol, self._http.call(DEPTH, read, params={"symbol": symbol}), self._clock.now())

    def order_books(self, symbols: Collection[str] | None = None) -> dict[str, OrderBook]:
        """In one call, which answers with all markets whatever is asked for. A book that cannot be read is left out and
        logged; none of them at all is BadPayload."""

        def read(answer: Answer) -> list[tuple[str, DepthSchema]]:
            books = answers.mapping_of(answer).items()
            named = ((symbol, (symbol, depth)) for symbol, depth in books if symbols is None or symbol in symbols)
            return answers.rows_of(named, lambda pair: (pair[0], parse(DepthSchema, pair[1])), "book")

        depths, now = self._http.call(DEPTH_ALL, read), self._clock.now()
        return {symbol: mapping.to_book(symbol, depth, now) for symbol, depth in depths}

    def last_price(self, symbol: str) -> Decimal:
        trades = self.public_trades(symbol)
        if not trades:
            raise BadPayload(f"wallex trades: {symbol} has no trades")
        return trades[0].price

    def public_trades(self, symbol: str) -> Sequence[PublicTrade]:
        """The latest trades of a market, newest first; of equal times the wire's order, which is newest first too."""
        trades = self._http.call(TRADES, answers.public_trades, params={"symbol": symbol})
        newest_first = sorted(trades, key=lambda trade: trade.timestamp, reverse=True)
        return [mapping.to_public_trade(symbol, trade) for trade in newest_first]

    def currencies(self) -> Sequence[Currency]:
        """Assets and their networks."""

        def read(answer: Answer) -> list[Currency]:
            named = ((name, (name, row)) for name, row in answers.named_rows(answers.result_of(answer)))
            return answers.rows_of(named, lambda pair: mapping.to_currency(*pair), "currency")

        return self._http.call(CURRENCIES, read)

    def currency_stats(self) -> Sequence[CurrencyStats]:
        """Worldwide figures in dollars, never prices to trade on."""

        def read(answer: Answer) -> list[CurrencyStats]:
            rows = answers.named_rows(answers.result_of(answer))
            return answers.rows_of(rows, lambda p: mapping.to_stats(parse(CurrencyStatsSchema, p)), "currency")

        return self._http.call(CURRENCY_STATS, read)

    def fair_prices(self) -> dict[str, Decimal]:
        """The exchange's own valuation of each market, by symbol."""

        def read(answer: Answer) -> list[tuple[str, Decimal]]:
            named = ((symbol, (symbol, price)) for symbol, price in answers.mapping_of(answer).items())
            return answers.rows_of(named, lambda pair: (pair[0], mapping.to_price(pair[1])), "fair price")

        return dict(self._http.call(FAIR_PRICES, read))

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

    def fees(self) -> dict[str, FeeRates]:
        """The account's rates by market."""
        rates = self._http.call(FEES, answers.fees)
        return {symbol: FeeRates(fee.makerFeeRate, fee.takerFeeRate) for symbol, fee in rates.items()}

    def key_details(self) -> KeyDetails:
        """Wallex tells neither scopes nor expiry: a key that works is all there is to know. The answer is the owner's
        profile; nothing of it is kept or logged."""
        self._http.call(PROFILE, lambda answer: bool(answers.mapping_of(answer)))
        return KeyDetails()

    def capabilities(self) -> Capabilities:
        """Stops are documented, not proven (contract: wallex 7): the probe of an account has the last word."""
        return Capabilities(stop_market=True, stop_limit=True, stops_lock_balance=True, finds_closed_by_client_id=True)

    # --- orders: writes ---

    def can_place(self, orders: int = 1) -> bool:
        return self._http.ready(PROTECT, orders)

    def can_list(self, lists: int = 1) -> bool:
        return self._http.ready(OPEN, lists)

    def can_ask(self, orders: int = 1) -> bool:
        return self._http.ready(FETCH, orders)

    def create_order(self, request: OrderRequest) -> OrderReport:
        body = answers.order_body(request)
        endpoint = PROTECT if request.type.is_stop else CREATE
        return self._http.call(endpoint, lambda answer: answers.created(answer, request), body=body)

    def create_oco(self, request: OcoRequest) -> tuple[OrderReport, OrderReport]:
        raise OrderRejected("Wallex has no OCO orders: nothing was sent", reason=RejectReason.INVALID, code="no_oco")

    def cancel_order(self, ref: OrderRef) -> OrderReport:
        """One DELETE; where that form of address does not exist (404, 405), the next documented form."""
        order_id, known_no = answers.order_id_of(ref), False
        for attempt in range(len(DELETE_FORMS)):
            form = (self._delete_form + attempt) % len(DELETE_FORMS)
            answer = self._http.call(
                CANCEL, lambda answer: answers.canceled(answer, ref), **DELETE_FORMS[form](order_id)
            )
            if isinstance(answer, OrderReport):
                self._delete_form = form
                return answer
            known_no = known_no or answer
        if known_no:
            raise OrderNotFound(f"wallex cancel_order: {order_id} is unknown in every form of the call")
        raise Unavailable("wallex cancel_order: no form of the call exists at this address; nothing was canceled")

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
        trades: list[AccountTradeSchema] = []
        for found in self._pages(OWN_TRADES, {"symbol": symbol}, answers.own_trade_rows):
            if found is None:
                return [f for r in self.orders_since(symbol, since) for f in r.fills if f.executed_at >= since]
            page = [parse(AccountTradeSchema, row) for row in found[0]]
            if len(page) >= _PLAUSIBLE_PAGE and page == trades[-len(page) :]:
                break  # the same page again: this exchange gives no other
            trades += page
            if page and page[-1].timestamp < min(since, page[0].timestamp):
                break  # newest first, and far enough back
        fills = mapping.to_account_fills([trade for trade in trades if trade.symbol == symbol])
        return [fill for fill in fills if fill.executed_at >= since]

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
            known_no = answer.status == 404 and answers.is_its_word(answer)  # a gateway's 404 is no evidence
            return None if known_no else answers.one_order(answers.result_of(answer), ref)

        return self._http.call(FETCH, read, path=FETCH.path.format(id=quote(order_id, safe="")))

    def _order_pages(self, endpoint: Endpoint, params: Mapping[str, Any], symbol: str | None) -> Iterator[OrderReport]:
        """Every order of every page, each once; of one market where `symbol` is given, whatever the exchange sends.
        Raises BadPayload where it gives the same page again and counts more orders than it showed."""
        seen: set[str] = set()
        for page in self._pages(endpoint, params, answers.order_rows):
            rows, total = page or ([], None)
            orders = [(parse(OrderSchema, row), row) for row in rows]
            fresh = [(order, row) for order, row in orders if order.clientOrderId not in seen]
            if not fresh:
                if rows and total is not None and len(seen) < total:
                    raise BadPayload(f"wallex {endpoint.name}: {len(seen)} of {total} orders: the list is not complete")
                return
            seen |= {order.clientOrderId for order, _ in fresh}
            yield from (mapping.to_report(order, row) for order, row in fresh if symbol in (None, order.symbol))

    def _pages(
        self, endpoint: Endpoint, params: Mapping[str, Any], rows_of: Callable[[Any], list[Any]]
    ) -> Iterator[tuple[list[Any], int | None] | None]:
        """Page after page: its rows, and how many the exchange counts in all. Ends with an empty page, or when
        `result_info` counts no more. None: no such call. A page shorter than asked for proves nothing: the largest page
        the exchange gives is not documented."""

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
            yield found
            if _is_last_page(len(rows), count, total):
                return
        raise BadPayload(f"wallex {endpoint.name}: more than {_MOST_PAGES} pages: the list is not complete")


def _is_last_page(rows: int, count: int, total: int | None) -> bool:
    """`total` is what the exchange counts, where it counts. A full page is followed by another look all the same."""
    if total is None or not rows:
        return rows < _PLAUSIBLE_PAGE
    return count >= total and rows < _PER_PAGE
