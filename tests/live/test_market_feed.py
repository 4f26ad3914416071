"""What is written to Redis is what is read from it, and Redis may die at any moment."""

from __future__ import annotations

import json
import socket
import time
import uuid
from collections.abc import Iterator
from decimal import Decimal

import pytest
import redis
from django.conf import settings

from algo.live.board import Board
from algo.live.market_feed import LEFT_ALONE_SECONDS, READ_TIMEOUT, FeedReader, FeedWriter, key
from algo.live.redis_link import connect
from providers.types import Resolution
from tests.live.streams import HandClock, at, candle, closed, down, pushed, running, trade, up

M1 = Resolution.M1


class Feed:
    """A board, its writer and a reader, for an exchange that no other test knows."""

    def __init__(self) -> None:
        self.name = f"exchange{uuid.uuid4().hex[:8]}"
        self.clock = HandClock()
        self.board = Board(self.name, self.clock)
        self.server = connect(settings.REDIS_URL, 1.0)
        self.writer = FeedWriter(self.board, self.server, self.clock)
        self.reader = FeedReader(connect(settings.REDIS_URL, READ_TIMEOUT), self.clock)

    def tell(self, *events: object, seconds: float | None = None) -> None:
        """These events, now on Redis; time stands at `seconds` or at the last of them."""
        for event in events:
            self.board.apply(event)  # type: ignore[arg-type]
        self.writer._health_due = 0.0
        assert self.writer.flush()
        last = events[-1] if events else None
        moment = at(seconds) if seconds is not None else getattr(last, "received_at", None) or last.at  # type: ignore[union-attr]
        self.clock.at = moment


@pytest.fixture
def feed() -> Iterator[Feed]:
    feed = Feed()
    yield feed
    for name in feed.server.scan_iter(f"algo:feed:1:{feed.name}:*"):
        feed.server.delete(name)


def test_a_book_is_read_with_the_last_digit_it_was_told(feed):
    feed.tell(up(0), pushed(1, bid="0.000000000123456789", ask="12345678901234567890.1"))
    found = feed.reader.book(feed.name, "BTCUSDT").book
    assert (found.best_bid, found.best_ask) == (Decimal("0.000000000123456789"), Decimal("12345678901234567890.1"))
    assert found.bids[0].quantity == Decimal("0.5")


def test_a_books_time_is_that_of_the_last_proof(feed):
    feed.tell(up(0), pushed(1), pushed(9, "ETHUSDT"))
    assert feed.reader.book(feed.name, "BTCUSDT").book.as_of == at(9)
    assert feed.reader.book(feed.name, "BTCUSDT").received_at == at(1)
    feed.tell(down(10), up(11), pushed(12, "ETHUSDT"))
    assert feed.reader.book(feed.name, "BTCUSDT").book.as_of == at(1)


def test_the_last_price_is_read_while_its_connection_is_up(feed):
    feed.tell(up(0), pushed(1), trade(2, "100.5"))
    assert feed.reader.last_price(feed.name, "BTCUSDT") == Decimal("100.5")
    feed.tell(down(3))
    assert feed.reader.last_price(feed.name, "BTCUSDT") is None


def test_nothing_told_is_nothing_read(feed):
    assert feed.reader.book(feed.name, "BTCUSDT") is None
    assert feed.reader.last_price(feed.name, "BTCUSDT") is None
    assert feed.reader.candles(feed.name, "BTCUSDT", M1, at(0), at(60)) is None
    assert feed.reader.running_candle(feed.name, "BTCUSDT", M1) is None
    assert feed.reader.health(feed.name) is None


def test_health_tells_of_the_connection(feed):
    feed.tell(up(0), pushed(1), down(2), up(3), pushed(4))
    health = feed.reader.health(feed.name)
    assert (health.is_up, health.since, health.alive_at, health.reconnects) == (True, at(3), at(4), 1)
    assert health.counts == {"StreamState": 3, "BookUpdate": 2}


def test_the_running_candle_is_told_until_it_ends(feed):
    feed.tell(running(0, 30))
    assert feed.reader.running_candle(feed.name, "BTCUSDT", M1) == candle(0)
    feed.clock.at = at(60)
    assert feed.reader.running_candle(feed.name, "BTCUSDT", M1) is None


# --- closed candles: all of them, or none --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "end", "now", "found"),
    [
        (0, 5 * 60, 5 * 60, [0, 1, 2, 3, 4]),
        (2 * 60, 5 * 60 + 59, 5 * 60 + 59, [2, 3, 4]),  # the one that runs is not missing
        (60, 3 * 60, 900, [1, 2]),  # of the past
        (-30, 5 * 60, 5 * 60, [0, 1, 2, 3, 4]),  # nothing can open between -30 s and 0
        (-60, 5 * 60, 5 * 60, None),  # the one before the first is unknown
        (0, 6 * 60, 6 * 60, None),  # one has ended and was not told yet
        (0, 6 * 60, 6 * 60 - 1, [0, 1, 2, 3, 4]),
    ],
)
def test_candles_are_read_only_where_none_can_be_missing(feed, start, end, now, found):
    feed.tell(*(closed(minute) for minute in range(5)))
    feed.clock.at = at(now)
    answer = feed.reader.candles(feed.name, "BTCUSDT", M1, at(start), at(end))
    assert answer == (None if found is None else [candle(minute) for minute in found])


def test_a_hole_is_not_vouched_for(feed):
    feed.tell(closed(0), closed(1), closed(3), closed(4), seconds=300)
    assert feed.reader.candles(feed.name, "BTCUSDT", M1, at(60), at(300)) is None
    assert feed.reader.candles(feed.name, "BTCUSDT", M1, at(180), at(300)) == [candle(3), candle(4)]


# --- Redis dies ----------------------------------------------------------------------------------------------------


def test_a_server_that_lost_everything_gets_everything_again(feed):
    feed.tell(up(0), pushed(1), closed(0), closed(1))
    feed.server.connection_pool.disconnect()
    for name in feed.server.scan_iter(f"algo:feed:1:{feed.name}:*"):
        feed.server.delete(name)
    broken = FeedWriter(feed.board, connect("redis://127.0.0.1:9/0", 0.2), feed.clock)
    feed.board.apply(pushed(70, "ETHUSDT"))
    assert not broken.flush()
    broken._redis = feed.server
    assert broken.flush()
    feed.clock.at = at(121)
    assert feed.reader.book(feed.name, "BTCUSDT") is not None
    assert feed.reader.candles(feed.name, "BTCUSDT", M1, at(0), at(120)) == [candle(0), candle(1)]


def test_without_redis_the_writer_says_so_once(feed, caplog):
    writer = FeedWriter(feed.board, connect("redis://127.0.0.1:9/0", 0.2), feed.clock)
    for _ in range(3):
        assert not writer.flush()
    assert sum("no Redis" in record.getMessage() for record in caplog.records) == 1


def test_a_reader_waits_for_a_hanging_redis_once_in_a_few_seconds():
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(8)
        moment = [0.0]
        server = connect(f"redis://127.0.0.1:{deaf.getsockname()[1]}/0", READ_TIMEOUT)
        reader = FeedReader(server, HandClock(), monotonic=lambda: moment[0])
        began = time.monotonic()
        for _ in range(50):
            assert reader.book("wallex", "BTCUSDT") is None
        assert time.monotonic() - began < 0.5
        moment[0] += LEFT_ALONE_SECONDS
        began = time.monotonic()
        assert reader.health("wallex") is None
        assert time.monotonic() - began > READ_TIMEOUT / 2  # asked again


def test_telling_never_waits_for_redis(feed):
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(8)
        writer = FeedWriter(feed.board, connect(f"redis://127.0.0.1:{deaf.getsockname()[1]}/0", 5.0), feed.clock)
        writer.start()
        began = time.monotonic()
        for number in range(2000):
            feed.board.apply(pushed(number / 100))
        assert time.monotonic() - began < 1
        began = time.monotonic()
        writer.stop(0.2)
        assert time.monotonic() - began < 1


def test_keys_do_not_outlive_their_use(feed):
    feed.tell(up(0), pushed(1), closed(0), running(1, 70))
    names = list(feed.server.scan_iter(f"algo:feed:1:{feed.name}:*"))
    assert len(names) == 4
    assert all(0 < feed.server.ttl(name) <= 3600 for name in names)


def test_news_is_published_for_each_market(feed):
    channel = feed.server.pubsub(ignore_subscribe_messages=True)
    channel.subscribe(key(feed.name, "BTCUSDT"))
    channel.get_message(timeout=1)
    feed.tell(up(0), pushed(1, last="100.4"), closed(0))
    news = [json.loads(channel.get_message(timeout=1)["data"]) for _ in range(2)]
    channel.close()
    assert news[0]["type"] == "quote"
    assert (news[0]["bid"], news[0]["ask"], news[0]["last"]) == ("100", "101", "100.4")
    assert (news[1]["type"], news[1]["closed"]) == ("candle", True)


def test_the_thread_writes_by_itself_and_leaves_with_the_last_word(feed):
    feed.writer.start()
    feed.board.apply(up(0))
    feed.board.apply(pushed(1))
    deadline = time.monotonic() + 3
    while feed.reader.book(feed.name, "BTCUSDT") is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    feed.board.apply(down(2))
    feed.writer.stop()
    assert feed.reader.health(feed.name).is_up is False


def test_a_client_never_repeats_a_command_by_itself():
    """A server that came back empty must be noticed."""
    assert connect(settings.REDIS_URL, 1.0).get_retry()._retries == 0
    assert isinstance(redis.ConnectionError(), redis.RedisError)
