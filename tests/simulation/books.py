"""Where the world's platform keeps its books: in memory, or in PostgreSQL. Checkers read both in the same words: rows
have the names of the models' fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol
from uuid import NAMESPACE_OID, uuid5

from algo.execution.entry_ledger import EntryLedger
from algo.execution.entry_ledger_memory import MemoryEntryLedger
from algo.execution.ledger import Ledger
from algo.execution.ledger_memory import MemoryLedger
from algo.execution.memory_store import ControlRow, MemoryStore
from algo.models import KillSwitch
from providers.types import Capabilities, MarketRules


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

    def order_named(self, client_order_id: str) -> Any | None: ...

    def orders(self) -> Sequence[Any]: ...

    def deals(self) -> Sequence[Any]: ...

    def fills(self) -> Sequence[Any]: ...

    def order_events(self) -> Sequence[Any]: ...

    def deal_events(self) -> Sequence[Any]: ...

    def tickets(self) -> Sequence[Any]: ...


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
