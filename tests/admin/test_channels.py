"""Channels, deliveries and inbound keys in the admin: made, tested, switched; secrets are never shown again."""

from __future__ import annotations

import re

import pytest
from django.test import Client
from django.urls import reverse

from algo.admin import channels
from algo.models import AuditRecord, Delivery, InboundKey, NotificationChannel
from algo.selectors.rights import Role
from tests import factories as make
from tests.admin import pages
from tests.admin.pages import form_data, shown

pytestmark = pytest.mark.django_db

TARGET = "https://hooks.example.org/CANARY-path"


@pytest.fixture(autouse=True)
def _nobody_waits(monkeypatch):
    monkeypatch.setattr(channels, "LOOKED_SECONDS", 0.0)


@pytest.fixture
def viewer(db):
    return make.make_user("viewer", role=Role.VIEWER, is_staff=True)


@pytest.fixture
def signed_in(viewer):
    client = Client()
    client.force_login(viewer)
    return client


def address(model, page, *args):
    return reverse(f"admin:algo_{model}_{page}", args=args)


def said(page):
    return " ".join(pages.said(page))


def add(client, **typed):
    page = client.get(address("notificationchannel", "add"))
    data = form_data(page) | {"name": "hook", "type": "webhook", "target": TARGET} | typed
    return client.post(address("notificationchannel", "add"), data, follow=True)


def test_somebody_makes_a_webhook_and_is_told_its_secret_once(signed_in, viewer):
    page = add(signed_in, kinds=["deal.closed"], quiet_from="22:00", quiet_to="07:00")
    row = NotificationChannel.objects.get()
    assert (row.owner, row.target(), row.kinds) == (viewer, TARGET, ["deal.closed"])
    assert (row.groups, row.most_per_minute) == (False, 600)  # a webhook gets each event alone unless asked
    (secret,) = set(re.findall(r"whsec_[A-Za-z0-9+/=]+", page.content.decode()))
    assert row.secret() == secret
    again = signed_in.get(address("notificationchannel", "change", row.pk)).content.decode()
    assert "hooks.example.org" in again
    assert "CANARY" not in again
    assert secret not in again
    assert AuditRecord.objects.get().act == "channel.create"


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ({"target": ""}, "Where is it to be sent?"),
        ({"target": "https://127.0.0.1/x"}, "private, loopback or link-local"),
        ({"type": "chat", "target": "json://localhost/"}, "Messages to json:// are not sent from here."),
        ({"quiet_from": "22:00"}, "Quiet hours have a beginning and an end, or neither."),
        ({"daily_summary": "on"}, "Say at what time of its zone the summary is to come."),
    ],
)
def test_what_cannot_work_is_told_beside_its_field(signed_in, typed, told):
    assert told in shown(add(signed_in, **typed))
    assert not NotificationChannel.objects.exists()


def test_an_empty_address_keeps_the_one_that_is_stored(signed_in, viewer):
    add(signed_in)
    row = NotificationChannel.objects.get()
    page = signed_in.get(address("notificationchannel", "change", row.pk))
    signed_in.post(address("notificationchannel", "change", row.pk), form_data(page) | {"language": "fa"}, follow=True)
    row.refresh_from_db()
    assert (row.language, row.target()) == ("fa", TARGET)
    assert AuditRecord.objects.filter(act="channel.change").get().details["fields"] == ["language"]


def test_a_test_says_what_became_of_it(signed_in, viewer, monkeypatch):
    row = make.make_channel(viewer, name="hook", target=TARGET)
    press = address("notificationchannel", "do", row.pk)
    assert "look below what became of it" in said(signed_in.post(press, {"act": "send_test"}, follow=True))
    assert Delivery.objects.get().event.kind == "webhook.test"

    def took(channel_id):
        Delivery.objects.update(state="delivered", delivered_at=make.NOW)

    def refused(channel_id):
        Delivery.objects.update(last_error="the receiver answered 500")

    monkeypatch.setattr(channels, "LOOKED_SECONDS", 2.0)
    monkeypatch.setattr(channels, "channel_hint", took)
    assert "hook took the test." in said(signed_in.post(press, {"act": "send_test"}, follow=True))
    Delivery.objects.all().delete()
    monkeypatch.setattr(channels, "channel_hint", refused)
    page = signed_in.post(press, {"act": "send_test"}, follow=True)
    assert "did not take the test: the receiver answered 500." in said(page)
    assert "the receiver answered 500" in shown(page)


def test_it_is_switched_off_and_gets_another_secret(signed_in, viewer):
    row = make.make_channel(viewer, target=TARGET, secret="whsec_b2xk")
    press = address("notificationchannel", "do", row.pk)
    signed_in.post(press, {"act": "switch_off"})
    page = signed_in.post(press, {"act": "renew_secret"}, follow=True)
    row.refresh_from_db()
    assert row.is_enabled is False
    assert row.secret() in page.content.decode()
    assert "is switched off" in said(signed_in.post(press, {"act": "send_test"}, follow=True))


def test_a_delivery_is_sent_once_more_from_its_page_and_from_the_list(signed_in, viewer):
    channel = make.make_channel(viewer)
    row = make.make_delivery(channel=channel, state="given_up", last_error="nobody there", attempts=9)
    page = signed_in.get(address("delivery", "change", row.pk))
    assert "Send once more" in shown(page)
    signed_in.post(address("delivery", "do", row.pk), {"act": "redeliver"})
    row.refresh_from_db()
    assert (row.state, row.attempts) == ("waiting", 0)
    Delivery.objects.update(state="given_up")
    chosen = {"action": "redeliver", "_selected_action": [row.pk]}
    assert "sent within seconds" in said(signed_in.post(address("delivery", "changelist"), chosen, follow=True))


def test_channels_and_deliveries_of_others_are_not_there(signed_in):
    theirs = make.make_channel(make.make_trader(), name="SECRET")
    delivery = make.make_delivery(channel=theirs)
    for model, pk in (("notificationchannel", theirs.pk), ("delivery", delivery.pk)):
        assert "SECRET" not in signed_in.get(address(model, "changelist")).content.decode()
        assert signed_in.get(address(model, "change", pk)).status_code == 302
        assert signed_in.post(address(model, "do", pk), {"act": "send_test"}).status_code == 404
    assert Delivery.objects.count() == 1


def test_the_operators_channel_is_looked_at_only(browser):
    row = make.make_channel(None, name="WEBHOOK_URL")
    assert browser.get(address("notificationchannel", "change", row.pk)).status_code == 200
    assert browser.post(address("notificationchannel", "delete", row.pk), {"post": "yes"}).status_code == 403
    assert browser.post(address("notificationchannel", "do", row.pk), {"act": "switch_off"}).status_code == 403


# --- inbound keys ---------------------------------------------------------------------------------------------------


def test_a_trader_makes_switches_and_revokes_a_key(db):
    trader = make.make_trader("trader", is_staff=True)
    config = make.make_config(strategy="ExternalSignals", account=make.make_account(owner=trader))
    client = Client()
    client.force_login(trader)
    page = client.post(address("inboundkey", "add"), {"config": config.pk, "label": "TradingView"}, follow=True)
    key = InboundKey.objects.get()
    assert key.secret() in page.content.decode()
    again = client.get(address("inboundkey", "change", key.pk))
    assert key.secret() not in again.content.decode()
    assert f"/api/v1/inbound/{key.public_id}/" in shown(again)
    client.post(address("inboundkey", "do", key.pk), {"act": "switch_on"})
    assert InboundKey.objects.get().is_on
    client.post(address("inboundkey", "do", key.pk), {"act": "revoke"})
    assert InboundKey.objects.get().revoked_at is not None
    acts = list(AuditRecord.objects.order_by("pk").values_list("act", flat=True))
    assert acts == ["inbound_key.make", "inbound_key.on", "inbound_key.revoke"]


def test_a_key_is_for_a_strategy_that_takes_signals_and_may_be_traded_with(db):
    trader = make.make_trader("trader", is_staff=True)
    by_candles = make.make_config(account=make.make_account(owner=trader))
    theirs = make.make_config(strategy="ExternalSignals")
    client = Client()
    client.force_login(trader)
    for config in (by_candles, theirs):
        client.post(address("inboundkey", "add"), {"config": config.pk})
    assert not InboundKey.objects.exists()


def test_what_was_sent_is_listed_with_what_came_of_it(browser):
    make.make_alert(alert_id="ema-1", state="refused", note="A later signal to close came first.")
    text = shown(browser.get(address("inboundalert", "changelist")))
    assert "ema-1" in text
    assert "A later signal to close came first." in text
