"""What one venue remembers: orders by every name they go by, trades, and what changed since the last look."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count

from providers.paper.ledger import Entry
from providers.paper.orders import Order, State, Trade, UnknownOrder


@dataclass(slots=True)
class Changes:
    """What one operation did, for the store to write before the answer leaves."""

    orders: dict[int, Order] = field(default_factory=dict)
    trades: list[Trade] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.orders or self.trades or self.entries)


class Records:
    """Orders and trades of all accounts of one venue. Ids are handed out here and never twice."""

    def __init__(self) -> None:
        self.changes = Changes()
        self._orders: dict[int, Order] = {}
        self._working: dict[int, Order] = {}
        self._working_of: dict[str, dict[int, Order]] = {}  # by account
        self._working_in: dict[str, dict[int, Order]] = {}  # by pair: each is looked at every second
        self._by_account: dict[str, list[Order]] = {}
        self._by_client_id: dict[tuple[str, str], list[Order]] = {}
        self._trades: dict[str, list[Trade]] = {}
        self._order_ids = count(1)
        self._trade_ids = count(1)

    def next_order_id(self) -> int:
        return next(self._order_ids)

    def next_trade_id(self) -> int:
        return next(self._trade_ids)

    def of(self, account: str) -> Sequence[Order]:
        """All orders of an account, oldest first."""
        return self._by_account.get(account, ())

    def working(self, *, account: str | None = None, pair: str | None = None) -> list[Order]:
        """Untriggered stops and resting orders, oldest first."""
        if account is not None:
            orders = self._working_of.get(account, {}).values()
            return [order for order in orders if pair is None or order.pair == pair]
        return list((self._working if pair is None else self._working_in.get(pair, {})).values())

    def get(self, account: str, order_id: int) -> Order:
        """Raises `UnknownOrder`, also for other people's orders."""
        order = self._orders.get(order_id)
        if order is None or order.account != account:
            raise UnknownOrder(str(order_id))
        return order

    def __getitem__(self, order_id: int) -> Order:
        return self._orders[order_id]

    def with_client_id(self, account: str, client_id: str) -> Sequence[Order]:
        """Every order that ever bore this client id, oldest first."""
        return self._by_client_id.get((account, client_id), ())

    def partner(self, order: Order) -> Order | None:
        """The other leg of an OCO."""
        return self._orders.get(order.pair_id) if order.pair_id is not None else None

    def trades(self, account: str) -> Sequence[Trade]:
        """All fills of an account, oldest first."""
        return self._trades.get(account, ())

    def add(self, order: Order) -> None:
        self._index(order)
        self.touch(order)

    def add_trade(self, order: Order, trade: Trade) -> None:
        order.trades.append(trade)
        self._trades.setdefault(trade.account, []).append(trade)
        self.changes.trades.append(trade)
        self.touch(order)

    def add_entry(self, entry: Entry) -> None:
        self.changes.entries.append(entry)

    def touch(self, order: Order) -> None:
        """This order changed."""
        self.changes.orders[order.id] = order

    def close(self, order: Order, state: State, at: datetime, reason: str) -> None:
        order.state, order.reason = state, reason
        order.closed_at = order.updated_at = at
        for working in self._rooms(order):
            working.pop(order.id, None)
        self.touch(order)

    def take_changes(self) -> Changes:
        """What happened since the last call; the caller keeps it safe before anybody is told."""
        changes, self.changes = self.changes, Changes()
        return changes

    def restore(self, orders: Iterable[Order], trades: Iterable[Trade]) -> None:
        """Put back what was kept; ids go on from there."""
        for order in orders:
            self._index(order)
        last_trade = 0
        for trade in trades:
            self._orders[trade.order_id].trades.append(trade)
            self._trades.setdefault(trade.account, []).append(trade)
            last_trade = max(last_trade, trade.id)
        self._order_ids = count(max(self._orders, default=0) + 1)
        self._trade_ids = count(last_trade + 1)

    def _rooms(self, order: Order) -> tuple[dict[int, Order], ...]:
        """Every place where a working order is found."""
        of, within = self._working_of.setdefault(order.account, {}), self._working_in.setdefault(order.pair, {})
        return self._working, of, within

    def _index(self, order: Order) -> None:
        self._orders[order.id] = order
        self._by_account.setdefault(order.account, []).append(order)
        if order.state.is_working:
            for working in self._rooms(order):
                working[order.id] = order
        if order.client_id is not None:
            self._by_client_id.setdefault((order.account, order.client_id), []).append(order)
