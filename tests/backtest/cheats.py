"""Strategies that cheat or stumble, each in one known way, and honest ones that look as if they did."""

from __future__ import annotations

import itertools
import logging
import random
import time
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from algo.indicators import ema, from_frame, shift, sma
from algo.strategies import Candles, SignalArrays, StrategyInterface

REASONS = ("", "TEST")


def arrays(buy: np.ndarray, sell: np.ndarray | None = None, confidence: float = 0.5) -> SignalArrays:
    side = buy.astype(np.int8) - (0 if sell is None else sell.astype(np.int8))
    speaks = side != 0
    return SignalArrays(side.astype(np.int8), speaks * confidence, speaks.astype(np.int8), REASONS)


class Fast(StrategyInterface):
    """Gives arrays; `execute` is their last element."""

    bars = 60

    @property
    def warmup_bars(self) -> int:
        return self.bars

    def execute(self, market_data: Any) -> dict[str, Any] | None:
        return self.signals(market_data["candles"]).at(-1)


class Slow(StrategyInterface):
    """Has `execute` alone."""

    bars = 60

    @property
    def warmup_bars(self) -> int:
        return self.bars


# --- they look ahead ------------------------------------------------------------------------------------------------


class NextClose(Fast):
    def signals(self, candles: Candles) -> SignalArrays:
        following = np.append(candles.close[1:], np.nan)
        return arrays(following > candles.close * 1.001)


class NextCloseRolled(Fast):
    """The last element compares with the first close: np.roll goes around."""

    def signals(self, candles: Candles) -> SignalArrays:
        return arrays(np.roll(candles.close, -1) > candles.close * 1.001)


class CentredMean(Fast):
    def signals(self, candles: Candles) -> SignalArrays:
        close = pd.Series(candles.close)
        return arrays((close > close.rolling(21, center=True).mean() * 1.001).to_numpy())


class ShareOfMaximum(Fast):
    def signals(self, candles: Candles) -> SignalArrays:
        return arrays(candles.close / candles.close.max() > 0.97)


class ZScore(Fast):
    def signals(self, candles: Candles) -> SignalArrays:
        z = (candles.close - candles.close.mean()) / candles.close.std()
        return arrays(z < -1.5, z > 1.5)


class LastElement(Fast):
    def signals(self, candles: Candles) -> SignalArrays:
        return arrays(candles.close < candles.close[-1] * 0.99)


class ConfidenceOfTheFuture(Fast):
    """Sides are honest; how sure it is comes from a maximum over everything."""

    def signals(self, candles: Candles) -> SignalArrays:
        honest = arrays(candles.close > shift(candles.close, 5) * 1.002)
        share = np.clip(candles.volume / candles.volume.max(), 0.01, 1.0)
        return SignalArrays(honest.side, share * (honest.side != 0), honest.reason, REASONS)


class FilledBackwards(Fast):
    """Unknown values are filled from later ones: only where volume was 0 does it see the future."""

    def signals(self, candles: Candles) -> SignalArrays:
        volume = pd.Series(candles.volume).replace(0.0, np.nan).bfill().to_numpy()
        return arrays(volume > 2.5)


class NeverWithAFuture(Fast):
    """Speaks at the last candle only: whoever checks only the signals of the whole series finds nothing there."""

    def signals(self, candles: Candles) -> SignalArrays:
        rises = candles.close > shift(candles.close, 1)
        rises[:-1] = False
        return arrays(rises)


# --- they forget, remember, or contradict themselves ------------------------------------------------------------------


class LongAverage(Fast):
    bars = 60

    def signals(self, candles: Candles) -> SignalArrays:
        slow = ema(candles.close, 50)
        return arrays(candles.close > slow * 1.003, candles.close < slow * 0.997)


class LongAverageByExecute(Slow):
    bars = 60

    def execute(self, market_data: Any) -> dict[str, Any] | None:
        close = market_data["candles"].close
        slow = ema(close, 50)[-1]
        return {"side": "BUY"} if close[-1] > slow * 1.003 else None


class HighestOfAllGiven(Slow):
    def execute(self, market_data: Any) -> dict[str, Any] | None:
        candles = market_data["candles"]
        return {"side": "BUY"} if candles.close[-1] >= candles.close.max() else None


class Counts(Slow):
    """Says BUY at every third question."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.asked = 0

    def execute(self, market_data: Any) -> dict[str, Any] | None:
        self.asked += 1
        return {"side": "BUY"} if self.asked % 3 == 0 else None


class RemembersInTheClass(Slow):
    """A cooldown of its own, kept where every instance finds it."""

    last = -(10**9)

    def execute(self, market_data: Any) -> dict[str, Any] | None:
        candles: Candles = market_data["candles"]
        if len(candles) < 2 or candles.close[-1] <= candles.close[-2]:
            return None
        if candles.open_time[-1] - type(self).last < 1800:
            return None
        type(self).last = int(candles.open_time[-1])
        return {"side": "BUY"}


class CachesByLength(Fast):
    """Answers from a cache: wrong as soon as another series of that length comes along."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cache: dict[int, SignalArrays] = {}

    def signals(self, candles: Candles) -> SignalArrays:
        if len(candles) not in self.cache:
            self.cache[len(candles)] = arrays(candles.close > shift(candles.close, 1))
        return self.cache[len(candles)]


class ExecuteOfItsOwn(Fast):
    def signals(self, candles: Candles) -> SignalArrays:
        return arrays(candles.close > shift(candles.close, 3))

    def execute(self, market_data: Any) -> dict[str, Any] | None:
        close = market_data["candles"].close
        above = len(close) > 3 and close[-1] >= close[-4]  # equal closes too
        return {"side": "BUY", "confidence": 0.5, "reason": "TEST"} if above else None


class ExecuteLessSure(Fast):
    def signals(self, candles: Candles) -> SignalArrays:
        return arrays(candles.close > shift(candles.close, 3))

    def execute(self, market_data: Any) -> dict[str, Any] | None:
        decision = super().execute(market_data)
        return decision and {**decision, "confidence": 0.4}


class Sorts(Slow):
    """A median that sorts the candles of everybody in place."""

    def execute(self, market_data: Any) -> dict[str, Any] | None:
        close = market_data["candles"].close
        last = close[-1]
        close.sort()
        return {"side": "BUY"} if last > close[len(close) // 2] else None


class Raises(Slow):
    """Needs ten candles, and asks for five."""

    bars = 5

    def execute(self, market_data: Any) -> dict[str, Any] | None:
        close = market_data["candles"].close
        return {"side": "BUY"} if close[-1] > close[-10] else None


class Trusting(Slow):
    """Asks for twelve candles, as live gives it, and does not look whether they are there."""

    bars = 12

    def execute(self, market_data: Any) -> dict[str, Any] | None:
        close = market_data["candles"].close
        return {"side": "BUY"} if close[-1] > close[-10] else None


class RaisesInSignals(Fast):
    def signals(self, candles: Candles) -> SignalArrays:
        raise KeyError("no such column")


class CannotStart(Slow):
    def initialize(self) -> bool:
        return False

    def execute(self, market_data: Any) -> None:
        return None


class Random(Slow):
    def execute(self, market_data: Any) -> dict[str, Any] | None:
        return {"side": "BUY"} if random.random() < 0.5 else None


class OfficeHours(Slow):
    """By the clock on the wall instead of the candle's time: asked twice in a second, it says the same."""

    def execute(self, market_data: Any) -> dict[str, Any] | None:
        return {"side": "BUY"} if 8 <= datetime.now(UTC).hour < 20 else None


class UnixTime(Fast):
    def signals(self, candles: Candles) -> SignalArrays:
        fresh = candles.open_time > time.time() - 86_400
        return arrays(fresh)


class Answers(Slow):
    """Gives `answer`, whatever it is."""

    answer: Any = None

    def execute(self, market_data: Any) -> Any:
        return self.answer


class ShortArrays(Fast):
    def signals(self, candles: Candles) -> SignalArrays:
        return arrays(candles.close[1:] > candles.close[:-1])

    def execute(self, market_data: Any) -> None:
        return None


class JournalOfNumpy(Slow):
    def execute(self, market_data: Any) -> dict[str, Any] | None:
        close = market_data["candles"].close
        return {"side": "BUY", "indicators": {"rises": np.bool_(True)}} if close[-1] > close[0] else None


# --- honest ---------------------------------------------------------------------------------------------------------


class Silent(Slow):
    def execute(self, market_data: Any) -> None:
        return None


class RunningSums(Fast):
    """A running sum carries rounding along: on a market that stands still the mean's last digits are noise."""

    def signals(self, candles: Candles) -> SignalArrays:
        total = np.cumsum(candles.close)
        mean = (total - shift(total, 20)) / 20
        return arrays(candles.close > mean, candles.close < mean)


class NoisyConfidence(Fast):
    """How sure it is depends on a running sum."""

    def signals(self, candles: Candles) -> SignalArrays:
        mean = pd.Series(candles.volume).rolling(20).mean().to_numpy()
        honest = arrays(candles.close > shift(sma(candles.close, 20), 1) * 1.001)
        share = np.clip(np.nan_to_num(mean / 10), 0.05, 1.0)
        return SignalArrays(honest.side, share * (honest.side != 0), honest.reason, REASONS)


class ExecuteInPandas(Fast):
    """`execute` and `signals` sum in another order."""

    def signals(self, candles: Candles) -> SignalArrays:
        return arrays(candles.close > sma(candles.close, 20))

    def execute(self, market_data: Any) -> dict[str, Any] | None:
        frame = market_data["candles"].frame()
        mean = from_frame(lambda df: df["close"].rolling(20).mean(), frame)
        above = len(mean) and frame["close"].iloc[-1] > mean[-1]
        return {"side": "BUY", "confidence": 0.5, "reason": "TEST"} if above else None


class BackwardsOnlyInWarmUp(Fast):
    """Fills the first 20 values from later ones: live and backtest are silent there."""

    def signals(self, candles: Candles) -> SignalArrays:
        mean = pd.Series(candles.close).rolling(20).mean().bfill().to_numpy()
        return arrays(candles.close > mean * 1.001)


class Logs(Slow):
    """A log line reads the clock, and harms nobody."""

    def execute(self, market_data: Any) -> dict[str, Any] | None:
        close = market_data["candles"].close
        logging.getLogger(__name__).warning("asked about %s", close[-1])
        return {"side": "SELL"} if len(close) > 5 and close[-1] < close[-6] else None


class CandleTime(Slow):
    """By the candle's time of day."""

    def execute(self, market_data: Any) -> dict[str, Any] | None:
        at = datetime.fromtimestamp(int(market_data["candles"].open_time[-1]), UTC)
        return {"side": "BUY", "reason": "HOUR"} if at.minute == 0 else None


def ticking(step: float) -> Any:
    """A clock that goes on by `step` seconds each time somebody looks."""
    ticks = itertools.count()
    return lambda: next(ticks) * step
