"""A backtest that tells how far it is, and can be stopped, also while a slow strategy is asked candle by candle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from algo.backtest.engine import BacktestResult, BacktestSettings, FillModel, run_both
from algo.strategies.interface import Candles, SignalArrays, StrategyInterface
from providers.types import MarketRules

STEP = 2_000  # candles between two words
Told = Callable[[int, int], None]  # candles done, of how many; whoever raises in it stops the run


def run_both_watched(
    candles: Candles, strategy: StrategyInterface, rules: MarketRules, settings: BacktestSettings, told: Told
) -> dict[FillModel, BacktestResult]:
    """What `run_both` gives for a strategy; `told` hears of it after every `STEP` candles. Raises what `run` raises."""
    signals = signals_watched(strategy, candles, told)
    settled = replace(
        settings, warmup_bars=strategy.warmup_bars if settings.warmup_bars is None else settings.warmup_bars
    )
    results = run_both(candles, signals, strategy.parameters, rules, settled)
    return {model: replace(each, strategy_name=type(strategy).__name__) for model, each in results.items()}


def signals_watched(strategy: StrategyInterface, candles: Candles, told: Told) -> SignalArrays:
    """The strategy's signals over all candles. Arrays of its own are fast and made at once; `execute` is asked in
    steps, each with the warm-up before it, so that every candle sees the window it would see in one go."""
    total = len(candles)
    if type(strategy).signals is not StrategyInterface.signals:
        signals = strategy.signals(candles)
        told(total, total)
        return signals
    side, reason, confidence = np.zeros(total, dtype=np.int8), np.zeros(total, dtype=np.int8), np.zeros(total)
    reasons = [""]
    for start in range(0, total, STEP):
        stop, before = min(start + STEP, total), max(start - strategy.warmup_bars, 0)
        part = strategy.signals(candles.between(before, stop))
        fresh = slice(start - before, stop - before)
        side[start:stop], confidence[start:stop] = part.side[fresh], part.confidence[fresh]
        reason[start:stop] = _renumbered(part, fresh, reasons)
        told(stop, total)
    return SignalArrays(side, confidence, reason, tuple(reasons))


def _renumbered(part: SignalArrays, fresh: slice, reasons: list[str]) -> np.ndarray:
    """The reasons of a part, as indexes into `reasons`, which learns those it does not know."""
    numbers = part.reason[fresh]
    for number in np.unique(numbers):
        if part.reasons[number] not in reasons:
            reasons.append(part.reasons[number])
    index = np.array([reasons.index(name) if name in reasons else 0 for name in part.reasons], dtype=np.int8)
    return np.asarray(index[numbers])
