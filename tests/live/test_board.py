"""How old is what a stream told? The one question that money depends on."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from algo.live.board import Board
from providers.types import Resolution
from tests.live.streams import HandClock, at, by_rest, candle, closed, down, pushed, running, trade, up


def told(*events: object, clock: HandClock | None = None) -> Board:
    board = Board("wallex", clock or HandClock())
    for event in events:
        board.apply(event)  # type: ignore[arg-type]
    return board


def age(board: Board, seconds: float, symbol: str = "BTCUSDT") -> float:
    """How old that market's quote is `seconds` after T0."""
    [quote] = [quote for quote in board.quotes() if quote.symbol == symbol]
    return (at(seconds) - quote.as_of).total_seconds()


def test_a_quiet_book_holds_as_long_as_others_are_pushed_over_the_same_connection():
    board = told(up(0), pushed(1), pushed(2, "ETHUSDT"), pushed(30, "ETHUSDT"))
    assert age(board, 30) == 0


def test_a_quiet_book_ages_while_nothing_at_all_is_pushed():
    assert age(told(up(0), pushed(1)), 9) == 8


def test_answers_by_rest_and_candles_prove_nothing_about_the_connection():
    board = told(up(0), pushed(1), by_rest(20, "ETHUSDT"), running(0, 25), closed(0))
    assert age(board, 30) == 29


def test_trades_prove_that_the_connection_lives():
    assert age(told(up(0), pushed(1), trade(20, "7", "ETHUSDT")), 20) == 0


@pytest.mark.parametrize("back", [up(41), pushed(41, "ETHUSDT")], ids=["it is back", "another one speaks"])
def test_nothing_is_refreshed_across_a_disconnect(back):
    assert age(told(up(0), pushed(1), pushed(39, "ETHUSDT"), down(40), back), 41) == 40


def test_after_a_reconnect_a_book_that_was_read_again_holds_again():
    board = told(up(0), pushed(1), down(40), up(50), by_rest(51), pushed(60, "ETHUSDT"))
    assert age(board, 60) == 0


def test_no_proof_lasts_longer_than_the_stream_would_take_to_ask_again():
    board = told(up(0), pushed(1), *(pushed(second, "ETHUSDT") for second in range(2, 200)))
    assert age(board, 199) == 199 - (1 + 75)


def test_a_book_that_came_late_stays_as_late_as_it_was():
    assert age(told(up(0), pushed(10, late=8)), 10) == 8
    assert age(told(up(0), pushed(10, late=8), pushed(20, "ETHUSDT")), 20) == 8


def test_an_answer_by_rest_is_as_old_as_its_receipt_where_the_exchange_last_changed_it_long_ago():
    assert age(told(up(0), by_rest(10, late=500)), 10) == 0
    assert age(told(by_rest(10, late=500)), 10) == 500  # nobody else vouches for it


def test_a_crossed_book_changes_nothing():
    board = told(up(0), pushed(1), pushed(2, bid="102", ask="101"))
    assert (board.quotes()[0].bid, board.quotes()) == (Decimal(100), [])


def test_quotes_tell_only_what_changed_or_was_proven_again():
    board = told(up(0), pushed(1), pushed(1, "ETHUSDT"))
    assert len(board.quotes()) == 2
    assert board.quotes() == []
    board.apply(down(2))
    board.apply(pushed(3, "ETHUSDT", bid="99"))
    assert [quote.symbol for quote in board.quotes()] == ["ETHUSDT"]
    board.unwritten()
    assert len(board.quotes()) == 2


def test_the_last_trade_is_told_while_it_is_recent_and_never_across_a_disconnect():
    board = told(up(0), pushed(1), trade(2, "100.5"))
    assert board.quotes()[0].last == Decimal("100.5")
    board.apply(pushed(30))
    assert board.quotes()[0].last is None  # silent for too long: may have been lost
    board.apply(trade(31, "100.7"))
    for event in (down(32), up(33), by_rest(34)):
        board.apply(event)
    assert board.quotes()[0].last is None


def test_a_last_price_that_comes_with_the_book_holds_as_long_as_the_book():
    board = told(up(0), pushed(1, last="100.2"), pushed(60, "ETHUSDT"))
    assert board.quotes()[0].last == Decimal("100.2")


def test_trades_out_of_order_do_not_turn_the_price_back():
    board = told(up(0), pushed(1), trade(5, "7", executed=4), trade(6, "6", executed=3))
    assert board.quotes()[0].last == 7


def test_a_trade_from_the_future_does_not_silence_all_that_follow():
    board = told(up(0), pushed(1), trade(5, "7", executed=500), trade(6, "8"))
    assert board.quotes()[0].last == 8


def test_closed_candles_are_vouched_for_as_far_back_as_there_is_no_hole():
    board = told(closed(0), closed(1), closed(4), closed(3), closed(4, close="101"))
    [run] = board.changes().closed.values()
    assert run == [candle(3), candle(4, "101")]
    board.apply(closed(2))
    [run] = board.changes().closed.values()
    assert [each.open_time for each in run] == [candle(minute).open_time for minute in range(5)]


def test_a_candle_is_not_closed_before_its_end_whatever_a_stream_says():
    board = told(closed(0, after=-1))
    changes = board.changes()
    assert not changes.closed
    assert list(changes.running) == [("BTCUSDT", Resolution.M1)]


def test_changes_are_told_once_and_all_of_them_on_request():
    board = told(up(0), pushed(1), closed(0), running(1, 70))
    board.changes()
    again = board.changes()
    assert not again.markets
    assert not again.closed
    everything = board.changes(everything=True)
    assert (len(everything.markets), len(everything.closed), len(everything.running)) == (1, 1, 1)


def test_what_is_not_watched_any_more_is_forgotten():
    board = told(up(0), pushed(1), pushed(1, "ETHUSDT"), closed(0), closed(0, symbol="ETHUSDT"))
    board.watch(["ETHUSDT"], [Resolution.M1])
    everything = board.changes(everything=True)
    assert [market.symbol for market in everything.markets] == ["ETHUSDT"]
    assert list(everything.closed) == [("ETHUSDT", Resolution.M1)]


def test_in_a_replay_all_of_it_runs_faster():
    board = told(up(0), pushed(1), pushed(1 + 75 * 60, "ETHUSDT"), clock=HandClock(speed=60))
    assert age(board, 1 + 75 * 60) == 0
    assert board.connection.alive_at == at(1) + timedelta(seconds=75 * 60)
