"""Random markets, rules and signals for properties: everything that may go wrong in one, drawn from one number."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np

from algo.backtest import BacktestSettings
from algo.strategies import Candles, SignalArrays, StrategySchema
from providers.types import MarketRules, Resolution, Side
from tests.risk.worlds import rules_of
from tests.strategies.tables import START

D = Decimal


@dataclass(frozen=True)
class Case:
    candles: Candles
    signals: SignalArrays
    parameters: StrategySchema
    rules: MarketRules
    settings: BacktestSettings


def case_of(seed: int, count: int, *, holes: bool = True) -> Case:
    """A case with gaps in time, flat and wild stretches, and where `holes` prices that are missing."""
    rng = np.random.default_rng(seed)
    price, tick, step = _pick(rng, _GRIDS)
    candles = candles_of(rng, count, float(price), D(tick))
    rules = rules_of(
        tick_size=D(tick),
        step_size=D(step),
        min_quantity=D(step) * _pick(rng, (1, 1, 20)),
        min_notional=D(price) * D(_pick(rng, ("0", "0.05", "1"))),
        taker_fee_rate=D(_pick(rng, ("0", "0.001", "0.003", "0.02"))),
        market_band=D(_pick(rng, ("0.02", "0.02", "0.003", "0.5"))),
        price_band=_pick(rng, (None, None, D("0.05"))),
    )
    settings = BacktestSettings(
        resolution=_pick(rng, (Resolution.M1, Resolution.H1)),
        starting_quote=D(price) * D(_pick(rng, ("50", "3", "0.3", "0"))),
        starting_base=D(_pick(rng, ("40", "2", "0.2"))),
        slippage_percent=D(_pick(rng, ("0", "0.05", "1"))),
        max_position_size_percent=D(_pick(rng, ("50", "100"))),
        allowed_sides=_pick(rng, (frozenset(Side), frozenset(Side), frozenset({Side.SELL}))),
    )
    stretched = START + (candles.open_time - START) // 60 * settings.resolution.seconds
    holed = _holed(rng, candles) if holes and rng.random() < 0.5 else candles
    candles = Candles(stretched, holed.open, holed.high, holed.low, holed.close, holed.volume)
    return Case(candles, signals_over(rng, candles), parameters_of(rng), rules, settings)


# price, tick and step: fine, coarse, a coin of a millionth, and one quoted in billions
_GRIDS = (
    ("100", "0.01", "0.00001"),
    ("100", "0.5", "0.01"),
    ("3", "1", "1"),
    ("0.00001234", "0.00000001", "10"),
    ("9000000000", "1", "0.000001"),
    ("9000000000", "1000", "0.0001"),
)


def candles_of(rng: np.random.Generator, count: int, price: float, tick: Decimal) -> Candles:
    """A walk on the tick grid whose mood changes: still, calm, wild; it jumps between candles, and some are missing."""
    mood = np.repeat(rng.choice([0.0, 0.001, 0.004, 0.02], count // 20 + 1), 20)[:count]
    close = price * np.exp(np.cumsum(rng.normal(0, 1, count) * mood))
    jump = np.where(rng.random(count) < 0.1, 1 + rng.normal(0, 1, count) * mood * 2, 1.0)
    opens = np.concatenate(([price], close[:-1])) * jump
    wick = rng.exponential(1, (2, count)) * mood / 2
    high, low = np.maximum(opens, close) * (1 + wick[0]), np.minimum(opens, close) * np.maximum(1 - wick[1], 0.1)
    grid = [_on_grid(series, tick) for series in (opens, high, low, close)]
    missing = np.where(rng.random(count) < 0.05, rng.choice([1, 2, 5, 2000], count), 0)
    times = START + 60 * (np.arange(count) + np.cumsum(missing))
    return Candles(times.astype(np.int64), *grid, np.ones(count))


def _on_grid(series: np.ndarray, tick: Decimal) -> np.ndarray:
    """The floats of the decimal texts, as candles are read from the database."""
    units = np.maximum(np.round(series / float(tick)), 1).astype(np.int64)
    return np.array([float(int(unit) * tick) for unit in units])


def _holed(rng: np.random.Generator, candles: Candles) -> Candles:
    """Some candles without any price, and some without one of their prices."""
    columns = [getattr(candles, name).copy() for name in ("open", "high", "low", "close")]
    nothing = rng.random(len(candles)) < 0.03
    for column in columns:
        column[nothing | (rng.random(len(candles)) < 0.02)] = np.nan
    if not np.isfinite(columns[3]).any():
        return candles
    return Candles(candles.open_time, *columns, candles.volume)


def signals_over(rng: np.random.Generator, candles: Candles) -> SignalArrays:
    count = len(candles)
    often = _pick(rng, (0.05, 0.3, 0.9))
    side = np.where(rng.random(count) < often, rng.choice([-1, 1], count), 0).astype(np.int8)
    confidence = np.where(side != 0, rng.choice([0.1, 0.6, 0.8, 1.0], count), 0.0)
    return SignalArrays(side, confidence, (side != 0).astype(np.int8), ("", "RANDOM"))


def parameters_of(rng: np.random.Generator) -> StrategySchema:
    values: dict[str, Any] = {
        "stop_loss_percent": _pick(rng, ("0.01", "0.3", "1", "5", "50")),
        "take_profit_percent": _pick(rng, ("0.01", "0.6", "2", "90", "1000")),
        "trailing_stop_percent": _pick(rng, ("0", "0", "0.01", "0.2", "1", "50")),
        "trailing_step_percent": "0.1",
        "max_position_size_percent": _pick(rng, ("10", "50", "100")),
        "trade_cooldown_minutes": int(_pick(rng, (0, 0, 3, 120))),
        "max_daily_trades": int(_pick(rng, (1, 4, 1000))),
        "max_daily_loss_percent": _pick(rng, ("0", "0.2", "5")),
        "max_data_age_bars": int(_pick(rng, (1, 2, 20))),
        "exit_on_opposite_signal": bool(rng.random() < 0.5),
    }
    trailing = D(values["trailing_stop_percent"])
    if trailing:  # the step must be smaller
        values["trailing_step_percent"] = trailing * D(_pick(rng, ("0.0001", "0.1", "0.5", "0.99")))
    return StrategySchema(**values)


def _pick(rng: np.random.Generator, values: Any) -> Any:
    return values[int(rng.integers(len(values)))]
