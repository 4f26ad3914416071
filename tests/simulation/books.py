"""Where the world's platform keeps its books: in memory, or in PostgreSQL. Checkers read both in the same words: rows
have the names of the models' fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol
from uuid import NAMESPACE_OID, uuid5

from algo.execution.entry_ledger import EntryLedger
from algo.execution.entry_ledger_memory import MemoryEntryLedger
from algo.execution.ledger import Ledger
from algo.execution.ledger_memory import MemoryLedger
from algo.execution.memory_store import ControlRow, DealRow, MemoryStore
from algo.models import AccountState, CloseReason, DealStatus, KillSwitch, Role
from algo.risk.stops import better_price, stop_crossed, target_reached, trailing_stop
from providers.types import Capabilities, MarketRules, OrderStatus


class Books(Protocol):
    """One world's books."""

    def add_account(self, name: str, provider: str) -> int: ...

    def add_markets(self, rules: Iterable[MarketRules], *, now: datetime) -> Mapping[str, int]:
        """The id of each by symbol."""
        ...

    def add_config(self, name: str, account_id: int, market_id: int, parameters: Mapping[str, Any]) -> int: ...

    def ledger(self, account_id: int, capabilities: Capabilities, epoch: int | None) -> Ledger: ...

    def entry_ledger(self) -> EntryLedger: ...

    def next_epoch(self, account_id: int) -> int: ...

    def set_switch(self, scope: str, target: int, level: KillSwitch, reason: str) -> None: ...

    def edit_config(self, config_id: int, parameters: Mapping[str, Any]) -> None: ...

    def resume_account(self, account_id: int) -> None: ...

    def close_by_hand(self, deal_id: int, *, now: datetime) -> bool:
        """Acts of a person (algo.services.deal_acts): whether anything was changed."""
        ...

    def move_stop_by_hand(self, deal_id: int, stop: Decimal, last: Decimal, *, now: datetime) -> bool: ...

    def look_by_hand(self, deal_id: int, *, now: datetime) -> bool: ...

    def cancel_by_hand(self, deal_id: int, *, now: datetime) -> bool: ...

    def order_named(self, client_order_id: str) -> Any | None: ...

    def orders(self) -> Sequence[Any]: ...

    def deals(self) -> Sequence[Any]: ...

    def fills(self) -> Sequence[Any]: ...

    def order_events(self) -> Sequence[Any]: ...

    def deal_events(self) -> Sequence[Any]: ...

    def tickets(self) -> Sequence[Any]: ...


def _is_stopped(row: DealRow) -> bool:
    return row.account.state == AccountState.STOPPED


def _may_move(row: DealRow, stop: Decimal, last: Decimal) -> bool:
    """As algo.services.deal_acts has it, for a person who means a looser stop."""
    side = row.side
    if row.status != DealStatus.OPEN or row.exit_reason or row.crossed_at is not None or stop == row.stop_price:
        return False
    if target_reached(side, row.target_price, stop) or stop_crossed(side, stop, last):
        return False
    if (stop - row.stop_price) * side.sign > 0:
        return True
    best = better_price(side, row.best_price or row.entry_price or last, last)
    percent, step = (Decimal(str(row.rules.get(f"trailing_{of}_percent", 0))) for of in ("stop", "step"))
    return trailing_stop(side, best, stop, percent, step, row.market.rules) is None


def public_id_of(name: str) -> str:
    """An account's own id, of which the names of its orders are made: the same in both books."""
    return str(uuid5(NAMESPACE_OID, name))


class MemoryBooks:
    """Over the in-memory ledger."""

    def __init__(self) -> None:
        self.store = MemoryStore()

    def add_account(self, name: str, provider: str) -> int:
        return self.store.add_account(name, provider, public_id=public_id_of(name)).pk

    def add_markets(self, rules: Iterable[MarketRules], *, now: datetime) -> Mapping[str, int]:
        return {each.symbol: self.store.add_market(each).pk for each in rules}

    def add_config(self, name: str, account_id: int, market_id: int, parameters: Mapping[str, Any]) -> int:
        return self.store.add_config(name, self.store.accounts[account_id], self.store.markets[market_id]).pk

    def ledger(self, account_id: int, capabilities: Capabilities, epoch: int | None) -> Ledger:
        return MemoryLedger(self.store, account_id, capabilities, epoch)

    def entry_ledger(self) -> EntryLedger:
        return MemoryEntryLedger(self.store)

    def next_epoch(self, account_id: int) -> int:
        return self.store.next_epoch(account_id)

    def set_switch(self, scope: str, target: int, level: KillSwitch, reason: str) -> None:
        row = self.store.system if scope == "global" else self.store.halts.setdefault((scope, target), ControlRow())
        row.kill_switch, row.reason = level, reason

    def edit_config(self, config_id: int, parameters: Mapping[str, Any]) -> None:
        """The deal carries its own rules: nothing of a config is read again."""

    def resume_account(self, account_id: int) -> None:
        row = self.store.accounts[account_id]
        row.state, row.state_reason = type(row.state).ACTIVE, ""

    def close_by_hand(self, deal_id: int, *, now: datetime) -> bool:
        row = self.store.find_deal(deal_id)
        if row.is_finished or row.exit_reason or _is_stopped(row):
            return False
        with self.store.atomic():
            self.store.touch(row)
            old = row.status
            if old == DealStatus.OPEN:
                self.store.set_deal_status(row, DealStatus.EXITING)
            row.exit_reason, row.note = CloseReason.MANUAL, "closed by the platform"
            self.store.note_deal(row, "exit", old, now, {"reason": row.exit_reason})
        return True

    def move_stop_by_hand(self, deal_id: int, stop: Decimal, last: Decimal, *, now: datetime) -> bool:
        row = self.store.find_deal(deal_id)
        if _is_stopped(row) or not _may_move(row, stop, last):
            return False
        with self.store.atomic():
            self.store.touch(row)
            row.stop_loosened += (stop - row.stop_price) * row.side.sign < 0
            row.stop_price, row.trailed_at = stop, now
            self.store.note_deal(row, "stop_moved", row.status, now, {})
            self.store.note_event("stop.moved", {}, now)
        return True

    def look_by_hand(self, deal_id: int, *, now: datetime) -> bool:
        row = self.store.find_deal(deal_id)
        if row.status != DealStatus.OPEN or row.exit_reason or _is_stopped(row):
            return False
        with self.store.atomic():
            self.store.touch(row)
            row.look_asked_at = now
            self.store.note_deal(row, "look_asked", row.status, now, {})
        return True

    def cancel_by_hand(self, deal_id: int, *, now: datetime) -> bool:
        deal = self.store.find_deal(deal_id)
        entry = next((row for row in deal.orders if row.role == Role.ENTRY), None)
        if entry is None or entry.status.is_final or entry.status is OrderStatus.CANCELING or deal.exit_reason:
            return False
        if entry.cancel_asked_at is not None or _is_stopped(deal):
            return False
        with self.store.atomic():
            self.store.touch(entry)
            entry.cancel_asked_at = now
            self.store.note_order(entry, entry.status, entry.status, now, "cancel asked for by the platform")
        return True

    def order_named(self, client_order_id: str) -> Any | None:
        return self.store.order_named(client_order_id)

    def orders(self) -> Sequence[Any]:
        return list(self.store.orders.values())

    def deals(self) -> Sequence[Any]:
        return list(self.store.deals.values())

    def fills(self) -> Sequence[Any]:
        return self.store.fills

    def order_events(self) -> Sequence[Any]:
        return self.store.order_events

    def deal_events(self) -> Sequence[Any]:
        return self.store.deal_events

    def tickets(self) -> Sequence[Any]:
        return self.store.tickets
