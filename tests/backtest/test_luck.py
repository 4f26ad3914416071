"""How much may be luck: published examples of the formulas, and properties of the shuffles."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algo.backtest.engine import run
from algo.backtest.luck import (
    Blocks,
    ReturnShape,
    ShuffledBest,
    block_index,
    deal_returns,
    deflated_sharpe,
    expected_best_sharpe,
    monte_carlo,
    probabilistic_sharpe,
    resampled,
    return_shape,
    shuffled_scores,
)
from tests.backtest.worlds import calm, market, said, settings, table
from tests.strategies.tables import random_candles

# --- Sharpe ratios --------------------------------------------------------------------------------------------------


def test_probabilistic_sharpe_equals_the_published_hedge_fund():
    """Bailey and López de Prado (2012): 24 months, 1.59 a year. Taken for normal 0.982, as it is 0.913."""
    monthly = 1.59 / math.sqrt(12)
    assert probabilistic_sharpe(ReturnShape(monthly, 0.0, 3.0, 24), 0.0) == pytest.approx(0.982, abs=0.0005)
    assert probabilistic_sharpe(ReturnShape(monthly, -2.448, 10.164, 24), 0.0) == pytest.approx(0.913, abs=0.001)


@pytest.mark.parametrize(("trials", "probability"), [(100, 0.9004), (46, 0.9505)])
def test_deflated_sharpe_equals_the_published_example(trials, probability):
    """Bailey and López de Prado (2014): 2.5 a year over 1250 days of 250 a year, variance of the trials 1/2 a year."""
    shape = ReturnShape(2.5 / math.sqrt(250), -3.0, 10.0, 1250)
    bar = expected_best_sharpe(0.5 / 250, trials)
    assert probabilistic_sharpe(shape, bar) == pytest.approx(probability, abs=0.0005)
    if trials == 100:
        assert bar == pytest.approx(0.1132, abs=0.0001)


def test_one_trial_is_not_deflated():
    assert expected_best_sharpe(0.5, 1) == 0.0
    returns = np.array([0.01, -0.01, 0.03, 0.02])
    found = deflated_sharpe(returns, [0.7], 1)
    assert found.probability == found.undeflated


def test_shape_of_returns_by_hand():
    # mean 0.01, deviations -0.02 0 0.02: population variance 0.0008/3, sample variance 0.0004
    shape = return_shape(np.array([-0.01, 0.01, 0.03]))
    assert shape.sharpe == pytest.approx(0.5)
    assert shape.skew == pytest.approx(0)
    assert shape.kurtosis == pytest.approx(1.5)
    assert shape.count == 3


@pytest.mark.parametrize("returns", [[], [0.1, 0.2], [0.01, 0.01, 0.01]])
def test_returns_without_a_sharpe_ratio_have_no_deflated_one(returns):
    assert return_shape(np.array(returns)) is None
    assert deflated_sharpe(np.array(returns), [0.1, 0.2], 2) is None


@given(st.integers(2, 5000), st.integers(2, 5000))
def test_more_trials_raise_the_bar(few, many):
    few, many = sorted((few, many))
    assert expected_best_sharpe(0.01, few) <= expected_best_sharpe(0.01, many) + 1e-12


def test_the_bar_is_what_the_best_of_many_skilless_sets_shows():
    rng = np.random.default_rng(1)
    best = rng.normal(0, 0.1, (4000, 50)).max(axis=1).mean()
    assert expected_best_sharpe(0.01, 50) == pytest.approx(best, rel=0.02)


# --- the order of deals ---------------------------------------------------------------------------------------------


def test_deals_count_as_shares_of_the_equity_before_them():
    # half of 1,000 wins 2 %, then half of 1,010 loses 1 %
    candles = table((100, 100, 100, 100), (100, 103, 100, 102), (100, 100, 98, 99), (100, 100, 100, 100))
    result = run(candles, said(4, c0=1, c1=1), calm(max_position_size_percent=50), market(), settings())
    assert deal_returns(result).tolist() == pytest.approx([0.01, -0.005])


def test_other_orders_of_two_deals_have_the_two_drawdowns_there_are():
    found = monte_carlo(np.array([0.5, -0.2]), paths=200, seed=1)
    assert set(found.drawdowns.round(6)) == {20.0}  # 20 % whether it comes first or last
    # drawn with replacement: 1.5^2, 1.5 * 0.8, 0.8^2
    assert set(found.finals.round(6)) == {2.25, 1.2, 0.64}
    assert set(found.resampled_drawdowns.round(6)) == {0.0, 20.0, 36.0}


def test_losses_side_by_side_fall_deeper_than_the_order_that_happened():
    found = monte_carlo(np.array([0.1, -0.1] * 10), paths=500, seed=2).as_dict()
    assert found["max_drawdown_percent"]["5"] > 10  # as it happened: 10 %
    assert found["max_drawdown_percent"]["95"] < 100 * (1 - 0.9**10)
    assert found["loss_probability"] == pytest.approx(0.6, abs=0.1)


def test_many_paths_are_made_in_parts_with_the_same_seed_the_same():
    returns = np.random.default_rng(3).normal(0, 0.01, 9000)
    first, second = (monte_carlo(returns, paths=900, seed=4) for _ in range(2))
    assert first.drawdowns.size == first.finals.size == 900
    assert (first.drawdowns == second.drawdowns).all()


def test_no_deal_has_no_other_fate():
    assert monte_carlo(np.array([]), paths=10, seed=1) is None


# --- shuffled markets -----------------------------------------------------------------------------------------------


@given(st.integers(2, 300), st.integers(1, 60), st.sampled_from(Blocks), st.integers(0, 1000))
def test_blocks_are_runs_of_neighbours(count, block, kind, seed):
    index = block_index(count, block, kind, np.random.default_rng(seed))
    assert index.size == count
    assert index.min() >= 0
    assert index.max() < count
    if kind is Blocks.MOVING:
        within = np.arange(1, count) % block != 0
        assert ((np.diff(index) % count)[within] == 1 % count).all()


def test_random_blocks_have_the_length_that_was_asked_for():
    index = block_index(20_000, 8, Blocks.STATIONARY, np.random.default_rng(5))
    breaks = np.count_nonzero(np.diff(index) % 20_000 != 1) + 1
    assert 20_000 / breaks == pytest.approx(8, rel=0.05)


@given(st.integers(0, 500), st.sampled_from(Blocks))
def test_a_shuffled_market_is_a_market(seed, kind):
    candles = random_candles(200, seed)
    made = resampled(candles, 10, kind, np.random.default_rng(seed))
    assert (made.open_time == candles.open_time).all()
    assert (made.high >= np.maximum(made.open, made.close)).all()
    assert (made.low <= np.minimum(made.open, made.close)).all()
    assert (made.low > 0).all()
    assert set(made.volume) <= set(candles.volume)
    # every candle keeps the shape of one that was there
    moves = set(np.log(candles.close[1:] / candles.close[:-1]).round(9))
    assert set(np.log(made.close[1:] / made.close[:-1]).round(9)) <= moves


def test_one_block_as_long_as_the_series_is_the_series_turned_around_a_circle():
    candles = random_candles(50, 1)
    made = resampled(candles, 49, Blocks.MOVING, np.random.default_rng(9))
    assert made.close[-1] == pytest.approx(candles.close[-1])  # the same moves, so the same end


def test_candles_without_a_price_cannot_be_shuffled():
    candles = table((1, 1, 1, 1), (1, np.nan, 1, 1))
    with pytest.raises(ValueError, match="without a price"):
        resampled(candles, 2, Blocks.MOVING, np.random.default_rng(1))


def test_the_p_value_counts_the_worlds_that_reach_the_real_one():
    found = ShuffledBest(5.0, (1.0, 5.0, 6.0, 2.0), sets=3, block=5)
    assert found.p_value == 3 / 5
    assert found.as_dict() == {"best": 5.0, "worlds": [1.0, 5.0, 6.0, 2.0], "sets": 3, "block": 5, "p_value": 3 / 5}


def test_a_world_is_the_same_whenever_it_is_made():
    candles = random_candles(60, 2)
    how = {"block": 5, "kind": Blocks.STATIONARY, "seed": 1}
    together = shuffled_scores(candles, lambda c: float(c.close[30]), range(4), **how)
    alone = [shuffled_scores(candles, lambda c: float(c.close[30]), [i], **how)[0] for i in range(4)]
    assert together == alone
    assert len(set(together)) == 4


def memory(candles) -> float:
    moves = np.diff(np.log(candles.close))
    return float(np.corrcoef(moves[:-1], moves[1:])[0, 1])


def test_the_p_value_of_a_series_without_any_order_is_anything():
    """Under its own null hypothesis the test finds 5 % or less about as often as it says."""
    found = []
    for seed in range(40):
        candles = random_candles(120, seed)
        worlds = shuffled_scores(candles, memory, range(19), block=1, kind=Blocks.STATIONARY, seed=seed)
        found.append(ShuffledBest(memory(candles), tuple(worlds), 1, 1).p_value)
    assert 0 <= sum(p <= 0.05 for p in found) <= 7
    assert 0.35 < np.mean(found) < 0.65
