"""A sweep gives the figures that a run of each set alone would give."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from algo.backtest import BacktestSettings, metrics_of, run, sweep
from algo.backtest.engine import kernel_rules, kernel_table
from algo.backtest.kernel import rules_table
from algo.backtest.sweep import FIGURES
from algo.strategies import BreakoutStrategy, StrategyInterface, StrategySchema
from providers.types import Side
from tests.backtest.markets import case_of, parameters_of, signals_over
from tests.backtest.worlds import market, settings, table
from tests.risk.worlds import rules_of
from tests.strategies.tables import random_candles

D = Decimal
MONEY = BacktestSettings(starting_quote=D(5000), starting_base=D(40))
CHANGES = {
    "stop_loss_percent": ["0.3", "1.1"],
    "take_profit_percent": ["0.5", "4"],
    "trailing_stop_percent": ["0", "0.4"],
    "exit_on_opposite_signal": [False, True],
    "breakout_period": [10, 40],
}


def grid(**changes) -> list[StrategySchema]:
    names = {**CHANGES, **changes}
    return [
        BreakoutStrategy({"trade_cooldown_minutes": 5, **dict(zip(names, values, strict=True))}).parameters
        for values in product(*names.values())
    ]


def alone(candles, parameters, rules, options, warmup) -> dict[str, float | None]:
    result = run(candles, BreakoutStrategy(parameters), None, rules, replace(options, warmup_bars=warmup))
    return metrics_of(result).as_dict()


@pytest.mark.parametrize("options", [MONEY, replace(MONEY, starting_base=D(0))], ids=["with base", "without"])
def test_every_figure_of_every_set_is_that_of_a_run_alone(options):
    candles, sets = random_candles(6000, seed=4), grid()
    found = sweep(candles, BreakoutStrategy, sets, rules_of(), options)
    assert (found.figures["deals"] > 3).all()
    for i, parameters in enumerate(sets):
        figures = alone(candles, parameters, rules_of(), options, found.first)
        for name in FIGURES:
            expected = np.nan if figures[name] is None else figures[name]
            assert found.figures[name][i] == pytest.approx(expected, rel=1e-9, abs=1e-9, nan_ok=True), (name, i)


class NoiseSchema(StrategySchema):
    number: int = 0
    bars: int = 1


class Noise(StrategyInterface):
    """Says at random what its number says."""

    schema = NoiseSchema

    @property
    def warmup_bars(self):
        return self.parameters.bars

    def execute(self, market_data):
        raise NotImplementedError

    def signals(self, candles):
        return signals_over(np.random.default_rng(self.parameters.number), candles)


@given(seed=st.integers(0, 2**32 - 1), count=st.sampled_from([2, 60, 700]))
@effort(max_examples=25, deadline=None, derandomize=True)
def test_they_are_on_any_market_with_any_rules(seed, count):
    """Missing prices, gaps, blocks of the drawdown, sets that share signals, warm-up longer than the candles."""
    case, rng = case_of(seed, count), np.random.default_rng(seed)
    sets = [
        NoiseSchema(number=int(rng.integers(3)), bars=int(rng.choice([1, 5, 90])), **dict(parameters_of(rng)))
        for _ in range(6)
    ]
    found = sweep(case.candles, Noise, sets, case.rules, case.settings)
    options = replace(case.settings, warmup_bars=max(each.bars for each in sets))
    for i, parameters in enumerate(sets):
        figures = metrics_of(run(case.candles, Noise(parameters), None, case.rules, options))
        amount = figures.starting_equity
        for name in FIGURES:
            value = getattr(figures, name)
            slack = 1e-9 * (amount if name in ("net_profit", "fees_paid") else 1)
            expected = pytest.approx(np.nan if value is None else value, rel=1e-9, abs=slack, nan_ok=True)
            assert found.figures[name][i] == expected, (name, i)


def test_sets_are_counted_over_the_same_candles_whatever_their_warm_up():
    short, long = (BreakoutStrategy(ema_slow_period=slow).parameters for slow in (13, 120))
    candles = random_candles(5000, seed=5)
    found = sweep(candles, BreakoutStrategy, [short, long], rules_of(), MONEY)
    assert found.first == BreakoutStrategy(long).warmup_bars > BreakoutStrategy(short).warmup_bars
    only_short = sweep(candles, BreakoutStrategy, [short], rules_of(), MONEY)
    assert only_short.first < found.first
    assert only_short.figures["deals"][0] > found.figures["deals"][0]


def test_the_order_of_the_sets_is_kept_when_threads_share_them():
    candles, sets = random_candles(3000, seed=6), grid(max_daily_trades=list(range(1, 11)))
    assert len(sets) > 128 * 2  # more than one chunk
    there = sweep(candles, BreakoutStrategy, sets, rules_of(), MONEY)
    back = sweep(candles, BreakoutStrategy, sets[::-1], rules_of(), MONEY)
    for name in FIGURES:
        np.testing.assert_array_equal(there.figures[name], back.figures[name][::-1])


class Pattern(StrategyInterface):
    """Buys after every rising candle; has no parameter of its own."""

    warmup_bars = 1

    def execute(self, market_data):
        candles = market_data["candles"]
        return {"side": Side.BUY} if candles.close[-1] > candles.open[-1] else None


def test_figures_worked_by_hand():
    # Bought at 100 with 1,000, target 102 is traded through: 1,020. One set never reaches its target and ends at 101.
    candles = table((99, 100, 99, 100), (100, 101, 100, 100.5), (100.5, 103, 100, 101), (101, 101, 101, 101))
    near, far = (
        StrategySchema(
            stop_loss_percent=5,
            take_profit_percent=percent,
            max_position_size_percent=100,
            trade_cooldown_minutes=60,
            max_daily_loss_percent=0,
        )
        for percent in (2, 10)
    )
    found = sweep(candles, Pattern, [near, far], market(market_band=D(0)), settings()).figures
    assert found["final_equity"].tolist() == pytest.approx([1020.0, 1010.0])
    assert found["net_profit_percent"].tolist() == pytest.approx([2.0, 1.0])
    assert found["deals"].tolist() == [1, 1]
    assert found["exposure_percent"].tolist() == pytest.approx([100 * 2 / 3, 100.0])
    assert found["max_drawdown_percent"].tolist() == pytest.approx([0.0, 0.0])
    assert np.isnan(found["sharpe"]).all()  # one day has no deviation


def test_rules_of_many_sets_are_those_of_each_alone():
    rng = np.random.default_rng(3)
    sets = [StrategySchema(**dict(parameters_of(rng))) for _ in range(60)]
    for seed in range(4):
        case = case_of(seed, 20)
        alone_each = rules_table([kernel_rules(each, case.rules, case.settings) for each in sets])
        assert kernel_table(sets, case.rules, case.settings).tobytes() == alone_each.tobytes()
    assert len({tuple(row) for row in alone_each.tolist()}) > 40


def test_sets_that_take_data_of_another_age_do_not_share_what_they_listen_to():
    times = np.cumsum(np.where(np.random.default_rng(8).random(3000) < 0.2, 300, 60)) + 1_700_000_000
    candles = replace(random_candles(3000, seed=9), open_time=times)
    sets = [NoiseSchema(trade_cooldown_minutes=0, max_daily_trades=1000, max_data_age_bars=age) for age in (1, 20)]
    found = sweep(candles, Noise, sets, rules_of(), MONEY)
    expected = [run(candles, Noise(each), None, rules_of(), MONEY).deal_count for each in sets]
    assert found.figures["deals"].tolist() == expected
    assert expected[0] != expected[1]


def test_no_sets_give_no_figures():
    found = sweep(random_candles(500, seed=1), BreakoutStrategy, [], rules_of(), MONEY)
    assert found.figures["sharpe"].size == 0


def test_a_strategy_that_looks_at_risk_rules_can_say_so():
    assert BreakoutStrategy().signal_key() == BreakoutStrategy(stop_loss_percent=2).signal_key()
    assert BreakoutStrategy().signal_key() != BreakoutStrategy(breakout_period=21).signal_key()
