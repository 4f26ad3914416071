"""The tasks that find closed candles and let strategies decide: no pile of messages, no group decided twice at once."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
import redis
from celery import current_app
from django.conf import settings
from django.db import connection

from algo import tasks
from algo.execution.entries import deciding_alone
from algo.models import Heartbeat
from algo.queues import messages_wait
from providers.types import Resolution
from tests.factories import NOW, make_config, make_market

pytestmark = pytest.mark.django_db


class Fixed:
    speed = 1.0

    def now(self) -> Any:
        return NOW

    def wall(self, seconds: float) -> timedelta:
        return timedelta(seconds=seconds)


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    monkeypatch.setattr(tasks, "CLOCK", Fixed())


@pytest.fixture
def handed(monkeypatch) -> list[Any]:
    sent: list[Any] = []
    monkeypatch.setattr(tasks.evaluate_strategies, "apply_async", lambda args, **more: sent.append(args))
    return sent


def test_each_group_that_is_due_is_handed_on_once(monkeypatch, handed):
    monkeypatch.setattr(tasks, "messages_wait", lambda queue: False)
    first, second = make_config(), make_config(market=make_market("ETHUSDT"))
    assert tasks.run_strategies() == 2
    assert handed == [
        [first.data_market_id, "1", [first.pk]],
        [second.data_market_id, "1", [second.pk]],
    ]


def test_nothing_is_handed_on_while_earlier_messages_wait_and_beat_counts_as_alive(monkeypatch, handed):
    monkeypatch.setattr(tasks, "messages_wait", lambda queue: queue == "strategies")
    make_config()
    assert tasks.run_strategies() == 0
    assert handed == []
    assert Heartbeat.objects.get(name="beat").at == NOW


def test_whether_messages_wait_is_what_the_broker_says():
    server = redis.Redis.from_url(settings.REDIS_URL)
    server.delete("a-queue-of-this-test")
    assert not messages_wait("a-queue-of-this-test")
    server.lpush("a-queue-of-this-test", "x")
    try:
        assert messages_wait("a-queue-of-this-test")
    finally:
        server.delete("a-queue-of-this-test")


def test_without_a_broker_nobody_waits_for_its_word(monkeypatch, caplog):
    def gone() -> Any:
        raise OSError("no broker")

    monkeypatch.setattr(current_app, "connection_or_acquire", gone)
    assert not messages_wait("strategies")
    assert "strategies" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_a_group_that_another_worker_has_decide_is_left_to_it(monkeypatch):
    row = make_config()
    decided: list[int] = []
    monkeypatch.setattr(tasks, "evaluate_group", lambda *args, **more: decided.append(1) or [])
    held, finished = threading.Event(), threading.Event()

    def other() -> None:
        with deciding_alone(row.data_market, Resolution.M1) as is_alone:
            assert is_alone
            held.set()
            finished.wait(20)
        connection.close()

    thread = threading.Thread(target=other)
    thread.start()
    assert held.wait(20)
    tasks.evaluate_strategies(row.data_market_id, "1", [row.pk])
    tasks.evaluate_strategies(row.data_market_id, "5", [row.pk])  # another group
    assert decided == [1]
    finished.set()
    thread.join(20)
    tasks.evaluate_strategies(row.data_market_id, "1", [row.pk])
    assert decided == [1, 1]
