"""The depth one venue matches against: what its feed shows, less what was taken since the depth was refreshed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal

from providers.paper.orders import Book, without
from providers.types import ZERO, BookLevel, Side


class Depth:
    """Books by pair. `books(pair, at)` is the source; what is taken is gone until its version changes."""

    def __init__(self, books: Callable[[str, datetime], Book]) -> None:
        self._books = books
        self._taken: dict[str, tuple[int, dict[Decimal, Decimal]]] = {}

    def book(self, pair: str, now: datetime) -> Book:
        book = self._books(pair, now)
        version, used = self._taken.get(pair, (None, {}))
        if version != book.version or not used:
            return book
        return Book(without(book.bids, used), without(book.asks, used), book.version)

    def levels(self, book: Book, side: Side, bound: Decimal) -> tuple[BookLevel, ...]:
        """What a taker of `side` finds in `book` no further than `bound`, best first."""
        levels = book.asks if side is Side.BUY else book.bids
        return tuple(level for level in levels if (bound - level.price) * side.sign >= 0)

    def take(self, pair: str, version: int, price: Decimal, quantity: Decimal) -> None:
        known, used = self._taken.get(pair, (None, {}))
        if known != version:
            used = {}
            self._taken[pair] = version, used
        used[price] = used.get(price, ZERO) + quantity
