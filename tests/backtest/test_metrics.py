"""Figures worked by hand."""

from __future__ import annotations

import json
import math

import empyrical
import numpy as np
import pandas as pd
import pytest

from algo.backtest import metrics_of, run, run_both, side_by_side, summary
from algo.backtest.metrics import (
    cagr,
    daily_returns,
    longest_losing_streak,
    max_drawdown,
    monthly_percent,
    profit_factor,
    sharpe,
    sortino,
)
from algo.strategies import BreakoutStrategy
from tests.backtest.worlds import D, calm, market, said, settings, table
from tests.strategies.tables import random_candles

FLAT = (100.0, 100.5, 99.5, 100.0)
WON, LOST = (100.0, 103.0, 99.5, 100.0), (100.0, 100.0, 98.0, 100.0)


@pytest.fixture(scope="module")
def result():
    """Three deals of one candle, with 10 at 100 each or a little more: +2 %, -1 %, -1 %."""
    candles = table(FLAT, WON, LOST, LOST, FLAT)
    return run(candles, said(5, confidence=0.5, c0=1, c1=1, c2=1), calm(), market(), settings())


def test_money(result):
    figures = metrics_of(result)
    # half of 1,000 earns 2 % -> 1,010; half of 1,010 loses 1 % -> 1,004.95; 5.024 at 100 lose 1 each -> 999.926
    assert figures.starting_equity == 1000
    assert figures.final_equity == pytest.approx(999.926)
    assert figures.net_profit == pytest.approx(-0.074)
    assert figures.net_profit_percent == pytest.approx(-0.0074)
    assert figures.buy_and_hold_percent == pytest.approx(0.0)
    assert (figures.best_deal, figures.worst_deal) == (pytest.approx(10), pytest.approx(-5.05))
    assert (figures.average_win, figures.average_loss) == (pytest.approx(10), pytest.approx((-5.05 - 5.024) / 2))


def test_counts(result):
    figures = metrics_of(result)
    assert (figures.deals, figures.wins, figures.losses) == (3, 1, 2)
    assert figures.win_rate_percent == pytest.approx(100 / 3)
    assert figures.profit_factor == pytest.approx(10 / 10.074)
    assert figures.expectancy == pytest.approx(-0.074 / 3)
    assert figures.longest_losing_streak == 2
    assert figures.exposure_percent == pytest.approx(60)
    assert figures.average_hold_seconds == 0
    assert figures.by_exit_reason == {
        "stop_loss": {"deals": 2, "profit": pytest.approx(-10.074), "win_rate_percent": 0.0},
        "take_profit": {"deals": 1, "profit": pytest.approx(10), "win_rate_percent": 100.0},
    }


def test_drawdown_has_dates(result):
    figures = metrics_of(result)
    assert figures.max_drawdown_percent == pytest.approx(100 * (1 - 999.926 / 1010))
    assert figures.max_drawdown_peak_at == "2025-01-01T00:01:00+00:00"
    assert figures.max_drawdown_trough_at == "2025-01-01T00:03:00+00:00"
    assert figures.max_drawdown_recovered_at is None


def test_hours_weekdays_and_months_are_those_of_the_trading_day(result):
    # entered 00:01, 00:02 and 00:03 UTC on a Wednesday: 03:31 and later on the same day in Tehran
    figures = metrics_of(result)
    every = {"deals": 3, "profit": pytest.approx(-0.074), "win_rate_percent": pytest.approx(100 / 3)}
    assert figures.by_hour == {"03": every}
    assert figures.by_weekday == {"Wednesday": every}
    assert figures.monthly_percent == {"2025-01": pytest.approx(-0.0074)}
    assert sum(row["deals"] for row in figures.by_hour.values()) == figures.deals


def test_a_deal_after_midnight_in_tehran_belongs_to_the_next_day():
    # 21:00 UTC on Wednesday is 00:30 on Thursday
    candles = table(FLAT, WON, FLAT, times=[1259, 1260, 1261])
    figures = metrics_of(run(candles, said(3, c0=1), calm(), market(), settings()))
    assert (list(figures.by_hour), list(figures.by_weekday)) == (["00"], ["Thursday"])
    utc = metrics_of(run(candles, said(3, c0=1), calm(), market(), settings(time_zone="UTC")))
    assert (list(utc.by_hour), list(utc.by_weekday)) == (["21"], ["Wednesday"])


def test_each_month_grows_from_the_end_of_the_one_before():
    days = np.array([18_261, 18_262, 18_263, 18_292])  # 31 December 2019, 1 and 2 January 2020, 31 January, ...
    equity = np.array([110.0, 120.0, 132.0, 99.0])
    assert monthly_percent(100.0, equity, days) == {"2019-12": pytest.approx(10), "2020-01": pytest.approx(-10)}
    assert monthly_percent(100.0, equity, days + 1) == {"2020-01": pytest.approx(32), "2020-02": pytest.approx(-25)}


def test_the_longest_hold_stands_beside_the_average():
    held = (100.0, 100.5, 99.5, 100.0)
    candles = table(FLAT, held, held, WON, WON, FLAT)  # entered at 1 and closed at 3; entered and closed at 4
    figures = metrics_of(run(candles, said(6, c0=1, c3=1), calm(), market(), settings()))
    assert (figures.average_hold_seconds, figures.longest_hold_seconds) == (60, 120)


@pytest.mark.parametrize("seed", range(5))
def test_an_outside_judge_finds_the_same_ratios(seed):
    rng = np.random.default_rng(seed)
    returns = rng.normal(0.001, 0.02, 400)
    equity = 1000 * np.cumprod(1 + returns)
    growth = cagr(1000, equity[-1], 400 * 86_400)
    assert sharpe(returns) == pytest.approx(empyrical.sharpe_ratio(returns, annualization=365))
    assert sortino(returns) == pytest.approx(empyrical.sortino_ratio(returns, annualization=365))
    assert growth == pytest.approx(100 * empyrical.annual_return(returns, annualization=365))
    fall = max_drawdown(np.concatenate(([1000.0], equity)))
    assert fall.percent == pytest.approx(-100 * empyrical.max_drawdown(returns))
    assert growth / fall.percent == pytest.approx(empyrical.calmar_ratio(returns, annualization=365))
    days = np.arange(20_000, 20_400)
    dated = pd.Series(returns, index=pd.to_datetime(days, unit="D"))
    theirs = empyrical.aggregate_returns(dated, "monthly")
    assert list(monthly_percent(1000, equity, days).values()) == pytest.approx([100 * each for each in theirs])


def test_the_outside_judge_agrees_about_a_whole_backtest():
    strategy, candles = BreakoutStrategy(), random_candles(6000, 4)
    result = run(candles, strategy, None, market(), settings())
    figures = metrics_of(result)
    moments = pd.to_datetime(candles.open_time[result.first :], unit="s", utc=True).tz_convert("Asia/Tehran")
    closes = pd.Series(result.equity[result.first :], index=moments).groupby(moments.date).last()
    returns = closes.div(closes.shift(fill_value=figures.starting_equity)).sub(1).to_numpy()
    assert len(returns) == 5
    assert figures.sharpe == pytest.approx(empyrical.sharpe_ratio(returns, annualization=365))
    assert figures.sortino == pytest.approx(empyrical.sortino_ratio(returns, annualization=365))
    steps = pd.Series(np.concatenate(([figures.starting_equity], result.equity[result.first :]))).pct_change().dropna()
    assert figures.max_drawdown_percent == pytest.approx(-100 * empyrical.max_drawdown(steps))


def test_max_drawdown_by_hand():
    fall = max_drawdown(np.array([100.0, 120.0, 90.0, 110.0, 120.0, 119.0]))
    assert (fall.percent, fall.peak_index, fall.trough_index, fall.recovered_index) == (pytest.approx(25), 1, 2, 4)
    assert max_drawdown(np.array([1.0, 2.0, 3.0])).percent == 0


def test_cagr_by_hand():
    year = 365 * 86_400
    assert cagr(100, 121, 2 * year) == pytest.approx(10)
    assert cagr(100, 50, year) == pytest.approx(-50)
    assert cagr(100, 0, year) is None
    assert cagr(100, 200, 1) is None  # doubling every second for a year is no number


def test_daily_returns_take_the_last_equity_of_each_day():
    equity, days = np.array([101.0, 110.0, 100.0, 99.0]), np.array([1, 1, 2, 2])
    assert daily_returns(100.0, equity, days).tolist() == pytest.approx([0.10, -0.10])


def test_ratios_by_hand():
    returns = np.array([0.01, -0.01, 0.03])
    # mean 0.01, standard deviation 0.02, downside sqrt(0.0001 / 3)
    assert sharpe(returns) == pytest.approx(0.5 * math.sqrt(365))
    assert sortino(returns) == pytest.approx(0.01 / math.sqrt(0.0001 / 3) * math.sqrt(365))


@pytest.mark.parametrize("returns", [[], [0.01], [0.01, 0.01]])
def test_ratios_without_deviation_mean_nothing(returns):
    assert sharpe(np.array(returns)) is None
    assert sortino(np.array(returns)) is None


def test_figures_that_need_a_loss():
    assert profit_factor(np.array([1.0, 2.0])) is None
    assert profit_factor(np.array([3.0, -1.5])) == 2
    assert longest_losing_streak(np.array([-1.0, -1.0, 0.0, -1.0])) == 2


def test_a_run_without_deals_has_figures_all_the_same():
    figures = metrics_of(run(table(FLAT, FLAT, FLAT), said(3), calm(), market(), settings()))
    assert (figures.deals, figures.win_rate_percent, figures.profit_factor, figures.sharpe) == (0, None, None, None)
    assert figures.net_profit == 0


def test_buy_and_hold_pays_one_fee():
    candles = table(FLAT, (100, 121, 99.5, 120))
    rules = market(taker_fee_rate=D("0.01"))
    assert metrics_of(run(candles, said(2), calm(), rules, settings())).buy_and_hold_percent == pytest.approx(18.8)


def test_the_warm_up_counts_in_no_figure():
    strategy, candles = BreakoutStrategy(), random_candles(1000, 3)
    figures = metrics_of(run(candles, strategy, None, market(), settings(starting_base=D(10))))
    first = strategy.warmup_bars
    assert figures.starting_equity == pytest.approx(1000 + 10 * candles.close[first - 1])
    assert figures.buy_and_hold_percent == pytest.approx((candles.close[-1] / candles.open[first] - 1) * 100)


def test_the_summary_is_plain_json_with_its_warnings():
    candles = random_candles(1000, 3)
    rules = market(taker_fee_rate=D("0.003"))
    plain = json.loads(json.dumps(summary(run(candles, BreakoutStrategy(), None, rules, settings())), allow_nan=False))
    assert plain["strategy"] == "BreakoutStrategy"
    assert plain["parameters"]["stop_loss_percent"] == "0.3"
    assert plain["costs"] == {
        "taker_fee_rate": "0.003",
        "maker_fee_rate": "0",
        "slippage_percent": "0",
        "target_pays": "taker",
    }
    assert plain["candles"] + plain["warmup_candles"] == 1000
    assert [text.split(":")[0] for text in plain["warnings"]] == [
        "the target does not pay the fees",
        "order-book signals and vetoes were off",
    ]


def test_the_sides_of_both_models_stand_side_by_side():
    candles = random_candles(1000, 3)
    both = side_by_side(run_both(candles, BreakoutStrategy(), None, market(), settings()))
    assert list(both["models"]) == ["conservative", "freqtrade"]
    assert both["metrics"] == both["models"]["conservative"]["metrics"]
    json.dumps(both, allow_nan=False)
