"""E-mail, through a real mail server on loopback."""

from __future__ import annotations

import email
import socket
from collections.abc import Iterator
from email.policy import default
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from pydantic import ValidationError

from algo.notifications.mail import mail_message_send
from algo.notifications.message import DeliveryFailed, Message
from algo_trade.env import Env
from launcher.session import random_text
from tests import factories as make
from tests.factories import NOW
from tests.notifications.test_texts import CLOSED

pytestmark = pytest.mark.django_db


class Inbox:
    """What the server took; `refuses` is what it says to a recipient."""

    def __init__(self) -> None:
        self.mails: list[Any] = []
        self.refuses = ""

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if self.refuses:
            return self.refuses
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.mails.append((envelope, email.message_from_bytes(envelope.content, policy=default)))
        return "250 OK"


@pytest.fixture
def inbox(settings: Any) -> Iterator[Inbox]:
    """Django's own test settings keep mails in memory: here they go out."""
    inbox = Inbox()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = Controller(inbox, hostname="127.0.0.1", port=port)
    server.start()
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", port
    settings.DEFAULT_FROM_EMAIL = "alerts@example.org"
    yield inbox
    server.stop()


def message(language: str = "en", *, to: str = "sara@example.org") -> Message:
    channel = make.make_channel(make.make_trader(), type="email", target=to, language=language)
    return Message("event_7", channel, (make.make_outbox_event("deal.closed", payload=CLOSED),), NOW)


def test_a_mail_has_text_and_html_and_says_that_no_person_wrote_it(inbox):
    sent = message()
    assert mail_message_send(sent) is None
    ((envelope, mail),) = inbox.mails
    assert (envelope.rcpt_tos, mail["From"]) == (["sara@example.org"], "alerts@example.org")
    assert mail["Subject"] == "Deal closed: BTCUSDT BUY"
    assert (mail["Auto-Submitted"], mail["Content-Language"]) == ("auto-generated", "en")
    text, html = (mail.get_body((kind,)).get_content() for kind in ("plain", "html"))
    assert "Profit after fees: 0.6 USDT." in text
    assert "Profit after fees: 0.6 USDT." in html
    assert '<html lang="en" dir="ltr">' in html


def test_a_mail_to_a_persian_reader_runs_from_right_to_left(inbox):
    mail_message_send(message("fa"))
    ((_, mail),) = inbox.mails
    assert '<html lang="fa" dir="rtl">' in mail.get_body(("html",)).get_content()
    assert "۵۰٬۰۰۰" in mail.get_body(("plain",)).get_content()


def test_the_same_message_has_the_same_id_at_every_try(inbox):
    sent = message()
    mail_message_send(sent)
    mail_message_send(sent)
    assert inbox.mails[0][1]["Message-ID"] == inbox.mails[1][1]["Message-ID"]
    assert inbox.mails[0][1]["Message-ID"].startswith("<event_7.")


def test_what_people_typed_makes_no_header_and_no_html(inbox):
    sent = message()
    sent.events[0].payload = {"market": "A\nBcc: x@example.org", "close_reason": "<script>x</script>"}
    mail_message_send(sent)
    ((envelope, mail),) = inbox.mails
    assert envelope.rcpt_tos == ["sara@example.org"]
    assert mail["Bcc"] is None
    assert "<script>" not in mail.get_body(("html",)).get_content()


def test_a_refused_recipient_is_a_failure_that_does_not_repeat_the_address(inbox):
    inbox.refuses = "550 no such user sara@example.org"
    with pytest.raises(DeliveryFailed, match=r"refused the address \(550\)") as failed:
        mail_message_send(message())
    assert "sara" not in str(failed.value)


def test_a_server_that_is_away_is_a_failure(inbox, settings):
    settings.EMAIL_PORT = 1
    with pytest.raises(DeliveryFailed, match=r"could not be reached \(ConnectionRefusedError\)"):
        mail_message_send(message())


def test_without_a_server_it_says_so(settings):
    settings.EMAIL_HOST = ""
    with pytest.raises(DeliveryFailed, match="EMAIL_URL"):
        mail_message_send(message())


# --- EMAIL_URL ------------------------------------------------------------------------------------------------------


def env(**fields: str) -> Env:
    need = {"SECRET_KEY": random_text(50), "DATABASE_URL": "postgres://x", "FIELD_ENCRYPTION_KEYS": "A" * 43 + "="}
    return Env(_env_file=None, **(need | fields))  # type: ignore[arg-type,call-arg]


@pytest.mark.parametrize(
    ("url", "host", "port", "user", "password", "tls", "ssl"),
    [
        ("smtp+tls://u%40e.org:p%3Aw@mail.e.org", "mail.e.org", 587, "u@e.org", "p:w", True, False),
        ("smtps://u:p@mail.e.org:4465", "mail.e.org", 4465, "u", "p", False, True),
        ("smtp://127.0.0.1:1025", "127.0.0.1", 1025, "", "", False, False),
    ],
)
def test_the_address_of_the_mail_server_is_one_line(url, host, port, user, password, tls, ssl):
    mail = env(EMAIL_URL=url).mail
    assert (mail["EMAIL_HOST"], mail["EMAIL_PORT"]) == (host, port)
    assert (mail["EMAIL_HOST_USER"], mail["EMAIL_HOST_PASSWORD"]) == (user, password)
    assert (mail["EMAIL_USE_TLS"], mail["EMAIL_USE_SSL"]) == (tls, ssl)


def test_the_sender_is_the_user_unless_another_is_named():
    assert env(EMAIL_URL="smtps://u%40e.org:p@m.org").mail["DEFAULT_FROM_EMAIL"] == "u@e.org"
    named = env(EMAIL_URL="smtps://u:p@m.org", EMAIL_FROM="Alerts <a@e.org>").mail
    assert named["DEFAULT_FROM_EMAIL"] == "Alerts <a@e.org>"


@pytest.mark.parametrize("url", ["mail.example.org", "http://u:p@m.org", "smtp://", "smtp://m.org:x", "smtp://m.org/x"])
def test_an_address_that_is_none_is_refused_at_start_without_being_repeated(url):
    with pytest.raises(ValidationError, match="EMAIL_URL must be smtp"):
        env(EMAIL_URL=url)
