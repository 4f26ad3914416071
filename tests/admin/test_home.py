from __future__ import annotations

from datetime import timedelta

import pytest

from algo.admin.strategy_form import resolution_label
from algo.models import Heartbeat
from algo.selectors.home import glance
from algo.services.control import kill_switch_set
from providers.clock import clock_from_env
from providers.types import Resolution
from tests import factories as make
from tests.admin.pages import shown
from tests.factories import NOW

pytestmark = pytest.mark.django_db


def test_front_page_tells_the_state_of_the_house(browser, config, admin_user):
    make.make_config(account=config.account, status="stopped", market=make.make_market("ETHUSDT"))
    make.make_closed_deal(config)
    make.make_open_deal(config, unprotected_since=NOW)
    make.make_ticket(config.account)
    kill_switch_set("no_entries", reason="x", user=admin_user, at=NOW)
    text = shown(browser.get("/admin/"))
    for piece in (
        "Strategies running 1 of 2",
        "Open deals 1",
        "Unprotected right now 1",
        "Open tickets 1",
        "Kill switch No new positions; open ones stay protected",
        "nobody has reported yet",
        "0.6 USDT",
    ):
        assert piece in text


def test_silent_process_is_red(browser):
    now = clock_from_env().now()
    Heartbeat.objects.create(name="guardian", at=now - timedelta(minutes=10))
    page = browser.get("/admin/")
    assert "guardian · 60" in shown(page)
    [silent] = page.context["heartbeats"]
    assert "bg-red-100" in silent
    Heartbeat.objects.create(name="stream:wallex", at=now, detail={"up": False})
    assert "no connection, prices by REST" in browser.get("/admin/").context["heartbeats"][1]
    Heartbeat.objects.filter(name="stream:wallex").delete()
    Heartbeat.objects.update(at=now)
    [alive] = browser.get("/admin/").context["heartbeats"]
    assert "bg-green-100" in alive


def test_accounts_in_trouble_are_counted(browser, config):
    now = clock_from_env().now()
    type(config.account).objects.filter(pk=config.account.pk).update(
        state="stopped", key_expires_at=now + timedelta(days=13)
    )
    make.make_account(key_expires_at=now + timedelta(days=15))
    text = shown(browser.get("/admin/"))
    assert "Accounts stopped 1" in text
    assert "Keys that expire soon 1" in text


def test_today_begins_with_the_trading_day(config):
    make.make_closed_deal(config, closed_at=NOW)
    make.make_closed_deal(config, closed_at=NOW - timedelta(seconds=1))
    assert glance(NOW, day_start=NOW).closed_today == 1


def test_query_count_of_the_front_page_does_not_grow(browser, config, django_assert_max_num_queries):
    for _ in range(12):
        make.make_closed_deal(config)
    with django_assert_max_num_queries(16):
        browser.get("/admin/")


def test_login_leads_to_the_front_page(client, settings):
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    make.make_user("boss", password="some-password-1", is_staff=True)
    page = client.post("/admin/login/", {"username": "boss", "password": "some-password-1"}, follow=True)
    assert page.request["PATH_INFO"] == "/admin/"


def test_times_are_shown_to_the_second(browser, config):
    deal = make.make_closed_deal(config)
    assert "2026-11-02 10:20:00" in shown(browser.get(f"/admin/algo/deal/{deal.pk}/change/"))


def test_persian_text_of_an_exchange_is_readable(browser, config):
    order = make.make_order(make.make_deal(config), raw={"message": "سفارش ثبت شد"})
    assert "سفارش ثبت شد" in shown(browser.get(f"/admin/algo/order/{order.pk}/change/"))


@pytest.mark.parametrize(
    ("resolution", "words"),
    [("1", "1 minute"), ("15", "15 minutes"), ("60", "1 hour"), ("240", "4 hours"), ("3D", "3 days")],
)
def test_candles_are_named_in_words(resolution, words):
    assert resolution_label(Resolution(resolution)) == words
