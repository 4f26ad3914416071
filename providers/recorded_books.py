"""Recorded order books in a file: one JSON object a line, best level first, gzip allowed.

`{"time": 1700000000.5, "bids": [["price", "quantity"], ...], "asks": [...]}` with `time` in unix seconds. Written by
`manage.py record_books`, read by backtests.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from providers.recorded import RecordedDataError, opened_text
from providers.types import BookLevel, OrderBook

FORM = (
    'Expected one JSON object a line: {"time": 1700000000.5, "bids": [["price", "quantity"], ...], "asks": [...]}, '
    "with times in unix seconds, as record_books writes it."
)


def book_line(book: OrderBook) -> str:
    """One order book as a line of such a file, digit for digit."""
    sides = {"bids": book.bids, "asks": book.asks}
    levels = {name: [[str(level.price), str(level.quantity)] for level in side] for name, side in sides.items()}
    return json.dumps({"time": round(book.as_of.timestamp(), 6), **levels}, separators=(",", ":"))


def read_books(path: str | Path, symbol: str) -> tuple[OrderBook, ...]:
    """The order books of a file, oldest first; of several with one time the last counts. Raises RecordedDataError."""
    path = Path(path)
    books: dict[datetime, OrderBook] = {}
    with opened_text(path) as source:
        for number, line in enumerate(source, start=1):
            if line.strip():
                book = _book(path, number, line, symbol)
                books[book.as_of] = book
    if not books:
        raise RecordedDataError(f"{path} holds no order books. {FORM}")
    return tuple(books[moment] for moment in sorted(books))


def _book(path: Path, number: int, line: str, symbol: str) -> OrderBook:
    try:
        fields = json.loads(line, parse_float=Decimal)
        bids = sorted(map(_level, fields["bids"]), key=lambda level: level.price, reverse=True)
        asks = sorted(map(_level, fields["asks"]), key=lambda level: level.price)
        return OrderBook(symbol, tuple(bids), tuple(asks), datetime.fromtimestamp(float(fields["time"]), UTC))
    except (ValueError, KeyError, TypeError, ArithmeticError, OSError) as exc:
        raise RecordedDataError(f"{path}, line {number}: {line.strip()[:60]!r} is no order book. {FORM}") from exc


def _level(pair: Sequence[Any]) -> BookLevel:
    price, quantity = (Decimal(str(number)) for number in pair)
    if not (price.is_finite() and quantity.is_finite() and price > 0 and quantity >= 0):
        raise ValueError("a level has a price above 0 and a quantity of at least 0")
    return BookLevel(price, quantity)
