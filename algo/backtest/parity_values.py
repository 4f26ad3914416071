"""What a comparison of live and backtest is told and what it answers: plain values.

Candles are named by their open time in unix seconds, as in `Candles`; moments are aware UTC; amounts are Decimals in
base or quote; percents are percents.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from algo.strategies.schemas import StrategySchema
from providers.types import ZERO, Resolution, Side


def digits(value: float) -> str:
    """A price, a quantity or an indicator in plain digits: 448,049,000 and 0.034188, never 4.48e+08."""
    return f"{value:,.8f}".rstrip("0").rstrip(".")


class Kind(StrEnum):
    """What differs."""

    SIGNAL = "signal"
    ENTRY = "entry"
    ENTRY_PRICE = "entry_price"
    QUANTITY = "quantity"
    EXIT = "exit"
    EXIT_PRICE = "exit_price"
    FEES = "fees"


class Cause(StrEnum):
    """Why. All but the first are known reasons, none of which is a defect of the engine or of the live path."""

    UNEXPLAINED = "unexplained"
    BOOK_VETO = "book_veto"
    BOOK_SIGNAL = "book_signal"
    NOT_DECIDED = "not_decided"
    NO_CANDLES = "no_candles"
    STRATEGY_ERROR = "strategy_error"
    CANDLE_MISSING = "candle_missing"
    CANDLE_CHANGED = "candle_changed"
    RULES_CHANGED = "rules_changed"
    DENIED_LIVE = "denied_live"
    OTHER_DEALS = "other_deals"
    FOLLOWS = "follows"
    TIMING = "timing"
    LATE = "late"
    NOT_FILLED = "not_filled"
    PARTIAL_FILL = "partial_fill"
    BALANCE = "balance"
    SLIPPAGE = "slippage"
    OTHER_EXCHANGE = "other_exchange"
    BY_HAND = "by_hand"
    KILL_SWITCH = "kill_switch"
    EMERGENCY = "emergency"
    STOP_GAP = "stop_gap"
    TARGET_TOUCH = "target_touch"
    TARGET_MISSED = "target_missed"
    WITHIN_CANDLE = "within_candle"
    FEE_RATE = "fee_rate"


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveDecision:
    """One row of the journal with the signal it came to, if any."""

    bar: int
    decided_at: datetime
    outcome: str  # a value of algo.models.Outcome
    side: Side | None = None
    reason: str = ""
    confidence: float = 0.0
    denial_code: str = ""
    denial_message: str = ""
    indicators: Mapping[str, Any] = field(default_factory=dict)
    book_side: Side | None = None  # the side the order book weighed on; None where it was in balance or not read
    note: str = ""  # of a failure, or of the candles that were missing


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveDeal:
    """One deal as the ledger knows it. Times and prices of fills are the exchange's; None where nothing was filled."""

    id: int
    bar: int
    side: Side
    created_at: datetime
    parameters: StrategySchema | None  # its own copy of the rules; None where the schema of today refuses them
    confidence: float = 1.0
    reason: str = ""
    planned_quantity: Decimal = ZERO
    planned_price: Decimal = ZERO
    available: Decimal | None = None  # of the asset the entry spends, shortly before; None where it was not recorded
    entry_at: datetime | None = None
    entry_price: Decimal | None = None
    entry_quantity: Decimal = ZERO
    exit_at: datetime | None = None  # of its last fill; None while it is open
    exit_price: Decimal | None = None
    close_reason: str = ""
    stop_price: Decimal = ZERO  # where it stood last
    fees: Decimal = ZERO
    profit: Decimal = ZERO
    note: str = ""

    @property
    def is_filled(self) -> bool:
        return self.entry_price is not None and self.entry_quantity > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherDeal:
    """A deal of the account that is not the strategy's own: another config's, or one that a person adopted."""

    since: datetime
    until: datetime | None
    on_market: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveDay:
    """What one strategy config did in [start, end). `deals` holds those decided in it, those that were open when it
    began, and those before that a cooldown may still count."""

    start: datetime
    end: datetime
    resolution: Resolution
    decisions: tuple[LiveDecision, ...]
    deals: tuple[LiveDeal, ...]
    others: tuple[OtherDeal, ...] = ()
    rules_saved_at: datetime | None = None  # what was decided before may have been decided by other rules
    same_market: bool = True  # False: candles of one exchange, orders at another


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that live and the engine do not agree about."""

    kind: Kind
    cause: Cause
    at: datetime
    text: str
    live: str = ""
    engine: str = ""
    deal: int | None = None

    def as_dict(self) -> dict[str, Any]:
        return {
            "kind": str(self.kind),
            "cause": str(self.cause),
            "at": self.at.isoformat(),
            "text": self.text,
            "live": self.live,
            "engine": self.engine,
            "deal": self.deal,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """The outcome: figures, and every difference, oldest first."""

    summary: Mapping[str, Any]
    differences: tuple[Difference, ...]

    @property
    def unexplained(self) -> int:
        return sum(each.cause is Cause.UNEXPLAINED for each in self.differences)
