"""Walk-forward: search in one window, trade the next one that the search has not seen, move on.

Pardo (2008), "The Evaluation and Optimization of Trading Strategies", chapter 11.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from algo.backtest.search import Figures, Judge, Trial, Window
from algo.backtest.space import Value
from algo.indicators import Series
from algo.strategies.interface import Candles

TRAIN_LENGTHS = 3.0  # a rolling train window is this many test windows long

Search = Callable[[Window], Trial | None]  # the best set of a window; None where none has enough deals


@dataclass(frozen=True, slots=True)
class Fold:
    """Candle indexes: trained on [train_start, train_stop), judged on [train_stop, test_stop)."""

    number: int
    train_start: int
    train_stop: int
    test_stop: int


@dataclass(frozen=True, slots=True, eq=False)
class FoldResult:
    """What was best in a fold, and what became of it. `choice` None: nothing had enough deals, so nothing was traded.
    `equity` after each test candle, as a multiple of what the fold began with."""

    fold: Fold
    choice: dict[str, Value] | None
    train: Figures | None
    test: Figures | None
    equity: Series


@dataclass(frozen=True, slots=True, eq=False)
class WalkForward:
    results: tuple[FoldResult, ...]

    @property
    def equity(self) -> Series:
        """The test windows one after the other, beginning at 1, every fold with what the one before it left."""
        parts, held = [], 1.0
        for result in self.results:
            parts.append(held * result.equity)
            held *= float(result.equity[-1])
        return np.concatenate(parts)

    @property
    def growth_in(self) -> float | None:
        """Mean growth per candle (logarithm) in the train windows; None where a fold lost everything."""
        lengths = [result.fold.train_stop - result.fold.train_start for result in self.results]
        return _rate([_growth(result.train) for result in self.results], lengths)

    @property
    def growth_out(self) -> float | None:
        """The same in the test windows."""
        lengths = [result.fold.test_stop - result.fold.train_stop for result in self.results]
        return _rate([_growth(result.test) for result in self.results], lengths)

    @property
    def efficiency(self) -> float | None:
        """Growth unseen over growth in training, at equal length; None where training found no growth.

        1 keeps all that the search promised, 0 keeps nothing. Pardo calls half of it the least that is robust.
        """
        inside, outside = self.growth_in, self.growth_out
        return outside / inside if inside is not None and outside is not None and inside > 0 else None

    @property
    def winning_folds(self) -> int:
        return sum(float(result.equity[-1]) > 1 for result in self.results)

    def as_dict(self) -> dict[str, Any]:
        return {
            "folds": [
                {
                    "number": result.fold.number,
                    "train": [result.fold.train_start, result.fold.train_stop],
                    "test": [result.fold.train_stop, result.fold.test_stop],
                    "choice": result.choice,
                    "train_figures": result.train,
                    "test_figures": result.test,
                }
                for result in self.results
            ],
            "efficiency": self.efficiency,
            "winning_folds": self.winning_folds,
            "net_profit_percent": (float(self.equity[-1]) - 1) * 100,
        }


def folds_of(first: int, stop: int, count: int, *, anchored: bool = False, ratio: float = TRAIN_LENGTHS) -> list[Fold]:
    """`count` test windows side by side up to `stop`, each after its train window.

    Rolling: each train window is `ratio` test windows long and moves along; anchored: all begin at `first`, the first
    of them as long as a rolling one. What is left over by whole numbers lengthens the first train window.
    ValueError where there are too few candles.
    """
    length = int((stop - first) / (count + ratio))
    if count < 1 or length < 1 or int(length * ratio) < 1:
        raise ValueError(f"{stop - first} candles are too few for {count} folds")
    tests = [stop - length * (count - i) for i in range(count)]
    trained = int(length * ratio)
    return [
        Fold(i + 1, first if anchored or i == 0 else start - trained, start, start + length)
        for i, start in enumerate(tests)
    ]


def walk_fold(candles: Candles, fold: Fold, warmup: int, judge: Judge, search: Search) -> FoldResult:
    """One fold. Indicators of the test window warm up on candles before it; deals of the train window do not count."""
    length = fold.test_stop - fold.train_stop
    best = search(Window.between(candles, fold.train_start, fold.train_stop, warmup))
    if best is None:
        return FoldResult(fold, None, None, None, np.ones(length))
    result = judge.play(Window.between(candles, fold.train_stop, fold.test_stop, warmup), best.choice)
    equity = result.equity[warmup:] / result.equity[warmup - 1]
    return FoldResult(fold, dict(best.choice), best.figures, judge.played_figures(result), equity)


def walk_forward(
    candles: Candles,
    folds: Sequence[Fold],
    warmup: int,
    judge: Judge,
    search: Search,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> WalkForward:
    """All folds in order."""
    results = []
    for fold in folds:
        results.append(walk_fold(candles, fold, warmup, judge, search))
        if progress:
            progress(fold.number, len(folds))
    return WalkForward(tuple(results))


def _growth(figures: Figures | None) -> float:
    percent = figures["net_profit_percent"] if figures else 0.0
    ratio = 1 + (percent or 0.0) / 100
    return math.log(ratio) if ratio > 0 else -math.inf


def _rate(growths: Sequence[float], lengths: Sequence[int]) -> float | None:
    rate = sum(growths) / sum(lengths)
    return rate if math.isfinite(rate) else None
