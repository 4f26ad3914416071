"""Numbers as the dashboard's templates show them."""

from __future__ import annotations

from decimal import Decimal

from django import template

from algo.localised import number, unit, written
from algo.models.fields import plain

register = template.Library()
register.filter("unit", unit)


@register.filter
def rounded(value: Decimal | None, digits: int) -> str:
    """To at most `digits` decimals: nobody reads more from afar."""
    return number(None if value is None else _rounded(value, digits))


@register.filter
def profit(value: Decimal | None, digits: int) -> str:
    """With its sign, also where it is a gain."""
    if value is None or not _rounded(value, digits):
        return rounded(value, digits)
    return written(f"{_rounded(value, digits):+,f}")


@register.filter
def tone(value: Decimal | None) -> str:
    """The class of its colour."""
    return "" if not value else "up" if value > 0 else "down"


@register.filter
def places(quote: str) -> int:
    """Decimals that are worth reading: toman have none."""
    return 0 if quote in ("IRT", "TMN") else 2


def _rounded(value: Decimal, digits: int) -> Decimal:
    return plain(value.quantize(Decimal(1).scaleb(-digits)))
