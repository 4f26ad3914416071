"""The seam of these tests: a clock moved by hand and events as a stream would tell them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from providers.streams import BookUpdate, CandleUpdate, StreamState, TradeUpdate
from providers.types import BookLevel, Candle, OrderBook, Resolution

T0 = datetime(2026, 11, 2, 10, 0, tzinfo=UTC)


class HandClock:
    """Time that passes when a test says so; a second on the wall is `speed` seconds of it."""

    def __init__(self, speed: float = 1.0) -> None:
        self.speed = speed
        self.at = T0

    def now(self) -> datetime:
        return self.at

    def wall(self, seconds: float) -> timedelta:
        return timedelta(seconds=seconds * self.speed)

    def monotonic(self) -> float:
        return self.at.timestamp() / self.speed

    def step(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def book(symbol: str = "BTCUSDT", bid: str = "100", ask: str = "101", *, as_of: datetime, last: str | None = None):
    levels = [(BookLevel(Decimal(price), Decimal("0.5")),) for price in (bid, ask)]
    return OrderBook(symbol, *levels, as_of, Decimal(last) if last else None)


def pushed(
    seconds: float, symbol: str = "BTCUSDT", bid: str = "100", ask: str = "101", *, late: float = 0.0, **more: str
) -> BookUpdate:
    """A book that came over the stream `seconds` after T0, `late` seconds after the exchange stamped it."""
    return BookUpdate(book(symbol, bid, ask, as_of=at(seconds - late), **more), at(seconds))


def by_rest(
    seconds: float, symbol: str = "BTCUSDT", bid: str = "100", ask: str = "101", *, late: float = 0.0
) -> BookUpdate:
    return BookUpdate(book(symbol, bid, ask, as_of=at(seconds - late)), at(seconds), from_rest=True)


def trade(seconds: float, price: str, symbol: str = "BTCUSDT", *, executed: float | None = None) -> TradeUpdate:
    return TradeUpdate(
        symbol, Decimal(price), Decimal(1), None, at(seconds if executed is None else executed), at(seconds)
    )


def up(seconds: float) -> StreamState:
    return StreamState(True, "connected", at(seconds))


def down(seconds: float) -> StreamState:
    return StreamState(False, "reset", at(seconds))


def candle(minute: int, close: str = "100.5") -> Candle:
    price = Decimal(close)
    return Candle(T0 + timedelta(minutes=minute), price, price, price, price, Decimal("1.25"))


def closed(minute: int, close: str = "100.5", symbol: str = "BTCUSDT", *, after: float = 3.0) -> CandleUpdate:
    """The exchange's word on the candle of `minute`, `after` seconds past its end."""
    return CandleUpdate(symbol, Resolution.M1, candle(minute, close), True, at((minute + 1) * 60 + after))


def running(minute: int, seconds: float, symbol: str = "BTCUSDT") -> CandleUpdate:
    return CandleUpdate(symbol, Resolution.M1, candle(minute), False, at(seconds))
