"""A watched backtest is the same backtest."""

from __future__ import annotations

import numpy as np
import pytest

from algo.backtest import run_both
from algo.backtest.watched import run_both_watched, signals_watched
from algo.strategies import BreakoutStrategy, StrategyInterface
from tests.backtest.worlds import market, settings
from tests.strategies.tables import random_candles


class Slow(StrategyInterface):
    """Only `execute`: buys on a new high of its window, sells on a new low; its reasons come up one after the other."""

    warmup_bars = 20

    def execute(self, market_data):
        close = market_data["candles"].close
        if close[-1] >= close.max():
            return {"side": "BUY", "confidence": 0.5, "reason": f"HIGH{int(close[-1]) % 3}"}
        return {"side": "SELL", "reason": "LOW"} if close[-1] <= close.min() else None


@pytest.mark.parametrize("strategy", [Slow(), BreakoutStrategy()], ids=lambda each: type(each).__name__)
def test_the_signals_are_those_of_one_go(strategy, monkeypatch):
    monkeypatch.setattr("algo.backtest.watched.STEP", 97)
    candles, heard = random_candles(1000, 7), []
    watched = signals_watched(strategy, candles, lambda done, total: heard.append((done, total)))
    whole = strategy.signals(candles)
    assert np.array_equal(watched.side, whole.side)
    assert np.array_equal(watched.confidence, whole.confidence)
    assert [watched.at(i) for i in range(1000)] == [whole.at(i) for i in range(1000)]
    assert heard[-1] == (1000, 1000)
    assert len(heard) == (11 if isinstance(strategy, Slow) else 1)


@pytest.mark.parametrize("strategy", [Slow(), BreakoutStrategy()], ids=lambda each: type(each).__name__)
def test_the_results_are_those_of_an_unwatched_run(strategy):
    candles = random_candles(1500, 8)
    watched = run_both_watched(candles, strategy, market(), settings(), lambda done, total: None)
    plain = run_both(candles, strategy, None, market(), settings())
    assert list(watched) == list(plain)
    for model, result in plain.items():
        assert watched[model].rows() == result.rows()
        assert np.array_equal(watched[model].equity, result.equity)
        assert (watched[model].first, watched[model].warnings) == (result.first, result.warnings)
        assert watched[model].strategy_name == type(strategy).__name__
        assert dict(watched[model].refused) == dict(result.refused)


def test_whoever_raises_in_a_word_stops_it(monkeypatch):
    monkeypatch.setattr("algo.backtest.watched.STEP", 50)

    def stop(done, total):
        if done >= 100:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        signals_watched(Slow(), random_candles(1000, 7), stop)
