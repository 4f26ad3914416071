"""Stream or REST: whichever is fresher, one price per market and moment, and never a wrong one."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from algo.execution.quotes import Quotes
from algo.models import MarketQuote
from algo.services.quotes import QuoteRow, quotes_record
from providers.budgets import Priority, current_priority, time_to_send
from providers.errors import BadPayload, RateLimited, Unavailable
from providers.types import BookLevel, OrderBook
from tests.execution.bench import HandClock
from tests.factories import make_market

pytestmark = pytest.mark.django_db


class Rest:
    """An exchange at 7 / 8, or down, or with a book as old as a test says. Counts what it is asked."""

    name = "wallex"
    clock_difference = None

    def __init__(self, clock: HandClock) -> None:
        self.clock = clock
        self.asked = 0
        self.asked_together: list[list[str]] = []
        self.left_out: set[str] = set()
        self.fails: Exception | None = None
        self.is_down = False
        self.bid, self.ask, self.age = Decimal(7), Decimal(8), 0.0

    def order_book(self, symbol: str) -> OrderBook:
        self.asked += 1
        self.priority = current_priority(Priority.NORMAL)
        if self.is_down:
            raise Unavailable("down")
        bids, asks = ((BookLevel(price, Decimal(1)),) for price in (self.bid, self.ask))
        return OrderBook(symbol, bids, asks, self.clock.now() - timedelta(seconds=self.age))

    def order_books(self, symbols: Collection[str]) -> dict[str, OrderBook]:
        """All but those that it leaves out; or what it raises."""
        self.asked_together.append(sorted(symbols))
        self.priority = current_priority(Priority.NORMAL)
        if self.fails is not None:
            raise self.fails
        before = self.asked
        books = {symbol: self.order_book(symbol) for symbol in symbols if symbol not in self.left_out}
        self.asked = before
        return books

    def last_price(self, symbol: str) -> Decimal:
        self.asked += 1
        if self.is_down:
            raise Unavailable("down")
        return Decimal("7.5")


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def rest(clock) -> Rest:
    return Rest(clock)


def streamed(clock: HandClock, age: float = 0.0, heard: float | None = None, **more: object) -> MarketQuote:
    """A quote of 100 / 101 that the stream proved `age` seconds ago."""
    now = clock.now()
    times = {"as_of": now - timedelta(seconds=age), "received_at": now - timedelta(seconds=heard or age)}
    values = {"bid": Decimal(100), "ask": Decimal(101), "last": None, **times, **more}
    return MarketQuote.objects.update_or_create(market=make_market("BTCUSDT"), defaults=values)[0]


def bid(clock: HandClock, rest: Rest) -> int | None:
    quote = Quotes(clock).quote(rest, "BTCUSDT")  # type: ignore[arg-type]
    return None if quote is None else int(quote.bid)


def test_a_fresh_stream_saves_the_call(clock, rest):
    streamed(clock, 1.9, last=Decimal("100.5"))
    quote = Quotes(clock).quote(rest, "BTCUSDT")
    assert (quote.bid, quote.ask, quote.last, rest.asked) == (100, 101, Decimal("100.5"), 0)
    assert quote.as_of == clock.now() - timedelta(seconds=1.9)


def test_an_older_stream_gives_way_to_rest(clock, rest):
    streamed(clock, 2.1)
    assert bid(clock, rest) == 7


def test_a_market_that_nobody_spoke_of_for_long_needs_a_second_witness(clock, rest):
    streamed(clock, 0.5, heard=16)
    assert bid(clock, rest) == 7


@pytest.mark.parametrize(("age", "expected"), [(9.9, 100), (10.1, None)])
def test_where_rest_fails_the_stream_stands_in_until_it_is_old(clock, rest, age, expected):
    streamed(clock, age)
    rest.is_down = True
    assert bid(clock, rest) == expected


def test_a_quiet_market_is_not_blind_while_its_stream_agrees(clock, rest):
    """The exchange says: unchanged for a minute. The stream's connection lives and says the same."""
    streamed(clock, 1, heard=40)
    rest.bid, rest.ask, rest.age = Decimal(100), Decimal(101), 60
    assert bid(clock, rest) == 100


def test_two_that_disagree_are_no_price(clock, rest):
    streamed(clock, 1, heard=40)
    rest.age = 60
    assert bid(clock, rest) is None


def test_an_old_book_alone_is_no_price(clock, rest):
    rest.age = 11
    assert bid(clock, rest) is None


@pytest.mark.parametrize(
    "more",
    [{"as_of": timedelta(hours=1)}, {"received_at": timedelta(hours=1)}, {"as_of": timedelta(seconds=1.5)}],
)
def test_a_clock_that_lies_does_no_harm(clock, rest, more):
    streamed(clock, 0, **{name: clock.now() + ahead for name, ahead in more.items()})
    assert bid(clock, rest) == 7
    rest.is_down = True
    assert bid(clock, rest) is None


def test_without_a_stream_all_is_as_it_was(clock, rest):
    assert bid(clock, rest) == 7


def test_the_price_of_an_open_position_may_use_the_reserve_of_the_budget(clock, rest):
    bid(clock, rest)
    assert rest.priority is Priority.EXITS


def test_a_last_price_that_cannot_be_had_holds_up_no_exit_step_by_step(clock, rest):
    quotes = Quotes(clock)
    quote = quotes.quote(rest, "BTCUSDT")
    rest.is_down, rest.asked = True, 0
    assert [quotes.with_last(rest, "BTCUSDT", quote).last for _ in range(3)] == [None] * 3
    assert rest.asked == 1
    rest.is_down = False
    clock.step(3.1)
    assert quotes.with_last(rest, "BTCUSDT", quote).last == Decimal("7.5")


def test_one_price_per_market_and_moment(clock, rest):
    quotes = Quotes(clock)
    streamed(clock)
    assert quotes.quote(rest, "BTCUSDT").bid == 100
    streamed(clock, bid=Decimal(50))
    assert quotes.quote(rest, "BTCUSDT").bid == 100
    clock.step(1)
    assert quotes.quote(rest, "BTCUSDT").bid == 50


def test_one_query_for_all_markets(clock, rest):
    for symbol in ("BTCUSDT", "ETHUSDT", "XRPUSDT"):
        now = clock.now()
        MarketQuote.objects.create(market=make_market(symbol), bid=1, ask=2, as_of=now, received_at=now)
    quotes = Quotes(clock)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        for symbol in ("BTCUSDT", "ETHUSDT", "XRPUSDT", "DOGEUSDT"):
            assert quotes.quote(rest, symbol) is not None
    assert len(queries) == 1
    assert rest.asked == 1


# --- writing -------------------------------------------------------------------------------------------------------


def row(symbol: str, **more: object) -> QuoteRow:
    now = datetime(2026, 11, 2, 10, 0, tzinfo=UTC)
    values = {"bid": Decimal("99.5"), "ask": Decimal("100.25"), "last": None, "as_of": now, "received_at": now}
    return QuoteRow(make_market(symbol).pk, **{**values, **more})  # type: ignore[arg-type]


def test_quotes_are_kept_in_one_statement():
    rows = [row(symbol) for symbol in ("BTCUSDT", "ETHUSDT")]
    with CaptureQueriesContext(connection) as queries:
        assert quotes_record(rows) == 2
    assert len(queries) == 1
    assert quotes_record([row("BTCUSDT", bid=Decimal("99.75"), last=Decimal("99.8"))]) == 1
    kept = MarketQuote.objects.get(market=make_market("BTCUSDT"))
    assert (kept.bid, kept.ask, kept.last) == (Decimal("99.75"), Decimal("100.25"), Decimal("99.8"))


def test_an_impossible_quote_costs_the_others_nothing():
    good = row("BTCUSDT")
    gone = QuoteRow(10**9, *(getattr(good, name) for name in list(QuoteRow.__dataclass_fields__)[1:]))
    bad = [row("ETHUSDT", bid=Decimal(200)), row("XRPUSDT", ask=Decimal("NaN")), row("SOLUSDT", ask=Decimal("1E30"))]
    assert quotes_record([*bad, gone, good]) == 1
    assert quotes_record([]) == 0


def test_the_database_refuses_a_crossed_quote():
    with pytest.raises(IntegrityError), transaction.atomic():
        MarketQuote.objects.create(
            market=make_market(), bid=2, ask=1, as_of=datetime.now(UTC), received_at=datetime.now(UTC)
        )


# --- many markets -----------------------------------------------------------------------------------------------------

FOUR = ["ADAUSDT", "BTCUSDT", "ETHUSDT", "XRPUSDT"]


def all_of(quotes: Quotes, rest: Rest, symbols: Collection[str]) -> dict[str, int | None]:
    """The bids of these markets, as a pass over an account asks for them."""
    quotes.expect(rest, symbols)  # type: ignore[arg-type]
    found = {symbol: quotes.quote(rest, symbol) for symbol in symbols}  # type: ignore[arg-type]
    return {symbol: None if quote is None else int(quote.bid) for symbol, quote in found.items()}


def test_the_books_of_many_markets_are_read_in_one_call(clock, rest):
    assert all_of(Quotes(clock), rest, FOUR) == dict.fromkeys(FOUR, 7)
    assert (rest.asked_together, rest.asked, rest.priority) == ([FOUR], 0, Priority.EXITS)


def test_those_of_a_few_markets_are_read_one_by_one(clock, rest):
    assert all_of(Quotes(clock), rest, FOUR[:3]) == dict.fromkeys(FOUR[:3], 7)
    assert (rest.asked_together, rest.asked) == ([], 3)


def test_a_few_markets_take_turns_where_there_is_one_call_a_second(clock, rest):
    quotes = Quotes(clock)
    for _ in range(9):
        all_of(quotes, rest, FOUR[:3])
        clock.step(1)
    assert rest.asked == 9  # each at 0, 3 and 6 s


def test_a_price_that_no_call_is_left_for_is_the_last_one_and_nobody_waits(clock, rest, monkeypatch):
    quotes = Quotes(clock)
    first = quotes.quote(rest, "BTCUSDT")

    def spent(symbol: str) -> OrderBook:
        assert time_to_send() == 0  # no budget waits for longer
        raise RateLimited("spent", retry_after=1.0)

    monkeypatch.setattr(rest, "order_book", spent)
    clock.step(2)
    assert quotes.quote(rest, "BTCUSDT") == first  # as old as it is


def test_one_call_for_many_is_good_for_nearly_two_seconds(clock, rest):
    quotes = Quotes(clock)
    for _ in range(4):  # at 0, 1, 2 and 3 s
        all_of(quotes, rest, FOUR)
        clock.step(1)
    assert len(rest.asked_together) == 2


def test_markets_that_a_stream_tells_are_not_read_along(clock, rest):
    streamed(clock, 1)
    assert all_of(Quotes(clock), rest, FOUR) == {"ADAUSDT": 7, "BTCUSDT": 100, "ETHUSDT": 7, "XRPUSDT": 7}
    assert (rest.asked_together, rest.asked) == ([], 3)


def test_a_market_that_nobody_asks_for_any_more_is_not_read_along(clock, rest):
    quotes = Quotes(clock)
    all_of(quotes, rest, FOUR)
    clock.step(6)
    all_of(quotes, rest, FOUR[:2])
    assert (rest.asked_together, rest.asked) == ([FOUR], 2)


def test_a_market_that_is_not_among_all_is_asked_for_alone(clock, rest):
    rest.left_out = {"XRPUSDT"}
    quotes, five = Quotes(clock), [*FOUR, "LTCUSDT"]
    assert all_of(quotes, rest, five) == dict.fromkeys(five, 7)
    assert rest.asked == 1
    clock.step(2)
    all_of(quotes, rest, five)
    assert (len(rest.asked_together), rest.asked, "XRPUSDT" in rest.asked_together[1]) == (2, 2, False)


def test_where_that_call_does_not_work_they_are_read_one_by_one_for_a_while(clock, rest):
    rest.fails = BadPayload("no such call")
    quotes = Quotes(clock)
    assert all_of(quotes, rest, FOUR) == dict.fromkeys(FOUR, 7)
    clock.step(29)
    all_of(quotes, rest, FOUR)
    assert (len(rest.asked_together), rest.asked) == (1, 8)
    clock.step(4)
    all_of(quotes, rest, FOUR)
    assert len(rest.asked_together) == 2


@pytest.mark.parametrize(("error", "then"), [(RateLimited("spent", retry_after=1.0), 2), (Unavailable("no answer"), 1)])
def test_where_no_call_is_left_or_nobody_answers_none_is_made_for_each(clock, rest, error, then):
    streamed(clock, 5)  # too old to save a call, young enough to stand in
    rest.fails = error
    quotes = Quotes(clock)
    assert all_of(quotes, rest, [*FOUR, "LTCUSDT"]) == dict.fromkeys([*FOUR, "LTCUSDT"]) | {"BTCUSDT": 100}
    assert rest.asked == 0
    clock.step(1)
    all_of(quotes, rest, [*FOUR, "LTCUSDT"])
    assert len(rest.asked_together) == then  # an exchange that did not answer this call may answer another one


def test_threads_that_come_together_share_one_call(clock, rest):
    quotes, answers = Quotes(clock, streamed=lambda since: ()), []
    quotes.expect(rest, FOUR)
    inside = rest.order_books
    rest.order_books = lambda symbols: (time.sleep(0.05), inside(symbols))[1]
    threads = [threading.Thread(target=lambda s=s: answers.append(quotes.quote(rest, s))) for s in FOUR]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert [int(each.bid) for each in answers] == [7] * 4
    assert (rest.asked_together, rest.asked) == ([FOUR], 0)
