"""BreakoutStrategy: breakouts with volume, momentum after an EMA cross, and the weight of the order book."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from algo.indicators import Series, atr, ema, rolling_max, rolling_min, rsi, sma
from algo.strategies import breakout_rules
from algo.strategies.breakout_rules import Bits, Indicators, Limits, SignalReason
from algo.strategies.interface import Candles, SignalArrays, StrategyInterface
from algo.strategies.schemas import BreakoutStrategySchema, StrategySchema
from providers.types import BookLevel, OrderBook, Side

# Warm-up lasts until what a recursive mean remembers of its start is below this share: far below what could turn
# a comparison of prices.
FORGOTTEN = 1e-10

REASONS = ("", *(reason.name for reason in SignalReason if reason))


class BreakoutStrategy(StrategyInterface):
    """BREAKOUT before MOMENTUM before ORDER_BOOK; if both sides speak, nobody does.

    With `need_historical_data` (the default) the order book never decides, but an imbalance against an entry stops it.
    Without, it may decide alone, also without any candles.
    """

    schema: ClassVar[type[StrategySchema]] = BreakoutStrategySchema
    parameters: BreakoutStrategySchema

    @property
    def warmup_bars(self) -> int:
        p = self.parameters
        recursive = (
            p.ema_slow_period + _bars_to_forget(2 / (p.ema_slow_period + 1)),
            p.rsi_period + 1 + _bars_to_forget(1 / p.rsi_period),
            p.atr_period + 1 + _bars_to_forget(1 / p.atr_period),
        )
        windows = (p.breakout_period + 1, p.volume_period + 1, p.momentum_period + 1)
        return max(*recursive, *windows) + 2  # a cross may be one candle old, and a cross looks at two

    def signals(self, candles: Candles) -> SignalArrays:
        return self._decide(self._conditions(self._indicators(candles)))

    def execute(self, market_data: Mapping[str, Any]) -> dict[str, Any] | None:
        return self.explain(market_data)["decision"]

    def judge(self, market_data: Mapping[str, Any]) -> tuple[dict[str, Any] | None, dict[str, Any]]:
        told = self.explain(market_data)
        return told["decision"], told

    def explain(self, market_data: Mapping[str, Any]) -> dict[str, Any]:
        candles, book = market_data["candles"], market_data.get("order_book")
        pressure = self._pressure(book)
        values: dict[str, float | None] = {}
        conditions: dict[str, dict[str, bool]] = {}
        decision = None
        if candles is not None and len(candles):
            indicators = self._indicators(candles)
            bits = self._conditions(indicators)
            values, conditions = (
                _last_values(indicators, self.parameters.momentum_period),
                breakout_rules.named(int(bits[-1])),
            )
            decision = self._decide(bits[-1:]).at(-1)
        decision = self._with_book(decision, pressure)
        values["order_book_ratio"] = _ratio(book, self.parameters.order_book_levels)
        return {
            "decision": {**decision, "indicators": values} if decision else None,
            "indicators": values,
            "conditions": {**conditions, **_book_conditions(pressure)},
        }

    def _indicators(self, candles: Candles) -> Indicators:
        p = self.parameters
        return Indicators(
            close=candles.close,
            volume=candles.volume,
            highest=rolling_max(candles.high, p.breakout_period),
            lowest=rolling_min(candles.low, p.breakout_period),
            ema_fast=ema(candles.close, p.ema_fast_period),
            ema_slow=ema(candles.close, p.ema_slow_period),
            rsi=rsi(candles.close, p.rsi_period),
            atr=atr(candles.high, candles.low, candles.close, p.atr_period),
            mean_volume=sma(candles.volume, p.volume_period),
        )

    def _conditions(self, indicators: Indicators) -> Bits:
        p = self.parameters
        limits = Limits(p.rsi_overbought, p.rsi_oversold, p.volume_threshold, p.momentum_atr, p.momentum_period)
        return breakout_rules.conditions(Indicators(*map(np.ascontiguousarray, indicators)), limits)

    def _decide(self, bits: Bits) -> SignalArrays:
        p = self.parameters
        reason = breakout_rules.REASONS[bits]
        confidence = np.array([0.0, p.breakout_confidence, p.momentum_confidence])[reason]
        return SignalArrays(breakout_rules.SIDES[bits], confidence, reason, REASONS)

    def _pressure(self, book: OrderBook | None) -> Side | None:
        """The side whose best levels outweigh the other's; None where there is no balance to speak of."""
        if book is None or not book.is_usable:
            return None
        p = self.parameters
        bids, asks = _depth(book.bids, p.order_book_levels), _depth(book.asks, p.order_book_levels)
        if bids > 0 and bids >= asks * p.order_book_imbalance:
            return Side.BUY
        return Side.SELL if asks > 0 and asks >= bids * p.order_book_imbalance else None

    def _with_book(self, decision: dict[str, Any] | None, pressure: Side | None) -> dict[str, Any] | None:
        if decision and pressure and pressure != decision["side"]:
            return None
        if decision or pressure is None or self.parameters.need_historical_data:
            return decision
        confidence = self.parameters.order_book_confidence
        return {"side": str(pressure), "confidence": confidence, "reason": SignalReason.ORDER_BOOK.name}


@lru_cache(maxsize=1024)
def _bars_to_forget(weight: float) -> int:
    """Candles after which a recursive mean of this weight keeps less than FORGOTTEN of where it began."""
    return math.ceil(math.log(FORGOTTEN) / math.log(1 - weight))


def _depth(levels: tuple[BookLevel, ...], count: int) -> Any:
    return sum(level.quantity for level in levels[:count])


def _ratio(book: OrderBook | None, levels: int) -> float | None:
    if book is None or not book.is_usable:
        return None
    asks = _depth(book.asks, levels)
    return float(_depth(book.bids, levels) / asks) if asks else None


def _last_values(v: Indicators, momentum_period: int) -> dict[str, float | None]:
    """What the rules compared at the newest candle, as floats JSON can hold: None while unknown."""
    values = {
        "close": _ago(v.close, 0),
        "highest": _ago(v.highest, 1),
        "lowest": _ago(v.lowest, 1),
        "ema_fast": _ago(v.ema_fast, 0),
        "ema_slow": _ago(v.ema_slow, 0),
        "rsi": _ago(v.rsi, 0),
        "atr": _ago(v.atr, 0),
        "volume_ratio": breakout_rules.volume_ratio(_ago(v.volume, 0), _ago(v.mean_volume, 1)),
        "rsi_change": breakout_rules.rsi_change(_ago(v.rsi, 0), _ago(v.rsi, 1)),
        "ema_gap": breakout_rules.ema_gap(_ago(v.ema_fast, 0), _ago(v.ema_slow, 0)),
        "move": _ago(v.close, 0) - _ago(v.close, momentum_period),
    }
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _ago(series: Series, candles: int) -> float:
    """The value of so many candles before the newest; NaN where there is none."""
    return float(series[-1 - candles]) if candles < series.size else math.nan


def _book_conditions(pressure: Side | None) -> dict[str, dict[str, bool]]:
    return {"order_book": {"buy": pressure is Side.BUY, "sell": pressure is Side.SELL}}
