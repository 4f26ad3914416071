"""BreakoutStrategy: each rule on a table worked by hand, and the promises between live and history."""

from __future__ import annotations

import math

import numpy as np
import pytest

from algo.strategies import BreakoutStrategy, Candles, MarketData, SignalReason
from tests.strategies.tables import book_of, candles_of, random_candles

# Short periods, so that a table can be worked by hand.
SHORT = {
    "ema_fast_period": 2,
    "ema_slow_period": 3,
    "rsi_period": 2,
    "rsi_overbought": 97.0,
    "rsi_oversold": 3.0,
    "breakout_period": 3,
    "volume_period": 2,
    "momentum_period": 1,
    "atr_period": 2,
}
# ema 2: .. 10.0778 10.0259 10.6086   ema 3: .. 10.0833 10.0417 10.4708: the fast one crosses on the last candle
# highest high of the three candles before: 10.15   rsi 2: 40.0, then 92.68   atr 2: 0.175, then 0.5625
RISE = [10.0, 10.2, 10.0, 10.1, 10.0, 10.9]
FALL = [20 - price for price in RISE]
LOUD, QUIET = [1, 1, 1, 1, 1, 1.2], [1, 1, 1, 1, 1, 1.19]  # ratio to the mean of two: at the threshold, just below

BUYERS = book_of([("99", "3"), ("98", "3")], [("101", "2"), ("102", "2")])  # 6 over 4 is 1.5
SELLERS = book_of([("99", "2"), ("98", "2")], [("101", "3"), ("102", "3")])
BALANCED = book_of([("99", "5.9")], [("101", "4")])  # 1.475


def decide(closes, volumes, book=None, **parameters):
    return BreakoutStrategy(SHORT, **parameters).execute({"candles": candles_of(closes, volumes), "order_book": book})


def said(decision):
    return decision and (decision["side"], decision["reason"], decision["confidence"])


@pytest.mark.parametrize(("closes", "side"), [(RISE, "BUY"), (FALL, "SELL")])
def test_breakout_with_volume(closes, side):
    assert said(decide(closes, LOUD)) == (side, "BREAKOUT", 0.8)


@pytest.mark.parametrize(("closes", "side"), [(RISE, "BUY"), (FALL, "SELL")])
def test_momentum_speaks_where_volume_is_too_low_for_a_breakout(closes, side):
    assert said(decide(closes, QUIET)) == (side, "MOMENTUM", 0.7)


@pytest.mark.parametrize("change", [{"momentum_atr": 1.61}, {"rsi_overbought": 92.0}], ids=["move", "rsi"])
def test_momentum_needs_each_of_its_conditions(change):
    assert said(decide(RISE, QUIET, momentum_atr=1.59)) == ("BUY", "MOMENTUM", 0.7)  # 0.9 is 1.6 x 0.5625
    assert decide(RISE, QUIET, **change) is None


@pytest.mark.parametrize("change", [{"rsi_overbought": 92.0}, {"volume_threshold": 1.21}], ids=["rsi", "volume"])
def test_breakout_needs_each_of_its_conditions(change):
    decision = decide(RISE, LOUD, **change)
    assert decision is None or decision["reason"] == "MOMENTUM"


def test_a_close_at_the_highest_high_breaks_nothing():
    closes = [10.0, 10.85, 10.0, 10.1, 10.0, 10.9]  # the second candle's high is 10.9
    assert decide(closes, LOUD, breakout_period=4, momentum_atr=20) is None
    assert said(decide(closes, LOUD, breakout_period=3, momentum_atr=20)) == ("BUY", "BREAKOUT", 0.8)


def test_a_cross_one_candle_old_still_counts_two_do_not():
    closes, volumes = [*RISE, 11.2, 11.6], [*QUIET, 1, 1]
    assert said(decide(closes[:7], volumes[:7])) == ("BUY", "MOMENTUM", 0.7)
    assert decide(closes, volumes) is None


def test_the_window_of_the_highest_high_ends_before_the_candle():
    explained = BreakoutStrategy(SHORT).explain(MarketData(candles_of(RISE, LOUD)))
    assert explained["indicators"]["highest"] == pytest.approx(10.15)
    assert explained["indicators"]["volume_ratio"] == pytest.approx(1.2)
    assert explained["indicators"]["rsi"] == pytest.approx(100 * 0.475 / 0.5125)
    assert explained["indicators"]["atr"] == pytest.approx(0.5625)


def test_the_journal_names_the_condition_that_failed():
    conditions = BreakoutStrategy(SHORT).explain(MarketData(candles_of(RISE, QUIET)))["conditions"]
    assert conditions["breakout_buy"] == {
        "close_above_highest": True,
        "ema_fast_above_slow": True,
        "rsi_below_overbought": True,
        "volume_enough": False,
    }
    assert all(conditions["momentum_buy"].values())


@pytest.mark.parametrize(("book", "side"), [(BUYERS, "BUY"), (SELLERS, "SELL"), (BALANCED, None)])
def test_order_book_decides_alone_only_without_history(book, side):
    no_candles = candles_of([])
    alone = BreakoutStrategy(need_historical_data=False).execute(MarketData(no_candles, book))
    assert said(alone) == (side and (side, "ORDER_BOOK", 0.6))
    assert BreakoutStrategy().execute(MarketData(no_candles, book)) is None


def test_order_book_alone_needs_no_candles_at_all():
    decision = BreakoutStrategy(need_historical_data=False).execute({"candles": None, "order_book": BUYERS})
    assert said(decision) == ("BUY", "ORDER_BOOK", 0.6)


@pytest.mark.parametrize("need_history", [True, False])
def test_an_opposing_order_book_silences_an_entry(need_history):
    assert decide(RISE, LOUD, SELLERS, need_historical_data=need_history) is None
    assert said(decide(RISE, LOUD, BUYERS, need_historical_data=need_history)) == ("BUY", "BREAKOUT", 0.8)
    assert said(decide(RISE, LOUD, BALANCED, need_historical_data=need_history)) == ("BUY", "BREAKOUT", 0.8)


@pytest.mark.parametrize(
    "book",
    [book_of([], [("101", "3")]), book_of([("99", "3")], []), book_of([("101", "9")], [("99", "1")])],
    ids=["no bids", "no asks", "crossed"],
)
def test_a_book_that_is_no_market_says_nothing(book):
    assert BreakoutStrategy(need_historical_data=False).execute(MarketData(candles_of([]), book)) is None


def test_only_the_best_levels_count():
    book = book_of([("99", "1"), ("98", "100")], [("101", "1")])
    assert (
        BreakoutStrategy(need_historical_data=False, order_book_levels=1).execute({"order_book": book, "candles": None})
        is None
    )


@pytest.mark.parametrize(
    "candles",
    [candles_of([]), candles_of([10.0]), candles_of([10.0] * 400), candles_of([*RISE[:-1], math.nan], LOUD)],
    ids=["none", "one", "flat", "close missing"],
)
def test_what_is_not_known_gives_no_signal(candles):
    assert BreakoutStrategy(SHORT).execute(MarketData(candles)) is None


def test_a_market_without_volume_has_no_breakout():
    assert said(decide(RISE, [0, 0, 0, 0, 0, 1])) == ("BUY", "MOMENTUM", 0.7)
    assert said(decide(RISE, [1, 1, 1, 1, 1, 0])) == ("BUY", "MOMENTUM", 0.7)


def test_execute_is_the_last_element_of_signals_on_every_window():
    strategy, candles = BreakoutStrategy(SHORT), random_candles(400, seed=3)
    signals = strategy.signals(candles)
    assert np.count_nonzero(signals.side) > 20
    for i in range(len(candles)):
        decision = strategy.execute(MarketData(candles.between(0, i + 1)))
        assert said(decision) == said(signals.at(i))


def test_cutting_off_the_future_changes_no_signal_of_the_past():
    strategy, candles = BreakoutStrategy(), random_candles(3000, seed=5)
    whole = strategy.signals(candles)
    for cut in (500, 501, 1234, 2999):
        part = strategy.signals(candles.between(0, cut))
        np.testing.assert_array_equal(part.side, whole.side[:cut])
        np.testing.assert_array_equal(part.reason, whole.reason[:cut])


def test_a_live_window_decides_as_the_whole_history_does():
    strategy, candles = BreakoutStrategy(), random_candles(3000, seed=7)
    bars = strategy.warmup_bars
    whole = strategy.signals(candles)
    assert np.count_nonzero(whole.side[bars:]) > 100
    for end in range(bars, len(candles) + 1):
        assert said(strategy.execute(MarketData(candles.between(end - bars, end)))) == said(whole.at(end - 1))


def test_a_thin_market_that_often_stands_still_decides_the_same_live():
    # Unchanged closes leave RSI and EMAs equal but for rounding: noise must not decide.
    strategy, candles = BreakoutStrategy(), random_candles(2500, seed=13, tick=0.5)
    assert (np.diff(candles.close) == 0).mean() > 0.3
    bars, whole = strategy.warmup_bars, strategy.signals(candles)
    for end in range(bars, len(candles) + 1):
        assert said(strategy.execute(MarketData(candles.between(end - bars, end)))) == said(whole.at(end - 1))


def test_warm_up_covers_what_the_recursive_indicators_remember():
    strategy, candles = BreakoutStrategy(), random_candles(3000, seed=11)
    window = candles.window(strategy.warmup_bars)
    live, whole = (strategy.explain(MarketData(c))["indicators"] for c in (window, candles))
    for name, value in whole.items():
        assert live[name] == (value if value is None else pytest.approx(value, rel=1e-9)), name


def test_reasons_are_codes_of_the_arrays():
    signals = BreakoutStrategy(SHORT).signals(candles_of(RISE, LOUD))
    assert signals.reason[-1] == SignalReason.BREAKOUT
    assert signals.reasons[SignalReason.BREAKOUT] == "BREAKOUT"
    assert signals.confidence.tolist() == [0, 0, 0, 0, 0, 0.8]


def test_a_strategy_is_ready_as_built():
    assert BreakoutStrategy().initialize() is True


def test_candles_must_be_in_order_and_of_one_length():
    times, one, two = np.array([60, 0], dtype=np.int64), np.ones(1), np.ones(2)
    with pytest.raises(ValueError, match="order of time"):
        Candles(times, two, two, two, two, two)
    with pytest.raises(ValueError, match="one length"):
        Candles(times, two, two, two, two, one)
