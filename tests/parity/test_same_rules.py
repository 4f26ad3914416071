"""Rules that live and the engine once counted differently."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from algo.backtest import BacktestSettings, run
from algo.risk import DenialCode, limits
from algo.strategies.interface import Candles, SignalArrays
from tests.parity.test_parity import RULES, table
from tests.risk.worlds import BAR, NOW, context_of, intent_of, parameters_of

COOLDOWN = 30  # minutes


def entries_of_the_engine(candles: Candles, *indexes: int) -> int:
    """How many of the signals at these candles the engine enters by; every deal is over within its candle."""
    side = np.zeros(len(candles), dtype=np.int8)
    side[list(indexes)] = 1
    signals = SignalArrays(side, side.astype(float), side, ("", "TEST"))
    parameters = parameters_of(trade_cooldown_minutes=COOLDOWN, stop_loss_percent="1")
    return run(candles, signals, parameters, RULES, BacktestSettings()).deal_count


@pytest.mark.parametrize("quicker", [timedelta(0), timedelta(seconds=0.5)], ids=["as fast", "half a second faster"])
def test_a_cooldown_of_thirty_candles_is_over_after_thirty_candles_however_fast_a_decision_was_made(quicker):
    candles = table(m6=(100.0, 100.0, 98.0, 100.0))  # its stop ends the first deal
    assert entries_of_the_engine(candles, 5, 5 + COOLDOWN) == 2
    assert entries_of_the_engine(candles, 5, 4 + COOLDOWN) == 1
    parameters = parameters_of(trade_cooldown_minutes=COOLDOWN)
    for candles_ago, code in ((COOLDOWN, None), (COOLDOWN - 1, DenialCode.COOLDOWN)):
        last = BAR - timedelta(minutes=candles_ago)
        context = context_of(parameters=parameters, last_entry_bar_at=last, now=NOW - quicker)
        denial = limits.cooldown(intent_of(), context)
        assert (denial and denial.code) is code
