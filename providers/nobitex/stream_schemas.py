"""What Nobitex sends over its stream (contract: nobitex 7): Centrifugo's envelope and the payloads inside.

Books are those of schemas.py. Prices of IRT markets are in rial, except in candles.
"""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, StrictInt, StrictStr, model_validator

from providers.nobitex.schemas import TradeSchema
from providers.wire import NonNegativeAmount, PositiveAmount, Whole, WireModel

Code = Annotated[StrictInt, Field(ge=0)]


# --- envelope: what the client library relies on without looking ------------------------------------------------------


class EndSchema(WireModel):
    """Why a subscription or the connection ends, or why a command was refused."""

    code: Code


class PublicationSchema(WireModel):
    data: Any = None
    offset: Code = 0


class PushSchema(WireModel):
    channel: StrictStr = ""
    id: Code = 0
    pub: PublicationSchema | None = None
    unsubscribe: EndSchema | None = None
    disconnect: EndSchema | None = None


class ConnectedSchema(WireModel):
    ping: Code = 0
    ttl: Code = 0


class SubscribedSchema(WireModel):
    offset: Code = 0
    id: Code = 0


class ReplySchema(WireModel):
    """One object of a frame. An object without `id` and `push` is a ping."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: Code = 0
    error: EndSchema | None = None
    connect: ConnectedSchema | None = None
    subscribe: SubscribedSchema | None = None
    refresh: ConnectedSchema | None = None
    push: PushSchema | None = None


# --- payloads ---------------------------------------------------------------------------------------------------------


class CandleDataSchema(WireModel):
    """The running candle, in toman for IRT markets. `t` is its start, unix seconds."""

    t: Whole
    o: PositiveAmount
    h: PositiveAmount
    l: PositiveAmount  # noqa: E741 - the wire's name
    c: PositiveAmount
    v: NonNegativeAmount

    @model_validator(mode="after")
    def _low_is_lowest(self) -> Self:
        if not self.l <= min(self.o, self.c) <= max(self.o, self.c) <= self.h:
            raise ValueError("not a candle: open or close outside low and high")
        return self


class PublicTradeSchema(TradeSchema):
    """Here the volume is always told."""

    volume: NonNegativeAmount


class OrderEventSchema(WireModel):
    """Of an event on an order, or a fill of one, only which order: the rest is read by REST."""

    orderId: Whole
    clientOrderId: str | None = None
    srcCurrency: str | None = None
    dstCurrency: str | None = None
