"""Recorded order books: fills that walk their levels, and a strategy that sees them. Worked by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest

from algo.backtest import BookSeries, FillModel, run, run_both
from algo.strategies import BreakoutStrategy, StrategyInterface
from providers.types import BookLevel, OrderBook, Side
from tests.backtest.worlds import calm, market, said, settings, table
from tests.strategies.tables import START, random_candles

D = Decimal
FLAT = (100.0, 100.5, 99.5, 100.0)


def book(minute: float, bids, asks) -> OrderBook:
    sides = [tuple(BookLevel(D(str(p)), D(str(q))) for p, q in side) for side in (bids, asks)]
    return OrderBook("BTCUSDT", *sides, datetime.fromtimestamp(START, UTC) + timedelta(minutes=minute))


# The middle is 100. Ten coins cost 5 at +0.1 % and 5 at +0.3 %: 0.2 % on average.
ASKS = [(100.1, 5), (100.3, 5), (100.5, 100)]
BIDS = [(99.9, 5), (99.7, 5), (99.5, 100)]
RULES = market(market_band=D("0.01"))


def play(candles, signals, books, parameters=None, rules=RULES, **change):
    return run(candles, signals, parameters or calm(), rules, settings(**change), books)


def test_an_entry_pays_the_levels_that_its_quantity_takes():
    candles = table(FLAT, FLAT, (100, 100.5, 99.5, 100), FLAT)
    books = BookSeries((book(1, BIDS, ASKS),))
    # 1,000 quote at the touch of 100.1 and a reserve of 1 % for the band buy 9.89 coins: 5 at 100.1, 4.89 at 100.3.
    deal = play(candles, said(4, c0=1), books).rows()[0]
    assert deal["open_price"] == pytest.approx(100.2, abs=0.006)  # 100.1989, on the grid against us
    assert deal["quantity"] == pytest.approx(1000 / (deal["open_price"] * 1.01), abs=0.001)


def test_an_exit_pays_them_too_and_a_target_does_not():
    books = BookSeries(tuple(book(minute, BIDS, ASKS) for minute in range(5)))
    fall = table(FLAT, FLAT, (100, 100.1, 98, 98.5), FLAT, FLAT)
    stopped = play(fall, said(5, c0=1), books).rows()[0]
    assert stopped["close_reason"] == "stop_loss"
    assert stopped["close_price"] == pytest.approx(stopped["stop_price"] * (1 - 0.00198), abs=0.02)
    rise = table(FLAT, FLAT, (100, 104, 100, 103), FLAT, FLAT)
    won = play(rise, said(5, c0=1), books).rows()[0]
    assert (won["close_reason"], won["close_price"]) == (
        "take_profit",
        pytest.approx(won["open_price"] * 1.02, abs=0.01),
    )


def test_a_book_too_thin_for_the_entry_refuses_it():
    thin = BookSeries((book(1, BIDS, [(100.1, 3)]),))
    result = play(table(FLAT, FLAT, FLAT, FLAT), said(4, c0=1), thin)
    assert (result.deal_count, result.refused) == (0, {"thin_book": 1})


def test_a_book_too_thin_for_the_exit_gives_the_end_of_the_band():
    books = BookSeries((book(1, BIDS, ASKS), book(2, [(99.9, 1)], ASKS)))
    deal = play(table(FLAT, FLAT, (100, 100.1, 98, 98.5), FLAT), said(4, c0=1), books).rows()[0]
    assert deal["close_price"] == pytest.approx(deal["stop_price"] * 0.99, abs=0.02)


def test_without_a_fresh_book_slippage_is_fixed():
    old = BookSeries((book(-5, BIDS, ASKS),))
    deal = play(table(FLAT, FLAT, FLAT, FLAT), said(4, c0=1), old, slippage_percent=D("0.5")).rows()[0]
    assert deal["open_price"] == pytest.approx(100.5)


def test_a_crossed_or_one_sided_book_is_no_book():
    for odd in (book(1, ASKS, BIDS), book(1, [], ASKS)):
        deal = play(table(FLAT, FLAT, FLAT, FLAT), said(4, c0=1), BookSeries((odd,))).rows()[0]
        assert deal["open_price"] == pytest.approx(100.0)


def test_freqtrades_model_knows_no_books():
    books = BookSeries((book(1, BIDS, ASKS),))
    both = run_both(table(FLAT, FLAT, FLAT, FLAT), said(4, c0=1), calm(), RULES, settings(), books)
    assert both[FillModel.FREQTRADE].rows()[0]["open_price"] == 100.0
    assert both[FillModel.CONSERVATIVE].rows()[0]["open_price"] > 100.0


def test_books_must_stand_in_order():
    with pytest.raises(ValueError, match="in order of time"):
        BookSeries((book(2, BIDS, ASKS), book(1, BIDS, ASKS)))


def test_the_book_known_is_the_last_one_before_the_moment():
    books = BookSeries((book(0.5, BIDS, ASKS), book(1.5, BIDS, ASKS)))
    moments = START + np.array([0, 30, 60, 89, 90, 150, 151])
    assert books.known_at(moments).tolist() == [-1, 0, 0, 0, 1, 1, -1]


def test_a_strategy_hears_the_book_at_the_close_of_the_candle():
    buyers, sellers = [(99.9, 30)], [(100.1, 30)]
    books = BookSeries((book(3, buyers, [(100.1, 10)]), book(4, [(99.9, 10)], sellers)), timedelta(seconds=30))
    strategy = BreakoutStrategy(need_historical_data=False)
    candles = table(*[FLAT] * 7)
    result = run(candles, strategy, None, RULES, settings(warmup_bars=0), books)
    # Candle 2 closes at minute 3 with buyers, candle 3 at minute 4 with sellers.
    assert [result.signals.at(i) and result.signals.at(i)["side"] for i in range(5)] == [
        None,
        None,
        "BUY",
        "SELL",
        None,
    ]
    assert "order books were recorded for 2 of 7 candles" in result.warnings[-1]


def test_a_book_vetoes_as_it_does_live():
    candles, first = random_candles(900, seed=3), BreakoutStrategy().warmup_bars
    plain = BreakoutStrategy().signals(candles)
    bought = np.flatnonzero(plain.side[first:] > 0) + first
    against = BookSeries(tuple(book(int(i) + 1, [(99, 1)], [(101, 9)]) for i in bought), oldest=timedelta(seconds=1))
    result = run(candles, BreakoutStrategy(), None, RULES, settings(), against)
    assert bought.size > 3
    assert not (result.signals.side[bought] > 0).any()
    kept = np.setdiff1d(np.flatnonzero(plain.side[first:]) + first, bought)
    np.testing.assert_array_equal(result.signals.side[kept], plain.side[kept])


class BookReader(StrategyInterface):
    """Only has `execute`."""

    warmup_bars = 1

    def execute(self, market_data):
        return {"side": Side.BUY, "reason": "SEEN"} if market_data["order_book"] else None


def test_a_strategy_that_only_has_execute_hears_books_too():
    result = run(
        table(*[FLAT] * 5),
        BookReader(),
        None,
        RULES,
        settings(),
        BookSeries((book(2, BIDS, ASKS),), timedelta(seconds=30)),
    )
    assert np.flatnonzero(result.signals.side).tolist() == [1]
    assert result.signals.at(1)["reason"] == "SEEN"
