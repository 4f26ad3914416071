"""Why a strategy did not trade, in words, and how often each answer came."""

from __future__ import annotations

from datetime import timedelta

import pytest

from algo.models import Decision, Outcome, StrategyConfig
from algo.selectors.why_not import WhyCount, decision_why, why_counts
from tests import factories as make
from tests.factories import NOW

CONDITIONS = {
    "breakout_buy": {"close_above_highest": False, "ema_fast_above_slow": True, "volume_enough": True},
    "breakout_sell": {"close_below_lowest": False, "ema_fast_below_slow": False, "volume_enough": True},
    "order_book": {"buy": False, "sell": False},
}


@pytest.mark.parametrize(
    ("outcome", "journal", "code", "sentence"),
    [
        (
            Outcome.NO_SIGNAL,
            {"conditions": CONDITIONS},
            "no_signal",
            "Nearest was breakout buy: it lacked close above highest.",
        ),
        (Outcome.NO_SIGNAL, {}, "no_signal", "No rule of the strategy spoke."),
        (Outcome.DENIED, {"denial": {"code": "cooldown", "message": "12 minutes left"}}, "cooldown", "12 minutes left"),
        (Outcome.SHORT_HISTORY, {"candles": 30, "needed": 90}, "short_history", "30 candles are there, 90 are needed."),
        (Outcome.STALE_DATA, {"newest_candle": None}, "stale_data", "There is no candle at all."),
        (Outcome.ERROR, {"error": "KeyError: 'x'"}, "error", "KeyError: 'x'"),
    ],
)
def test_each_decision_is_said_in_a_sentence(outcome, journal, code, sentence):
    why = decision_why(Decision(outcome=outcome, journal=journal))
    assert (why.code, why.sentence) == (code, sentence)


def test_numbers_that_were_known_are_told():
    journal = {"indicators": {"rsi": 61.23456789, "atr": None, "close": 50000.0}}
    assert decision_why(Decision(outcome="no_signal", journal=journal)).numbers == {"rsi": "61.2346", "close": "50000"}


@pytest.mark.django_db
def test_answers_of_a_day_are_counted(django_assert_num_queries):
    config = make.make_config()
    for minute in range(1, 4):
        make.make_decision(config, bar_open_at=NOW - timedelta(minutes=minute))
    denial = {"denial": {"code": "cooldown", "message": "wait"}}
    make.make_decision(config, bar_open_at=NOW - timedelta(minutes=4), outcome="denied", journal=denial)
    make.make_decision(config, bar_open_at=NOW - timedelta(hours=25), outcome="error")
    make.make_decision(bar_open_at=NOW - timedelta(minutes=1), outcome="error")
    with django_assert_num_queries(1):
        counts = why_counts(StrategyConfig.objects.filter(pk=config.pk), NOW)
    assert counts == [
        WhyCount("no_signal", "No signal", 3),
        WhyCount("cooldown", "Signal denied by the risk gate", 1),
    ]


def test_large_and_small_numbers_are_written_out():
    journal = {"indicators": {"close": 465_414_321.5, "ema_gap": -0.0000512}}
    numbers = decision_why(Decision(outcome="no_signal", journal=journal)).numbers
    assert numbers == {"close": "465414000", "ema_gap": "-0.0000512"}
