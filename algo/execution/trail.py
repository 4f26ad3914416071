"""Trailing stops, by the name users know."""

from __future__ import annotations

from decimal import Decimal

from algo.models import Deal
from algo.risk.stops import better_price, trailing_stop
from providers.types import Side


def update_trailing_stop(deal: Deal, current_price: Decimal) -> Decimal | None:
    """Where the stop of `deal` belongs at `current_price`, or None when it stays where it is.

    It follows the best price since the entry at `trailing_stop_percent`, moves by at least `trailing_step_percent`,
    and is never lowered (raised for a short deal). Nothing is saved or sent: `advance` does both, one step at a time.
    """
    side = Side(deal.side)
    best = better_price(side, deal.best_price or deal.entry_price or current_price, current_price)
    return trailing_stop(
        side,
        best,
        deal.stop_price,
        deal.trailing_stop_distance,
        Decimal(str(deal.rules.get("trailing_step_percent", 0))),
        deal.market.rules,
    )
