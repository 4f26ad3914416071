"""A strategy written as users write it, and the values it is handed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest
from pydantic import Field

from algo.indicators import from_frame
from algo.strategies import Candles, InvalidParameters, MarketData, StrategyInterface, StrategySchema
from algo.strategies.interface import signals_by_execute
from providers.types import Candle
from tests.strategies.tables import candles_of, random_candles


class ThreeUpSchema(StrategySchema):
    candles: int = Field(3, ge=2, title="Candles in a row")


class ThreeUp(StrategyInterface):
    """BUY after rising closes: only `execute`, as the README shows."""

    schema = ThreeUpSchema
    warmup_bars = 4

    def execute(self, market_data):
        closes = market_data["candles"].close[-self.parameters.candles - 1 :]
        if closes.size <= self.parameters.candles or not (np.diff(closes) > 0).all():
            return None
        return {"side": "BUY", "confidence": 0.5, "reason": "THREE_UP"}


def test_execute_alone_gives_signal_arrays():
    signals = ThreeUp().signals(candles_of([1, 2, 3, 4, 5, 4, 5]))
    assert signals.side.tolist() == [0, 0, 0, 1, 1, 0, 0]
    assert signals.confidence.tolist() == [0, 0, 0, 0.5, 0.5, 0, 0]
    assert signals.at(3) == {"side": "BUY", "confidence": 0.5, "reason": "THREE_UP"}
    assert signals.at(0) is None


def test_the_plain_loop_and_the_arrays_of_breakout_agree():
    from algo.strategies import BreakoutStrategy

    strategy, candles = BreakoutStrategy(rsi_period=5, atr_period=5), random_candles(900, seed=2)
    slow, fast = signals_by_execute(strategy, candles), strategy.signals(candles)
    warm = slice(strategy.warmup_bars - 1, None)  # before, neither a live run nor a backtest decides
    assert np.count_nonzero(fast.side[warm]) > 10
    np.testing.assert_array_equal(slow.side[warm], fast.side[warm])
    np.testing.assert_array_equal(slow.confidence[warm], fast.confidence[warm])


def test_the_loop_hands_over_the_live_window_and_nothing_later():
    seen = []

    class Watcher(ThreeUp):
        def execute(self, market_data):
            seen.append((len(market_data["candles"]), market_data["candles"].close[-1], market_data.get("order_book")))

    Watcher().signals(candles_of(range(1, 13)))
    assert seen[0] == (4, 4.0, None)  # never with fewer than its warm-up, as live
    assert seen[-1] == (4, 12.0, None)
    assert len(seen) == 9


def test_the_loop_asks_a_strategy_that_decides_without_candles_from_the_first_one_on():
    seen = []

    class ByBookSchema(StrategySchema):
        @property
        def needs_candles(self):
            return False

    class ByBook(ThreeUp):
        schema = ByBookSchema

        def execute(self, market_data):
            seen.append(len(market_data["candles"]))

    ByBook().signals(candles_of(range(1, 7)))
    assert seen == [1, 2, 3, 4, 4, 4]


def test_a_confidence_that_is_not_given_is_full():
    class Bare(ThreeUp):
        warmup_bars = 1

        def execute(self, market_data):
            return {"side": "SELL"}

    signals = Bare().signals(candles_of([1.0]))
    assert (signals.side[0], signals.confidence[0], signals.at(0)["reason"]) == (-1, 1.0, "")


def test_the_default_journal_derives_from_execute():
    explained = ThreeUp().explain(MarketData(candles_of([1, 2, 3, 4])))
    assert explained["decision"]["side"] == "BUY"
    assert ThreeUp().explain(MarketData(candles_of([1, 2]))) == {"decision": None, "indicators": {}, "conditions": {}}


def test_a_custom_indicator_runs_on_the_frame():
    doubled = from_frame(lambda df: df["close"] * 2, candles_of([1, 2]).frame())
    assert doubled.tolist() == [2.0, 4.0]


def test_parameters_are_validated_by_the_strategys_own_schema():
    assert ThreeUp({"candles": 4}).parameters.candles == 4
    with pytest.raises(InvalidParameters) as caught:
        ThreeUp({"candles": 1, "colour": "red"})
    assert set(caught.value.errors) == {"candles", "colour"}


def test_candles_from_the_exchange():
    at = datetime(2025, 1, 1, tzinfo=UTC)
    rows = [
        Candle(at + timedelta(minutes=i), *(Decimal(text) for text in ("1", "3", "0.5", "2", "7.5"))) for i in range(2)
    ]
    candles = Candles.from_candles(rows)
    assert candles.open_time.tolist() == [1735689600, 1735689660]
    assert (candles.high[1], candles.low[1], candles.volume[1]) == (3.0, 0.5, 7.5)
    assert len(Candles.from_candles([])) == 0


def test_a_window_is_the_newest_candles():
    candles = candles_of([1, 2, 3])
    assert candles.window(2).close.tolist() == [2.0, 3.0]
    assert candles.window(9).close.tolist() == [1.0, 2.0, 3.0]
    assert len(candles.window(0)) == 0


def test_market_data_reads_as_a_mapping():
    data = MarketData(candles_of([1.0]))
    assert dict(data) == {"candles": data.candles, "order_book": None}
    with pytest.raises(KeyError):
        data["balance"]
