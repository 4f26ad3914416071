"""The queues: each message to one of them, and every task has one."""

from __future__ import annotations

from typing import Any

import pytest
from kombu.exceptions import ContentDisallowed
from kombu.exceptions import OperationalError as BrokerError
from kombu.serialization import loads, prepare_accept_content

from algo import queues, tasks
from algo.models import Heartbeat
from algo_trade.celery import QUEUES, app


def test_each_queue_has_an_exchange_and_a_routing_key_of_its_own():
    keys = {(queue.exchange.name, queue.routing_key) for queue in app.amqp.queues.values()}
    assert keys == {(name, name) for name in QUEUES}


def test_a_task_sent_to_a_queue_is_routed_to_that_queue_only():
    for name in QUEUES:
        route = app.amqp.router.route({"queue": name}, "any.task")
        assert route["queue"].name == name
        assert route["queue"].routing_key == name


def test_every_task_of_ours_is_bound_to_a_queue():
    ours = {name: task for name, task in app.tasks.items() if name.startswith("algo.")}
    assert len(ours) >= 8
    assert {name for name, task in ours.items() if getattr(task, "queue", None) not in QUEUES} == set()


def test_beat_asks_every_queue_for_a_sign_of_life(settings, db):
    asked = [each for each in settings.CELERY_BEAT_SCHEDULE.values() if each["task"] == "algo.tasks.worker_alive"]
    assert settings.QUEUES == QUEUES
    assert [(each["args"], each["options"]["queue"]) for each in asked] == [([queue], queue) for queue in QUEUES]
    tasks.worker_alive("orders")
    assert "exchanges" in Heartbeat.objects.get(name="worker:orders").detail


def test_every_scheduled_task_exists_and_expires_before_its_next_tick(settings):
    for entry in settings.CELERY_BEAT_SCHEDULE.values():
        assert entry["task"] in app.tasks
        assert entry["options"]["expires"] <= max(entry["schedule"], 1.0)


@pytest.mark.parametrize("failure", [BrokerError("refused"), AttributeError("'NoneType' object has no attribute 'x'")])
def test_a_hint_that_cannot_be_sent_does_not_fail_what_was_committed(
    failure, monkeypatch, caplog, django_capture_on_commit_callbacks, db
):
    def broken(name: str, **options: Any) -> None:
        raise failure

    monkeypatch.setattr(queues.current_app, "send_task", broken)
    with django_capture_on_commit_callbacks(execute=True):
        queues.advance_hint(7)
    assert "hint not sent account=7" in caplog.text


def test_only_json_is_read_from_the_broker():
    """A pickled body would run whatever stands in it."""
    accepted = prepare_accept_content(app.conf.accept_content)
    with pytest.raises(ContentDisallowed):
        loads(b"cposix\nsystem\n(S'true'\ntR.", "application/x-python-serialize", "binary", accept=accepted)
    assert loads(b'[["7"], {}, {}]', "application/json", "utf-8", accept=accepted) == [["7"], {}, {}]
