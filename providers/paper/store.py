"""What the paper exchange must not forget: `Store` in SQLite, `MemoryStore` in this process, for simulations.

SQLite is written in one transaction per operation, before the answer.

WAL with synchronous=NORMAL: what is committed survives the death of the process, which is what a killed exchange is.
Only a power cut can lose the last moments, and that loses whole transactions, never half of one.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from providers.paper.core import Venue
from providers.paper.ledger import Entry, Posting
from providers.paper.orders import Order, State, Trade
from providers.paper.records import Changes
from providers.types import OrderType, Side

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS accounts (
    name TEXT PRIMARY KEY, number INTEGER NOT NULL UNIQUE, wallex_key TEXT UNIQUE, nobitex_token TEXT UNIQUE,
    opened_at TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS keys (
    kind TEXT, id TEXT, account TEXT NOT NULL, facts TEXT NOT NULL, PRIMARY KEY (kind, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS orders (venue TEXT, id INTEGER, row TEXT NOT NULL, PRIMARY KEY (venue, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS trades (venue TEXT, id INTEGER, row TEXT NOT NULL, PRIMARY KEY (venue, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS entries (
    venue TEXT, id INTEGER, kind TEXT NOT NULL, at TEXT NOT NULL, postings TEXT NOT NULL, PRIMARY KEY (venue, id)
) WITHOUT ROWID;
"""
_DECIMALS = frozenset({"quantity", "price", "stop_price", "filled", "filled_quote", "fee", "lock_rate", "fee_rate"})
_TIMES = frozenset({"created_at", "updated_at", "triggered_at", "closed_at", "executed_at"})
_ENUMS: dict[str, type] = {"side": Side, "type": OrderType, "state": State}


class Store:
    """One file in the data directory. Not for use by two processes at a time."""

    def __init__(self, path: Path) -> None:
        # Autocommit: transactions are begun and ended by `_transaction` alone.
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=1.0)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        self._db.close()

    def meta(self) -> dict[str, str]:
        return dict(self._db.execute("SELECT key, value FROM meta"))

    def accounts(self) -> list[tuple[str, int, str | None, str | None, str]]:
        """(name, number, digest of the Wallex key, digest of the Nobitex token, opened at), oldest first."""
        query = "SELECT name, number, wallex_key, nobitex_token, opened_at FROM accounts ORDER BY number"
        return list(self._db.execute(query))

    def api_keys(self) -> list[tuple[str, str, str, str]]:
        """(kind, id, account, facts) of every key."""
        return list(self._db.execute("SELECT kind, id, account, facts FROM keys"))

    def save_key(self, row: tuple[str, str, str, str]) -> None:
        self._db.execute("INSERT OR REPLACE INTO keys VALUES (?, ?, ?, ?)", row)

    def delete_key(self, kind: str, key_id: str) -> None:
        self._db.execute("DELETE FROM keys WHERE kind = ? AND id = ?", (kind, key_id))

    def entries(self, venue: str) -> Iterator[Entry]:
        """Everything ever booked at a venue, oldest first."""
        rows = self._db.execute("SELECT id, kind, at, postings FROM entries WHERE venue = ? ORDER BY id", (venue,))
        return (_entry(*row) for row in rows)

    def save(
        self,
        changes: Mapping[str, Changes],
        meta: Mapping[str, str],
        accounts: Iterable[tuple[str, int, str | None, str | None, str]] = (),
    ) -> None:
        """Write everything one operation did, or nothing."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", meta.items())
            self._db.executemany("INSERT OR REPLACE INTO accounts VALUES (?, ?, ?, ?, ?)", accounts)
            for venue, change in changes.items():
                self._save_changes(venue, change)
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def _save_changes(self, venue: str, changes: Changes) -> None:
        orders = [(venue, order.id, _dump(order)) for order in changes.orders.values()]
        trades = [(venue, trade.id, _dump(trade)) for trade in changes.trades]
        entries = [(venue, entry.id, entry.kind, entry.at.isoformat(), _postings(entry)) for entry in changes.entries]
        self._db.executemany("INSERT OR REPLACE INTO orders VALUES (?, ?, ?)", orders)
        self._db.executemany("INSERT INTO trades VALUES (?, ?, ?)", trades)
        self._db.executemany("INSERT INTO entries VALUES (?, ?, ?, ?, ?)", entries)

    def load(self, venue: Venue) -> None:
        """Put a venue back where it was."""
        name = (venue.profile.name,)
        orders = self._db.execute("SELECT row FROM orders WHERE venue = ? ORDER BY id", name)
        trades = self._db.execute("SELECT row FROM trades WHERE venue = ? ORDER BY id", name)
        venue.restore(
            [Order(**_parse(row)) for (row,) in orders],
            [Trade(**_parse(row)) for (row,) in trades],
            self.entries(venue.profile.name),
        )


class MemoryStore:
    """The same, kept by this object alone: an exchange opened on it anew goes on where the last one was."""

    def __init__(self) -> None:
        self._meta: dict[str, str] = {}
        self._accounts: dict[str, tuple[str, int, str | None, str | None, str]] = {}
        self._keys: dict[tuple[str, str], tuple[str, str, str, str]] = {}
        self._changes: dict[str, Changes] = {}

    def close(self) -> None:
        """Nothing to close."""

    def meta(self) -> dict[str, str]:
        return dict(self._meta)

    def accounts(self) -> list[tuple[str, int, str | None, str | None, str]]:
        """(name, number, digest of the Wallex key, digest of the Nobitex token, opened at), oldest first."""
        return sorted(self._accounts.values(), key=lambda row: row[1])

    def api_keys(self) -> list[tuple[str, str, str, str]]:
        """(kind, id, account, facts) of every key."""
        return list(self._keys.values())

    def save_key(self, row: tuple[str, str, str, str]) -> None:
        self._keys[row[0], row[1]] = row

    def delete_key(self, kind: str, key_id: str) -> None:
        self._keys.pop((kind, key_id), None)

    def entries(self, venue: str) -> Iterator[Entry]:
        """Everything ever booked at a venue, oldest first."""
        return iter(self._kept(venue).entries)

    def save(
        self,
        changes: Mapping[str, Changes],
        meta: Mapping[str, str],
        accounts: Iterable[tuple[str, int, str | None, str | None, str]] = (),
    ) -> None:
        """Keep everything one operation did."""
        self._meta.update(meta)
        self._accounts.update({row[0]: row for row in accounts})
        for venue, change in changes.items():
            kept = self._kept(venue)
            kept.orders.update(change.orders)
            kept.trades += change.trades
            kept.entries += change.entries

    def load(self, venue: Venue) -> None:
        """Put a venue back where it was."""
        kept = self._kept(venue.profile.name)
        orders = [replace(order, trades=[]) for order in kept.orders.values()]
        venue.restore(sorted(orders, key=lambda order: order.id), kept.trades, kept.entries)

    def _kept(self, venue: str) -> Changes:
        return self._changes.setdefault(venue, Changes())


AnyStore = Store | MemoryStore


def _dump(item: Order | Trade) -> str:
    values = {each.name: getattr(item, each.name) for each in fields(item) if each.name != "trades"}
    return json.dumps({name: _plain(value) for name, value in values.items()}, separators=(",", ":"))


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return str(value)
    return value.isoformat() if isinstance(value, datetime) else value


def _parse(row: str) -> dict[str, Any]:
    return {name: _typed(name, value) for name, value in json.loads(row).items()}


def _typed(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name in _DECIMALS:
        return Decimal(value)
    if name in _TIMES:
        return datetime.fromisoformat(value).astimezone(UTC)
    return _ENUMS[name](value) if name in _ENUMS else value


def _postings(entry: Entry) -> str:
    return json.dumps([[posting.account, posting.asset, str(posting.amount)] for posting in entry.postings])


def _entry(number: int, kind: str, at: str, postings: str) -> Entry:
    rows = json.loads(postings)
    return Entry(number, kind, datetime.fromisoformat(at), tuple(Posting(a, s, Decimal(v)) for a, s, v in rows))
