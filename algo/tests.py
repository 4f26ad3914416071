"""The tests that users run by name: `python manage.py test algo.tests.StrategyTests`. The whole suite is in tests/."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
from django.test import SimpleTestCase

from algo.strategies.interface import Candles, MarketData
from algo.strategies.schemas import BreakoutStrategySchema, InvalidParameters
from algo.strategies.strategy_factory import UnknownStrategy, create_strategy, schema_for, strategy_names


def rising_breakout(bars: int = 300) -> Candles:
    """A quiet market that breaks out upwards on its last candle, with twice the usual volume."""
    wave = 100 + 0.5 * np.sin(np.arange(bars) / 3)
    close, volume = wave.copy(), np.full(bars, 10.0)
    close[-1], volume[-1] = 102.0, 20.0
    open_ = np.concatenate(([close[0]], close[:-1]))
    high, low = np.maximum(open_, close) + 0.1, np.minimum(open_, close) - 0.1
    return Candles(np.arange(bars, dtype=np.int64) * 60, open_, high, low, close, volume)


class StrategyTests(SimpleTestCase):
    """BreakoutStrategy through the names that users know."""

    def test_breakout_is_registered_with_the_promised_defaults(self) -> None:
        self.assertIn("BreakoutStrategy", strategy_names())
        self.assertIs(schema_for("BreakoutStrategy"), BreakoutStrategySchema)
        promised = {
            "ema_fast_period": 5,
            "ema_slow_period": 13,
            "rsi_period": 14,
            "rsi_overbought": 75.0,
            "rsi_oversold": 25.0,
            "volume_threshold": 1.2,
            "breakout_period": 20,
            "stop_loss_percent": Decimal("0.3"),
            "take_profit_percent": Decimal("0.6"),
            "max_position_size_percent": Decimal("50.0"),
            "trade_cooldown_minutes": 30,
            "max_daily_trades": 10,
        }
        defaults = BreakoutStrategySchema()
        self.assertEqual({name: getattr(defaults, name) for name in promised}, promised)

    def test_a_close_above_the_highest_high_with_volume_is_a_breakout_buy(self) -> None:
        strategy = create_strategy("BreakoutStrategy", {"rsi_overbought": 100.0})
        self.assertTrue(strategy.initialize())
        decision = strategy.execute(MarketData(rising_breakout()))
        assert decision is not None
        self.assertEqual(decision["side"], "BUY")
        self.assertEqual(decision["reason"], "BREAKOUT")
        self.assertEqual(decision["confidence"], 0.8)

    def test_the_same_close_without_volume_is_no_breakout(self) -> None:
        candles = rising_breakout()
        candles.volume[-1] = 11.9  # 1.19 times the mean of 10; the threshold is 1.2
        decision = create_strategy("BreakoutStrategy", {"rsi_overbought": 100.0}).execute(MarketData(candles))
        self.assertTrue(decision is None or decision["reason"] != "BREAKOUT")

    def test_unknown_names_and_impossible_parameters_are_refused_in_words(self) -> None:
        with self.assertRaisesMessage(UnknownStrategy, "BreakoutStrategy"):
            create_strategy("NoSuchStrategy")
        with self.assertRaises(InvalidParameters) as caught:
            create_strategy("BreakoutStrategy", {"stop_loss_percent": "-1"})
        self.assertIn("stop_loss_percent", caught.exception.errors)
