"""The mirror: a candle that was heard too early is not passed off as a finished one, and silences leave no holes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from providers.errors import Unavailable
from providers.paper.engine import Exchange
from providers.paper.faces.charts import Chart, chart
from providers.paper.feeds.mirror import MirrorFeed
from providers.paper.store import Store
from providers.types import BookLevel, Candle, MarketRules, OrderBook, Resolution
from tests.paper.test_engine import ManualClock
from tests.paper.world import PAIR, D

NINE = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
HOUR = 3600
WHOLE = (D(100), D(159), D(100), D(159), D(60))


def at(minute: int, second: float = 0) -> datetime:
    """`minute` minutes after nine o'clock, and so many seconds."""
    return NINE + timedelta(minutes=minute, seconds=second)


class Upstream:
    """An exchange where BTCUSDT trades one coin a second: at 100 in the first second of a minute, at 159 in its last.

    Nobody trades from `quiet_from` on; answers are `behind` the clock; `is_silent` lets every call fail.
    """

    name = "nobitex"

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.quiet_from = at(10**6)
        self.behind = timedelta(0)
        self.is_silent = False
        self.asked: list[timedelta] = []  # how long the stretches of candles were

    def markets(self) -> Sequence[MarketRules]:
        grid = {"tick_size": D("0.01"), "step_size": D("0.000001"), "min_quantity": D("0.000001")}
        rates = {"maker_fee_rate": D(0), "taker_fee_rate": D(0)}
        rules = MarketRules("nobitex", "BTCUSDT", "BTC", "USDT", **grid, **rates, min_notional=D(5), market_band=D(1))
        return [rules]

    def order_book(self, symbol: str) -> OrderBook:
        self._answer()
        sides = ((BookLevel(D(price), D(1)),) for price in (99, 101))
        return OrderBook(symbol, *sides, as_of=self._clock.now(), last_price=D(100))

    def last_price(self, symbol: str) -> Decimal:
        return D(100)

    def candles(self, symbol: str, resolution: Resolution, start: datetime, end: datetime) -> Sequence[Candle]:
        self._answer()
        self.asked.append(end - start)
        until = min(self._clock.now() - self.behind, self.quiet_from)
        first = start + -(start - NINE) % timedelta(minutes=1)
        minutes = range(max(int((min(end, until) - first) / timedelta(minutes=1)) + 2, 0))
        opens = [first + timedelta(minutes=n) for n in minutes]
        return [self._candle(opened, until) for opened in opens if opened < min(end, until)]

    def _candle(self, opened: datetime, until: datetime) -> Candle:
        traded = min(int((until - opened).total_seconds()), 59)
        return Candle(opened, D(100), D(100 + traded), D(100), D(100 + traded), D(traded + 1))

    def _answer(self) -> None:
        if self.is_silent:
            raise Unavailable("not today")


class Mirrored:
    """A paper exchange that mirrors `upstream`, and a clock that a test moves."""

    def __init__(self, folder, began: datetime) -> None:
        self.clock = ManualClock(began)
        self.upstream = Upstream(self.clock)
        self.feed = MirrorFeed({"nobitex": self.upstream, "wallex": self.upstream}, self.clock)
        self.exchange = Exchange(self.feed, self.clock, Store(folder / "p.sqlite3"))

    def poll(self, when: datetime) -> None:
        self.clock.at = when
        self.feed.poll()

    def chart(self, seconds: int = 60, since: datetime = NINE) -> dict[datetime, tuple[Decimal, ...]]:
        """What the exchange answers now, by open time."""
        now = self.clock.now()
        span = (int(since.timestamp()), int(now.timestamp()))
        return rows(chart(self.exchange, "nobitex", PAIR, seconds, *span, now))


def rows(found: Chart) -> dict[datetime, tuple[Decimal, ...]]:
    columns = (found.open, found.high, found.low, found.close, found.volume)
    times = (datetime.fromtimestamp(time, UTC) for time in found.times)
    return dict(zip(times, zip(*columns, strict=True), strict=True))


@pytest.fixture
def mirrored(tmp_path) -> Mirrored:
    return Mirrored(tmp_path, at(10, 57))


def minutes(count: int) -> dict[datetime, tuple[Decimal, ...]]:
    """So many whole candles from nine o'clock on."""
    return {at(minute): WHOLE for minute in range(count)}


def test_the_running_candle_is_shown_as_far_as_it_was_heard(mirrored):
    assert mirrored.chart() == minutes(10) | {at(10): (D(100), D(157), D(100), D(157), D(58))}


def test_a_candle_heard_before_its_end_is_not_shown_as_a_finished_one(mirrored):
    mirrored.clock.at = at(11, 2)
    assert mirrored.chart() == minutes(10)
    mirrored.poll(at(11, 2))
    assert mirrored.chart() == minutes(11) | {at(11): (D(100), D(102), D(100), D(102), D(3))}


def test_an_hour_is_not_shown_as_finished_before_its_last_minute_is(mirrored):
    mirrored.poll(at(59, 57))
    running = (D(100), D(159), D(100), D(157), D(59 * 60 + 58))
    assert mirrored.chart(HOUR) == {NINE: running}
    mirrored.clock.at = at(60, 1)
    assert mirrored.chart(HOUR) == {}
    mirrored.poll(at(60, 1))
    assert mirrored.chart(HOUR)[NINE] == (D(100), D(159), D(100), D(159), D(HOUR))


def test_the_last_candle_before_a_quiet_time_is_shown_once_late_answers_would_have_come(mirrored):
    mirrored.upstream.quiet_from = at(11)
    mirrored.poll(at(11, 1))
    assert mirrored.chart() == minutes(10)
    mirrored.poll(at(11, 4))
    assert mirrored.chart() == minutes(11)


def test_an_answer_from_before_the_end_of_a_candle_does_not_finish_it(mirrored):
    mirrored.upstream.behind = timedelta(seconds=3)
    mirrored.poll(at(11, 1))
    assert mirrored.chart() == minutes(10)
    mirrored.poll(at(11, 4))
    assert mirrored.chart() == minutes(11) | {at(11): (D(100), D(101), D(100), D(101), D(2))}


def test_while_the_exchange_is_silent_nothing_half_heard_is_shown(mirrored):
    mirrored.upstream.is_silent = True
    mirrored.poll(at(30))
    assert mirrored.chart() == minutes(10)


def test_the_minutes_of_a_silence_are_heard_after_it(mirrored):
    mirrored.upstream.is_silent = True
    mirrored.poll(at(30))
    mirrored.upstream.is_silent = False
    mirrored.poll(at(40, 30))
    assert mirrored.chart() == minutes(40) | {at(40): (D(100), D(130), D(100), D(130), D(31))}


def test_a_long_silence_is_made_up_for_page_by_page(mirrored):
    mirrored.upstream.asked.clear()
    for _ in range(4):  # 1440 minutes and some, at most 500 in one answer
        mirrored.poll(at(24 * 60, 30))
        assert set(list(mirrored.chart().values())[:-1]) == {WHOLE}
    assert max(mirrored.upstream.asked) <= timedelta(minutes=500)
    assert list(mirrored.chart()) == [at(minute) for minute in range(24 * 60 + 1)]
