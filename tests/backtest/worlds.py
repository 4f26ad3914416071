"""Small markets for backtests."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np

from algo.backtest import BacktestSettings
from algo.strategies import Candles, SignalArrays, StrategySchema
from providers.types import MarketRules
from tests.risk.worlds import rules_of
from tests.strategies.tables import START

D = Decimal


def market(**change: Any) -> MarketRules:
    """No fees, fine grids and no minimum, unless asked for."""
    free = {"taker_fee_rate": D(0), "maker_fee_rate": D(0), "step_size": D("0.001"), "min_notional": D(0)}
    return rules_of(**{**free, "min_quantity": D("0.001"), **change})


def table(*rows: tuple[float, float, float, float], times: list[int] | None = None) -> Candles:
    """Candles as (open, high, low, close), one a minute."""
    columns = np.array(rows, dtype=np.float64).T.copy()
    minutes = list(range(len(rows))) if times is None else times
    return Candles(START + 60 * np.array(minutes, dtype=np.int64), *columns, np.ones(len(rows)))


def said(count: int, confidence: float = 1.0, **at: int) -> SignalArrays:
    """Signals by candle: said(5, c0=1, c3=-1)."""
    side = np.zeros(count, dtype=np.int8)
    for name, sign in at.items():
        side[int(name[1:])] = sign
    return SignalArrays(side, np.where(side != 0, confidence, 0.0), (side != 0).astype(np.int8), ("", "TABLE"))


def calm(**change: Any) -> StrategySchema:
    """Stop 1 %, target 2 %, all of the balance, no cooldown, unless asked otherwise."""
    values = {"stop_loss_percent": 1, "take_profit_percent": 2, "max_position_size_percent": 100}
    return StrategySchema(**{**values, "trade_cooldown_minutes": 0, "max_daily_loss_percent": 0, **change})


def settings(**change: Any) -> BacktestSettings:
    """1,000 in quote, no slippage, no cap of the setting for everybody."""
    values = {"starting_quote": D(1000), "slippage_percent": D(0), "max_position_size_percent": D(100)}
    return BacktestSettings(**{**values, **change})
