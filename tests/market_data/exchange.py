"""The seam of these tests: an exchange whose candles and markets are what a test says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from providers.types import Candle, MarketRules, Resolution

START = datetime(2026, 11, 2, 10, 0, tzinfo=UTC)


def at(minute: float) -> datetime:
    """`minute` minutes after START."""
    return START + timedelta(minutes=minute)


def candle(minute: float, close: str = "100", **fields: Any) -> Candle:
    price = Decimal(close)
    values = {"open": price, "high": price, "low": price, "close": price, "volume": Decimal(1)}
    return Candle(at(minute), **{**values, **{name: Decimal(value) for name, value in fields.items()}})


def candles(minutes: Iterable[int]) -> list[Candle]:
    return [candle(minute, close=str(100 + minute)) for minute in minutes]


def rules(symbol: str, *, base: str = "BTC", quote: str = "USDT", **fields: Any) -> MarketRules:
    values = {
        "tick_size": Decimal("0.01"),
        "step_size": Decimal("0.0001"),
        "min_quantity": Decimal("0.0001"),
        "min_notional": Decimal(5),
        "maker_fee_rate": Decimal("0.001"),
        "taker_fee_rate": Decimal("0.002"),
        "market_band": Decimal("0.01"),
    }
    return MarketRules("nobitex", symbol, base, quote, **{**values, **fields})


class FakeExchange:
    """Answers what it holds. `asked` are the ranges that were asked for, `before` may fail a call by raising."""

    name = "nobitex"

    def __init__(self, held: Iterable[Candle] = (), listed: Sequence[MarketRules] = ()) -> None:
        self.held = list(held)
        self.listed = listed
        self.asked: list[tuple[datetime, datetime]] = []
        self.before: Callable[[int], None] = lambda number: None

    def candles(self, symbol: str, resolution: Resolution, start: datetime, end: datetime) -> Sequence[Candle]:
        self.before(len(self.asked))
        self.asked.append((start, end))
        return [each for each in self.held if start <= each.open_time < end]

    def markets(self) -> Sequence[MarketRules]:
        return self.listed
