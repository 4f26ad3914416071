"""A market, a book and a context in which an entry is approved; tests change one thing at a time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from algo.risk import EntryIntent, RiskContext
from algo.strategies import BreakoutStrategySchema
from providers.types import BookLevel, Capabilities, MarketRules, OrderBook, Resolution, Side

D = Decimal
NOW = datetime(2025, 1, 1, 12, 0, 1, tzinfo=UTC)
BAR = datetime(2025, 1, 1, 11, 59, tzinfo=UTC)  # open time of the candle that closed a second ago
STOPS = Capabilities(stop_market=True)


def rules_of(**change: Any) -> MarketRules:
    values: dict[str, Any] = {
        "provider": "wallex",
        "symbol": "BTCUSDT",
        "base": "BTC",
        "quote": "USDT",
        "tick_size": D("0.01"),
        "step_size": D("0.00001"),
        "min_quantity": D("0.00001"),
        "min_notional": D(5),
        "maker_fee_rate": D("0.002"),
        "taker_fee_rate": D("0.003"),
        "market_band": D("0.02"),
    }
    return MarketRules(**{**values, **change})


def levels(*pairs: tuple[str, str]) -> tuple[BookLevel, ...]:
    return tuple(BookLevel(D(price), D(quantity)) for price, quantity in pairs)


def book_of(
    bids: Sequence[BookLevel] = levels(("99999.99", "10")),
    asks: Sequence[BookLevel] = levels(("100000.00", "10")),
    last: str | None = "100000",
    age: float = 0.5,
) -> OrderBook:
    return OrderBook("BTCUSDT", tuple(bids), tuple(asks), NOW - timedelta(seconds=age), D(last) if last else None)


def parameters_of(**change: Any) -> BreakoutStrategySchema:
    return BreakoutStrategySchema(**change)


def context_of(**change: Any) -> RiskContext:
    values: dict[str, Any] = {
        "now": NOW,
        "parameters": parameters_of(),
        "rules": rules_of(),
        "book": book_of(),
        "resolution": Resolution.M1,
        "candles_closed_at": NOW - timedelta(seconds=1),
        "available_base": D(1),
        "available_quote": D(10_000),
        "equity": D(110_000),  # 10,000 USDT, and 1 BTC at 100,000
        "equity_at_day_start": D(10_000),
        "capabilities": STOPS,
    }
    return RiskContext(**{**values, **change})


def intent_of(side: Side = Side.BUY, confidence: str = "0.8", close: str | None = "100000") -> EntryIntent:
    return EntryIntent(side, D(confidence), "BREAKOUT", BAR, D(close) if close else None)
