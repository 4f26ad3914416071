"""What a deal costs before it can earn."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal

from algo.strategies.schemas import StrategySchema
from providers.types import MarketRules

_FOUR_DIGITS = Decimal("0.0001")


def round_trip_fee_percent(rules: MarketRules) -> Decimal:
    """How far price must move for the deal to end at zero, in percent, rounded up to four digits.

    Entry and exit both pay the taker fee out of what they receive: 1/(1 - f)^2 - 1.
    """
    kept = 1 - rules.taker_fee_rate
    return ((1 / (kept * kept) - 1) * 100).quantize(_FOUR_DIGITS, ROUND_CEILING)


def target_pays_fees(parameters: StrategySchema, rules: MarketRules) -> str | None:
    """A warning where the target does not pay the fees of entry and exit; None where it does."""
    cost = round_trip_fee_percent(rules)
    if parameters.take_profit_percent > cost:
        return None
    return (
        f"the target does not pay the fees: take profit is {parameters.take_profit_percent} %, "
        f"and entry and exit on {rules.symbol} cost {cost} %, so a deal that reaches its target earns nothing"
    )
