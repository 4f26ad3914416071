"""Nobitex' public market data (contract: nobitex 4). Rial in books, trades and statistics; toman in candles."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import numpy as np
from starlette.requests import Request

from providers.paper.engine import Exchange, to_ms
from providers.paper.faces import nobitex_params as params
from providers.paper.faces import nobitex_wire as wire
from providers.paper.faces.charts import Chart, day_figures, newest
from providers.paper.faces.common import plain, positive_int
from providers.paper.feeds.noise import stream, uniform
from providers.types import Resolution

_PAGE = 500  # candles in one answer


class PublicCalls:
    """What needs no key. Each method answers one address."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._venue = exchange.venues["nobitex"]
        self._pairs = {wire.symbol_of(pair): pair for pair in self._venue.profile.markets}

    def orderbook(self, request: Request, now: datetime) -> Any:
        symbol = request.path_params["symbol"].upper()
        if symbol == "ALL":
            return {"status": "ok"} | {name: self._book(pair, now) for name, pair in self._pairs.items()}
        return {"status": "ok", **self._book(self._pair(symbol), now)}

    def _book(self, pair: str, now: datetime) -> dict[str, Any]:
        book, at = self._venue.look(pair, now)
        return wire.book_row(book, self._venue.last.get(pair), pair.split("/")[1], to_ms(at))

    def depth(self, request: Request, now: datetime) -> Any:
        pair = self._pair(request.path_params["symbol"])
        book, at = self._venue.look(pair, now)
        tick = self._venue.profile.markets[pair].tick_size
        row = wire.depth_row(book, self._venue.last.get(pair), pair.split("/")[1], tick, to_ms(at))
        return {"status": "ok", **row}

    def public_trades(self, request: Request, now: datetime) -> Any:
        pair = self._pair(request.path_params["symbol"])
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
        return {"status": "ok", "stats": dict(self._stats(request, now)), "global": {}}

    def _stats(self, request: Request, now: datetime) -> Iterator[tuple[str, dict[str, Any]]]:
        wanted = {name: request.query_params.get(name) for name in ("srcCurrency", "dstCurrency")}
        closed = closed_symbols(self._exchange)
        for symbol, pair in self._pairs.items():
            key = wire.stats_key(pair)
            names = zip(key.split("-"), wanted.values(), strict=True)
            if any(asked and code not in asked.lower().split(",") for code, asked in names):
                continue
            book = self._venue.depth(pair, now)
            day = day_figures(self._exchange, "nobitex", pair, now)
            row = wire.stats_row(book, day, pair.split("/")[1])
            yield key, row | {"isClosed": True} if symbol in closed else row

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
        kept = _with_gaps(found, pair, int(self._venue.profile.switch("missing_candles_percent")))
        return wire.chart_row(kept) if len(kept) else {"s": "no_data"}

    def options(self, request: Request, now: datetime) -> Any:
        return wire.options_row(list(self._venue.profile.markets.values()))

    def _pair(self, symbol: str) -> str:
        pair = self._pairs.get(symbol.upper())
        if pair is None:
            raise params.Failure("SimUnknownSymbol", "there is no such market")
        return pair


def closed_symbols(exchange: Exchange) -> set[str]:
    """Markets switched to closed."""
    text = str(exchange.venues["nobitex"].profile.switch("closed_symbols"))
    return {symbol.strip().upper() for symbol in text.split(",") if symbol.strip()}


def _with_gaps(chart: Chart, pair: str, percent: int) -> Chart:
    """Without some candles, always the same ones: nobody traded then (4.5)."""
    if not percent or not len(chart):
        return chart
    luck = uniform(stream("missing candles", pair), np.array(chart.times, dtype=np.int64))
    columns = (chart.times, chart.open, chart.high, chart.low, chart.close, chart.volume)
    kept = [index for index, share in enumerate(luck) if share * 100 >= percent]
    return Chart(*([column[index] for index in kept] for column in columns))  # type: ignore[arg-type]
