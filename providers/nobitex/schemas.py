"""Nobitex payloads, spelled as Nobitex spells them (contract: nobitex 4 to 6). Prices of IRT markets are in rial here,
except in charts."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from providers.wire import Amount, NonNegativeAmount, PositiveAmount, Whole, WireModel, WireTime


class NobitexStatus(StrEnum):
    """Life of an order there (contract: nobitex 6.3). `Rejected` is announced in words, its spelling is not."""

    NEW = "New"
    ACTIVE = "Active"
    INACTIVE = "Inactive"
    DONE = "Done"
    CANCELED = "Canceled"
    REJECTED = "Rejected"


def _amount_or_market(value: object) -> object:
    return None if value in ("market", "") else value


def _no_nulls(value: object) -> object:
    return {} if value is None else value


# A price that may be the word "market".
MaybePrice = Annotated[Amount | None, BeforeValidator(_amount_or_market)]
Level = tuple[PositiveAmount, NonNegativeAmount]


class OrderBookSchema(WireModel):
    lastUpdate: Whole
    lastTradePrice: NonNegativeAmount | None = None
    asks: list[Level]
    bids: list[Level]


class TradeSchema(WireModel):
    """A public trade."""

    time: Whole
    price: PositiveAmount


class MarketStatsSchema(WireModel):
    isClosed: bool | None = None  # all that is used: the prices of this call may be missing or zero


class CoinSchema(WireModel):
    coin: str
    name: str | None = None
    stdName: str | None = None


class MarketOptionsSchema(WireModel):
    """The part `nobitex` of the options. The two precisions are grids (steps and ticks), not numbers of decimals."""

    minOrders: dict[str, Amount]
    amountPrecisions: dict[str, Amount]
    pricePrecisions: dict[str, Amount]
    testingCurrencies: list[str] = []


class OptionsSchema(WireModel):
    coins: list[CoinSchema] = []
    nobitex: MarketOptionsSchema


class ProfileOptionsSchema(WireModel):
    """Fees in percent, of rial and of USDT markets."""

    fee: NonNegativeAmount | None = None
    feeUsdt: NonNegativeAmount | None = None


class ProfileSchema(WireModel):
    options: Annotated[ProfileOptionsSchema, BeforeValidator(_no_nulls)] = ProfileOptionsSchema()


class WalletSchema(WireModel):
    balance: Amount
    blocked: Amount


class OrderSchema(WireModel):
    """An order object. Which call sends which field is a table of its own (contract: nobitex 6.2)."""

    id: Whole | None = None
    type: str | None = None
    execution: str | None = None
    tradeType: str | None = None
    market: str | None = None
    srcCurrency: str | None = None
    dstCurrency: str | None = None
    price: MaybePrice = None
    param1: MaybePrice = None
    amount: PositiveAmount | None = None
    matchedAmount: NonNegativeAmount | None = None
    unmatchedAmount: NonNegativeAmount | None = None
    averagePrice: MaybePrice = None
    fee: Amount | None = None
    status: NobitexStatus
    created_at: WireTime | None = None
    pairId: Whole | None = None
    clientOrderId: str | None = None

    @model_validator(mode="after")
    def _filled_no_more_than_ordered(self) -> Self:
        if self.amount is not None and self.matchedAmount is not None and self.matchedAmount > self.amount:
            raise ValueError("matchedAmount above amount")
        return self


class OwnTradeSchema(WireModel):
    id: Whole
    orderId: Whole
    market: str | None = None
    timestamp: WireTime
    type: Annotated[str, Field(pattern=r"^(?i:buy|sell)$")]
    price: PositiveAmount
    amount: PositiveAmount
    fee: Amount


class FailureSchema(WireModel):
    """`{"status": "failed"}` with its code, or `{"detail": …}` (contract: nobitex 2)."""

    status: Any = None
    code: Any = None
    message: Any = None
    detail: Any = None

    @property
    def code_text(self) -> str:
        return self.code[:60] if isinstance(self.code, str) else ""
