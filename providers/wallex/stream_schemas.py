"""What Wallex sends over its stream (contract: wallex 9)."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, StrictBool

from providers.wallex.schemas import DepthLevelSchema
from providers.wire import NonNegativeAmount, PositiveAmount, WireModel, WireTime


def _levels(value: object) -> object:
    """A list; the documents' older samples have an object keyed "0", "1", … instead."""
    return list(value.values()) if isinstance(value, dict) else value


class DepthSideSchema(WireModel):
    """The whole of one side of a book."""

    levels: Annotated[list[DepthLevelSchema], BeforeValidator(_levels)]


class StreamTradeSchema(WireModel):
    """One public trade; `isBuyOrder`: the taker bought."""

    price: PositiveAmount
    quantity: NonNegativeAmount
    isBuyOrder: StrictBool | None = None
    timestamp: WireTime
