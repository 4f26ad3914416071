"""`manage.py record_books`, and a backtest over what it wrote."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.core.management.base import CommandError

from providers.errors import Unavailable
from providers.recorded_books import read_books
from providers.types import BookLevel, OrderBook
from tests.factories import make_market


def test_books_of_the_paper_exchange_are_recorded_and_tested_with(run, paper_exchange, tmp_path):
    out = tmp_path / "books.jsonl.gz"
    said = run("record_books", "--symbol", "BTCUSDT", "--out", str(out), "--every", "1", "--count", "2")
    assert said == f"2 books written to {out}; 0 could not be read.\n"
    books = read_books(out, "BTCUSDT")
    assert len(books) == 2
    assert all(book.is_usable for book in books)
    report = json.loads(run("backtest_strategy", "--symbol", "BTCUSDT", "--days", "1", "--books", str(out), "--json"))
    assert any("order books were recorded for" in text for text in report["warnings"])


def test_it_goes_on_after_a_call_that_failed(run, venue, tmp_path, monkeypatch):
    monkeypatch.setattr("algo.management.commands.record_books.time.sleep", lambda seconds: None)
    make_market(provider="nobitex")
    levels, answers = (BookLevel(Decimal(100), Decimal(1)),), [None, None]

    def order_book(symbol):
        if answers:
            answers.pop()
            raise Unavailable("nobitex does not answer")
        return OrderBook(symbol, levels, levels, datetime(2025, 1, 1, tzinfo=UTC))

    monkeypatch.setattr(venue, "order_book", order_book, raising=False)
    out = tmp_path / "books.jsonl"
    said = run("record_books", "--symbol", "BTCUSDT", "--out", str(out), "--count", "1")
    assert said == f"1 books written to {out}; 2 could not be read.\n"


@pytest.mark.parametrize(
    ("words", "what"),
    [(["--every", "0"], "from 1 to 3600"), (["--count", "0"], "at least 1"), (["--out", "/nowhere/x"], "folder")],
)
def test_wrong_words_record_nothing(run, venue, tmp_path, words, what):
    with pytest.raises(CommandError, match=what):
        run("record_books", "--symbol", "BTCUSDT", "--out", str(tmp_path / "x"), *words)
    assert not (tmp_path / "x").exists()
