"""Figures of many parameter sets over the same candles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from algo.backtest.engine import BacktestSettings, run
from algo.backtest.metrics import metrics_of
from algo.indicators import Series
from algo.strategies.interface import Candles, StrategyInterface
from algo.strategies.schemas import StrategySchema
from providers.types import MarketRules

FIGURES = (
    "final_equity",
    "net_profit",
    "net_profit_percent",
    "deals",
    "win_rate_percent",
    "profit_factor",
    "max_drawdown_percent",
    "sharpe",
    "fees_paid",
    "exposure_percent",
)


@dataclass(frozen=True, slots=True, eq=False)
class Sweep:
    """Figures of many parameter sets over the same candles; one float array per figure, in the order of the sets."""

    figures: Mapping[str, Series]


def sweep(
    candles: Candles,
    strategy: type[StrategyInterface],
    parameter_sets: Sequence[StrategySchema],
    rules: MarketRules,
    settings: BacktestSettings | None = None,
) -> Sweep:
    """Every set over the same candles, counted from the candle after the longest warm-up among them."""
    settings = settings or BacktestSettings()
    strategies = [strategy(parameters) for parameters in parameter_sets]
    longest = max((each.warmup_bars for each in strategies), default=0)
    warmup = longest if settings.warmup_bars is None else settings.warmup_bars
    fixed = replace(settings, warmup_bars=warmup)
    rows = [metrics_of(run(candles, each, None, rules, fixed)) for each in strategies]
    return Sweep({name: np.array([_number(getattr(row, name)) for row in rows]) for name in FIGURES})


def _number(value: float | None) -> float:
    return np.nan if value is None else float(value)
