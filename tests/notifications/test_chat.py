"""Chat through Apprise: against doubles of the services on loopback, and out of reach of everything else."""

from __future__ import annotations

import json
import logging
from typing import Any
from urllib.parse import urlsplit

import pytest
from apprise import Apprise
from apprise.manager_plugins import NotificationManager

from algo.notifications.addresses import AddressRefused
from algo.notifications.bale import NotifyBale, bale_register
from algo.notifications.chat import LOCAL, SERVICES, allowed_services, chat_message_send, chat_service
from algo.notifications.message import DeliveryFailed, Message
from tests import factories as make
from tests.factories import NOW
from tests.notifications.test_texts import CLOSED

pytestmark = pytest.mark.django_db

TOKEN = "123456789:CANARY_AbCdEfGhIjKlMnOpQrStUvWxYz12"
TELEGRAM, BALE = f"tgram://{TOKEN}/987654321/", f"bale://{TOKEN}/987654321"


@pytest.fixture
def double(receiver: Any, monkeypatch: Any) -> Any:
    """Telegram's and Bale's bot APIs on loopback: they take what is posted to /bot<token>/<method>."""
    bale_register()
    base = receiver.url.removesuffix("/hook") + "/bot"
    monkeypatch.setattr(NotificationManager()["tgram"], "notify_url", base)
    monkeypatch.setattr(NotifyBale, "notify_url", base)
    return receiver


def message(target: str, *, language: str = "en", kind: str = "deal.closed") -> Message:
    channel = make.make_channel(make.make_trader(), type="chat", target=target, language=language)
    return Message("event_7", channel, (make.make_outbox_event(kind, payload=CLOSED),), NOW)


@pytest.mark.parametrize("target", [TELEGRAM, BALE])
def test_a_message_arrives_with_its_title_and_its_lines(double, target):
    assert chat_message_send(message(target)) is None
    ((path, _, body),) = double.received
    assert path == f"/bot{TOKEN}/sendMessage"
    sent = json.loads(body)
    assert str(sent["chat_id"]) == "987654321"
    assert "Deal closed: BTCUSDT BUY" in sent["text"]
    assert "Profit after fees: 0.6 USDT." in sent["text"]


def test_it_is_in_the_language_of_the_channel(double):
    chat_message_send(message(BALE, language="fa"))
    assert "۵۰٬۰۰۰" in json.loads(double.received[0][2])["text"]


@pytest.mark.parametrize("target", [TELEGRAM, BALE])
@pytest.mark.parametrize(("status", "of_receiver"), [(401, True), (500, True), (400, False)])
def test_a_refusal_says_what_was_answered_and_nothing_of_the_token(double, target, status, of_receiver, caplog):
    caplog.set_level(logging.DEBUG, "algo")
    double.status = status
    with pytest.raises(DeliveryFailed) as failed:
        chat_message_send(message(target))
    assert (failed.value.status, failed.value.of_receiver) == (status, of_receiver)
    assert str(status) in str(failed.value)
    assert "CANARY" not in str(failed.value) + caplog.text


@pytest.mark.parametrize("target", [TELEGRAM, BALE])
def test_a_service_that_is_away_is_a_failure_without_its_address(monkeypatch, target, capfd):
    bale_register()
    monkeypatch.setattr(NotificationManager()["tgram"], "notify_url", "http://127.0.0.1:1/bot")
    monkeypatch.setattr(NotifyBale, "notify_url", "http://127.0.0.1:1/bot")
    with pytest.raises(DeliveryFailed, match="could not be reached") as failed:
        chat_message_send(message(target))
    out = capfd.readouterr()
    assert "CANARY" not in str(failed.value) + out.out + out.err


def test_a_redirect_is_not_followed(double, monkeypatch):
    double.status, double.headers = 302, {"Location": double.url + "elsewhere"}
    with pytest.raises(DeliveryFailed):
        chat_message_send(message(BALE))
    assert len(double.received) == 1


# --- where it may not go --------------------------------------------------------------------------------------------

REFUSED = [
    "json://127.0.0.1/x", "jsons://example.org/x", "xml://10.0.0.1", "form://localhost", "http://127.0.0.1/",
    "https://169.254.169.254/latest", "https://discord.com.evil.example/api/webhooks/1/2", "syslog://", "dbus://",
    "windows://", "gnome://", "macosx://", "file:///etc/passwd", "mqtt://localhost", "redis://localhost",
    "ntfy://10.0.0.1/topic", "ntfys://evil.example/t", "gotify://192.168.0.1/token", "matrix://u:p@localhost",
    "mattermost://localhost/t", "rocket://localhost", "nctalk://u:p@localhost/r", "home assistant://x",
    "hassio://localhost/t", "kodi://localhost", "mailto://u:p@localhost", "xmpp://u:p@localhost", "growl://localhost",
    "irc://localhost/c", "smpp://u:p@localhost", "apprise://localhost/t", "workflows://localhost/a/b/c",
    "synology://localhost/t", "tgram", "", " tgram://x", "ftp://x", "JSON://127.0.0.1",
]  # fmt: skip


@pytest.mark.parametrize("target", REFUSED)
def test_addresses_that_name_a_host_or_this_machine_are_refused(target):
    with pytest.raises(AddressRefused):
        chat_service(target)


def test_the_refusal_does_not_repeat_what_was_typed():
    for target in ("tgram://CANARY", "json://CANARY/x", "bale://CANARY", "CANARY"):
        with pytest.raises(AddressRefused) as refused:
            chat_service(target)
        assert "CANARY" not in str(refused.value)


def test_options_of_an_address_neither_switch_tls_off_nor_follow_redirects():
    service = chat_service(f"{TELEGRAM}?verify=no&redirect=yes&rto=600&cto=600")
    assert (service.verify_certificate, service.redirects) == (True, False)
    assert service.request_timeout == (4.0, 8.0)


def test_a_channel_is_one_chat():
    with pytest.raises(AddressRefused, match="one chat"):
        chat_service(f"{TELEGRAM}1234567/7654321")


def test_an_operator_may_allow_more_but_never_programs_of_this_machine(settings):
    settings.NOTIFY_CHAT_SERVICES = ["ntfys", "syslog", "dbus"]
    assert "ntfys" in allowed_services()
    assert not allowed_services() & LOCAL
    assert chat_service("ntfys://ntfy.example.org/topic").service_name == "ntfy"


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_service_on_the_list_has_its_hosts_in_its_own_code(name):
    """No part of its address is a host, and what it posts to is https at a host that stands in the class."""
    bale_register()
    plugin = NotificationManager()[name]
    if name != "bale":
        details = {s: each for each in Apprise().details()["schemas"] for s in _schemas(each)}[name]["details"]
        assert not {"host", "hostname", "domain", "port", "url"} & details["tokens"].keys()
    urls = [getattr(plugin, each) for each in ("notify_url", "webhook_url", "api_url") if hasattr(plugin, each)]
    assert urls
    for url in urls:
        parts = urlsplit(url)
        assert parts.scheme == "https"
        assert parts.hostname
        assert "{" not in parts.netloc


def _schemas(details: Any) -> list[str]:
    return [*(details["protocols"] or ()), *(details["secure_protocols"] or ())]


def test_discord_and_slack_are_taken_as_they_show_their_webhooks():
    discord = "https://discord.com/api/webhooks/417429632418316298/JHZ7lQml277CDHmQKMHI8qBe7bk2ZwO5UKjCiOAF7711o33MyqU344Qpgv7YTpadV_js"
    slack = "https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"
    assert (chat_service(discord).service_name, chat_service(slack).service_name) == ("Discord", "Slack")
