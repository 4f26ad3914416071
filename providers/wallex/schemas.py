"""Wallex payloads, spelled as Wallex spells them (contract: wallex 3 to 6)."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt, model_validator

from providers.types import OrderType, Side
from providers.wire import Amount, NonNegativeAmount, PositiveAmount, Upper, WireModel, WireTime, wire_text


class WallexStatus(StrEnum):
    """Order labels named anywhere in the contract (6). The label decides only what the numbers leave open."""

    NEW = "NEW"
    PENDING = "PENDING"
    OPEN = "OPEN"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    FILLED = "FILLED"
    DONE = "DONE"
    FINISHED = "FINISHED"
    CLOSED = "CLOSED"
    CANCELED = "CANCELED"
    CANCELLED = "CANCELLED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"


Decimals = Annotated[StrictInt, Field(ge=0, le=20)]  # a number of decimals, not a size (contract: wallex 3.1)


def _object(value: object) -> object:
    return {} if value in ([], None) else value  # PHP's empty object


MaybeAmount = Annotated[Amount | None, BeforeValidator(lambda value: None if value in ("", "-") else value)]


class MarketSchema(WireModel):
    symbol: str
    baseAsset: Upper
    quoteAsset: Upper
    stepSize: Decimals
    tickSize: Decimals
    minQty: MaybeAmount = None
    minNotional: NonNegativeAmount
    isMarketTypeEnable: bool | None = None


class StatsSchema(WireModel):
    """`stats` of a market; "-" where nothing was traded, `direction` an empty list where there is none."""

    bidPrice: MaybeAmount = None
    askPrice: MaybeAmount = None
    lastPrice: MaybeAmount = None
    lastTradeSide: Any = None
    direction: Any = None
    volume_24h: Annotated[MaybeAmount, Field(alias="24h_volume")] = None
    quote_volume_24h: Annotated[MaybeAmount, Field(alias="24h_quoteVolume")] = None
    high_24h: Annotated[MaybeAmount, Field(alias="24h_highPrice")] = None
    low_24h: Annotated[MaybeAmount, Field(alias="24h_lowPrice")] = None
    change_24h: Annotated[MaybeAmount, Field(alias="24h_ch")] = None


class MarketStatsSchema(WireModel):
    symbol: str
    stats: Annotated[StatsSchema, BeforeValidator(_object)]


class ActiveMarketSchema(WireModel):
    """A market of the current list (contract: wallex 3.2)."""

    symbol: str
    base_asset: Upper
    quote_asset: Upper
    amount_precision: Decimals
    price_precision: Decimals
    is_spot: bool = False
    is_market_type_enable: bool | None = None
    price: MaybeAmount = None
    volume_24h: MaybeAmount = None
    quote_volume_24h: MaybeAmount = None
    change_24h: MaybeAmount = None


class CurrencyStatsSchema(WireModel):
    """Numbers or null; what is not named here is among the extra fields."""

    model_config = ConfigDict(extra="allow", frozen=True)

    key: Upper
    name_en: str | None = None
    rank: int | None = None
    price: MaybeAmount = None
    market_cap: MaybeAmount = None
    volume_24h: MaybeAmount = None
    updated_at: WireTime | None = None


class FeeSchema(WireModel):
    makerFeeRate: NonNegativeAmount
    takerFeeRate: NonNegativeAmount


class DepthLevelSchema(WireModel):
    price: PositiveAmount
    quantity: NonNegativeAmount


class DepthSchema(WireModel):
    ask: list[DepthLevelSchema]
    bid: list[DepthLevelSchema]


class TradeSchema(WireModel):
    """A public trade."""

    price: PositiveAmount
    quantity: NonNegativeAmount
    isBuyOrder: bool | None = None
    timestamp: WireTime


class BalanceSchema(WireModel):
    """`value` is the total, `locked` the frozen part of it (contract: wallex 4.1)."""

    asset: Upper
    value: Amount
    locked: Amount


class FillSchema(WireModel):
    """One of an order's fills. There is no trade id on this wire."""

    price: PositiveAmount
    quantity: PositiveAmount
    fee: Amount
    feeAsset: Any = None  # text; an object in the OTC documents
    timestamp: WireTime


class AccountTradeSchema(FillSchema):
    """An own trade: neither its own id nor its order's."""

    symbol: str
    isBuyer: StrictBool


class OrderSchema(WireModel):
    """An order object; early generations send only the required fields (contract: wallex 5.2)."""

    symbol: str
    type: Upper
    side: Annotated[Side, BeforeValidator(lambda value: value.upper() if isinstance(value, str) else value)]
    clientOrderId: Annotated[str, Field(min_length=1, max_length=64)]
    price: MaybeAmount = None
    origQty: PositiveAmount
    executedQty: NonNegativeAmount
    executedSum: MaybeAmount = None
    executedPrice: MaybeAmount = None
    fee: MaybeAmount = None
    status: WallexStatus
    active: StrictBool
    fills: list[FillSchema] | None = None
    stopPrice: MaybeAmount = None
    created_at: WireTime | None = None

    @model_validator(mode="after")
    def _filled_no_more_than_ordered(self) -> Self:
        if self.executedQty > self.origQty:
            raise ValueError("executedQty above origQty")
        return self


def _exact(value: object) -> object:
    if isinstance(value, float | bool):
        raise ValueError("amounts are text or Decimal, never float")  # noqa: TRY004 - pydantic reports ValueError
    return value


OrderAmount = Annotated[Decimal, BeforeValidator(_exact), Field(gt=0, allow_inf_nan=False)]


class CreateOrderRequestSchema(BaseModel):
    """What Wallex is asked to do (contract: wallex 5.1). Amounts are text or Decimal; `stopPrice` belongs to STOP_*."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    symbol: Annotated[str, Field(pattern=r"^[A-Z0-9]{3,32}$")]
    side: Annotated[Side, BeforeValidator(lambda value: value.upper() if isinstance(value, str) else value)]
    type: Annotated[OrderType, BeforeValidator(lambda value: value.upper() if isinstance(value, str) else value)]
    quantity: OrderAmount
    price: OrderAmount | None = None
    stopPrice: OrderAmount | None = None
    client_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,36}$")] | None = None

    @model_validator(mode="after")
    def _prices_fit_the_type(self) -> Self:
        if self.type in (OrderType.LIMIT, OrderType.STOP_LIMIT) and self.price is None:
            raise ValueError(f"{self.type} needs a price")
        if self.type.is_stop and self.stopPrice is None:
            raise ValueError(f"{self.type} needs stopPrice: without a trigger it could execute at once")
        if not self.type.is_stop and self.stopPrice is not None:
            raise ValueError(f"{self.type} takes no stopPrice")
        return self

    def to_wire(self) -> dict[str, str]:
        """The JSON body. Wallex spells the trigger `stop_Price`; a price is sent only where it limits something."""
        limits = self.type in (OrderType.LIMIT, OrderType.STOP_LIMIT)
        fields = {
            "symbol": self.symbol,
            "type": self.type.value,
            "side": self.side.value,
            "quantity": wire_text(self.quantity),
            "price": wire_text(self.price) if limits and self.price is not None else None,
            "stop_Price": wire_text(self.stopPrice) if self.stopPrice is not None else None,
            "client_id": self.client_id,
        }
        return {name: value for name, value in fields.items() if value is not None}
