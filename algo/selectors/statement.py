"""What happened to an account's balances, movement by movement, as an accountant wants it: opening balances, trades,
fees, and what came or went outside the platform. The amounts of an asset add up to its balance."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from algo.models import Account, BalanceReading, Fill
from providers.types import ZERO, Side, canonical_asset

Totals = Mapping[str, Decimal]


class Kind(StrEnum):
    OPENING = "opening"  # there already, when the statement begins
    TRADE = "trade"
    FEE = "fee"
    OUTSIDE = "outside"  # no fill of ours explains it: a deposit, a withdrawal, a trade by hand


@dataclass(frozen=True, slots=True)
class Movement:
    """`amount` of `asset` came (or, negative, went); `balance` is what was there afterwards. What came from outside is
    dated by the reading that first saw it."""

    at: datetime
    kind: Kind
    asset: str
    amount: Decimal
    balance: Decimal
    fill: Fill | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What the exchange said an account holds, each asset by its canonical name."""

    read_at: datetime
    totals: Totals

    @classmethod
    def of(cls, read_at: datetime, totals: Mapping[str, Decimal | str]) -> Reading:
        return cls(read_at, {canonical_asset(asset): Decimal(total) for asset, total in totals.items()})


def changes_of(fill: Fill) -> tuple[tuple[Kind, str, Decimal], ...]:
    """What a booked fill did to the balances, each asset as its exchange spells it."""
    market, sign = fill.order.market, Side(fill.order.side).sign
    return (
        (Kind.TRADE, market.base, sign * fill.quantity),
        (Kind.TRADE, market.quote, -sign * fill.quantity * fill.price),
        (Kind.FEE, fill.fee_asset, -fill.fee),
    )


def statement(
    account: Account,
    *,
    around: timedelta,
    start: datetime | None = None,
    end: datetime | None = None,
    closing: Reading | None = None,
) -> Iterator[Movement]:
    """The movements of [start, end), oldest first, after an opening balance for each asset that there is. `closing` is
    a reading of now, beside those that are kept. A reading saw the fills up to some moment within `around` of its own:
    the one that explains most of it is taken."""
    books = _Books(account, around)
    opened = start is None
    for movement in books.movements(closing):
        if end is not None and movement.at >= end:
            break
        if start is not None and movement.at < start:
            continue
        if not opened and start is not None:
            yield from books.opening(start, without=movement)
            opened = True
        yield movement
    if not opened and start is not None:
        yield from books.opening(start)


class _Books:
    def __init__(self, account: Account, around: timedelta) -> None:
        self._account, self._around = account, around
        self._balances: dict[str, Decimal] = {}

    def opening(self, at: datetime, *, without: Movement | None = None) -> Iterator[Movement]:
        """What is there at `at`, before `without`, the first movement since."""
        for asset, balance in sorted(self._balances.items()):
            there = balance - without.amount if without is not None and without.asset == asset else balance
            if there:
                yield Movement(at, Kind.OPENING, asset, there, there)

    def movements(self, closing: Reading | None) -> Iterator[Movement]:
        readings = [
            Reading.of(row.read_at, row.totals)
            for row in BalanceReading.objects.filter(account=self._account).order_by("read_at")
        ]
        readings += [closing] if closing else []
        rows = Fill.objects.filter(account=self._account).select_related("order__market").order_by("executed_at", "pk")
        fills = _Fills(rows.iterator(chunk_size=2000))
        if readings:
            yield from self._begin(readings[0], fills)
        for reading in readings[1:]:
            yield from self._book(fills.before(reading.read_at - self._around))
            unclear = fills.before(reading.read_at + self._around)
            seen = self._seen(reading, unclear)
            yield from self._book(unclear[:seen])
            yield from self._outside(reading)
            yield from self._book(unclear[seen:])
        yield from self._book(fills)

    def _begin(self, reading: Reading, fills: _Fills) -> Iterator[Movement]:
        """The opening balances are what makes the first reading right."""
        before = fills.before(reading.read_at)
        at = before[0].executed_at if before else reading.read_at
        opening = dict(reading.totals)
        for asset, change in _changes(before):
            opening[asset] = opening.get(asset, ZERO) - change
        yield from (self._move(at, Kind.OPENING, asset, amount) for asset, amount in sorted(opening.items()) if amount)
        yield from self._book(before)

    def _book(self, fills: Iterable[Fill]) -> Iterator[Movement]:
        for fill in fills:
            for kind, asset, amount in changes_of(fill):
                if amount:
                    yield self._move(fill.executed_at, kind, canonical_asset(asset), amount, fill)

    def _move(self, at: datetime, kind: Kind, asset: str, amount: Decimal, fill: Fill | None = None) -> Movement:
        self._balances[asset] = balance = self._balances.get(asset, ZERO) + amount
        return Movement(at, kind, asset, amount, balance, fill)

    def _seen(self, reading: Reading, unclear: Sequence[Fill]) -> int:
        """How many of the unclear fills the reading had seen already; in doubt, those that are stamped before it."""
        stamped = sum(fill.executed_at < reading.read_at for fill in unclear)
        tried = sorted(range(len(unclear) + 1), key=lambda seen: abs(seen - stamped))
        return min(tried, key=lambda seen: self._unexplained(reading, unclear[:seen]))

    def _unexplained(self, reading: Reading, seen: Sequence[Fill]) -> int:
        """How many assets are not what the books make of them with these fills."""
        balances = dict(self._balances)
        for asset, change in _changes(seen):
            balances[asset] = balances.get(asset, ZERO) + change
        assets = balances.keys() | reading.totals.keys()
        return sum(balances.get(asset, ZERO) != reading.totals.get(asset, ZERO) for asset in assets)

    def _outside(self, reading: Reading) -> Iterator[Movement]:
        for asset in sorted(self._balances.keys() | reading.totals.keys()):
            amount = reading.totals.get(asset, ZERO) - self._balances.get(asset, ZERO)
            if amount:
                yield self._move(reading.read_at, Kind.OUTSIDE, asset, amount)


class _Fills:
    """Fills in their order, taken up to a moment at a time."""

    def __init__(self, rows: Iterator[Fill]) -> None:
        self._rows = rows
        self._next = next(rows, None)

    def __iter__(self) -> Iterator[Fill]:
        while self._next is not None:
            fill, self._next = self._next, next(self._rows, None)
            yield fill

    def before(self, moment: datetime) -> list[Fill]:
        taken = []
        while self._next is not None and self._next.executed_at < moment:
            taken.append(self._next)
            self._next = next(self._rows, None)
        return taken


def _changes(fills: Sequence[Fill]) -> Iterator[tuple[str, Decimal]]:
    return ((canonical_asset(asset), change) for fill in fills for _, asset, change in changes_of(fill))
