"""What Wallex sends over its stream (contract: wallex 9)."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, StrictBool

from providers.wallex.schemas import DepthLevelSchema, TradeSchema
from providers.wire import WireModel


def _levels(value: object) -> object:
    """A list; the documents' older samples have an object keyed "0", "1", … instead."""
    return list(value.values()) if isinstance(value, dict) else value


class DepthSideSchema(WireModel):
    """The whole of one side of a book."""

    levels: Annotated[list[DepthLevelSchema], BeforeValidator(_levels)]


class StreamTradeSchema(TradeSchema):
    """One public trade; `isBuyOrder`: the taker bought."""

    isBuyOrder: StrictBool | None = None
