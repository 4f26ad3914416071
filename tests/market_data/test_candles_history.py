"""Downloads of history: in pages, resumed, stored once, and honest about gaps."""

from __future__ import annotations

from datetime import timedelta

import pytest

from algo.models import Candle as StoredCandle
from algo.selectors.candles import Gap
from algo.services.candles import PAGE_BARS, candles_fetch_range, pages_of
from providers.budgets import Priority, current_priority
from providers.errors import RateLimited, Unavailable
from providers.types import Resolution
from tests.factories import make_market
from tests.market_data.exchange import FakeExchange, at, candles

M1 = Resolution.M1


@pytest.fixture
def market(db):
    return make_market(provider="nobitex")


def fetch(market, exchange, start, end, **options):
    times = {"start": at(start), "end": at(end), "now": at(100_000)}
    return candles_fetch_range(market, M1, exchange, **{**times, **options})


def test_a_long_range_is_asked_for_in_pages_that_join(market):
    exchange = FakeExchange(candles(range(1200)))
    assert fetch(market, exchange, 0, 1200).new == 1200
    assert exchange.asked == [(at(0), at(500)), (at(500), at(1000)), (at(1000), at(1200))]


def test_what_is_stored_is_not_asked_for_again(market):
    exchange = FakeExchange(candles(range(1500)))
    fetch(market, exchange, 500, 1000)
    exchange.asked.clear()
    assert fetch(market, exchange, 0, 1500).new == 1000
    assert exchange.asked == [(at(0), at(500)), (at(1000), at(1500))]
    exchange.asked.clear()
    assert fetch(market, exchange, 0, 1500).new == 0
    assert exchange.asked == []


def test_an_interrupted_download_keeps_its_pages_and_goes_on_from_there(market):
    exchange = FakeExchange(candles(range(1500)))

    def fail_once(number):
        if number == 2:
            raise Unavailable("gone")

    exchange.before = fail_once
    with pytest.raises(Unavailable):
        fetch(market, exchange, 0, 1500)
    assert StoredCandle.objects.count() == 2 * PAGE_BARS
    exchange.asked.clear()
    assert fetch(market, exchange, 0, 1500).new == PAGE_BARS
    assert exchange.asked == [(at(1000), at(1500))]


def test_what_the_exchange_does_not_have_is_reported_and_not_invented(market):
    done = fetch(market, FakeExchange(candles([*range(2, 10), *range(15, 20)])), 0, 20)
    assert done.gaps == (Gap(at(0), at(2), 2), Gap(at(10), at(15), 5))
    assert (done.new, done.missing) == (13, 7)


def test_the_running_candle_is_not_stored_even_when_the_range_ends_later(market):
    done = fetch(market, FakeExchange(candles(range(10))), 0, 10, now=at(5) + timedelta(seconds=30))
    assert (done.new, done.gaps) == (5, ())


def test_progress_tells_how_much_of_what_is_missing_is_done(market):
    told = []
    fetch(market, FakeExchange(), 0, 750, progress=lambda done, total: told.append((done, total)))
    minutes = [timedelta(minutes=500), timedelta(minutes=750)]
    assert told == [(done, timedelta(minutes=750)) for done in minutes]


def test_called_too_often_means_waiting_as_told_and_trying_the_same_page_again(market):
    waits = []

    def refuse_twice(number):
        if len(waits) < 2:
            raise RateLimited("slow down", retry_after=7)

    exchange = FakeExchange(candles(range(3)))
    exchange.before = refuse_twice
    assert fetch(market, exchange, 0, 3, sleep=waits.append).new == 3
    assert waits == [7, 7]


def test_a_download_goes_after_whatever_else_calls_the_exchange(market):
    seen = []
    exchange = FakeExchange(candles(range(3)))
    exchange.before = lambda number: seen.append(current_priority(Priority.NORMAL))
    fetch(market, exchange, 0, 3)
    assert set(seen) == {Priority.DOWNLOADS}


def test_patience_ends(market):
    def refuse(number):
        raise RateLimited("slow down", retry_after=50)

    exchange = FakeExchange()
    exchange.before = refuse
    with pytest.raises(RateLimited):
        fetch(market, exchange, 0, 3, sleep=lambda seconds: None)


def test_near_gaps_share_a_page_and_far_ones_do_not():
    gaps = [Gap(at(0), at(1), 1), Gap(at(499), at(500), 1), Gap(at(501), at(502), 1)]
    assert list(pages_of(gaps, M1)) == [(at(0), at(500)), (at(501), at(502))]
