"""Order books in files: what was written is read, and what is no book is named."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from providers.recorded import RecordedDataError
from providers.recorded_books import book_line, read_books
from providers.types import BookLevel, OrderBook

D = Decimal


def book(second: float, bid: str = "99.90", ask: str = "100.10") -> OrderBook:
    moment = datetime.fromtimestamp(1_700_000_000 + second, UTC)
    return OrderBook("BTCUSDT", (BookLevel(D(bid), D("1.5")),), (BookLevel(D(ask), D("0.000001")),), moment)


@pytest.mark.parametrize("packed", [False, True])
def test_what_was_written_is_read_digit_for_digit(tmp_path, packed):
    path, written = tmp_path / "books", [book(0.25), book(1)]
    with gzip.open(path, "wt") if packed else path.open("w") as sink:
        sink.writelines(f"{book_line(each)}\n" for each in written)
    assert list(read_books(path, "BTCUSDT")) == written
    assert str(read_books(path, "BTCUSDT")[0].bids[0].price) == "99.90"


def test_books_are_sorted_and_the_last_of_one_time_counts(tmp_path):
    path = tmp_path / "books"
    path.write_text("\n".join(map(book_line, [book(5), book(1), book(5, bid="98")])) + "\n\n")
    assert [each.bids[0].price for each in read_books(path, "BTCUSDT")] == [D("99.90"), D("98")]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "holds no order books"),
        ("[]", "line 1: '\\[\\]' is no order book"),
        ('{"time": 1, "bids": []}', "line 1"),
        ('{"time": 1, "bids": [["x", "1"]], "asks": []}', "line 1"),
        ('{"time": 1, "bids": [["-5", "1"]], "asks": []}', "line 1"),
        ('{"time": 1e300, "bids": [], "asks": []}', "line 1"),
        ("no json", "line 1: 'no json'"),
    ],
)
def test_what_is_no_book_is_named(tmp_path, text, what):
    path = tmp_path / "books"
    path.write_text(text)
    with pytest.raises(RecordedDataError, match=what):
        read_books(path, "BTCUSDT")


def test_a_file_that_is_not_there_says_so(tmp_path):
    with pytest.raises(RecordedDataError, match="does not exist"):
        read_books(tmp_path / "none", "BTCUSDT")
