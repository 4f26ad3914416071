"""Names of strategies to their classes. A new strategy is a class, a schema and one line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from algo.strategies.breakout import BreakoutStrategy
from algo.strategies.external import ExternalSignals
from algo.strategies.interface import StrategyInterface
from algo.strategies.schemas import StrategySchema

STRATEGIES: dict[str, type[StrategyInterface]] = {
    "BreakoutStrategy": BreakoutStrategy,
    "ExternalSignals": ExternalSignals,
}


class UnknownStrategy(LookupError):
    """No strategy has this name; the message lists those there are."""


def strategy_names() -> list[str]:
    """Every name that `create_strategy` knows, in order."""
    return sorted(STRATEGIES)


def external_names() -> list[str]:
    """Names of the strategies whose signals are sent to them."""
    return [name for name in strategy_names() if STRATEGIES[name].is_external]


def strategy_class(name: str) -> type[StrategyInterface]:
    """The class of that name. UnknownStrategy lists the known ones."""
    if name not in STRATEGIES:
        raise UnknownStrategy(f"there is no strategy {name!r}; known are: {', '.join(strategy_names())}")
    return STRATEGIES[name]


def schema_for(name: str) -> type[StrategySchema]:
    """The parameter schema of a strategy. UnknownStrategy lists the known ones."""
    return strategy_class(name).schema


def create_strategy(name: str, parameters: Mapping[str, Any] | StrategySchema | None = None) -> StrategyInterface:
    """A strategy ready to decide. UnknownStrategy for the name, InvalidParameters (per field) for the parameters."""
    return strategy_class(name)(parameters)
