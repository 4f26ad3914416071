"""Double entry: money is never made, only moved. Every asset sums to zero over all accounts, always."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Context, Decimal

from providers.types import ZERO

# Wide enough that no product or sum of amounts is ever rounded; only averages are, and those are never booked.
EXACT = Context(prec=80)

OUTSIDE = "outside"  # where deposits come from; its balance is minus everything ever deposited
HOUSE = "house"  # the counterparty of every trade: the market maker
FEES = "fees"  # what the venue earned


def trader(account: str) -> str:
    """The ledger account of a trader."""
    return f"trader:{account}"


class LedgerError(RuntimeError):
    """The books do not balance: a bug. Nothing may go on after this."""


@dataclass(frozen=True, slots=True)
class Posting:
    """One account's side of a transaction."""

    account: str
    asset: str
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Entry:
    """One balanced transaction."""

    id: int
    kind: str
    at: datetime
    postings: tuple[Posting, ...]


class Ledger:
    """Balances by (account, asset), moved only by balanced entries."""

    def __init__(self) -> None:
        self._balances: defaultdict[tuple[str, str], Decimal] = defaultdict(lambda: ZERO)
        self._next_id = 1

    def post(self, kind: str, at: datetime, postings: Iterable[Posting]) -> Entry:
        """Book one transaction. Raises `LedgerError`, booking nothing, when an asset does not sum to zero."""
        entry = Entry(self._next_id, kind, at, tuple(postings))
        sums: defaultdict[str, Decimal] = defaultdict(lambda: ZERO)
        for posting in entry.postings:
            sums[posting.asset] = EXACT.add(sums[posting.asset], posting.amount)
        if any(sums.values()):
            raise LedgerError(f"entry {entry.id} ({kind}) is not balanced: {dict(sums)}")
        self.restore(entry)
        return entry

    def restore(self, entry: Entry) -> None:
        """Apply an entry that was booked before (after a restart)."""
        for posting in entry.postings:
            key = (posting.account, posting.asset)
            self._balances[key] = EXACT.add(self._balances[key], posting.amount)
        self._next_id = entry.id + 1

    def balance(self, account: str, asset: str) -> Decimal:
        return self._balances.get((account, asset), ZERO)

    def balances(self, account: str) -> dict[str, Decimal]:
        """Every asset this account ever touched, zeros included."""
        return {asset: amount for (owner, asset), amount in self._balances.items() if owner == account}

    def check_conservation(self) -> None:
        """Raise `LedgerError` unless every asset sums to zero over all accounts."""
        sums: defaultdict[str, Decimal] = defaultdict(lambda: ZERO)
        for (_, asset), amount in self._balances.items():
            sums[asset] = EXACT.add(sums[asset], amount)
        broken = {asset: amount for asset, amount in sums.items() if amount}
        if broken:
            raise LedgerError(f"money was made or lost: {broken}")
