"""The README's example of a new strategy, taken from the README and run as a user would run it."""

from __future__ import annotations

import importlib.util
import re
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from algo.backtest import BacktestSettings, run_both
from algo.backtest.bias import check_strategy
from algo.backtest.synthetic import synthetic_market
from algo.strategies import (
    Candles,
    InvalidParameters,
    MarketData,
    StrategyInterface,
    create_strategy,
    schema_for,
    strategy_factory,
    strategy_names,
)
from providers.types import MarketRules, Side

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = re.compile(r"<!-- example: (\S+) -->\n```python\n(.*?)```", re.DOTALL)
NAME = "PullbackStrategy"
RULES = MarketRules(
    "wallex", "BTCUSDT", "BTC", "USDT", *map(Decimal, ("0.01", "0.00001", "0.00001", "1", "0.002", "0.003", "0.02"))
)


@pytest.fixture
def example(tmp_path, monkeypatch):
    """The module of the README, its class registered by the README's own line."""
    blocks = dict(EXAMPLE.findall((ROOT / "README.md").read_text()))
    file = tmp_path / "pullback.py"
    file.write_text(blocks["algo/strategies/pullback.py"])
    spec = importlib.util.spec_from_file_location("readme_pullback", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    line = eval("{" + blocks["algo/strategies/strategy_factory.py"] + "}", vars(module))
    assert list(line) == [NAME]
    monkeypatch.setitem(strategy_factory.STRATEGIES, NAME, line[NAME])
    return module


def candles_of(closes: list[float]) -> Candles:
    close = np.array(closes)
    times = 1_750_000_000 // 60 * 60 + 60 * np.arange(close.size, dtype=np.int64)
    return Candles(times, close.copy(), close.copy(), close.copy(), close, np.ones(close.size))


def test_one_line_in_the_factory_makes_it_known(example):
    assert NAME in strategy_names()
    assert isinstance(create_strategy(NAME), StrategyInterface)
    assert schema_for(NAME) is example.PullbackStrategySchema


def test_it_says_buy_on_a_dip_and_nothing_otherwise(example):
    strategy = create_strategy(NAME, {"dip_percent": 0.1})
    assert strategy.initialize() is True
    # mean of 29 x 100 and 99.8 is 99.99333; 99.8 stands 0.19335 % below it
    decision = strategy.execute(MarketData(candles_of([100.0] * 29 + [99.8])))
    assert (decision["side"], decision["reason"], decision["confidence"]) == ("BUY", "PULLBACK", 0.7)
    assert decision["indicators"]["gap_percent"] == pytest.approx(-0.193346, abs=1e-6)
    assert strategy.execute(MarketData(candles_of([100.0] * 30))) is None
    assert strategy.execute(MarketData(candles_of([100.0] * 10 + [90.0]))) is None


def test_wrong_parameters_are_refused_by_field(example):
    with pytest.raises(InvalidParameters) as caught:
        create_strategy(NAME, {"dip_percent": -1, "stop_loss_percent": 0})
    assert set(caught.value.errors) == {"dip_percent", "stop_loss_percent"}


def test_it_trades_in_a_backtest(example):
    strategy = create_strategy(NAME, {"take_profit_percent": "1", "trade_cooldown_minutes": 0})
    candles = candles_of([100.0] * 40 + [99.8, 99.8, 101.5, 101.5])
    settings = BacktestSettings(slippage_percent=Decimal(0), allowed_sides=frozenset({Side.BUY}))
    for result in run_both(candles, strategy, None, RULES, settings).values():
        rows = result.rows()
        # the dip closes candle 40, the entry is at the open of the next, the target 1 % above it
        assert [(row["side"], row["reason"], row["close_reason"]) for row in rows] == [
            ("BUY", "PULLBACK", "take_profit")
        ]
        assert rows[0]["open_price"] == pytest.approx(99.8)


def test_its_indicator_reads_no_future(example):
    rng = np.random.default_rng(7)
    frame = candles_of(list(100 + rng.normal(0, 1, 80))).frame()
    whole = example.calculate_custom_indicator(frame)
    assert len(whole) == len(frame)
    for stop in (30, 31, 55, 80):
        assert example.calculate_custom_indicator(frame[:stop]).iloc[-1] == pytest.approx(whole.iloc[stop - 1])


def test_a_live_window_decides_as_the_whole_history_does(example):
    rng = np.random.default_rng(11)
    candles = candles_of(list(100 + np.cumsum(rng.normal(0, 0.1, 300))))
    strategy = create_strategy(NAME)
    windows = strategy.signals(candles).side
    gaps = example.calculate_custom_indicator(candles.frame()).to_numpy()
    assert windows.tolist() == (gaps <= -0.1).astype(int).tolist()
    assert windows.any()


def test_it_passes_the_bias_checks(example):
    checked = check_strategy(create_strategy(NAME), synthetic_market(1000), seconds=2)
    assert checked.passed, checked.summary()
    assert checked.signals > 20
