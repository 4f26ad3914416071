"""What a venue refuses, and why: pure checks over one instruction, one market and the last price."""

from __future__ import annotations

from dataclasses import replace
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Decimal

from providers.paper.orders import Instruction, OcoInstruction, Order, OrderRefused, Refusal
from providers.paper.profiles import MarketProfile, VenueProfile
from providers.types import ZERO, OrderType, Side

_FINEST = Decimal("1e-16")  # what Wallex' texts can show


def on_grid(value: Decimal, grid: Decimal) -> bool:
    return value % grid == 0


def snap(value: Decimal, grid: Decimal, rounding: str) -> Decimal:
    return (value / grid).to_integral_value(rounding) * grid


def normalised(order: Instruction, market: MarketProfile, venue: VenueProfile) -> Instruction:
    """The order on the market's grids: excess digits rounded where the venue does that silently (nobitex 1.1)."""
    if not venue.rounds_excess_digits:
        return order
    return replace(
        order,
        quantity=snap(order.quantity, market.step_size, ROUND_DOWN),
        price=_half_even(order.price, market),
        stop_price=_half_even(order.stop_price, market),
    )


def normalised_oco(oco: OcoInstruction, market: MarketProfile) -> OcoInstruction:
    return replace(
        oco,
        quantity=snap(oco.quantity, market.step_size, ROUND_DOWN),
        price=snap(oco.price, market.tick_size, ROUND_HALF_EVEN),
        stop_price=snap(oco.stop_price, market.tick_size, ROUND_HALF_EVEN),
        stop_limit_price=snap(oco.stop_limit_price, market.tick_size, ROUND_HALF_EVEN),
    )


def fill_step(market: MarketProfile, venue: VenueProfile) -> Decimal:
    """The grid of executed quantities: the market's, unless the venue takes any digits (wallex 10, mode 3)."""
    return _FINEST if venue.precision_mode == 3 else market.step_size


def _half_even(price: Decimal | None, market: MarketProfile) -> Decimal | None:
    return None if price is None else snap(price, market.tick_size, ROUND_HALF_EVEN)


def check(order: Instruction, market: MarketProfile, venue: VenueProfile, last: Decimal) -> None:
    """Raise `OrderRefused` for the first thing wrong with the order, before balances are looked at."""
    _check_fields(order)
    if venue.precision_mode != 3:
        _check_grids(order, market)
    _check_minimums(order, market, venue, last)
    _check_stop(order, venue, last)
    _check_bands(order, venue, last)


def _check_fields(order: Instruction) -> None:
    needs_price = order.type in (OrderType.LIMIT, OrderType.STOP_LIMIT)
    if needs_price and (order.price is None or order.price <= 0):
        raise OrderRefused(Refusal.PRICE_MISSING, f"a {order.type} order needs a price above zero")
    if order.type.is_stop and (order.stop_price is None or order.stop_price <= 0):
        raise OrderRefused(Refusal.STOP_MISSING, f"a {order.type} order needs a stop price above zero")
    if not order.type.is_stop and order.stop_price is not None:
        raise OrderRefused(Refusal.STOP_UNEXPECTED, f"a {order.type} order takes no stop price")


def _check_grids(order: Instruction, market: MarketProfile) -> None:
    if not on_grid(order.quantity, market.step_size):
        raise OrderRefused(Refusal.QUANTITY_PRECISION, f"the quantity is not a multiple of {market.step_size}")
    if order.price is not None and not on_grid(order.price, market.tick_size):
        raise OrderRefused(Refusal.PRICE_PRECISION, f"the price is not a multiple of {market.tick_size}")
    if order.stop_price is not None and not on_grid(order.stop_price, market.tick_size):
        raise OrderRefused(Refusal.STOP_PRECISION, f"the stop price is not a multiple of {market.tick_size}")


def _check_minimums(order: Instruction, market: MarketProfile, venue: VenueProfile, last: Decimal) -> None:
    if order.quantity <= 0 or order.quantity < market.min_quantity:
        raise OrderRefused(Refusal.BELOW_MIN_QUANTITY, f"the quantity is below {market.min_quantity}")
    if order.type is OrderType.MARKET and not venue.min_notional_on_market:
        return
    reference = last if order.type is OrderType.MARKET else order.price or order.stop_price or last
    notional = reference * order.quantity
    if notional < market.min_notional or (notional == market.min_notional and not venue.min_notional_inclusive):
        raise OrderRefused(Refusal.BELOW_MIN_NOTIONAL, f"the order is worth less than {market.min_notional}")


def _check_stop(order: Instruction, venue: VenueProfile, last: Decimal) -> None:
    if order.stop_price is None:
        return
    if order.stop_price == last:
        refusal = Refusal.STOP_EQUALS_LAST if venue.infers_stop_direction else Refusal.STOP_ALREADY_CROSSED
        raise OrderRefused(refusal, f"the stop price equals the last price {last}")
    is_past = order.stop_price > last if order.side is Side.SELL else order.stop_price < last
    if is_past and not venue.infers_stop_direction:
        raise OrderRefused(Refusal.STOP_ALREADY_CROSSED, f"the last price {last} is past the stop already")
    if order.type is OrderType.STOP_LIMIT and not venue.stop_limit_may_be_better:
        _check_stop_limit(order.side, order.price or ZERO, order.stop_price)


def _check_stop_limit(side: Side, price: Decimal, stop: Decimal) -> None:
    if price > stop if side is Side.SELL else price < stop:
        raise OrderRefused(Refusal.LIMIT_BETTER_THAN_STOP, "the limit price is better than the stop price")


def _check_bands(order: Instruction, venue: VenueProfile, last: Decimal) -> None:
    if order.price is None:
        return
    distance = abs(order.price / last - 1)
    if order.type is OrderType.MARKET:
        if venue.market_price_tolerance is not None and distance > venue.market_price_tolerance:
            raise OrderRefused(Refusal.UNEXPECTED_MARKET_PRICE, f"the price is far from the last price {last}")
    elif venue.price_band is not None and distance > venue.price_band:
        raise OrderRefused(Refusal.OUTSIDE_PRICE_BAND, f"the price is too far from the last price {last}")


def check_oco(oco: OcoInstruction, last: Decimal) -> None:
    """The target on one side of the market, stop and its limit on the other (nobitex 6.1)."""
    low, high = min(oco.stop_price, oco.stop_limit_price), max(oco.stop_price, oco.stop_limit_price)
    is_around = oco.price < last < low if oco.side is Side.BUY else oco.price > last > high
    if not is_around:
        raise OrderRefused(Refusal.OCO_CONDITION, f"target and stop are not on both sides of the last price {last}")


def stop_trigger(side: Side, stop: Decimal, last: Decimal, venue: VenueProfile) -> str:
    """How the last price has to stand to the stop: from the last price at creation (wallex 7) or from the side."""
    if venue.infers_stop_direction:
        return "<=" if stop < last else ">="
    return "<=" if side is Side.SELL else ">="


def lock_rate(order: Order) -> Decimal:
    """What one unit of the order holds: base for a SELL; for a BUY quote at its limit, else its stop price."""
    if order.side is Side.SELL:
        return Decimal(1)
    if order.type is OrderType.STOP_MARKET:
        return order.stop_price or ZERO
    return order.price or ZERO


def oco_legs(oco: OcoInstruction) -> tuple[Instruction, Instruction]:
    """The client id sits on the limit leg only (nobitex 6.1)."""
    bypass = oco.bypass_duplicate_guard
    limit = Instruction(
        oco.pair, oco.side, OrderType.LIMIT, oco.quantity, oco.price, None, oco.client_id, bypass_duplicate_guard=bypass
    )
    stop = Instruction(oco.pair, oco.side, OrderType.STOP_LIMIT, oco.quantity, oco.stop_limit_price, oco.stop_price)
    return limit, stop


def fingerprint(account: str, asked: Instruction | OcoInstruction) -> tuple[object, ...]:
    """What makes two orders the same to the duplicate guard; the client id does not (nobitex 6.4)."""
    stop_limit = asked.stop_limit_price if isinstance(asked, OcoInstruction) else None
    kind = "oco" if isinstance(asked, OcoInstruction) else asked.type
    return account, kind, asked.pair, asked.side, asked.quantity, asked.price, asked.stop_price, stop_limit
