from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.exceptions import PermissionDenied

from algo.models import Candle, RunStatus
from algo.selectors.rights import Role
from algo.services.audit import SHELL
from algo.services.candle_fetches import (
    LEASE_SECONDS,
    MOST_TRIES,
    PAGES,
    FetchRefused,
    _claim,
    candle_fetch_request,
    candle_fetches_work,
)
from algo.services.candles import PAGE_BARS
from providers.errors import RateLimited, Unavailable
from providers.types import Resolution
from tests import factories as make
from tests.market_data.exchange import START, FakeExchange, at, candles

pytestmark = pytest.mark.django_db
BARS = PAGE_BARS * (PAGES + 1) + 10  # a slice of pages, one more page, and a bit


class Clock:
    speed = 1.0

    def __init__(self):
        self.time = at(BARS + 100)

    def now(self):
        return self.time

    def wall(self, seconds):
        return timedelta(seconds=seconds)

    def monotonic(self):
        return 0.0


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def market():
    return make.make_market(provider="nobitex")


def ask(market, clock, *, by=SHELL, bars=BARS):
    return candle_fetch_request(market, Resolution.M1, start=START, end=at(bars), by=by, at=clock.now())


def work(venue, clock, seconds=0.0):
    clock.time += timedelta(seconds=seconds)
    return candle_fetches_work(lambda name: venue, clock)


def test_pages_are_fetched_a_few_at_a_time_and_counted(market, clock):
    venue = FakeExchange(candles(range(BARS - 1)))
    fetch = ask(market, clock)
    assert work(venue, clock).reached == at(PAGES * PAGE_BARS)
    assert len(venue.asked) == PAGES
    assert work(venue, clock) is None  # the next pages are not due yet
    done = work(venue, clock, seconds=5)
    fetch.refresh_from_db()
    assert (done.status, fetch.status, fetch.reached) == (RunStatus.DONE, RunStatus.DONE, at(BARS))
    assert (fetch.new, fetch.missing, Candle.objects.count()) == (BARS - 1, 1, BARS - 1)
    assert work(venue, clock, seconds=1000) is None


def test_what_is_stored_is_not_asked_for_again(market, clock):
    ask(market, clock, bars=10)
    work(FakeExchange(candles(range(10))), clock)
    ask(market, clock, bars=12)
    venue = FakeExchange(candles(range(12)))
    done = work(venue, clock)
    assert (venue.asked, done.new, done.missing) == ([(at(10), at(12))], 2, 0)


def test_what_one_worker_has_taken_no_other_takes_until_it_is_given_up(market, clock):
    ask(market, clock)
    assert _claim(clock) is not None
    assert _claim(clock) is None
    clock.time += timedelta(seconds=LEASE_SECONDS)
    assert _claim(clock) is not None


def test_an_exchange_that_is_called_too_often_gets_its_time_and_no_worker_waits(market, clock):
    def refuse(number):
        if number == 1:
            raise RateLimited("slow down", retry_after=40)

    venue = FakeExchange(candles(range(BARS)))
    venue.before = refuse
    ask(market, clock)
    assert work(venue, clock).reached == at(PAGE_BARS)
    venue.before = lambda number: None
    assert work(venue, clock, seconds=39) is None
    assert work(venue, clock, seconds=1).tries == 0


def test_a_fetch_waits_as_long_as_others_need_the_calls(market, clock):
    def refuse(number):
        raise RateLimited("the call budget udf is spent", retry_after=40)

    venue = FakeExchange(candles(range(BARS)))
    venue.before = refuse
    ask(market, clock)
    for _ in range(MOST_TRIES + 2):
        waiting = work(venue, clock, seconds=40)
        assert waiting.status == RunStatus.RUNNING
        assert waiting.error == "The exchange is called too often at the moment; nothing was sent."
    venue.before = lambda number: None
    assert work(venue, clock, seconds=40).reached == at(PAGES * PAGE_BARS)


def test_an_exchange_that_stays_away_fails_the_fetch_with_its_words(market, clock):
    def away(number):
        raise Unavailable("nobitex does not answer")

    venue = FakeExchange()
    venue.before = away
    ask(market, clock)
    tried = [work(venue, clock, seconds=400) for _ in range(MOST_TRIES)]
    assert (tried[0].status, tried[-1].status) == (RunStatus.RUNNING, RunStatus.FAILED)
    assert tried[-1].error.startswith("Nobitex does not answer. Given up after 8 tries.")


def test_what_makes_its_worker_fail_is_given_up_too(market, clock):
    def broken(number):
        raise ZeroDivisionError

    venue = FakeExchange()
    venue.before = broken
    fetch = ask(market, clock)
    for _ in range(MOST_TRIES):
        with pytest.raises(ZeroDivisionError):
            work(venue, clock, seconds=LEASE_SECONDS)
    assert work(venue, clock, seconds=LEASE_SECONDS) is None
    fetch.refresh_from_db()
    assert (fetch.status, fetch.error) == (RunStatus.FAILED, "Its workers failed 8 times; their log tells more.")


def test_prices_in_another_unit_are_not_stored(market, clock):
    ask(market, clock, bars=10)
    work(FakeExchange(candles(range(10))), clock)
    ask(market, clock, bars=30)
    rial = [type(c)(c.open_time, *(10 * getattr(c, n) for n in ("open", "high", "low", "close")), c.volume)
            for c in candles(range(10, 30))]  # fmt: skip
    failed = work(FakeExchange(rial), clock)
    assert (failed.status, Candle.objects.count()) == (RunStatus.FAILED, 10)
    assert "rial is taken for toman" in failed.error


def test_one_user_has_five_under_way_at_most_and_a_viewer_none(market, clock):
    trader = make.make_trader()
    for bars in range(5):
        candle_fetch_request(market, Resolution.M1, start=at(bars), end=at(10), by=make.by(trader), at=clock.now())
    with pytest.raises(FetchRefused, match="still under way"):
        candle_fetch_request(market, Resolution.M5, start=START, end=at(10), by=make.by(trader), at=clock.now())
    with pytest.raises(PermissionDenied):
        ask(market, clock, by=make.by(make.make_user(role=Role.VIEWER)))
