"""What the gate is asked, what it may look at, and what it answers. Frozen; amounts are Decimals, times aware UTC."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from algo.risk.codes import DenialCode
from algo.strategies.schemas import StrategySchema
from providers.types import ZERO, BookLevel, Capabilities, MarketRules, OrderBook, Resolution, Side

BOTH_SIDES = frozenset({Side.BUY, Side.SELL})


@dataclass(frozen=True, slots=True)
class EntryIntent:
    """A strategy's wish, after the candle opened at `bar_open_at`. `candle_close` is None where no candle was used."""

    side: Side
    confidence: Decimal
    reason: str = ""
    bar_open_at: datetime | None = None
    candle_close: Decimal | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.confidence, Decimal) or not 0 < self.confidence <= 1:
            raise ValueError(f"confidence must be a Decimal above 0 and at most 1, not {self.confidence!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskContext:
    """All the gate may know, read at one moment. `rules`, `book` and balances are of the exchange that trades."""

    now: datetime
    parameters: StrategySchema
    rules: MarketRules
    book: OrderBook | None
    resolution: Resolution
    candles_closed_at: datetime | None = None  # close of the newest candle the strategy saw
    available_base: Decimal = ZERO
    available_quote: Decimal = ZERO
    balances_known: bool = True
    equity: Decimal | None = None  # of the account, in quote
    kill_switch: bool = False
    kill_switch_reason: str = ""
    account_paused: bool = False
    key_expires_at: datetime | None = None  # None: not known
    market_blocked: str = ""  # why; empty where it is not
    ordering_enabled: bool = True
    allowed_sides: frozenset[Side] = BOTH_SIDES
    open_deal_on_market: bool = False
    open_deals: int = 0  # of the account
    exposure: Decimal = ZERO  # what the account's live deals in this quote stand for, in quote
    last_entry_bar_at: datetime | None = None  # open time of the candle by which this config last entered
    trades_today: int = 0  # entries of this config in this trading day
    loss_today: Decimal = ZERO  # positive is a loss, in quote; realised, and that of open deals
    equity_at_day_start: Decimal | None = None  # in quote
    entries_recently: int = 0  # of the account, in the last RUNAWAY_WINDOW
    max_position_size_percent: Decimal = Decimal("50.0")  # the setting for everybody
    capabilities: Capabilities = field(default_factory=Capabilities)
    max_book_age: timedelta = timedelta(seconds=5)

    @property
    def reference_price(self) -> Decimal | None:
        """The last trade of the exchange that trades, or the middle of its book where it does not tell."""
        if self.book is None:
            return None
        return self.book.last_price or self.book.mid_price

    def levels_to_take(self, side: Side) -> tuple[BookLevel, ...]:
        """The side of the book that a market order of `side` takes from, best first."""
        if self.book is None:
            return ()
        return self.book.asks if side is Side.BUY else self.book.bids


@dataclass(frozen=True, slots=True)
class Approval:
    """An entry that may be made. `expected_price` comes from the book, on the tick, rounded against us.

    `quantity` is in base, `notional` = quantity x expected_price in quote. `stop_price` and `target_price` are for the
    expected price; the deal computes them again from its real fills. `fraction` is the share of the available balance.
    """

    quantity: Decimal
    expected_price: Decimal
    notional: Decimal
    stop_price: Decimal
    target_price: Decimal
    fraction: Decimal
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Denial:
    """An entry that is not made, with its code and a sentence for the person who asks why."""

    code: DenialCode
    message: str
