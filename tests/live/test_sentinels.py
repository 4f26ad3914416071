"""Redis behind sentinels: when the master dies, everything that uses Redis goes on with the next one by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

import pytest
import redis
from django.core.cache.backends.redis import RedisCache
from kombu import Connection

from algo.live.budgets import shared_budgets
from algo.live.redis_link import connect, connect_async
from algo.live.redis_url import RedisPlace
from algo.models import Heartbeat
from algo_trade.celery import app
from providers.budgets import Limit, Priority
from tests.execution.processes import said, servers_only, started, wait_for
from tests.live.sentinels import Watched, watched

pytestmark = pytest.mark.e2e

LONGEST_FAILOVER = 20.0  # seconds; measured: 3 to 5, of which one goes by before the sentinels believe it


@pytest.fixture
def servers(tmp_path) -> Iterator[Watched]:
    with watched(tmp_path) as found:
        yield found


def answered(question: Callable[[], object]) -> bool:
    try:
        return bool(question())
    except (redis.RedisError, OSError):
        return False


def seconds_until(question: Callable[[], object]) -> float:
    began = time.monotonic()
    wait_for(lambda: answered(question), LONGEST_FAILOVER, "the next master answers")
    return time.monotonic() - began


def test_clients_budgets_and_the_cache_find_the_next_master(servers):
    client = connect(servers.url, 1.0)
    cache = RedisCache(
        [servers.url], {"OPTIONS": {"pool_class": "algo.live.redis_link.CachePool", "socket_timeout": 1}}
    )
    budget = shared_budgets(servers.url)("wallex", "http://exchange", {"*": Limit(100, 60.0)})
    client.set("kept", "yes")
    cache.set("page", {"kept": True})
    assert budget.take("*", Priority.NORMAL, 1) == 0
    assert client.keys("algo:budget:1:wallex@exchange:*")
    assert client.wait(1, 1000) == 1  # the replica has all of it

    dead = servers.kill_master()
    assert not answered(client.ping)
    assert budget.take("*", Priority.NORMAL, 1) == 0  # from its own share meanwhile
    assert seconds_until(lambda: client.set("new", "yes")) < LONGEST_FAILOVER
    assert servers.master() != dead
    assert client.get("kept") == "yes"
    assert cache.get("page") == {"kept": True}
    cache.set("page", {"kept": "again"})
    assert cache.get("page") == {"kept": "again"}


def test_the_live_stream_goes_on_with_the_next_master(servers):
    async def story() -> list[str]:
        client = connect_async(servers.url, 1.0, 1.0)
        writer = connect(servers.url, 1.0)
        writer.xadd("stream", {"event": "before"})
        assert writer.wait(1, 1000) == 1
        servers.kill_master()
        await asyncio.to_thread(seconds_until, lambda: writer.xadd("stream", {"event": "after"}))
        entries: list[tuple[str, dict[str, str]]] = []
        deadline = time.monotonic() + LONGEST_FAILOVER
        while not entries and time.monotonic() < deadline:
            try:
                entries = await client.xrange("stream")
            except redis.RedisError:
                await asyncio.sleep(0.1)
        await client.aclose()
        return [fields["event"] for _, fields in entries]

    assert asyncio.run(story()) == ["before", "after"]


@pytest.mark.django_db(transaction=True)
def test_a_worker_takes_tasks_from_the_next_master_without_being_started_again(servers, tmp_path):
    folder = tmp_path / "worker"
    folder.mkdir()
    place = RedisPlace.parse(servers.url)
    options = place.transport_options(1) | {"socket_timeout": 2, "socket_connect_timeout": 2}

    def sent() -> bool:
        """One more sign of life is asked for; whether the broker took it."""
        try:
            with Connection(place.broker_url, transport_options=options) as broker:
                app.send_task(
                    "algo.tasks.worker_alive", args=["orders"], queue="orders", connection=broker, retry=False
                )
        except (redis.RedisError, OSError, broker.connection_errors):
            return False
        return True

    def done() -> bool:
        return sent() and Heartbeat.objects.filter(name="worker:orders").exists()

    words = ("-m", "celery", "-A", "algo_trade", "worker", "-Q", "orders", "-c", "1", "-n", "sentinels@%h")
    with started(folder, *words, env=servers_only(REDIS_URL=servers.url)) as worker:
        wait_for(lambda: " ready." in said(folder), 60, "the worker is ready", folder=folder)
        wait_for(done, 20, "it works", folder=folder, pause=0.5)
        servers.kill_master()
        Heartbeat.objects.all().delete()
        wait_for(done, LONGEST_FAILOVER + 20, "it works with the next master", folder=folder, pause=0.5)
        assert worker.poll() is None
