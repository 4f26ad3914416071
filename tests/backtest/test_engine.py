"""What happens to money, as candle tables with the deals they must produce."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from algo.backtest import BacktestSettings, FillModel, run, run_both, signals_of
from algo.backtest.engine import day_starts, trading_days
from algo.strategies import BreakoutStrategy, StrategyInterface
from providers.types import Side
from tests.backtest.worlds import D, calm, market, said, settings, table
from tests.strategies.tables import START, random_candles

FLAT = (100.0, 100.5, 99.5, 100.0)


def play(candles, signals, parameters=None, rules=None, **change):
    return run(candles, signals, parameters or calm(), rules or market(), settings(**change))


def only(result):
    assert result.deal_count == 1
    return result.rows()[0]


def exits(result):
    return [(row["close_reason"], row["open_index"], row["close_index"], row["close_price"]) for row in result.rows()]


def test_a_signal_enters_at_the_next_open_and_the_target_fills_at_its_price():
    deal = only(play(table(FLAT, (100.2, 101, 100, 100.8), (100.8, 103, 100.5, 102)), said(3, c0=1)))
    assert (deal["side"], deal["reason"], deal["open_price"]) == ("BUY", "TABLE", 100.2)
    # 100.2 x 1.02 = 102.204, a limit that sells rounds up; all of 1,000, with the 2 % reserve: 9.784 at 100.2
    assert deal["close_price"] == pytest.approx(102.21)
    assert deal["quantity"] == pytest.approx(9.784)
    assert deal["profit"] == pytest.approx(9.784 * 2.01)
    assert (deal["opened_at"], deal["closed_at"]) == ("2025-01-01T00:01:00+00:00", "2025-01-01T00:02:00+00:00")


def test_the_stop_comes_before_the_target_inside_one_candle():
    result = play(table(FLAT, FLAT, (100, 103, 98, 102)), said(3, c0=1))
    assert exits(result) == [("stop_loss", 1, 2, 99.0)]


def test_a_deal_can_open_and_close_in_one_candle():
    assert exits(play(table(FLAT, (100, 100, 98, 99), FLAT), said(3, c0=1))) == [("stop_loss", 1, 1, 99.0)]


def test_a_touch_fills_a_stop_but_not_a_target():
    touched = play(table(FLAT, FLAT, (100, 102, 99.5, 101), FLAT), said(4, c0=1))
    assert exits(touched) == [("end_of_data", 1, 3, 100.0)]
    assert exits(play(table(FLAT, FLAT, (100, 101, 99, 101), FLAT), said(4, c0=1))) == [("stop_loss", 1, 2, 99.0)]


@pytest.mark.parametrize(("model", "price"), [(FillModel.CONSERVATIVE, 97.0), (FillModel.FREQTRADE, 99.0)])
def test_a_gap_through_the_stop(model, price):
    result = play(table(FLAT, FLAT, (97, 99.5, 96, 99), FLAT), said(4, c0=1), fill_model=model)
    assert exits(result) == [("stop_loss", 1, 2, price)]


def test_a_gap_through_the_target_still_fills_at_the_target():
    assert exits(play(table(FLAT, FLAT, (105, 106, 104, 105)), said(3, c0=1))) == [("take_profit", 1, 2, 102.0)]


def test_an_inventory_short_sells_what_is_held_and_buys_it_back():
    candles = table(FLAT, FLAT, (100, 100.5, 97.5, 98))
    result = play(candles, said(3, c0=-1), starting_base=D(10))
    deal = only(result)
    assert (deal["side"], deal["quantity"], deal["close_price"]) == ("SELL", 10.0, 98.0)
    assert deal["profit"] == pytest.approx(20)
    assert result.equity.tolist() == pytest.approx([2000, 2000, 1000 + 20 + 10 * 98])


def test_the_stop_of_a_short_stands_above():
    result = play(table(FLAT, FLAT, (100, 101, 97, 98)), said(3, c0=-1), starting_base=D(10))
    assert exits(result) == [("stop_loss", 1, 2, 101.0)]


def test_trailing_rises_only_after_its_candle_completed():
    parameters = calm(trailing_stop_percent=1, trailing_step_percent="0.1", take_profit_percent=50)
    # candle 2 climbs to 104 and falls to 102: its own trailing stop at 102.96 must not fill there, but on candle 3
    candles = table(FLAT, FLAT, (100, 104, 99.6, 103.5), (103.2, 103.4, 102.5, 103), FLAT)
    assert exits(play(candles, said(5, c0=1), parameters)) == [("trailing_stop", 1, 3, 102.96)]


def test_trailing_moves_only_by_whole_steps():
    parameters = calm(trailing_stop_percent=1, trailing_step_percent="0.9", take_profit_percent=50)
    # entry 100, stop 99.00. The best 100.5 would raise it to 99.50 (rounded), less than the step of 0.891
    candles = table(FLAT, (100, 100.5, 99.5, 100), (100, 100.4, 99.2, 100), FLAT)
    assert exits(play(candles, said(4, c0=1), parameters)) == [("end_of_data", 1, 3, 100.0)]


def test_an_opposite_signal_leaves_at_the_next_open_where_wanted():
    candles, signals = table(FLAT, FLAT, FLAT, (100.3, 100.5, 100, 100.2), FLAT), said(5, c0=1, c2=-1)
    assert exits(play(candles, signals, calm(exit_on_opposite_signal=True))) == [("signal", 1, 3, 100.3)]
    stays = play(candles, signals)
    assert exits(stays) == [("end_of_data", 1, 4, 100.0)]
    assert stays.refused == {"open_deal_exists": 1}


def test_fees_are_paid_out_of_what_is_received():
    rules = market(taker_fee_rate=D("0.01"), step_size=D("0.1"), min_quantity=D("0.1"))
    deal = only(play(table(FLAT, FLAT, (100, 103, 99.5, 102)), said(3, c0=1), rules=rules))
    # 1,000 less the reserve (x 0.99 / 1.02) buys 9.7; 9.603 arrive; 9.6 are sold at 102: 979.2 less 9.792
    assert deal["quantity"] == pytest.approx(9.7)
    assert deal["fees"] == pytest.approx(9.7 + 9.792)
    assert deal["profit"] == pytest.approx(979.2 - 9.792 + 0.003 * 102 - 970)


def test_a_resting_target_pays_the_maker_fee_where_it_rests():
    rules = market(taker_fee_rate=D("0.01"), maker_fee_rate=D("0.001"))
    candles, signals = table(FLAT, FLAT, (100, 103, 99.5, 102)), said(3, c0=1)
    swapped = only(play(candles, signals, rules=rules))
    resting = only(play(candles, signals, rules=rules, target_is_maker=True))
    assert resting["profit"] - swapped["profit"] == pytest.approx(0.009 * 102 * 9.608, rel=1e-3)


def test_slippage_is_against_every_market_order_and_never_on_the_limit():
    deal = only(play(table(FLAT, FLAT, (100, 100.2, 98, 99)), said(3, c0=1), slippage_percent=D("0.1")))
    # entry 100.1; stop 99.099 rounds up to 99.10; filled 99.0009 rounded down
    assert (deal["open_price"], deal["close_price"]) == (pytest.approx(100.1), pytest.approx(99.0))


def test_confidence_sizes_a_moving_balance():
    candles = table(FLAT, FLAT, (100, 103, 99.5, 100), FLAT, (100, 103, 99.5, 100))
    first, second = play(candles, said(5, confidence=0.5, c0=1, c2=1)).rows()
    assert first["quantity"] == 5.0
    assert second["quantity"] == pytest.approx(5.05)  # half of 1,010 at 100


def test_one_balance_limit_for_everybody():
    result = play(table(FLAT, FLAT, FLAT), said(3, c0=1), max_position_size_percent=D(10))
    assert only(result)["quantity"] == 1.0


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"trade_cooldown_minutes": 3}, "cooldown"),
        ({"max_daily_trades": 1}, "daily_trades"),
        ({"max_daily_loss_percent": "0.9"}, "daily_loss"),
    ],
)
def test_limits_between_deals(change, code):
    stopped = (100.0, 100.0, 98.0, 100.0)
    candles = table(FLAT, stopped, FLAT, FLAT, FLAT)
    result = play(candles, said(5, c0=1, c1=1), calm(**change))
    assert (result.deal_count, result.refused) == (1, {code: 1})
    assert play(candles, said(5, c0=1, c1=1)).deal_count == 2


def test_counts_begin_anew_with_the_trading_day_of_tehran():
    # 00:00 in Tehran is 20:30 UTC
    start = 20 * 60 + 28
    candles = table(FLAT, (100, 100, 98, 100), FLAT, FLAT, times=[start, start + 1, start + 2, start + 3])
    assert play(candles, said(4, c0=1, c1=1), calm(max_daily_trades=1)).deal_count == 2
    assert play(candles, said(4, c0=1, c1=1), calm(max_daily_trades=1), time_zone="UTC").deal_count == 1


def test_days_follow_the_zone_through_a_change_of_its_clock():
    midnight = 1647808200  # 2022-03-21 00:00 in Tehran, +03:30; summer time began a day later
    times = np.array([midnight - 1, midnight, midnight + 86_400 + 82_800 - 1, midnight + 86_400 + 82_800])
    assert np.diff(trading_days(times, "Asia/Tehran")).tolist() == [1, 1, 1]


@pytest.mark.parametrize("zone", ["Asia/Tehran", "Europe/London", "UTC", "Asia/Kathmandu"])
def test_the_day_of_every_hour_of_ten_years_is_the_calendars(zone):
    times = np.arange(1_420_070_400, 1_735_689_600, 3600, dtype=np.int64)  # 2015 to 2025, with and without summer time
    dates = [datetime.fromtimestamp(int(t), ZoneInfo(zone)).date() for t in times]
    assert trading_days(times, zone).tolist() == [(day - date(1970, 1, 1)).days for day in dates]


def test_a_day_without_candles_has_no_start_and_gaps_move_none():
    hours = np.arange(0, 96, dtype=np.int64)  # four days from 1970-01-01 in UTC
    kept = hours[(hours < 20) | (hours > 50)]  # of the second nothing, of the third from 03:00 on
    assert day_starts(hours * 3600, "UTC").tolist() == [0, 24, 48, 72]
    assert day_starts(kept * 3600, "UTC").tolist() == [0, 20, 20 + 72 - 51]
    assert day_starts(hours[:1] * 3600, "UTC").tolist() == [0]


@pytest.mark.parametrize(
    ("change", "options", "code"),
    [
        ({"min_notional": D(900)}, {}, "insufficient_balance"),  # the exit would need 1,080
        ({"min_notional": D(500)}, {"max_position_size_percent": D(40)}, "below_minimum"),
        ({"market_band": D("0.002")}, {}, "thin_book"),
        ({"tick_size": D(5)}, {}, "stop_not_placeable"),
        ({"price_band": D("0.005")}, {}, "stop_not_placeable"),
        ({}, {"allowed_sides": frozenset({Side.SELL})}, "side_not_allowed"),
    ],
)
def test_the_exchange_and_the_account_refuse_as_in_the_risk_gate(change, options, code):
    candles = table(FLAT, (100.3, 101, 100, 100), FLAT) if "market_band" in change else table(FLAT, FLAT, FLAT)
    result = play(candles, said(3, c0=1), rules=market(**change), **options)
    assert (result.deal_count, result.refused) == (0, {code: 1})


def test_nothing_to_sell_is_no_balance():
    assert play(table(FLAT, FLAT, FLAT), said(3, c0=-1)).refused == {"insufficient_balance": 1}


def test_a_gap_in_the_candles_is_no_entry():
    candles = table(FLAT, FLAT, FLAT, times=[0, 4, 5])
    assert play(candles, said(3, c0=1)).refused == {"stale_data": 1}
    assert play(candles, said(3, c0=1), calm(max_data_age_bars=3)).deal_count == 1


def test_a_missing_open_is_no_entry_and_a_missing_close_keeps_the_last_price():
    nan = float("nan")
    result = play(table(FLAT, (nan, 101, 99, nan), FLAT), said(3, c0=1), starting_base=D(1))
    assert result.refused == {"stale_data": 1}
    assert result.equity.tolist() == [1100.0, 1100.0, 1100.0]


def test_nothing_enters_on_the_last_candle():
    assert play(table(FLAT, FLAT), said(2, c0=1)).refused == {"stale_data": 1}


def test_equity_is_marked_at_every_close():
    result = play(table(FLAT, (100, 101, 99.5, 101), (101, 101.5, 99.5, 100)), said(3, confidence=0.5, c0=1))
    assert result.equity.tolist() == pytest.approx([1000, 1005, 1000])


def test_the_last_price_before_a_day_and_an_entry_is_known_through_missing_closes():
    nan = float("nan")  # the base is worth 103 when the second day begins, and 5 % above that is beyond the band of 2 %
    candles = table(FLAT, (100, 103, 99, 103), (nan, nan, nan, nan), (108, 109, 107, nan), (108, 109, 107, 108))
    refused = play(candles, said(5, c2=1), calm(max_data_age_bars=3), starting_base=D(1)).refused
    assert refused == {"thin_book": 1}
    assert play(candles, said(5, c2=1), calm(), market(market_band=D("0.1"))).deal_count == 1


def test_equity_and_the_columns_of_deals_are_computed_when_asked_and_once():
    result = play(table(FLAT, (100, 101, 99.5, 101), (101, 101.5, 99.5, 100)), said(3, c0=1))
    assert not {"equity", "columns"} & set(vars(result.played))
    assert result.equity is result.equity
    assert result.deals is result.deals
    assert replace(result, strategy_name="other").equity is result.equity


def test_no_entry_before_the_warm_up_is_over():
    strategy, candles = BreakoutStrategy(), random_candles(1500, 3)
    result = run(candles, strategy, None, market(), settings(starting_base=D(10)))
    assert result.first == strategy.warmup_bars
    assert result.deals["open_index"].min() >= strategy.warmup_bars
    assert not result.signals.side[: strategy.warmup_bars - 1].any()


def test_too_short_a_history_says_so():
    result = run(random_candles(50, 3), BreakoutStrategy(), None, market(), settings())
    assert result.deal_count == 0
    assert any("328 candles of warm-up" in text for text in result.warnings)


def test_a_strategy_that_only_executes_gives_the_same_deals():
    class Plain(BreakoutStrategy):
        def signals(self, candles):
            return StrategyInterface.signals(self, candles)

    parameters = {"rsi_period": 3, "atr_period": 3, "trade_cooldown_minutes": 5}
    candles, options = random_candles(800, 17), settings(starting_base=D(10))
    fast = run(candles, BreakoutStrategy(parameters), None, market(), options)
    slow = run(candles, Plain(parameters), None, market(), options)
    assert fast.deal_count > 5
    assert fast.rows() == slow.rows()


def test_both_models_play_the_same_signals():
    candles, strategy = random_candles(1500, 5), BreakoutStrategy()
    results = run_both(candles, strategy, None, market(), settings(starting_base=D(10)))
    assert list(results) == [FillModel.CONSERVATIVE, FillModel.FREQTRADE]
    for model, result in results.items():
        alone = run(candles, strategy, None, market(), settings(starting_base=D(10), fill_model=model))
        assert result.rows() == alone.rows()
        assert (result.first, result.warnings, result.strategy_name) == (
            alone.first,
            alone.warnings,
            "BreakoutStrategy",
        )


def test_the_future_changes_no_closed_deal():
    candles, strategy = random_candles(2500, 9), BreakoutStrategy()
    whole = run(candles, strategy, None, market(), settings(starting_base=D(10))).rows()
    part = run(candles.between(0, 1500), strategy, None, market(), settings(starting_base=D(10))).rows()
    closed = [row for row in part if row["close_reason"] != "end_of_data"]
    assert len(closed) > 5
    assert closed == whole[: len(closed)]


def test_what_cannot_be_played_is_refused():
    with pytest.raises(ValueError, match="two candles"):
        run(table(FLAT), said(1), calm(), market())
    with pytest.raises(ValueError, match="starting balance"):
        run(table(FLAT, FLAT), said(2), calm(), market(), settings(starting_quote=D(0)))
    with pytest.raises(ValueError, match="close price"):
        run(table(*[(100.0, 100.0, 100.0, float("nan"))] * 2), said(2), calm(), market())
    with pytest.raises(ValueError, match="3 signals for 2 candles"):
        run(table(FLAT, FLAT), said(3), calm(), market())
    with pytest.raises(ValueError, match="parameters"):
        run(table(FLAT, FLAT), said(2), None, market())


def test_signals_of_takes_either_form():
    signals = said(2, c0=1)
    assert signals_of(signals, table(FLAT, FLAT)) is signals
    assert len(signals_of(BreakoutStrategy(), table(FLAT, FLAT))) == 2


def test_times_are_those_of_the_candles():
    assert play(table(FLAT, FLAT), said(2)).time(1) == "2025-01-01T00:01:00+00:00"
    assert START == 1735689600


def test_freqtrade_shorts_mirror_its_longs():
    candles = table(FLAT, FLAT, (100, 101, 97, 98), FLAT)
    options = settings(starting_base=D(10), fill_model=FillModel.FREQTRADE)
    result = run(candles, said(4, c0=-1), calm(), market(), options)
    assert exits(result) == [("stop_loss", 1, 2, 101.0)]
    quiet = run(table(FLAT, FLAT, (100, 100.9, 97, 98), FLAT), said(4, c0=-1), calm(), market(), options)
    assert exits(quiet) == [("take_profit", 1, 2, 98.0)]


def test_settings_default_to_the_pessimistic_model():
    assert BacktestSettings().fill_model is FillModel.CONSERVATIVE


# --- what live refuses, a backtest refuses --------------------------------------------------------------------------


def test_a_stop_exactly_one_tick_away_can_be_placed():
    candles = table(*[(102.37, 102.37, 102.37, 102.37)] * 6)  # 102.38 - 102.37 is a little less than 0.01 in floats
    options = settings(starting_quote=D(1000), starting_base=D(1))
    result = run(candles, said(6, c1=-1), calm(stop_loss_percent="0.01"), market(), options)
    assert (result.deal_count, result.deals["stop_price"].tolist()) == (1, [102.38])


def test_a_stop_exactly_on_the_exchanges_price_band_can_be_placed():
    candles = table(*[(100.0, 100.0, 100.0, 100.0)] * 6)  # 105 / 100 - 1 is a little more than 0.05 in floats
    options = settings(starting_quote=D(1000), starting_base=D(1))
    result = run(candles, said(6, c1=-1), calm(stop_loss_percent=5), market(price_band=D("0.05")), options)
    assert result.deal_count == 1


def test_an_open_exactly_at_the_end_of_the_market_band_is_filled():
    candles = table((100, 100, 100, 100), (100, 100, 100, 100), *[(102.0, 102.0, 102.0, 102.0)] * 4)
    result = run(candles, said(6, c1=1), calm(), market(market_band=D("0.02")), settings())
    assert result.deal_count == 1  # 102 / 100 - 1 is 0.020000000000000018


def test_a_sell_whose_target_lies_below_zero_is_refused_as_live_refuses_it():
    candles = table(*[(100.0, 100.0, 100.0, 100.0)] * 6)
    options = settings(starting_quote=D(1000), starting_base=D(1))
    result = run(candles, said(6, c1=-1), calm(take_profit_percent=150), market(min_notional=D(5)), options)
    assert (result.deal_count, dict(result.refused)) == (0, {"insufficient_balance": 1})
    exactly_zero = run(candles, said(6, c1=-1), calm(take_profit_percent=100), market(), options)
    assert dict(exactly_zero.refused) == {"stop_not_placeable": 1}


def test_a_sell_that_could_not_pay_its_own_stop_is_refused_as_live_refuses_it():
    candles = table(*[(100.0, 100.0, 100.0, 100.0)] * 6)
    # 1 sold at 100 brings 100; the stop at 101 costs 101: one more must be there
    for quote, made in ((D("0.99"), 0), (D(1), 1)):
        options = settings(starting_quote=quote, starting_base=D(1))
        result = run(candles, said(6, c1=-1), calm(), market(), options)
        assert result.deal_count == made
        assert dict(result.refused) == ({} if made else {"stop_not_placeable": 1})


def test_the_stop_of_a_deal_that_ends_with_the_data_is_the_one_that_was_in_force():
    candles = table((100, 100, 100, 100), (100, 100, 100, 100), (100, 101, 100, 101), (101, 110, 101, 110))
    rules = calm(trailing_stop_percent=1, trailing_step_percent="0.1", take_profit_percent=50)
    result = run(candles, said(4, c0=1), rules, market(market_band=D("0.5")), settings())
    assert result.rows()[0]["close_reason"] == "end_of_data"
    assert result.deals["stop_price"].tolist() == [99.99]  # 1 % below 101; 110 came with the last candle
