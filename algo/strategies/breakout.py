"""BreakoutStrategy: breakouts with volume, momentum after an EMA cross, and the weight of the order book."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import IntEnum
from typing import Any, ClassVar

import numpy as np

from algo.indicators import (
    Mask,
    Series,
    atr,
    crossed_above,
    crossed_below,
    ema,
    previous,
    rolling_max,
    rolling_min,
    rsi,
    shift,
    sma,
)
from algo.strategies.interface import Candles, SignalArrays, StrategyInterface
from algo.strategies.schemas import BreakoutStrategySchema, StrategySchema
from providers.types import BookLevel, OrderBook, Side

# Warm-up lasts until what a recursive mean remembers of its start is below this share: far below what could turn
# a comparison of prices.
FORGOTTEN = 1e-10

# A candle that closes unchanged leaves the RSI where it was, and a flat market brings both EMAs to one value. Floats
# then differ in their last digits, by where the series began. Differences this small are none: otherwise a live window
# and the whole history would disagree on noise.
SAME_RSI = 1e-6  # in RSI points
SAME_EMA = 1e-9  # as a share of the price

Conditions = dict[str, dict[str, Mask]]


class SignalReason(IntEnum):
    """Which rule spoke, first before last; the code in `SignalArrays.reason`."""

    NONE = 0
    BREAKOUT = 1
    MOMENTUM = 2
    ORDER_BOOK = 3


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

    def explain(self, market_data: Mapping[str, Any]) -> dict[str, Any]:
        candles, book = market_data["candles"], market_data.get("order_book")
        indicators = {} if candles is None else self._indicators(candles)
        conditions = self._conditions(indicators) if indicators else {}
        pressure = self._pressure(book)
        decision = self._with_book(self._decide(conditions).at(-1) if _any_rows(indicators) else None, pressure)
        values = {**_last_values(indicators), "order_book_ratio": _ratio(book, self.parameters.order_book_levels)}
        return {
            "decision": {**decision, "indicators": values} if decision else None,
            "indicators": values,
            "conditions": {**_last_conditions(conditions), **_book_conditions(pressure)},
        }

    def _indicators(self, candles: Candles) -> dict[str, Series]:
        p = self.parameters
        fast, slow = ema(candles.close, p.ema_fast_period), ema(candles.close, p.ema_slow_period)
        strength = rsi(candles.close, p.rsi_period)
        mean_volume = shift(sma(candles.volume, p.volume_period), 1)
        # Without any volume before it a candle has no ratio: unknown, not infinite.
        known = mean_volume > 0
        return {
            "close": candles.close,
            "highest": shift(rolling_max(candles.high, p.breakout_period), 1),
            "lowest": shift(rolling_min(candles.low, p.breakout_period), 1),
            "ema_fast": fast,
            "ema_slow": slow,
            "rsi": strength,
            "atr": atr(candles.high, candles.low, candles.close, p.atr_period),
            "volume_ratio": np.divide(candles.volume, mean_volume, out=np.full(len(candles), np.nan), where=known),
            "rsi_change": _without_noise(strength - shift(strength, 1), SAME_RSI),
            "ema_gap": _without_noise(fast - slow, SAME_EMA * slow),
            "move": candles.close - shift(candles.close, p.momentum_period),
        }

    def _conditions(self, v: dict[str, Series]) -> Conditions:
        """Each rule as named conditions that must all hold. NaN compares False: what is unknown says nothing."""
        p = self.parameters
        gap, level = v["ema_gap"], np.zeros(v["ema_gap"].size)
        up, down = gap > 0, gap < 0
        crossed_up, crossed_down = crossed_above(gap, level), crossed_below(gap, level)
        needed = p.momentum_atr * v["atr"]
        volume = v["volume_ratio"] >= p.volume_threshold
        below_overbought, above_oversold = v["rsi"] < p.rsi_overbought, v["rsi"] > p.rsi_oversold
        return {
            "breakout_buy": {
                "close_above_highest": v["close"] > v["highest"],
                "ema_fast_above_slow": up,
                "rsi_below_overbought": below_overbought,
                "volume_enough": volume,
            },
            "breakout_sell": {
                "close_below_lowest": v["close"] < v["lowest"],
                "ema_fast_below_slow": down,
                "rsi_above_oversold": above_oversold,
                "volume_enough": volume,
            },
            "momentum_buy": {
                "ema_crossed_above": (crossed_up | previous(crossed_up)) & up,
                "move_up_enough": v["move"] > needed,
                "rsi_rising": v["rsi_change"] > 0,
                "rsi_from_50_to_overbought": (v["rsi"] >= 50) & below_overbought,
            },
            "momentum_sell": {
                "ema_crossed_below": (crossed_down | previous(crossed_down)) & down,
                "move_down_enough": -v["move"] > needed,
                "rsi_falling": v["rsi_change"] < 0,
                "rsi_from_oversold_to_50": above_oversold & (v["rsi"] <= 50),
            },
        }

    def _decide(self, conditions: Conditions) -> SignalArrays:
        p = self.parameters
        holds = {rule: np.logical_and.reduce(list(parts.values())) for rule, parts in conditions.items()}
        breakout = holds["breakout_buy"].astype(np.int8) - holds["breakout_sell"]
        buy = holds["breakout_buy"] | holds["momentum_buy"]
        sell = holds["breakout_sell"] | holds["momentum_sell"]
        side = np.where(buy & sell, 0, buy.astype(np.int8) - sell).astype(np.int8)
        codes = np.where(breakout != 0, SignalReason.BREAKOUT, SignalReason.MOMENTUM)
        reason = np.where(side != 0, codes, SignalReason.NONE).astype(np.int8)
        confidence = np.array([0.0, p.breakout_confidence, p.momentum_confidence])[reason]
        return SignalArrays(side, confidence, reason, REASONS)

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


def _without_noise(difference: Series, noise: Series | float) -> Series:
    """The difference, and 0 where it is nothing but rounding; NaN stays."""
    return np.where(np.abs(difference) <= noise, 0.0, difference)


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


def _any_rows(indicators: dict[str, Series]) -> bool:
    return bool(indicators) and indicators["close"].size > 0


def _last_values(indicators: dict[str, Series]) -> dict[str, float | None]:
    """The newest value of each, as a float JSON can hold: None while unknown."""
    if not _any_rows(indicators):
        return {}
    return {name: float(s[-1]) if math.isfinite(s[-1]) else None for name, s in indicators.items()}


def _last_conditions(conditions: Conditions) -> dict[str, dict[str, bool]]:
    return {
        rule: {name: bool(mask[-1]) for name, mask in parts.items() if mask.size} for rule, parts in conditions.items()
    }


def _book_conditions(pressure: Side | None) -> dict[str, dict[str, bool]]:
    return {"order_book": {"buy": pressure is Side.BUY, "sell": pressure is Side.SELL}}
