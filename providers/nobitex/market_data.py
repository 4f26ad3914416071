"""Public market data of Nobitex (contract: nobitex 4)."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Sequence
from datetime import datetime
from decimal import Decimal

from providers.errors import BadPayload, Unavailable
from providers.http import Answer
from providers.nobitex import mapping
from providers.nobitex.answers import said_ok
from providers.nobitex.endpoints import BOOK, BOOKS, CANDLES, DEPTH, STATS, TRADES
from providers.nobitex.mapping import split_symbol
from providers.nobitex.results import DepthChart, MarketStats, PublicTrade
from providers.nobitex.schemas import DayStatsSchema, MarketStatsSchema, OrderBookSchema, TradeSchema
from providers.nobitex.session import NobitexSession, check_symbol, path_of
from providers.redaction import redact
from providers.types import Candle, MarketRules, OrderBook, Resolution
from providers.wire import UdfHistory, as_list, as_mapping, check_spacing, parse, to_candles, within

logger = logging.getLogger("providers.nobitex")


class MarketData(NobitexSession):
    """What needs no key."""

    def markets(self) -> Sequence[MarketRules]:
        """All spot markets. Fees: the account's with a key, else the documented ones."""
        options = self._options()
        rules = mapping.to_rules(options, self._http.call(STATS, market_states), self._fees())
        if not rules:
            raise BadPayload("nobitex options: not one readable market")
        return rules

    def candles(self, symbol: str, resolution: Resolution, start: datetime, end: datetime) -> Sequence[Candle]:
        """Charts are in toman on this wire: nothing is converted. At most 500 candles come at once; the next page is
        asked for by moving the end back, because the order of numbered pages is not documented (contract: 4.5)."""
        check_symbol(symbol)
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
        book = self._http.call(BOOK, lambda a: parse(OrderBookSchema, said_ok(a)), path=path_of(BOOK, symbol))
        return mapping.to_book(symbol, book)

    def order_books(self, symbols: Collection[str] | None = None) -> dict[str, OrderBook]:
        """In one call, which answers with all markets whatever is asked for. A book that cannot be read is left out;
        none of them at all is BadPayload."""
        return self._http.call(BOOKS, lambda answer: books(answer, symbols))

    def depth(self, symbol: str) -> DepthChart:
        """Not for trading. The exchange calls it experimental: prices are grouped and rounded, and quantities look
        cumulative (contract: 4.2). For a drawing; decisions read `order_book`."""
        depth = self._http.call(DEPTH, lambda a: parse(OrderBookSchema, said_ok(a)), path=path_of(DEPTH, symbol))
        return mapping.to_depth(symbol, depth)

    def last_price(self, symbol: str) -> Decimal:
        """From the order book, which may be asked five times as often as the trades."""
        return self.order_book(symbol).last_price or self._last_trade_price(symbol)

    def public_trades(self, symbol: str) -> Sequence[PublicTrade]:
        """The latest trades of a market, newest first. There is no older page."""

        def read(answer: Answer) -> list[PublicTrade]:
            rows = as_list(said_ok(answer).get("trades"), "trades")
            trades = [mapping.to_public_trade(symbol, parse(TradeSchema, row)) for row in rows]
            return sorted(trades, key=lambda trade: trade.executed_at, reverse=True)

        return self._http.call(TRADES, read, path=path_of(TRADES, symbol))

    def market_stats(self, symbol: str | None = None) -> dict[str, MarketStats]:
        """The last 24 hours of one market, or of all, by symbol."""
        if symbol is None:
            return self._http.call(STATS, day_stats)
        check_symbol(symbol)
        return self._http.call(STATS, day_stats, params=split_symbol(symbol).codes)

    def _chart(self, symbol: str, resolution: Resolution, first: int, last: int) -> list[Candle]:
        params = {"symbol": symbol, "resolution": resolution.value, "from": first, "to": last}
        history = self._http.call(CANDLES, chart, params=params)
        if history.s not in ("ok", "no_data"):
            reason = redact(str(history.errmsg or history.s))[:80]
            raise Unavailable(f"nobitex has no {resolution} candles of {symbol}: {reason}")
        return to_candles(history)

    def _last_trade_price(self, symbol: str) -> Decimal:
        trades = self.public_trades(symbol)
        if not trades:
            raise BadPayload(f"{symbol} has no trades")
        return trades[0].price


def chart(answer: Answer) -> UdfHistory:
    """A chart has a status of its own, `s` (contract: nobitex 4.5)."""
    payload = as_mapping(answer.payload, "the answer")
    if "s" not in payload:
        said_ok(answer)  # raises what the error means
        raise BadPayload("a chart answer without status")
    return parse(UdfHistory, payload)


def market_states(answer: Answer) -> dict[str, MarketStatsSchema]:
    stats = as_mapping(said_ok(answer).get("stats"), "stats")
    return {key: parse(MarketStatsSchema, entry) for key, entry in stats.items()}


def day_stats(answer: Answer) -> dict[str, MarketStats]:
    stats = as_mapping(said_ok(answer).get("stats"), "stats")
    days = [mapping.to_stats(mapping.pair_of_stats(key), parse(DayStatsSchema, day)) for key, day in stats.items()]
    return {day.symbol: day for day in days}


def books(answer: Answer, symbols: Collection[str] | None) -> dict[str, OrderBook]:
    """Markets stand beside `status`: whatever is an object is one (contract: nobitex 4.1)."""
    entries = {
        key: entry
        for key, entry in said_ok(answer).items()
        if isinstance(entry, dict) and (symbols is None or key in symbols)
    }
    found, unread = {}, []
    for symbol, entry in entries.items():
        try:
            check_symbol(symbol)
            found[symbol] = mapping.to_book(symbol, parse(OrderBookSchema, entry))
        except BadPayload:
            unread.append(symbol)
    if unread:
        names = redact(", ".join(unread[:5]))[:200]
        logger.warning("order books left out provider=nobitex count=%d first=%s", len(unread), names)
    if not found:
        raise BadPayload("not one readable order book")
    return found
