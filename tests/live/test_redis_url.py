"""REDIS_URL, read."""

from __future__ import annotations

import pytest

from algo.live.redis_url import RedisPlace
from tests.platform.test_settings import load_settings

THREE = "sentinel://:p%40ss@one:26379,two,[::1]:26381/2?master=algo&sentinel_password=s%26p"


@pytest.mark.parametrize(
    "url", ["redis://:pw@127.0.0.1:6379/1", "rediss://cache.example.org", "unix:///run/redis.sock"]
)
def test_one_server_is_taken_as_it_is_written(url):
    place = RedisPlace.parse(url)
    assert (place.url, place.broker_url, place.sentinels, place.transport_options(1)) == (url, url, (), {})


def test_sentinels_are_several_with_one_master():
    place = RedisPlace.parse(THREE)
    assert place.sentinels == (("one", 26379), ("two", 26379), ("::1", 26381))
    assert place.of_servers == {"db": 2, "username": None, "password": "p@ss"}
    assert place.transport_options(1) == {
        "master_name": "algo",
        "sentinel_kwargs": {"password": "s&p", "socket_timeout": 1, "socket_connect_timeout": 1},
    }


def test_the_broker_is_told_of_each_sentinel_with_the_login_of_the_servers():
    assert RedisPlace.parse("sentinel://:p%40ss@one:1,two:2/3?master=m").broker_url == (
        "sentinel://:p%40ss@one:1/3;sentinel://:p%40ss@two:2/3"
    )
    assert RedisPlace.parse("sentinel://one?master=m").broker_url == "sentinel://one:26379/0"


@pytest.mark.parametrize(
    "url",
    [
        "redis+cluster://:hunter2@one:6379",
        "hunter2",
        "redis://",
        "sentinel://:hunter2@one:26379/0",
        "sentinel://:hunter2@one:port/0?master=m",
        "sentinel://:hunter2@one:26379/zero?master=m",
        "sentinel://:hunter2@/0?master=m",
        "sentinel://:hunter2@one/0?master=m&ssl=true",
    ],
)
def test_anything_else_starts_nothing_and_is_not_repeated(url):
    told = load_settings(REDIS_URL=url)
    assert told.returncode != 0
    assert "REDIS_URL must be redis://, rediss:// or unix://" in told.stderr
    assert "hunter2" not in told.stderr


def test_no_password_shows_when_a_place_is_printed():
    assert "p@ss" not in repr(RedisPlace.parse(THREE))
    assert "p%40ss" not in repr(RedisPlace.parse(THREE))
