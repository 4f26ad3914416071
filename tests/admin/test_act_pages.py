"""Acts by hand from a deal's and an order's page: asked first, with a reason; refused in a sentence; for who may."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.contrib.auth.models import Group
from django.test import Client
from django.urls import reverse

from algo.models import AuditRecord, CloseReason, Deal, MarketQuote
from algo.services import deal_acts
from tests import factories as make
from tests.admin.pages import shown
from tests.factories import NOW

pytestmark = pytest.mark.django_db


def page(deal, name, kind="deal"):
    return reverse(f"admin:algo_{kind}_act", args=[deal.pk, name])


@pytest.fixture
def deal(config):
    return make.make_open_deal(config)


@pytest.fixture
def viewer(account):
    """May look at the account, and act on nothing."""
    user = make.make_user("viewer", is_staff=True)
    user.groups.add(make_viewers())
    account.viewers.add(user)
    client = Client()
    client.force_login(user)
    return client


def make_viewers():
    return Group.objects.get(name="Viewer")


def test_page_of_an_open_deal_offers_its_acts_and_tells_its_story(browser, deal):
    text = shown(browser.get(reverse("admin:algo_deal_change", args=[deal.pk])))
    assert all(word in text for word in ("Close deal", "Move stop", "Re-protect", "What happened", "Deal planned"))


def test_page_of_a_closed_deal_offers_none(browser, config):
    deal = make.make_closed_deal(config)
    text = shown(browser.get(reverse("admin:algo_deal_change", args=[deal.pk])))
    assert "Close deal" not in text
    assert "Closed: Take profit" in text
    assert "R multiple 0.40 R Held 0:20:00" in text


def test_looking_at_the_confirmation_changes_nothing(browser, deal):
    assert "cannot be undone" in shown(browser.get(page(deal, "close")))
    deal.refresh_from_db()
    assert deal.status == "OPEN"


def test_closing_asks_for_a_reason(browser, deal):
    assert "Say why. Nothing was changed." in shown(browser.post(page(deal, "close"), {"reason": ""}))
    assert Deal.objects.get(pk=deal.pk).exit_reason == ""


def test_closing_is_ordered_and_audited(browser, deal):
    browser.post(page(deal, "close"), {"reason": "news"})
    assert Deal.objects.get(pk=deal.pk).exit_reason == CloseReason.MANUAL
    assert AuditRecord.objects.filter(act="deal.close", reason="news", username="admin").exists()


def test_stop_is_moved_and_a_refusal_is_said(browser, deal, monkeypatch):
    monkeypatch.setattr(deal_acts, "_price_now", lambda row, at: Decimal("50100"))
    MarketQuote.objects.create(
        market=deal.market,
        bid=Decimal("50099"),
        ask=Decimal("50101"),
        last=Decimal("50100"),
        as_of=NOW,
        received_at=NOW,
    )
    assert "0.499 % of the price" in shown(browser.get(page(deal, "move-stop")))
    text = shown(browser.post(page(deal, "move-stop"), {"stop_price": "50200", "reason": "tighter"}))
    assert "through a stop at 50200" in text
    assert Deal.objects.get(pk=deal.pk).stop_price == Decimal("49850")
    browser.post(page(deal, "move-stop"), {"stop_price": "49900", "reason": "tighter"})
    assert Deal.objects.get(pk=deal.pk).stop_price == Decimal("49900")


def test_looser_stop_asks_whether_it_is_meant(browser, deal, monkeypatch):
    monkeypatch.setattr(deal_acts, "_price_now", lambda row, at: Decimal("50100"))
    asked = {"stop_price": "49800", "reason": "room"}
    assert "Confirm that it is meant" in shown(browser.post(page(deal, "move-stop"), asked))
    browser.post(page(deal, "move-stop"), {**asked, "looser_ok": "on"})
    assert Deal.objects.get(pk=deal.pk).stop_price == Decimal("49800")


def test_protection_is_looked_at(browser, deal):
    browser.post(page(deal, "re-protect"), {"reason": "sure?"})
    assert Deal.objects.get(pk=deal.pk).look_asked_at is not None


def test_working_entry_is_cancelled_and_a_stop_is_not(browser, config):
    deal = make.make_deal(config, status="ENTERING")
    entry = make.make_order(deal, status="OPEN")
    browser.post(page(entry, "cancel", "order"), {"reason": "too late"})
    entry.refresh_from_db()
    assert entry.cancel_asked_at is not None
    stop = make.make_order(deal, role="STOP", status="OPEN")
    text = shown(browser.post(page(stop, "cancel", "order"), {"reason": "away"}))
    assert "a position must never be bare" in text


def test_who_may_only_look_is_offered_nothing_and_refused(viewer, deal):
    text = shown(viewer.get(reverse("admin:algo_deal_change", args=[deal.pk])))
    assert "Close deal" not in text
    assert viewer.get(page(deal, "close")).status_code == 403
    assert viewer.post(page(deal, "close"), {"reason": "x"}).status_code == 403
    assert Deal.objects.get(pk=deal.pk).exit_reason == ""


def test_deal_of_another_is_not_there(viewer):
    stranger = make.make_open_deal()
    assert viewer.post(page(stranger, "close"), {"reason": "x"}).status_code in (302, 404)
    assert Deal.objects.get(pk=stranger.pk).exit_reason == ""
