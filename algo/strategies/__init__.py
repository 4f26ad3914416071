"""Strategies: candles and books in, decisions out. Pure: no clock, no database, no exchange."""

from algo.strategies.breakout import BreakoutStrategy, SignalReason
from algo.strategies.interface import Candles, MarketData, SignalArrays, StrategyInterface
from algo.strategies.schemas import BreakoutStrategySchema, InvalidParameters, StrategySchema, validate_parameters
from algo.strategies.strategy_factory import UnknownStrategy, create_strategy, schema_for, strategy_names

__all__ = [
    "BreakoutStrategy",
    "BreakoutStrategySchema",
    "Candles",
    "InvalidParameters",
    "MarketData",
    "SignalArrays",
    "SignalReason",
    "StrategyInterface",
    "StrategySchema",
    "UnknownStrategy",
    "create_strategy",
    "schema_for",
    "strategy_names",
    "validate_parameters",
]
