"""The narrow port of one decision: everything that an entry is counted against and everything it leaves, in one
transaction. Two stores keep it: `entry_ledger_orm` over PostgreSQL, and the in-memory ledger of the seeded world.

Rows are locked in one order everywhere: account, strategy, deal, order. Whoever holds one of them takes none that
stands before it; so no two transactions can wait for each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol

from algo.models import AccountState, KillSwitch, Outcome
from algo.risk.values import Approval, Denial, EntryIntent
from algo.strategies.schemas import StrategySchema
from providers.types import ZERO, Capabilities, MarketRules, Side


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryRequest:
    """A strategy's wish over one closed candle, with all that is written down about it whatever comes of it."""

    account_id: int
    config_id: int
    market_id: int  # where the order goes
    bar_open_at: datetime
    intent: EntryIntent
    price: Decimal  # the candle's close
    rules: MarketRules  # of the market
    parameters: StrategySchema  # the deal keeps its own copy: parameters.model_dump(mode="json")
    capabilities: Capabilities  # of the account: the deal's protection mode, and whether a market order takes a price
    journal: Mapping[str, Any] = field(default_factory=dict)  # `indicators` in it goes on the signal


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryWindows:
    """From when on something counts."""

    day_start: datetime  # of the trading day
    quarantine_since: datetime  # an order proven absent at or after this may still turn up
    recent_since: datetime  # for the runaway counter
    quotes_since: datetime  # a price older than this is none


@dataclass(frozen=True, slots=True)
class LiveDeal:
    """A deal of the account that ties up money: one that has not ended, or (`is_in_doubt`) one that was CANCELED whose
    entry was proven absent at or after `quarantine_since`: it may still turn up."""

    market_id: int
    quote: str
    side: Side
    planned_quantity: Decimal
    planned_price: Decimal
    entry_price: Decimal | None = None  # average of the entry fills that are booked
    opened_at: datetime | None = None  # None while its entry is under way
    held: Decimal = ZERO  # entry_quantity - exit_quantity by booked fills, never negative
    price: Decimal | None = None  # at which it could be closed now: bid of a BUY deal, ask of a SELL; None: not known
    is_in_doubt: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryCounts:
    """What the store knows while it holds the locks of the account and the strategy."""

    environment: str  # of the account
    account_state: AccountState
    key_expires_at: datetime | None
    ordering_enabled: bool  # as the strategy's row says now, not as it said when the candle was read
    allowed_sides: frozenset[Side]  # likewise
    live: tuple[LiveDeal, ...]  # of the account, on every market and in every quote
    kill_switch: KillSwitch = KillSwitch.OFF  # the strictest that applies to this account, strategy and market
    kill_switch_reason: str = ""  # in words, with whose switch it is
    market_blocked: str = ""  # why this account must not enter this market; empty where it may
    last_entry_bar_at: datetime | None = None
    trades_today: int = 0
    profit_today: Decimal = ZERO
    entries_recently: int = 0


@dataclass(frozen=True, slots=True)
class Decided:
    """What came of it. `outcome` is ENTERED, DENIED, or EXIT where the signal closed the strategy's opposite deal."""

    outcome: Outcome
    answer: Approval | Denial
    deal_id: int | None = None  # of the planned deal


Judge = Callable[[EntryCounts], Approval | Denial]


class EntryLedger(Protocol):
    """Where decisions are counted and kept."""

    def decide(self, request: EntryRequest, judge: Judge, *, windows: EntryWindows, now: datetime) -> Decided | None:
        """One decision in one transaction: all of what follows is kept, or nothing.

        1. Lock the account, then the strategy; wait for whoever holds them.
        2. None, and nothing is written, where this is not to be decided (any more): the strategy is gone, not RUNNING,
           moved to another account or market, or has a Decision for this candle or `last_bar_at` at or after it.
        3. Every OPEN deal of this strategy on this account and market, of the other side, without an exit reason,
           whose own frozen rules (not the strategy's of today) say `exit_on_opposite_signal`, becomes EXITING with
           exit reason SIGNAL.
        4. Count (after 3, which changes no count: an EXITING deal is live), and ask `judge` once:
           - `live`: see LiveDeal; every market of the account.
           - `market_blocked`: a ticket of this account and market is unresolved; or an order of this account and market
             has an unknown outcome (`unknown_since`), or was proven absent (`negative_at`) at or after
             `quarantine_since`. Of the tickets without a market nothing is blocked.
           - `trades_today`: deals of this strategy, on whatever market, planned at or after `day_start` and not
             CANCELED: a deal that filled nothing gives its place back, one of unknown fate is ENTERING and keeps it.
           - `last_entry_bar_at`: the newest candle by which a deal of this strategy that is not CANCELED was planned,
             on any day.
           - `profit_today`: the sum of `profit` over the account's deals on markets of this quote that closed at or
             after `day_start`.
           - `entries_recently`: deals of the account planned at or after `recent_since`, CANCELED ones included.
        5. Keep a Signal (the denial's code and message on it, or the warnings of the approval), a Decision (outcome,
           the journal, on a denial with {"denial": {"code", "message"}}) and `last_bar_at` = the candle; on an approval
           also a PLANNED Deal and its PENDING entry order with its client order id, created at `now`, leg 1, MARKET,
           with the expected price on it only where `market_takes_price`.
        6. A denial with code RUNAWAY pauses an ACTIVE account and leaves one event `account.paused`.

        None also where a constraint refused the deal: somebody else was first. A later call decides then.
        """
        ...
