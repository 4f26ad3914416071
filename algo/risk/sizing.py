"""How much: a share of what is available, at the prices the book really offers, rounded down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from algo.risk.stops import PERCENT, initial_stop, target_price
from algo.risk.values import EntryIntent, RiskContext
from providers.types import ZERO, BookLevel, MarketRules, Side, round_to

# A market order must not come nearer to the exchange's band than this: the book moves while the order travels.
BAND_MARGIN = Decimal("0.8")
# The stop itself is an order with a minimum. This leaves room for the price to slip and the fee to shrink it.
MINIMUM_MARGIN = Decimal("1.2")


@dataclass(frozen=True, slots=True)
class Size:
    """What the balance and the book give. `worst_price` is the last level taken; `in_book` is False beyond the book."""

    quantity: Decimal
    expected_price: Decimal
    worst_price: Decimal
    fraction: Decimal
    in_book: bool

    @property
    def notional(self) -> Decimal:
        return self.quantity * self.expected_price


@dataclass(frozen=True, slots=True)
class Walk:
    """What a market order of `quantity` finds in a book: average and worst price, and how much is there at most."""

    average_price: Decimal
    worst_price: Decimal
    found: Decimal


def position_fraction(confidence: Decimal, percent: Decimal, global_percent: Decimal) -> Decimal:
    """Share of the available balance for one deal, 0 to 1: confidence scales it, the two limits cap it."""
    return max(min(confidence * percent, percent, global_percent), ZERO) / PERCENT


def walk_book(levels: Sequence[BookLevel], quantity: Decimal) -> Walk:
    """Take `quantity` from the levels, best first. Levels must not be empty; the rest is priced at the last one."""
    left, cost, worst = quantity, ZERO, levels[0].price
    for level in levels:
        taken = min(left, level.quantity)
        if taken > 0:
            cost, left, worst = cost + taken * level.price, left - taken, level.price
        if left <= 0:
            break
    found = quantity - left
    average = (cost + left * levels[-1].price) / quantity if quantity > 0 else levels[0].price
    return Walk(average, worst, found)


def quantity_for_quote(levels: Sequence[BookLevel], budget: Decimal) -> Decimal:
    """How much base `budget` buys from the levels; beyond the book at the price of its last level."""
    left, quantity = budget, ZERO
    for level in levels:
        cost = level.price * level.quantity
        if cost >= left:
            return quantity + left / level.price
        quantity, left = quantity + level.quantity, left - cost
    return quantity + left / levels[-1].price


def buy_reserve_price(best_ask: Decimal, rules: MarketRules) -> Decimal:
    """The highest price a MARKET BUY may be charged: exchanges check the balance against this, not against the ask."""
    return best_ask * (1 + rules.market_band) / (1 - rules.taker_fee_rate)


def size_entry(intent: EntryIntent, context: RiskContext) -> Size:
    """The size of an entry. Its notional never exceeds `fraction` of the available balance; the quantity may be zero.

    The context must hold a book with levels on the side that is taken.
    """
    fraction = position_fraction(
        intent.confidence, context.parameters.max_position_size_percent, context.max_position_size_percent
    )
    return size_at(intent.side, fraction, context)


def size_at(side: Side, fraction: Decimal, context: RiskContext) -> Size:
    """The size that `fraction` of the available balance gives."""
    levels, rules = context.levels_to_take(side), context.rules
    if side is Side.SELL:
        quantity = rules.round_quantity(fraction * context.available_base)
    else:
        quantity = _buy_quantity(levels, fraction * context.available_quote, context.available_quote, rules)
    walk = walk_book(levels, quantity)
    return Size(
        quantity, _against_us(walk.average_price, side, rules), walk.worst_price, fraction, walk.found >= quantity
    )


def _buy_quantity(levels: Sequence[BookLevel], budget: Decimal, available: Decimal, rules: MarketRules) -> Decimal:
    affordable = available / buy_reserve_price(levels[0].price, rules)
    quantity = rules.round_quantity(min(quantity_for_quote(levels, budget), affordable))
    if quantity <= 0:
        return ZERO
    # The expected price is rounded up to the tick: what it costs at that price must still fit the budget.
    price = _against_us(walk_book(levels, quantity).average_price, Side.BUY, rules)
    return min(quantity, rules.round_quantity(budget / price))


def _against_us(price: Decimal, side: Side, rules: MarketRules) -> Decimal:
    return round_to(price, rules.tick_size, ROUND_CEILING if side is Side.BUY else ROUND_FLOOR)


def shortfall(side: Side, quantity: Decimal, price: Decimal, context: RiskContext) -> str | None:
    """Why a size is too small for the exchange, now or when its stop or target is placed; None where it is not."""
    rules, parameters = context.rules, context.parameters
    if quantity <= 0 or quantity < rules.min_quantity:
        return f"{quantity} {rules.base} is below the least quantity {rules.min_quantity}"
    if quantity * price < rules.min_notional:
        return f"{plain(quantity * price)} {rules.quote} is below the least order of {rules.min_notional}"
    stop = initial_stop(price, side, parameters.stop_loss_percent, rules)
    target = target_price(price, side, parameters.take_profit_percent, rules)
    exit_quantity = held_after_fees(side, quantity, rules)
    exit_notional = exit_quantity * min(stop, target) * (1 - rules.taker_fee_rate)
    needed = MINIMUM_MARGIN * rules.min_notional
    if exit_quantity < rules.min_quantity or exit_notional < needed:
        return (
            f"after fees the exit of {exit_quantity} {rules.base} would be worth {plain(exit_notional)} "
            f"{rules.quote}; its own order needs {needed} to be safe from the exchange's minimum"
        )
    return None


def held_after_fees(side: Side, quantity: Decimal, rules: MarketRules) -> Decimal:
    """What the exit can trade: a BUY pays its fee from the coin it buys; a SELL buys back what it sold."""
    return rules.round_quantity(quantity * (1 - rules.taker_fee_rate)) if side is Side.BUY else quantity


def plain(value: Decimal) -> str:
    """A number for a sentence: at most eight decimals, no exponent."""
    return f"{value.quantize(Decimal('1E-8')).normalize():f}" if value else "0"
