"""What the page's scripts are given, as JSON. Prices for drawing are floats; amounts to read are exact text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from algo.models import Market, MarketQuote
from algo.models.fields import plain
from algo.selectors.equity import Curve
from algo.selectors.price_chart import PriceChart


def curve_shape(curve: Curve) -> dict[str, Any]:
    return {
        "currency": curve.currency,
        "start": _iso(curve.start),
        "points": [[int(at.timestamp()), float(total)] for at, total in curve.points],
        "total": format(curve.points[-1][1], "f") if curve.points else "0",
        "sources": curve.sources,
        "left_out": [
            {
                "quote": each.quote,
                "deals": each.deals,
                "profit": format(each.profit, "f"),
                "first": _iso(each.first),
                "last": _iso(each.last),
            }
            for each in curve.left_out
        ],
    }


def quotes_shape(watched: Iterable[tuple[Market, MarketQuote | None]]) -> dict[str, Any]:
    """`markets`: what to listen to. `quotes`: as the live event `quote` has them, where there is one."""
    rows = list(watched)
    return {
        "markets": [market.pk for market, _ in rows],
        "quotes": [
            {
                "market": market.pk,
                "bid": _text(quote.bid),
                "ask": _text(quote.ask),
                "last": None if quote.last is None else _text(quote.last),
                "imbalance": None,
                "at": _iso(quote.as_of),
            }
            for market, quote in rows
            if quote is not None
        ],
    }


def chart_shape(chart: PriceChart) -> dict[str, Any]:
    config, candles = chart.config, chart.candles
    columns = (candles.open_time, candles.open, candles.high, candles.low, candles.close, candles.volume)
    return {
        "strategy": config.name,
        "market": str(config.market),
        "market_id": config.market_id,
        "data_market": str(config.data_market),
        "data_market_id": config.data_market_id,
        "quote": config.market.quote,
        "resolution": config.resolution,
        "tick": _text(config.data_market.tick_size),
        "candles": [list(row) for row in zip(*(column.tolist() for column in columns), strict=True)],
        "averages": [
            {"period": period, "values": _known(values.tolist())} for period, values in chart.averages.values()
        ],
        "marks": [
            {
                "time": mark.time,
                "entry": mark.is_entry,
                "side": mark.side,
                "price": _text(mark.price),
                "deal": mark.deal,
            }
            for mark in chart.marks
        ],
        "stops": [
            {
                "deal": line.deal,
                "steps": [[at, float(price)] for at, price in line.steps],
                "until": line.until,
                "target": None if line.target is None else float(line.target),
            }
            for line in chart.stops
        ],
        "imbalance": [list(each) for each in chart.imbalance],
    }


def _known(values: Sequence[float]) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values]


def _text(amount: Any) -> str:
    return format(plain(amount), "f")


def _iso(at: Any) -> str | None:
    return None if at is None else at.isoformat().replace("+00:00", "Z")
