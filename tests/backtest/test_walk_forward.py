"""Walk-forward and search: what is seen, what is not, and what is the best."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algo.backtest import FillModel
from algo.backtest.engine import run
from algo.backtest.search import (
    MOST,
    UNKNOWN,
    Judge,
    Objective,
    Trial,
    Window,
    best_of,
    distinct,
    grid_search,
    pareto_front,
    score,
    tpe_search,
)
from algo.backtest.space import space_of
from algo.backtest.walk_forward import Fold, FoldResult, WalkForward, folds_of, walk_fold, walk_forward
from algo.strategies import BreakoutStrategy, BreakoutStrategySchema, Candles
from tests.backtest.worlds import D, market, settings
from tests.strategies.tables import random_candles

WARMUP = BreakoutStrategy().warmup_bars
SPACE = space_of(BreakoutStrategySchema, ["breakout_period=5,10,20", "take_profit_percent=0.3,0.6"])


def judge(**change) -> Judge:
    return Judge(BreakoutStrategy, {"trade_cooldown_minutes": 0}, market(), settings(**change))


def figures(**change) -> dict:
    known = {"sharpe": 1.0, "net_profit": 5.0, "net_profit_percent": 0.5, "deals": 40, "max_drawdown_percent": 2.0}
    return {**known, "calmar": 3.0, "profit_factor": 1.5, "win_rate_percent": 50.0, **change}


def trial(number: int, **change) -> Trial:
    return Trial(number, {"p": number}, figures(**change))


# --- folds ----------------------------------------------------------------------------------------------------------


def test_rolling_folds_by_hand():
    # 900 candles: tests of 900 / (3 + 6) = 100, trained on the 300 before each
    folds = folds_of(100, 1000, 6)
    assert [(f.train_start, f.train_stop, f.test_stop) for f in folds[:2]] == [(100, 400, 500), (200, 500, 600)]
    assert folds[-1] == Fold(6, 600, 900, 1000)


def test_anchored_folds_all_begin_at_the_first_candle():
    assert [(f.train_start, f.train_stop) for f in folds_of(100, 1000, 6, anchored=True)][:3] == [
        (100, 400),
        (100, 500),
        (100, 600),
    ]


@given(st.integers(0, 500), st.integers(100, 5000), st.integers(1, 12), st.booleans())
def test_test_windows_stand_side_by_side_up_to_the_end_and_never_in_their_own_train_window(
    first, length, count, anchored
):
    folds = folds_of(first, first + length, count, anchored=anchored)
    assert folds[-1].test_stop == first + length
    assert all(a.test_stop == b.train_stop for a, b in itertools.pairwise(folds))
    assert all(first <= f.train_start < f.train_stop < f.test_stop for f in folds)


def test_too_few_candles_for_the_folds_are_refused():
    with pytest.raises(ValueError, match="too few for 6 folds"):
        folds_of(0, 8, 6)


# --- what is seen ---------------------------------------------------------------------------------------------------


def test_what_happens_after_a_window_changes_nothing_in_it():
    candles = random_candles(1500, 11)
    later = random_candles(1500, 12)
    spliced = Candles(
        candles.open_time,
        *(
            np.concatenate((getattr(candles, name)[:1000], getattr(later, name)[1000:]))
            for name in ("open", "high", "low", "close", "volume")
        ),
    )
    choices = [SPACE.at(i) for i in range(SPACE.size)]
    first, second = (
        judge().figures(Window.between(series, WARMUP, 1000, WARMUP), choices) for series in (candles, spliced)
    )
    assert first == second


def test_a_test_window_warms_up_on_the_train_window_and_counts_no_deal_of_it():
    candles = random_candles(1500, 13)
    result = judge().play(Window.between(candles, 1000, 1500, WARMUP), SPACE.at(0))
    assert result.first == WARMUP
    assert result.deals["open_index"].min() >= WARMUP
    assert result.equity[WARMUP - 1] == 1000  # begins with all of its money
    # as the strategy speaks in one long run, so it speaks in the window
    whole = run(candles, BreakoutStrategy(judge().base | SPACE.at(0)), None, market(), settings())
    assert (result.signals.side[WARMUP - 1 :] == whole.signals.side[999:]).all()


def test_a_window_needs_its_warm_up_before_it():
    with pytest.raises(ValueError, match="cannot be judged"):
        Window.between(random_candles(100, 1), 10, 50, 20)


def test_sets_with_another_warm_up_are_judged_on_the_same_candles_or_refused():
    window = Window.between(random_candles(900, 3), WARMUP, 900, WARMUP)
    short, longer = {"rsi_period": 5}, {"rsi_period": 30}
    found = judge().figures(window, [short, longer, {"ema_fast_period": 20}])
    assert found[0] is not None
    assert found[1:] == [None, None]
    with pytest.raises(ValueError, match="refuses"):
        judge().play(window, longer)


def test_swept_figures_are_those_of_the_set_played_in_full():
    window = Window.between(random_candles(1500, 4), WARMUP, 1500, WARMUP)
    swept = judge().figures(window, [SPACE.at(2)])[0]
    played = judge().played_figures(judge().play(window, SPACE.at(2)))
    for name in ("net_profit", "deals", "sharpe", "max_drawdown_percent", "calmar", "profit_factor"):
        assert swept[name] == (pytest.approx(played[name]) if played[name] is not None else None), name


# --- walking --------------------------------------------------------------------------------------------------------


def result(number: int, train_percent: float, test_percent: float) -> FoldResult:
    end = 1 + test_percent / 100
    return FoldResult(
        Fold(number, 0, 300, 400), {"p": 1}, figures(net_profit_percent=train_percent),
        figures(net_profit_percent=test_percent), np.array([1.0, end]),
    )  # fmt: skip


def test_each_fold_trades_with_what_the_one_before_it_left():
    walked = WalkForward((result(1, 30, 10), result(2, 30, -50)))
    assert walked.equity.tolist() == pytest.approx([1, 1.1, 1.1, 0.55])
    assert walked.winning_folds == 1


def test_efficiency_compares_growth_of_equal_length():
    # training: 21 % in 300 candles twice; unseen: 1.21^(1/3) in 100 candles, which is the same rate
    third = (1.21 ** (1 / 3) - 1) * 100
    assert WalkForward((result(1, 21, third), result(2, 21, third))).efficiency == pytest.approx(1)
    assert WalkForward((result(1, 21, 0), result(2, 21, 0))).efficiency == pytest.approx(0)
    assert WalkForward((result(1, -5, 3),)).efficiency is None
    assert WalkForward((result(1, 5, -100),)).efficiency is None


def test_a_fold_without_enough_deals_trades_nothing():
    candles = random_candles(1200, 5)
    found = walk_fold(candles, Fold(1, WARMUP, 1000, 1200), WARMUP, judge(), lambda window: None)
    assert found.choice is None
    assert (found.equity == 1).all()
    assert found.equity.size == 200


def test_a_walk_searches_each_train_window_and_trades_the_next():
    candles, seen = random_candles(2000, 6), []

    def search(window: Window) -> Trial | None:
        seen.append((int(window.candles.open_time[window.warmup]), int(window.candles.open_time[-1])))
        return best_of(grid_search(SPACE, judge(), window), [Objective.NET_PROFIT], 1)

    folds = folds_of(WARMUP, 2000, 3)
    walked = walk_forward(candles, folds, WARMUP, judge(), search)
    times = candles.open_time
    assert seen == [(times[f.train_start], times[f.train_stop - 1]) for f in folds]
    assert walked.equity.size == 2000 - folds[0].train_stop
    for one in walked.results:
        # the chosen set is the best of its train window, and the test figures are those of its equity
        assert one.train["net_profit"] == max(t.figures["net_profit"] for t in grid_search(
            SPACE, judge(), Window.between(candles, one.fold.train_start, one.fold.train_stop, WARMUP)))  # fmt: skip
        assert one.equity[-1] == pytest.approx(1 + one.test["net_profit_percent"] / 100)


# --- what is the best -----------------------------------------------------------------------------------------------


def test_figures_that_cannot_be_told_are_worse_than_any_and_gains_without_losses_the_best():
    assert score(figures(sharpe=None), Objective.SHARPE) == UNKNOWN
    assert score(figures(profit_factor=None), Objective.PROFIT_FACTOR) == MOST
    assert score(figures(profit_factor=None, net_profit=0.0), Objective.PROFIT_FACTOR) == UNKNOWN
    assert score(figures(calmar=1e9), Objective.CALMAR) == MOST
    assert score(figures(), Objective.MAX_DRAWDOWN) == -2.0
    assert score(figures(), Objective.NET_PROFIT) == 0.5


def test_the_best_has_enough_deals_and_is_the_earliest_of_equals():
    trials = [trial(0, sharpe=9.0, deals=3), trial(1), trial(2), trial(3, sharpe=0.5)]
    assert best_of(trials, [Objective.SHARPE], 10).number == 1
    assert best_of(trials, [Objective.SHARPE], 41) is None


def test_the_front_holds_what_nothing_beats_in_everything():
    trials = [
        trial(0, sharpe=2.0, max_drawdown_percent=9.0),
        trial(1, sharpe=1.0, max_drawdown_percent=1.0),
        trial(2, sharpe=1.0, max_drawdown_percent=5.0),  # beaten by 1
        trial(3, sharpe=0.5, max_drawdown_percent=0.5),
        trial(4, sharpe=0.1, max_drawdown_percent=0.1, deals=1),
    ]
    front = pareto_front(trials, [Objective.SHARPE, Objective.MAX_DRAWDOWN], 10)
    assert [each.number for each in front] == [0, 1, 3]


def test_a_set_that_was_tried_twice_counts_once():
    assert [
        each.number for each in distinct([Trial(0, {"p": 1}, {}), Trial(1, {"p": 2}, {}), Trial(2, {"p": 1}, {})])
    ] == [0, 1]


def test_a_grid_leaves_out_what_the_schema_refuses():
    window = Window.between(random_candles(900, 3), WARMUP, 900, WARMUP)
    space = space_of(BreakoutStrategySchema, ["ema_fast_period=5,13,20"])
    said: list = []
    trials = grid_search(space, judge(), window, progress=lambda done, total: said.append((done, total)))
    assert [each.number for each in trials] == [0]
    assert said == [(3, 3)]


def test_the_sampler_gives_the_same_trials_for_the_same_seed_and_comes_near_the_best_of_the_grid():
    window = Window.between(random_candles(1500, 8), WARMUP, 1500, WARMUP)
    space = space_of(BreakoutStrategySchema, ["breakout_period=2:30", "take_profit_percent=0.2:1.5:0.1"])
    goal = [Objective.NET_PROFIT]
    runs = [tpe_search(space, judge(), window, objectives=goal, trials=25, min_deals=1, seed=s) for s in (1, 1, 2)]
    assert [each.choice for each in runs[0]] == [each.choice for each in runs[1]]
    assert [each.choice for each in runs[0]] != [each.choice for each in runs[2]]
    assert len(runs[0]) == 25


def test_the_sampler_learns_from_sets_that_are_refused_or_trade_too_little():
    window = Window.between(random_candles(1500, 8), WARMUP, 1500, WARMUP)
    space = space_of(BreakoutStrategySchema, ["ema_fast_period=2:40", "ema_slow_period=3:13"])
    goals = [Objective.NET_PROFIT, Objective.MAX_DRAWDOWN]
    trials = tpe_search(space, judge(), window, objectives=goals, trials=15, min_deals=5, seed=3)
    assert 0 < len(trials) <= 15
    assert all(each.choice["ema_fast_period"] < each.choice["ema_slow_period"] for each in trials)


def test_a_judge_keeps_the_fill_model_and_the_fees_it_was_given():
    window = Window.between(random_candles(1500, 8), WARMUP, 1500, WARMUP)
    free = judge().figures(window, [{}])[0]
    dear = judge(taker_fee_rate=D("0.003"), fill_model=FillModel.FREQTRADE).figures(window, [{}])[0]
    assert free["fees_paid"] == 0 < dear["fees_paid"]
    assert dear["net_profit"] < free["net_profit"]
