"""Where stop and target stand, and when they are reached. `side` is always the side of the entry."""

from __future__ import annotations

from decimal import Decimal

from providers.types import MarketRules, Side

PERCENT = Decimal(100)


def initial_stop(entry_price: Decimal, side: Side, percent: Decimal, rules: MarketRules) -> Decimal:
    """Stop price `percent` behind the entry: below a BUY, above a SELL; on the tick, rounded toward safety."""
    return rules.round_stop(entry_price * (1 - side.sign * percent / PERCENT), side.opposite)


def target_price(entry_price: Decimal, side: Side, percent: Decimal, rules: MarketRules) -> Decimal:
    """Limit price of the target, `percent` ahead of the entry; on the tick, never worse than asked for."""
    return rules.round_limit(entry_price * (1 + side.sign * percent / PERCENT), side.opposite)


def better_price(side: Side, best: Decimal, price: Decimal) -> Decimal:
    """The best price a deal has seen, once it has seen `price` too: the highest of a BUY, the lowest of a SELL."""
    return max(best, price) if side is Side.BUY else min(best, price)


def trailing_stop(
    side: Side,
    best_price: Decimal,
    current_stop: Decimal,
    percent: Decimal,
    step_percent: Decimal,
    rules: MarketRules,
) -> Decimal | None:
    """The stop `percent` behind the best price since entry, or None where the current one stays.

    It moves only toward profit, and only by at least `step_percent` of the current stop: every move is a cancel and a
    new order, with nothing between. A percent of 0 is off.
    """
    if percent <= 0:
        return None
    stop = initial_stop(best_price, side, percent, rules)
    gain = (stop - current_stop) * side.sign
    return stop if gain > 0 and gain >= current_stop * step_percent / PERCENT else None


def stop_crossed(side: Side, stop: Decimal, last: Decimal) -> bool:
    """True once the last price has reached the stop of a deal entered on `side`; a touch counts."""
    return last <= stop if side is Side.BUY else last >= stop


def target_reached(side: Side, target: Decimal, last: Decimal) -> bool:
    """True once the last price has reached the target of a deal entered on `side`; a touch counts."""
    return last >= target if side is Side.BUY else last <= target
