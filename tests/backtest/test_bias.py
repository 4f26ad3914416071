"""Bias checks: every known way to cheat is caught by its own check, and nothing honest is."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algo.backtest import run
from algo.backtest.bias import check_strategy
from algo.backtest.bias_findings import MOST_SHOWN, Check
from algo.backtest.synthetic import synthetic_market
from algo.strategies import BreakoutStrategy, Candles
from providers.recorded import read_candles_csv
from tests.backtest import cheats
from tests.backtest.worlds import market
from tests.strategies.tables import candles_of, random_candles

MARKET = synthetic_market(3000)


def failed(strategy, candles: Candles = MARKET, **options) -> dict[Check, object]:
    """The checks that failed, by name."""
    return {result.check: result for result in check_strategy(strategy, candles, **options).failed}


# --- look-ahead -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [cheats.NextClose, cheats.NextCloseRolled])
def test_reading_the_next_close_is_caught_and_the_hint_says_how_far_ahead(kind):
    result = failed(kind())[Check.LOOK_AHEAD]
    assert "1 candle ahead" in result.hint and "shift(-1)" in result.hint


def test_a_centred_mean_is_caught_and_the_hint_says_how_far_ahead():
    result = failed(cheats.CentredMean())[Check.LOOK_AHEAD]
    assert "10 candles ahead" in result.hint  # 21 candles, ten of them in the future
    assert "centred window" in result.hint


@pytest.mark.parametrize("kind", [cheats.ShareOfMaximum, cheats.ZScore, cheats.LastElement])
def test_what_is_taken_over_the_whole_series_is_caught(kind):
    assert "over the whole series" in failed(kind())[Check.LOOK_AHEAD].hint


def test_a_confidence_out_of_the_future_is_caught_though_no_side_changes():
    (finding, *_) = failed(cheats.ConfidenceOfTheFuture())[Check.LOOK_AHEAD].findings
    assert finding.expected.startswith("BUY, confidence ")
    assert finding.found.startswith("BUY, confidence ")
    assert finding.expected != finding.found


def test_values_filled_in_backwards_are_caught():
    assert Check.LOOK_AHEAD in failed(cheats.FilledBackwards())


def test_a_signal_that_only_the_missing_future_brings_out_is_caught():
    result = failed(cheats.NeverWithAFuture())[Check.LOOK_AHEAD]
    assert {finding.found for finding in result.findings} == {"nothing"}
    assert {finding.expected for finding in result.findings} == {"BUY, confidence 0.5, reason TEST"}


def test_a_finding_names_the_candle_and_says_both_decisions():
    closes = [100.0] * 80 + [101.0] + [100.0] * 19  # it rises at candle 80, so the next-close strategy buys at 79
    findings = failed(cheats.NextClose(), candles_of(closes))[Check.LOOK_AHEAD].findings
    (finding,) = [each for each in findings if "taken away" in each.what]
    assert (finding.index, finding.at) == (79, "2025-01-01T01:19:00+00:00")
    assert (finding.expected, finding.found) == ("nothing", "BUY, confidence 0.5, reason TEST")
    assert finding.what == "The signal changes when the candles after 2025-01-01T01:19:00+00:00 are taken away"


def test_only_the_first_differences_are_kept_and_all_are_counted():
    result = failed(cheats.NextClose())[Check.LOOK_AHEAD]
    assert len(result.findings) == MOST_SHOWN
    assert result.differences > 50


# --- warm-up --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [cheats.LongAverage, cheats.LongAverageByExecute])
def test_a_warm_up_too_short_for_its_average_is_caught_and_nothing_else_is_blamed(kind):
    found = failed(kind())
    assert set(found) == {Check.WARM_UP}
    assert "warmup_bars is 60" in found[Check.WARM_UP].hint


def test_the_same_average_with_enough_warm_up_passes(monkeypatch):
    for kind in (cheats.LongAverage, cheats.LongAverageByExecute):
        monkeypatch.setattr(kind, "bars", 600)
        assert failed(kind()) == {}


def test_the_highest_of_all_candles_given_depends_on_how_many_are_given():
    assert set(failed(cheats.HighestOfAllGiven())) == {Check.WARM_UP}


def test_fewer_candles_than_the_warm_up_leave_it_unjudged_and_say_so():
    checked = check_strategy(cheats.LongAverage(), MARKET.window(50))
    result = next(each for each in checked.results if each.check is Check.WARM_UP)
    assert result.passed is None
    assert "there are 50 candles" in result.note
    assert checked.passed


# --- execute, state, input, values ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [cheats.ExecuteOfItsOwn, cheats.ExecuteLessSure])
def test_an_execute_that_is_not_the_last_of_signals_is_caught(kind):
    assert set(failed(kind())) == {Check.EXECUTE}


def test_an_instance_that_counts_is_caught():
    assert Check.REPEATABLE in failed(cheats.Counts())


def test_memory_in_the_class_is_caught(monkeypatch):
    monkeypatch.setattr(cheats.RemembersInTheClass, "last", -(10**9))
    assert Check.REPEATABLE in failed(cheats.RemembersInTheClass())


def test_a_cache_that_another_series_fools_is_caught():
    assert Check.REPEATABLE in failed(cheats.CachesByLength())


def test_randomness_is_caught():
    assert Check.REPEATABLE in failed(cheats.Random())


@pytest.mark.parametrize(("kind", "call"), [(cheats.OfficeHours, "datetime.now()"), (cheats.UnixTime, "time.time()")])
def test_reading_the_clock_is_caught_though_it_answers_the_same(kind, call):
    (finding, *_) = failed(kind())[Check.REPEATABLE].findings
    assert call in finding.what and kind.__name__ in finding.what


def test_a_strategy_that_changes_its_candles_is_caught_and_they_are_put_back():
    before = MARKET.close.copy()
    result = failed(cheats.Sorts())[Check.INPUTS]
    assert "changes `close`" in result.findings[0].what
    assert "copy" in result.hint
    np.testing.assert_array_equal(MARKET.close, before)


def test_a_strategy_that_raises_fails_with_the_exception_named():
    found = failed(cheats.Raises())
    assert set(found) == {Check.RUNS}
    assert found[Check.RUNS].findings[0].found.startswith("IndexError: index -10 is out of bounds")


def test_a_strategy_that_trusts_to_get_its_warm_up_passes_and_can_be_backtested():
    """Live never asks with fewer candles, so neither does the check, nor the backtest."""
    assert check_strategy(cheats.Trusting(), MARKET).passed
    assert run(MARKET, cheats.Trusting(), None, market()).deal_count > 0


def test_a_strategy_whose_signals_raise_fails_with_the_exception_named():
    (finding, *_) = failed(cheats.RaisesInSignals())[Check.RUNS].findings
    assert finding.found == "KeyError: 'no such column'"
    assert finding.what == "It fails in signals"


def test_a_strategy_that_cannot_start_fails():
    (finding,) = failed(cheats.CannotStart())[Check.RUNS].findings
    assert "initialize() answered that it cannot run" in finding.found


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        ({"side": "MAYBE"}, "side is neither"),
        ({"side": "BUY", "confidence": 0}, "confidence is not"),
        ({"side": "BUY", "confidence": 1.01}, "confidence is not"),
        ({"side": "SELL", "confidence": float("nan")}, "confidence is not"),
        ({"side": "SELL", "confidence": "sure"}, "confidence is not"),
        ({"side": "SELL", "reason": "A" * 25}, "reason is too long"),
        ("BUY", "something else than a dict"),
        ({"confidence": 1}, "side is neither"),
    ],
)
def test_answers_that_are_no_decision_are_caught(monkeypatch, answer, what):
    monkeypatch.setattr(cheats.Answers, "answer", answer)
    found = failed(cheats.Answers())
    assert set(found) == {Check.VALUES}
    assert any(what in each.what for each in found[Check.VALUES].findings)


@pytest.mark.parametrize("answer", [None, {}, {"side": "BUY"}, {"side": "SELL", "confidence": 1, "reason": "A" * 24}])
def test_answers_that_are_decisions_pass(monkeypatch, answer):
    monkeypatch.setattr(cheats.Answers, "answer", answer)
    assert failed(cheats.Answers()) == {}


def test_arrays_of_another_length_are_caught():
    (finding, *_) = failed(cheats.ShortArrays())[Check.VALUES].findings
    assert (finding.expected, finding.found) == ("3000", "2999, 2999, 2999")


def test_a_journal_that_cannot_be_stored_is_caught():
    (finding, *_) = failed(cheats.JournalOfNumpy())[Check.VALUES].findings
    assert "explain()" in finding.what
    assert "bool" in finding.found


# --- nothing honest is blamed -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [
        cheats.RunningSums,
        cheats.NoisyConfidence,
        cheats.ExecuteInPandas,
        cheats.BackwardsOnlyInWarmUp,
        cheats.Logs,
        cheats.CandleTime,
    ],
)
@pytest.mark.parametrize("market", [MARKET, random_candles(1500, seed=13, tick=0.5)], ids=["moods", "thin"])
def test_no_false_alarm(kind, market):
    checked = check_strategy(kind(), market)
    assert checked.passed, checked.summary()
    assert checked.signals > 0


def test_decisions_on_the_last_digits_are_no_difference_and_are_mentioned():
    # On closes that stand still at 0.1 a running mean is off in its last digits, by where the window began.
    rng = np.random.default_rng(3)
    closes = np.where(np.arange(900) % 90 < 45, rng.integers(1, 400, 900) * 0.1, 0.1)
    checked = check_strategy(cheats.RunningSums(), candles_of(closes, spread=0.0))
    assert checked.passed, checked.summary()
    assert any("last digits" in note for note in checked.notes)


def test_a_strategy_that_says_nothing_passes_with_a_note():
    checked = check_strategy(cheats.Silent(), MARKET)
    assert checked.passed
    assert checked.notes == ("no signals in the candles checked",)


def test_breakout_strategy_passes_and_every_check_looked_at_many_candles():
    checked = check_strategy(BreakoutStrategy(), MARKET, seconds=60)
    assert checked.passed, checked.summary()
    assert checked.signals > 50
    for result in checked.results:
        assert result.passed is True
        assert result.asked >= 100, result.check


@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    st.integers(0, 1000),
    st.fixed_dictionaries(
        {
            "ema_fast_period": st.integers(2, 20),
            "ema_slow_period": st.integers(21, 40),
            "rsi_period": st.integers(2, 30),
            "rsi_overbought": st.floats(60, 100),
            "rsi_oversold": st.floats(0, 40),
            "volume_threshold": st.floats(0, 3),
            "volume_period": st.integers(2, 60),
            "breakout_period": st.integers(2, 60),
            "momentum_period": st.integers(1, 10),
            "momentum_atr": st.floats(0, 2),
            "atr_period": st.integers(2, 30),
        }
    ),
)
def test_breakout_strategy_passes_with_any_parameters_on_any_market(seed, parameters):
    strategy = BreakoutStrategy(parameters)
    count = strategy.warmup_bars + 700
    market = random_candles(count, seed, tick=0.05) if seed % 2 else synthetic_market(count, seed=seed)
    checked = check_strategy(strategy, market, seconds=60)
    assert checked.passed, checked.summary()


@pytest.mark.parametrize(
    "name",
    [
        "binance_BTCUSDT_1m_20210420_20210520.csv.gz",
        "wallex_USDTTMN_1m_20220907_20220909.csv.gz",
        "binance_XRPETH_1m_20191011_20191013.csv.gz",
    ],
)
def test_breakout_strategy_passes_on_recorded_candles(shared, name):
    recorded = read_candles_csv(str(shared / "data" / "ohlcv" / name))
    candles = Candles(*(getattr(recorded, field) for field in Candles.__dataclass_fields__)).window(2500)
    checked = check_strategy(BreakoutStrategy(), candles, seconds=60)
    assert checked.passed, checked.summary()


# --- bounds and form --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [cheats.Silent, cheats.LongAverage])
def test_a_slow_strategy_is_looked_at_until_time_is_over_and_the_result_says_so(kind):
    hasty = check_strategy(kind(), MARKET, seconds=10, clock=cheats.ticking(1.0))
    patient = check_strategy(kind(), MARKET, seconds=10, clock=cheats.ticking(0.0))
    asked = {result.check: result.asked for result in hasty.results}
    assert any("stopped after 10 s" in note for note in hasty.notes)
    assert not any("stopped" in note for note in patient.notes)
    assert 0 < asked[Check.WARM_UP] <= 10
    assert f"checked {asked[Check.WARM_UP]} of 2,940 candles" in [result.scope for result in hasty.results]
    assert sum(asked.values()) < sum(result.asked for result in patient.results) / 5


@pytest.mark.parametrize("kind", [cheats.Silent, BreakoutStrategy])
def test_what_the_first_call_costs_does_not_count_as_time_to_look(kind, monkeypatch):
    passed = [0.0]

    def compiles(function):
        def call(self, given):
            passed[0] = 60.0  # seconds, once: later calls find them gone
            return function(self, given)

        return call

    name = "signals" if kind is BreakoutStrategy else "execute"
    monkeypatch.setattr(kind, name, compiles(getattr(kind, name)))
    checked = check_strategy(kind(), MARKET.window(800), seconds=10, clock=lambda: passed[0])
    assert not any("stopped" in note for note in checked.notes)
    assert checked.seconds == 60.0


def test_the_same_check_gives_the_same_answer():
    one, other = (check_strategy(cheats.ZScore(), MARKET, seconds=60) for _ in range(2))
    assert one.results == other.results


def test_a_report_is_json_and_a_summary_names_the_failed_checks():
    checked = check_strategy(cheats.NextClose(), MARKET)
    report = json.loads(json.dumps(checked.report(), allow_nan=False))
    row = next(row for row in report["results"] if row["check"] == "look_ahead")
    assert (row["passed"], row["verdict"], row["title"]) == (
        False,
        "failed",
        "The future changes no signal of the past",
    )
    assert row["findings"][0]["found"].startswith(("BUY", "nothing"))
    assert checked.summary().startswith("failed: look_ahead")


def test_a_series_too_short_to_compare_is_refused():
    with pytest.raises(ValueError, match="at least two candles"):
        check_strategy(cheats.Silent(), MARKET.window(1))


def test_instances_are_made_with_the_parameters_of_the_strategy_that_is_checked():
    loud = check_strategy(BreakoutStrategy({"ema_fast_period": 3, "volume_threshold": 0.0}), MARKET.window(800))
    quiet = check_strategy(BreakoutStrategy({"volume_threshold": 100.0, "momentum_atr": 20}), MARKET.window(800))
    assert loud.passed and quiet.passed
    assert loud.signals > 0 == quiet.signals


# --- the simulated market -------------------------------------------------------------------------------------------


def test_the_simulated_market_has_every_mood_and_is_the_same_each_time():
    market, again = synthetic_market(3000, seed=5), synthetic_market(3000, seed=5)
    for name in Candles.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(market, name), getattr(again, name))
    assert (market.volume == 0).mean() > 0.05  # flat spells
    assert (np.diff(market.close) == 0).mean() > 0.05
    assert (np.diff(market.open_time) > 60).sum() > 3  # missing candles
    assert (market.open[1:] != market.close[:-1]).sum() > 50  # gaps in price
    assert market.volume.max() > 5 * np.median(market.volume)  # bursts
    bodies = np.stack((market.open, market.close))
    assert (market.high >= bodies.max(axis=0)).all() and (market.low <= bodies.min(axis=0)).all()
    assert market.close.min() > 80 and market.close.max() < 125


def test_the_simulated_market_begins_at_the_price_and_spacing_asked_for():
    market = synthetic_market(500, seconds=900, price=5_000_000_000.0)
    assert market.open[0] == pytest.approx(5e9, rel=0.02)
    assert np.diff(market.open_time).min() == 900
