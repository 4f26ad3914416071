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
    """A public trade: no id, and a volume that may be zero."""

    time: Whole
    price: PositiveAmount
    volume: NonNegativeAmount | None = None
    type: str | None = None


class MarketStatsSchema(WireModel):
    isClosed: bool | None = None  # the only sign of a closed market; prices beside it must not hide it


class DayStatsSchema(MarketStatsSchema):
    """The same answer with its prices. Every field may be missing, or zero in a fault."""

    bestSell: Amount | None = None
    bestBuy: Amount | None = None
    latest: Amount | None = None
    mark: Amount | None = None
    dayOpen: Amount | None = None
    dayHigh: Amount | None = None
    dayLow: Amount | None = None
    dayClose: Amount | None = None
    volumeSrc: Amount | None = None
    volumeDst: Amount | None = None
    dayChange: Amount | None = None  # percent


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


# What opens a stream: visible ASCII, so that it can stand in a frame and be masked in a log.
StreamSecret = Annotated[str, Field(pattern=r"^[!-~]{6,4096}$")]


class StreamNameSchema(WireModel):
    """Top level of the profile: the part of private channel names that is the user's, and secret."""

    websocketAuthParam: StreamSecret


class StreamTokenSchema(WireModel):
    token: StreamSecret


class WalletSchema(WireModel):
    balance: Amount
    blocked: Amount


class ListedWalletSchema(WireModel):
    """A row of wallets/list, which spells the fields otherwise than /v2/wallets."""

    id: Whole
    currency: str
    balance: Amount
    blockedBalance: Amount
    rialBalance: Amount | None = None


class WalletBalanceSchema(WireModel):
    balance: Amount


class UsageSchema(WireModel):
    used: Amount
    limit: Amount


class LimitationsSchema(WireModel):
    userLevel: Annotated[str, BeforeValidator(str)] = ""
    features: Annotated[dict[str, bool], BeforeValidator(_no_nulls)] = {}
    limits: Annotated[dict[str, UsageSchema], BeforeValidator(_no_nulls)] = {}


class TransactionSchema(WireModel):
    """A row of transactions/list; the last three fields come with transactions-history only."""

    id: Whole
    currency: str
    amount: Amount
    created_at: WireTime
    description: str | None = None
    calculatedFee: Amount | None = None
    balance: Amount | None = None
    tp: str | None = None
    type: str | None = None


class OpenCountSchema(WireModel):
    count: Annotated[Whole, Field(ge=0)]


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
    srcCurrency: str | None = None
    dstCurrency: str | None = None
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
    error: Any = None  # cancel-old, at times (contract: nobitex 6.8)

    @property
    def code_text(self) -> str:
        return self.code[:60] if isinstance(self.code, str) else ""


class CancelVerdictSchema(WireModel):
    """What cancel-batch says about one order."""

    status: str
    message: str | None = None
