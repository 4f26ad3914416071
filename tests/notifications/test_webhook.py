from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import socket
import threading
import time
from decimal import Decimal

import pytest

from algo.notifications import webhook
from algo.notifications.message import DeliveryFailed, Message
from algo.notifications.webhook import (
    send_webhook_notification,
    webhook_headers,
    webhook_message_send,
    webhook_send,
)
from tests import factories as make
from tests.factories import NOW

SECRET = "a secret that the receiver knows"


def test_body_has_version_id_type_and_data(receiver):
    deal = {"deal": 7, "profit": Decimal("0.60"), "closed_at": NOW}
    webhook_send(
        deal,
        url=receiver.url,
        secret=SECRET,
        allow_private=True,
        event_id="event_7",
        kind="deal.closed",
        created_at=NOW,
    )
    [(path, headers, body)] = receiver.received
    assert path == "/hook"
    assert headers["content-type"] == "application/json"
    assert json.loads(body) == {
        "version": 1,
        "id": "event_7",
        "type": "deal.closed",
        "created_at": "2026-11-02T10:00:00Z",
        "data": {"deal": 7, "profit": "0.60", "closed_at": "2026-11-02T10:00:00Z"},
    }


def test_receiver_can_verify_the_signature_and_its_age(receiver):
    webhook_send({"deal": 7}, url=receiver.url, secret=SECRET, allow_private=True, event_id="event_7")
    [(_, headers, body)] = receiver.received
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    mac = base64.b64encode(hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{mac}"
    assert abs(time.time() - int(headers["webhook-timestamp"])) < 5
    assert SECRET not in str(headers) + body.decode()


def test_every_signed_part_changes_the_signature():
    def sign(body=b"{}", event_id="a", timestamp=1, secret="k"):
        made = webhook_headers(body, event_id=event_id, timestamp=timestamp, secret=secret)
        return made["webhook-signature"]

    variants = {sign(), sign(body=b"[]"), sign(event_id="b"), sign(timestamp=2), sign(secret="l")}
    assert len(variants) == 5


def test_secret_of_the_scheme_is_decoded():
    plain = webhook_headers(b"{}", event_id="a", timestamp=1, secret="key")
    encoded = webhook_headers(b"{}", event_id="a", timestamp=1, secret="whsec_" + base64.b64encode(b"key").decode())
    assert plain == encoded


@pytest.mark.parametrize("status", [301, 302, 307, 400, 404, 410, 500, 503])
def test_anything_but_2xx_is_a_failure_and_redirects_are_not_followed(receiver, status):
    receiver.status, receiver.headers = status, {"Location": "/elsewhere"}
    with pytest.raises(DeliveryFailed, match=str(status)) as caught:
        webhook_send({}, url=receiver.url, secret=SECRET, allow_private=True)
    assert (caught.value.status, caught.value.of_receiver) == (status, status != 400)
    assert [path for path, _, _ in receiver.received] == ["/hook"]


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("120", 120), ("999999", 3600), ("soon", None), ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("-5", None)],
)
def test_receiver_that_asks_for_patience_gets_it_within_bounds(receiver, said, seconds):
    receiver.status, receiver.headers = 429, {"Retry-After": said}
    with pytest.raises(DeliveryFailed) as caught:
        webhook_send({}, url=receiver.url, secret=SECRET, allow_private=True)
    assert caught.value.retry_seconds == seconds


def test_unreachable_receiver_is_a_failure_that_does_not_repeat_the_address():
    with pytest.raises(DeliveryFailed) as caught:
        webhook_send({}, url="http://127.0.0.1:9/token-in-the-path", secret=SECRET, allow_private=True)
    assert "token-in-the-path" not in str(caught.value)


def test_receiver_that_sends_a_byte_now_and_then_does_not_hold_the_sender_either(monkeypatch):
    """Each byte is within the timeout of a socket, and none of them ends the line."""
    monkeypatch.setattr(webhook, "SENDER_SECONDS", 0.5)
    over = threading.Event()

    def drip(listener):
        with listener.accept()[0] as peer, contextlib.suppress(OSError):
            peer.sendall(b"HTTP/1.1 ")
            while not over.wait(0.05):
                peer.sendall(b"a")

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        thread = threading.Thread(target=drip, args=[listener], daemon=True)
        thread.start()
        try:
            with pytest.raises(DeliveryFailed):
                port = listener.getsockname()[1]
                webhook_send({}, url=f"http://127.0.0.1:{port}/", secret=SECRET, allow_private=True)
        finally:
            over.set()
            thread.join()


def test_silent_receiver_does_not_hold_the_sender(monkeypatch):
    monkeypatch.setattr(webhook, "READ_SECONDS", 0.2)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        started = time.monotonic()
        with pytest.raises(DeliveryFailed):
            webhook_send({}, url=f"http://127.0.0.1:{listener.getsockname()[1]}/", secret=SECRET, allow_private=True)
    assert time.monotonic() - started < 2
    assert webhook.CONNECT_SECONDS == 5


def test_task_sends_to_the_configured_address(receiver, settings):
    settings.WEBHOOK_URL, settings.WEBHOOK_SECRET = receiver.url, SECRET
    send_webhook_notification({"deal": 7})
    assert json.loads(receiver.received[0][2])["data"] == {"deal": 7}


def test_task_repeats_under_the_same_id(receiver, settings):
    settings.WEBHOOK_URL, settings.WEBHOOK_SECRET = receiver.url, SECRET
    receiver.status = 503
    send_webhook_notification.apply(args=[{"deal": 7}], task_id="abc")
    ids = {headers["webhook-id"] for _, headers, _ in receiver.received}
    assert ids == {"task_abc"}
    assert len(receiver.received) == 6


def test_without_an_address_nothing_is_sent(receiver, settings):
    settings.WEBHOOK_URL = ""
    send_webhook_notification({"deal": 7})
    assert receiver.received == []


@pytest.mark.django_db
def test_channel_of_a_user_gets_events_signed_with_its_own_secret(receiver, settings):
    settings.NOTIFY_PRIVATE_ADDRESSES = True
    channel = make.make_channel(make.make_trader(), target=receiver.url, secret="of the channel")
    event = make.make_outbox_event("deal.opened")
    assert webhook_message_send(Message("event_9", channel, (event,), NOW)) == 200
    [(_, headers, body)] = receiver.received
    timestamp = int(headers["webhook-timestamp"])
    expected = webhook_headers(body, event_id="event_9", timestamp=timestamp, secret="of the channel")
    assert headers["webhook-signature"] == expected["webhook-signature"]
    assert json.loads(body)["type"] == "deal.opened"


@pytest.mark.django_db
def test_a_group_holds_each_event_with_its_own_id(receiver, settings):
    settings.NOTIFY_PRIVATE_ADDRESSES = True
    channel = make.make_channel(make.make_trader(), target=receiver.url, secret=SECRET)
    first, second = (make.make_outbox_event("ticket.opened", payload={"n": n}) for n in (1, 2))
    webhook_message_send(Message("group_1", channel, (first, second), NOW))
    document = json.loads(receiver.received[0][2])
    assert (document["id"], document["type"], document["data"]["counts"]) == ("group_1", "group", {"ticket.opened": 2})
    assert document["data"]["events"] == [
        {"id": f"event_{each.pk}", "type": "ticket.opened", "created_at": "2026-11-02T10:00:00Z", "data": {"n": n}}
        for n, each in ((1, first), (2, second))
    ]


@pytest.mark.django_db
@pytest.mark.parametrize("environment", ["paper", "live"])
def test_private_addresses_of_users_are_refused_on_paper_too(receiver, settings, environment):
    settings.DEBUG, settings.EXCHANGE_ENVIRONMENT = False, environment
    channel = make.make_channel(make.make_trader(), target=receiver.url.replace("http:", "https:"), secret=SECRET)
    with pytest.raises(DeliveryFailed, match="private"):
        webhook_message_send(Message("event_9", channel, (make.make_outbox_event(),), NOW))
    assert receiver.received == []
