"""The kernel in floats and the reference in Decimals tell the same story on random markets."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from algo.backtest import BacktestSettings, run
from algo.strategies import BreakoutStrategy, SignalArrays, StrategySchema
from providers.types import Resolution
from tests.backtest.markets import case_of
from tests.backtest.reference import Reference
from tests.risk.worlds import rules_of
from tests.strategies.tables import random_candles

D = Decimal
DIGITS = ("open_price", "close_price", "quantity", "stop_price")


def random_signals(count: int, seed: int) -> SignalArrays:
    rng = np.random.default_rng(seed)
    side = rng.choice([-1, 0, 0, 1], count).astype(np.int8)
    confidence = np.where(side != 0, rng.choice([0.3, 0.6, 0.8, 1.0], count), 0.0)
    return SignalArrays(side, confidence, (side != 0).astype(np.int8), ("", "RANDOM"))


def compare(candles, signals, parameters, rules, options):
    result = run(candles, signals, parameters, rules, options)
    reference = Reference(candles, signals, parameters, rules, options).run()
    got = result.rows()
    assert len(got) == len(reference.deals)
    for one, expected in zip(got, reference.deals, strict=True):
        assert {key: one[key] for key in ("open_index", "close_index", "close_reason")} == {
            key: expected[key] for key in ("open_index", "close_index", "close_reason")
        }
        assert (one["side"] == "BUY") == (expected["side"] == 1)
        for key in DIGITS:
            assert one[key] == pytest.approx(float(expected[key]), rel=1e-9), key
        assert one["profit"] == pytest.approx(float(expected["profit"]), abs=1e-9 * one["notional"])
    assert result.refused == dict(reference.refused)
    np.testing.assert_allclose(result.equity, np.array(reference.course, dtype=np.float64), rtol=1e-9)
    return result


PLAIN = {"stop_loss_percent": "0.4", "take_profit_percent": "0.7", "trade_cooldown_minutes": 3, "max_daily_trades": 40}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "trailing": {"trailing_stop_percent": "0.5", "trailing_step_percent": "0.1", "take_profit_percent": "3"},
    "opposite signal leaves": {"exit_on_opposite_signal": True, "stop_loss_percent": "5", "take_profit_percent": "5"},
    "daily loss": {"max_daily_loss_percent": "0.5"},
    "few trades": {"max_daily_trades": 2},
}


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("variant", list(VARIANTS))
def test_kernel_and_reference_agree(variant, seed):
    candles, signals = random_candles(1200, seed), random_signals(1200, seed + 100)
    parameters = StrategySchema(**{**PLAIN, **VARIANTS[variant]})
    options = BacktestSettings(starting_quote=D(5000), starting_base=D(40))
    result = compare(candles, signals, parameters, rules_of(), options)
    assert result.deal_count > 1
    assert {"BUY", "SELL"} == {row["side"] for row in result.rows()} or result.deal_count < 6


def test_they_agree_on_a_coarse_market_with_a_small_balance():
    candles, signals = random_candles(1500, 8, tick=0.1), random_signals(1500, 9)
    rules = rules_of(tick_size=D("0.1"), step_size=D("0.01"), min_quantity=D("0.01"), min_notional=D(11))
    options = BacktestSettings(starting_quote=D(40), starting_base=D("0.1"), slippage_percent=D("0.1"))
    result = compare(candles, signals, StrategySchema(**PLAIN), rules, options)
    assert result.refused["below_minimum"] > 0
    assert result.refused["insufficient_balance"] > 0


def test_they_agree_on_gaps_and_a_narrow_band():
    candles = random_candles(1200, 21)
    kept = np.sort(np.random.default_rng(4).choice(1200, 900, replace=False))
    thinned = type(candles)(*(getattr(candles, name)[kept] for name in candles.__slots__))
    rules = rules_of(market_band=D("0.002"))
    options = BacktestSettings(starting_quote=D(5000), starting_base=D(40))
    result = compare(thinned, random_signals(900, 22), StrategySchema(**PLAIN, max_data_age_bars=1), rules, options)
    assert result.refused["stale_data"] > 0
    assert result.refused["thin_book"] > 0


def test_they_agree_on_the_signals_of_breakout_over_hours():
    candles = random_candles(4000, 31)
    slow = type(candles)(candles.open_time * 60 - 59 * candles.open_time[0], *list(_rest(candles)))
    strategy = BreakoutStrategy(trade_cooldown_minutes=240, max_daily_trades=3, max_daily_loss_percent=1)
    options = BacktestSettings(resolution=Resolution.H1, starting_quote=D(5000), starting_base=D(40))
    result = compare(slow, strategy.signals(slow), strategy.parameters, rules_of(), options)
    assert result.deal_count > 50
    assert {"cooldown", "open_deal_exists"} <= set(result.refused)


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(2, 90))
@effort(max_examples=120, deadline=None, derandomize=True)
def test_they_agree_whatever_the_market_the_rules_and_the_account(seed, count):
    case = case_of(seed, count)
    compare(case.candles, case.signals, case.parameters, case.rules, case.settings)


def _rest(candles):
    return (getattr(candles, name) for name in candles.__slots__[1:])
