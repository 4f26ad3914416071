from __future__ import annotations

import threading
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection, transaction

from algo.models import OutboxEvent
from algo.notifications.outbox import MAX_ATTEMPTS, DeliveryFailed, event_record, outbox_deliver, retry_after
from algo.notifications.webhook import event_send
from tests.factories import NOW, make_outbox_event

pytestmark = pytest.mark.django_db


def refuse(event):
    raise DeliveryFailed("the receiver answered 503")


def test_event_is_there_only_if_its_fact_is():
    with pytest.raises(RuntimeError), transaction.atomic():
        event_record("deal.opened", {"deal": 1}, at=NOW)
        raise RuntimeError
    assert not OutboxEvent.objects.exists()


def test_amounts_and_times_are_recorded_as_text():
    event = event_record("deal.closed", {"profit": Decimal("0.10"), "at": NOW}, at=NOW)
    event.refresh_from_db()
    assert event.payload == {"profit": "0.10", "at": "2026-11-02T10:00:00Z"}


def test_due_events_are_delivered_once_in_order():
    first, second = make_outbox_event(), make_outbox_event()
    sent = []
    assert outbox_deliver(NOW, sent.append) == 2
    assert outbox_deliver(NOW + timedelta(days=1), sent.append) == 0
    assert sent == [first, second]
    first.refresh_from_db()
    assert (first.delivered_at, first.attempts, first.last_error) == (NOW, 1, "")


def test_events_of_the_future_wait():
    make_outbox_event(next_attempt_at=NOW + timedelta(seconds=1))
    assert outbox_deliver(NOW, lambda _: None) == 0


def test_failed_event_is_tried_again_later_and_not_before():
    event = make_outbox_event()
    assert outbox_deliver(NOW, refuse) == 0
    event.refresh_from_db()
    assert (event.attempts, event.last_error) == (1, "the receiver answered 503")
    assert event.next_attempt_at == NOW + timedelta(seconds=20)
    assert outbox_deliver(NOW + timedelta(seconds=19), lambda _: None) == 0
    assert outbox_deliver(NOW + timedelta(seconds=20), lambda _: None) == 1


def test_back_off_doubles_to_an_hour():
    seconds = [retry_after(n).total_seconds() for n in (1, 2, 3, 8, 9, 30)]
    assert seconds == [20, 40, 80, 2560, 3600, 3600]


def test_retries_last_at_least_a_day():
    assert sum((retry_after(n) for n in range(1, MAX_ATTEMPTS)), timedelta()) > timedelta(hours=20)


def test_back_off_is_wall_time_in_a_fast_replay():
    event = make_outbox_event()
    outbox_deliver(NOW, refuse, speed=60)
    event.refresh_from_db()
    assert event.next_attempt_at == NOW + timedelta(seconds=20 * 60)


def test_event_is_given_up_after_its_last_attempt():
    event = make_outbox_event(attempts=MAX_ATTEMPTS - 1)
    outbox_deliver(NOW, refuse)
    event.refresh_from_db()
    assert (event.delivered_at, event.next_attempt_at) == (None, None)
    assert outbox_deliver(NOW + timedelta(days=9), lambda _: None) == 0


def test_broken_event_does_not_hold_up_the_others():
    broken, sound = make_outbox_event(), make_outbox_event()

    def send(event):
        if event == broken:
            raise ZeroDivisionError

    assert outbox_deliver(NOW, send) == 1
    sound.refresh_from_db()
    broken.refresh_from_db()
    assert sound.delivered_at == NOW
    assert broken.delivered_at is None
    assert "ZeroDivisionError" in broken.last_error


@pytest.mark.django_db(transaction=True)
def test_network_is_used_outside_any_transaction():
    make_outbox_event()
    inside = []
    outbox_deliver(NOW, lambda _: inside.append(connection.in_atomic_block))
    assert inside == [False]


@pytest.mark.django_db(transaction=True)
def test_event_in_flight_is_not_taken_by_a_second_worker():
    make_outbox_event()
    in_flight, go_on = threading.Event(), threading.Event()

    def slow(event):
        in_flight.set()
        go_on.wait(5)

    def work():
        outbox_deliver(NOW, slow)
        connection.close()

    worker = threading.Thread(target=work)
    worker.start()
    assert in_flight.wait(5)
    second = []
    outbox_deliver(NOW + timedelta(seconds=5), second.append)
    go_on.set()
    worker.join()
    assert second == []


def test_outbox_reaches_the_webhook(receiver, settings):
    settings.WEBHOOK_URL, settings.WEBHOOK_SECRET = receiver.url, "secret"
    event = make_outbox_event("deal.opened")
    assert outbox_deliver(NOW, event_send) == 1
    assert receiver.received[0][1]["webhook-id"] == f"event_{event.pk}"
    assert b'"type":"deal.opened"' in receiver.received[0][2]


def test_receiver_that_was_down_gets_the_event_once_it_is_back(receiver, settings):
    settings.WEBHOOK_URL, settings.WEBHOOK_SECRET = receiver.url, "secret"
    make_outbox_event()
    receiver.status = 503
    assert outbox_deliver(NOW, event_send) == 0
    receiver.status = 204
    assert outbox_deliver(NOW + timedelta(minutes=1), event_send) == 1
    assert len({headers["webhook-id"] for _, headers, _ in receiver.received}) == 1


def test_without_an_address_events_count_as_delivered(settings):
    settings.WEBHOOK_URL = ""
    make_outbox_event()
    assert outbox_deliver(NOW, event_send) == 1
