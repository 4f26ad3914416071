"""What a stream may tell: candles closed by the exchange's own word, and REST at one gentle pace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from providers.errors import BadPayload, RateLimited, Unavailable
from providers.stream_feed import MarketFeed
from providers.stream_link import Drops, Link, Lost, StreamTiming
from providers.types import Resolution
from tests.providers.stream_servers import NOW, QUICK, FakeRest, Heard, SteppedClock, book, candle, in_loop, until

MINUTE = timedelta(minutes=1)
M1 = Resolution.M1
NO_CONNECTION = replace(QUICK, open_timeout=0.0)


@dataclass
class Scene:
    """A feed at work, without a connection."""

    rest: FakeRest = field(default_factory=FakeRest)
    heard: Heard = field(default_factory=Heard)
    clock: SteppedClock = field(default_factory=SteppedClock)
    drops: Drops = field(default_factory=lambda: Drops("test"))
    timing: StreamTiming = NO_CONNECTION

    @asynccontextmanager
    async def playing(self, *resolutions: Resolution, timed_books: bool = True) -> AsyncIterator[MarketFeed]:
        feed = MarketFeed(self.rest, self.clock, self.timing, self.drops, self.heard, timed_books=timed_books)
        feed.watch(["BTCIRT"], resolutions)
        task = asyncio.create_task(feed.run())
        try:
            yield feed
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    @property
    def reads(self) -> int:
        return len(self.rest.asked_candles)


def history(*minutes: int) -> list[Any]:
    return [candle(NOW + n * MINUTE) for n in minutes]


# --- candles ---


@in_loop
async def test_the_first_look_delivers_three_closed_candles_and_the_running_one() -> None:
    scene = Scene(FakeRest(series=history(-5, -4, -3, -2, -1, 0)))
    scene.clock.forward(30)
    async with scene.playing(M1):
        await until(lambda: len(scene.heard.candles) >= 4)
    assert [(u.candle.open_time, u.is_closed) for u in scene.heard.candles] == [
        (NOW - 3 * MINUTE, True),
        (NOW - 2 * MINUTE, True),
        (NOW - MINUTE, True),
        (NOW, False),
    ]


@in_loop
async def test_a_later_candle_has_the_one_before_read_back_after_the_cache_of_the_exchange_is_old() -> None:
    scene = Scene(FakeRest(series=history(-2, -1, 0)))
    async with scene.playing(M1) as feed:
        await until(lambda: scene.reads == 1)
        feed.candle("BTCIRT", M1, candle(NOW, "101"))
        scene.clock.forward(60.5)
        scene.rest.series = [*history(-2, -1), candle(NOW, "105"), candle(NOW + MINUTE, "105")]
        feed.candle("BTCIRT", M1, candle(NOW + MINUTE, "105"))
        await asyncio.sleep(0.1)
        assert scene.reads == 1  # within a second and a half the answer may be a cached one
        scene.clock.forward(1.6)
        await until(lambda: NOW in scene.heard.closed)
        assert scene.reads == 2
    closed = [u.candle for u in scene.heard.candles if u.is_closed and u.candle.open_time == NOW]
    assert [c.close for c in closed] == [105]  # the exchange's last word, not the last push


@in_loop
async def test_without_a_push_the_end_of_the_period_and_a_grace_are_enough() -> None:
    scene = Scene(FakeRest(series=history(-1, 0)))
    async with scene.playing(M1):
        await until(lambda: scene.reads == 1)
        scene.clock.forward(62.5)
        await asyncio.sleep(0.1)
        assert scene.reads == 1
        scene.clock.forward(1)
        await until(lambda: NOW in scene.heard.closed)


@in_loop
async def test_a_candle_is_not_called_closed_before_its_end_is_certain() -> None:
    scene = Scene(FakeRest(series=history(-2, -1)))
    scene.clock.forward(1)  # -1 ended a second ago, and nothing later is known
    async with scene.playing(M1):
        await until(lambda: scene.heard.candles and scene.reads == 1)
        await asyncio.sleep(0.05)
        assert scene.heard.closed == [NOW - 2 * MINUTE]
        scene.clock.forward(3)
        await until(lambda: NOW - MINUTE in scene.heard.closed)


@in_loop
async def test_a_pushed_candle_that_rest_does_not_show_yet_is_asked_for_again() -> None:
    scene = Scene(FakeRest(series=history(-2, -1)))
    async with scene.playing(M1) as feed:
        await until(lambda: scene.reads == 1)
        feed.candle("BTCIRT", M1, candle(NOW, "101"))
        scene.clock.forward(65)
        await until(lambda: scene.reads >= 3)
        scene.rest.series += history(0)
        await until(lambda: NOW in scene.heard.closed)


@in_loop
async def test_one_that_never_shows_is_given_up_and_the_next_ones_go_on(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene(FakeRest(series=history(-2, -1)), timing=replace(NO_CONNECTION, rest_retry=0.005))
    async with scene.playing(M1) as feed:
        await until(lambda: scene.reads == 1)
        feed.candle("BTCIRT", M1, candle(NOW, "101"))
        scene.clock.forward(65)
        await until(lambda: "never appeared" in caplog.text)
        scene.rest.series += history(1)
        scene.clock.forward(60)
        await until(lambda: NOW + MINUTE in scene.heard.closed)
    assert NOW not in scene.heard.closed  # nothing is invented


@in_loop
async def test_a_market_without_trades_is_asked_about_once_a_period() -> None:
    scene = Scene(FakeRest(series=history(-2, -1)))
    scene.clock.forward(10)
    async with scene.playing(M1):
        await until(lambda: scene.reads == 1)
        for n in range(2, 6):
            scene.clock.forward(59)
            await asyncio.sleep(0.1)
            assert scene.reads == n - 1
            scene.clock.forward(1)
            await until(lambda n=n: scene.reads == n)


@in_loop
async def test_older_repeated_and_impossible_pushes_of_candles_are_dropped() -> None:
    scene = Scene(FakeRest(series=history(-2, -1, 0)))
    async with scene.playing(M1) as feed:
        await until(lambda: scene.heard.candles and scene.heard.candles[-1].candle.open_time == NOW)
        told = len(scene.heard.candles)
        feed.candle("BTCIRT", M1, candle(NOW - MINUTE, "1"))
        feed.candle("BTCIRT", M1, candle(NOW))
        feed.candle("BTCIRT", M1, candle(NOW + timedelta(days=9)))
        feed.candle("ETHIRT", M1, candle(NOW))
        feed.candle("BTCIRT", Resolution.H1, candle(NOW))
        assert len(scene.heard.candles) == told
        feed.candle("BTCIRT", M1, candle(NOW, "99"))
        assert scene.heard.candles[-1].candle.close == 99
    assert scene.drops.counts == {"candle_out_of_order": 1, "candle_repeated": 1, "candle_of_the_future": 1}


@in_loop
async def test_a_long_gap_is_read_in_parts() -> None:
    scene = Scene(FakeRest(series=history(*range(-3, 1200))))
    async with scene.playing(M1) as feed:
        await until(lambda: NOW - MINUTE in scene.heard.closed)
        scene.clock.forward(1200 * 60)
        feed.doubt_candles("BTCIRT", M1)
        await until(lambda: NOW + 1198 * MINUTE in scene.heard.closed)
    assert set(scene.heard.closed) >= {NOW + n * MINUTE for n in range(-3, 1199)}
    assert max(end - start for _, _, start, end in scene.rest.asked_candles) <= 450 * MINUTE


# --- REST ---


@in_loop
async def test_being_called_too_fast_means_waiting_never_skipping() -> None:
    scene = Scene(FakeRest(series=history(-1), errors=[RateLimited("busy", retry_after=0.3)] * 2))
    loop = asyncio.get_running_loop()
    async with scene.playing(M1) as feed:
        began = loop.time()
        feed.doubt_book("BTCIRT")
        await until(lambda: scene.heard.books and scene.heard.candles)
        assert loop.time() - began >= 0.6
    assert scene.rest.asked_books == ["BTCIRT"] * 3  # nobody else called while it had to wait
    assert scene.reads == 1


@in_loop
async def test_a_failed_read_is_tried_again_and_keeps_nobody_else_waiting() -> None:
    scene = Scene(FakeRest(series=history(-1), errors=[Unavailable("down"), BadPayload("odd")]))
    async with scene.playing(M1) as feed:
        feed.doubt_book("BTCIRT")
        await until(lambda: scene.heard.books and scene.heard.candles)
    assert len(scene.rest.asked_books) + scene.reads == 4


@in_loop
async def test_what_is_not_watched_any_more_is_not_read_and_not_told() -> None:
    scene = Scene(FakeRest(errors=[Unavailable("down")] * 50))
    async with scene.playing(M1) as feed:
        await until(lambda: scene.rest.asked_books and scene.reads)
        feed.watch([], [])
        asked = len(scene.rest.asked_books) + scene.reads
        await asyncio.sleep(0.2)
        assert len(scene.rest.asked_books) + scene.reads <= asked + 1
        feed.book(book("BTCIRT", "1", "2"))
    assert scene.heard.events == []


# --- books ---


@in_loop
async def test_a_push_that_was_quicker_than_the_snapshot_stands() -> None:
    scene = Scene(FakeRest(books={"BTCIRT": book("BTCIRT", "1", "2")}))
    async with scene.playing(timed_books=False) as feed:
        feed.doubt_book("BTCIRT")
        feed.book(book("BTCIRT", "3", "4"))
        await until(lambda: scene.rest.asked_books)
        await asyncio.sleep(0.05)
    assert [u.book.best_bid for u in scene.heard.books] == [3]


@in_loop
async def test_a_cached_snapshot_older_than_the_last_push_is_asked_for_again() -> None:
    scene = Scene(FakeRest(books={"BTCIRT": book("BTCIRT", "1", "2", NOW - timedelta(seconds=1))}))
    async with scene.playing() as feed:
        feed.book(book("BTCIRT", "3", "4"))
        feed.doubt_book("BTCIRT")
        await until(lambda: len(scene.rest.asked_books) == 3)
        scene.rest.books["BTCIRT"] = book("BTCIRT", "5", "6", NOW)
        await until(lambda: len(scene.heard.books) == 2)
    assert [u.book.best_bid for u in scene.heard.books] == [3, 5]


@in_loop
async def test_an_exchange_whose_clock_went_back_is_believed_after_a_snapshot() -> None:
    scene = Scene(timing=replace(NO_CONNECTION, refresh_after=0.2))
    past = NOW - timedelta(hours=1)
    scene.rest.books["BTCIRT"] = book("BTCIRT", "5", "6", past)
    async with scene.playing() as feed:
        feed.book(book("BTCIRT", "3", "4"))
        feed.book(book("BTCIRT", "7", "8", past))
        assert scene.drops.counts == {"book_out_of_order": 1}
        await until(lambda: len(scene.heard.books) == 2)
        feed.book(book("BTCIRT", "7", "8", past))
    assert [u.book.best_bid for u in scene.heard.books] == [3, 5, 7]


@in_loop
async def test_a_book_of_the_future_is_dropped() -> None:
    scene = Scene()
    async with scene.playing() as feed:
        feed.book(book("BTCIRT", "3", "4", NOW + timedelta(hours=1)))
    assert scene.heard.books == []


# --- links ---


@in_loop
async def test_waits_between_attempts_are_random_and_bounded_and_grow() -> None:
    link = Link("x", _nobody, StreamTiming(), on_up=lambda: None, on_down=lambda reason: None)
    waits = [link._backoff(False) for _ in range(200)]
    assert all(wait <= min(30.0, 0.5 * 2**n) for n, wait in enumerate(waits))
    assert max(waits) > 20
    assert min(waits[10:]) < 10
    assert all(15 <= link._backoff(True) <= 30 for _ in range(50))


async def _nobody(link: Link) -> Any:
    raise Lost("nobody there")


def test_drops_are_logged_as_their_number_doubles(caplog: pytest.LogCaptureFixture) -> None:
    drops = Drops("test")
    for _ in range(1000):
        drops.count("frame_unreadable", "why")
    assert len(caplog.records) == 10
    assert drops.counts == {"frame_unreadable": 1000}
