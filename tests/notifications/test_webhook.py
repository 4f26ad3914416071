from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import time
from decimal import Decimal

import pytest

from algo.notifications import addresses, webhook
from algo.notifications.addresses import AddressRefused, is_public, require_web_address
from algo.notifications.outbox import DeliveryFailed
from algo.notifications.webhook import send_webhook_notification, webhook_headers, webhook_send
from tests.factories import NOW

SECRET = "a secret that the receiver knows"


@pytest.fixture
def live(settings):
    settings.DEBUG = False
    settings.EXCHANGE_ENVIRONMENT = "live"


def test_body_has_version_id_type_and_data(receiver):
    deal = {"deal": 7, "profit": Decimal("0.60"), "closed_at": NOW}
    webhook_send(deal, url=receiver.url, secret=SECRET, event_id="event_7", kind="deal.closed", created_at=NOW)
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
    webhook_send({"deal": 7}, url=receiver.url, secret=SECRET, event_id="event_7")
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
    with pytest.raises(DeliveryFailed, match=str(status)):
        webhook_send({}, url=receiver.url, secret=SECRET)
    assert [path for path, _, _ in receiver.received] == ["/hook"]


def test_unreachable_receiver_is_a_failure_that_does_not_repeat_the_address():
    with pytest.raises(DeliveryFailed) as caught:
        webhook_send({}, url="http://127.0.0.1:9/token-in-the-path", secret=SECRET)
    assert "token-in-the-path" not in str(caught.value)


def test_silent_receiver_does_not_hold_the_sender(monkeypatch):
    monkeypatch.setattr(webhook, "READ_SECONDS", 0.2)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        started = time.monotonic()
        with pytest.raises(DeliveryFailed):
            webhook_send({}, url=f"http://127.0.0.1:{listener.getsockname()[1]}/", secret=SECRET)
    assert time.monotonic() - started < 2
    assert webhook.CONNECT_SECONDS == 5


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "0x7f.1",
        "2130706433",
        "0.0.0.0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "10.1.2.3",
        "172.16.0.1",
        "172.31.255.254",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "[fe80::1]",
        "[fc00::1]",
        "[fd12:3456::1]",
        "224.0.0.1",
        "[ff02::1]",
        "255.255.255.255",
        "240.0.0.1",
        "192.0.2.1",
        "198.18.0.1",
        "localhost",
    ],
)
def test_live_operation_sends_nothing_to_an_address_that_is_not_public(live, host, monkeypatch):
    reached = []
    monkeypatch.setattr(addresses.connection, "create_connection", lambda *a, **_: reached.append(a))
    with pytest.raises(DeliveryFailed):
        webhook_send({}, url=f"https://{host}:8443/", secret=SECRET)
    assert reached == []


def test_refusal_says_why(live):
    with pytest.raises(DeliveryFailed, match=r"127\.0\.0\.1 resolves to a private"):
        webhook_send({}, url="https://127.0.0.1/", secret=SECRET)


@pytest.mark.parametrize("address", ["1.1.1.1", "185.141.133.1", "2606:4700::1111", "64:ff9b::101:101"])
def test_public_addresses_are_public(address):
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    ["http://example.com/", "ftp://example.com/", "https://", "https://user:pw@example.com/", "file:///etc/passwd"],
)
def test_live_operation_takes_only_plain_https_addresses(url):
    with pytest.raises(AddressRefused):
        require_web_address(url, allow_private=False)


def test_name_is_looked_up_once_and_connected_to_as_looked_up(live, monkeypatch):
    """A name that answers with a public address first and a private one later never leads to the private one."""
    answers = iter([["1.1.1.1"], ["127.0.0.1"]])
    asked, reached = [], []

    def lookup(host, port, **_):
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in next(answers)]

    def connect(address, *_, **__):
        reached.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(addresses.socket, "getaddrinfo", lookup)
    monkeypatch.setattr(addresses.connection, "create_connection", connect)
    with pytest.raises(DeliveryFailed):
        webhook_send({}, url="https://rebinding.example/", secret=SECRET)
    assert (asked, reached) == (["rebinding.example"], [("1.1.1.1", 443)])


def test_one_private_answer_among_public_ones_is_enough_to_refuse(live, monkeypatch):
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443)) for address in ("1.1.1.1", "10.0.0.1")]
    monkeypatch.setattr(addresses.socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(DeliveryFailed, match="private"):
        webhook_send({}, url="https://mixed.example/", secret=SECRET)


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
