from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal

import pytest
from django.conf import settings

from algo.admin.strategy_form import resolution_label
from algo.models import Heartbeat, MarketQuote, StrategyConfig
from algo.selectors.home import glance, running_series, unprotected_deals
from algo.selectors.today import today
from algo.services.control import kill_switch_set
from providers.clock import clock_from_env
from providers.types import Resolution
from tests import factories as make
from tests.admin.pages import shown
from tests.factories import NOW, by

pytestmark = pytest.mark.django_db


def test_front_page_tells_the_state_of_the_house(browser, config, admin_user):
    make.make_config(account=config.account, status="stopped", market=make.make_market("ETHUSDT"))
    make.make_closed_deal(config)
    make.make_open_deal(config, unprotected_since=NOW)
    make.make_ticket(config.account)
    kill_switch_set("no_entries", reason="x", by=by(admin_user), at=NOW)
    text = shown(browser.get("/admin/"))
    for piece in (
        "Strategies running 1 of 2",
        "Open deals 1",
        "Unprotected right now 1",
        "Open tickets 1",
        "The kill switch stands: No new positions; open ones stay protected.",
        "Kill switch On",
        "guardian · never reported",
        "0.6 USDT",
    ):
        assert piece in text


def alive(browser):
    """The labels of the front page, by the process they are of."""
    return {
        each.partition("·")[0].split(">")[-1].strip(): each for each in browser.get("/admin/").context["heartbeats"]
    }


def test_a_process_that_is_silent_or_never_reported_is_red(browser):
    now = clock_from_env().now()
    never = alive(browser)
    assert set(never) == {
        "beat", "guardian", "stream:nobitex", "stream:wallex", "worker:backtests", "worker:market_data",
        "worker:notifications", "worker:orders", "worker:strategies",
    }  # fmt: skip
    assert all("never reported" in each for each in never.values())
    assert "bg-red-100" in never["worker:orders"]
    assert "bg-orange-100" in never["stream:wallex"]
    Heartbeat.objects.create(name="guardian", at=now - timedelta(minutes=10))
    Heartbeat.objects.create(name="stream:wallex", at=now, detail={"up": False})
    silent = alive(browser)
    assert "· 60" in silent["guardian"]
    assert "SILENT" in silent["guardian"]
    assert "bg-red-100" in silent["guardian"]
    assert "no connection, prices by REST" in silent["stream:wallex"]
    Heartbeat.objects.update(at=now, detail={"up": True})
    assert {"bg-green-100" in alive(browser)[name] for name in ("guardian", "stream:wallex")} == {True}


def test_alarms_say_in_sentences_what_to_look_at(browser, config):
    def alarms():
        return [each["text"] for each in browser.get("/admin/").context["alarms"]]

    now = clock_from_env().now()
    assert "guardian has never reported." in alarms()
    for name in ("beat", "guardian", *(f"worker:{each}" for each in settings.QUEUES)):
        Heartbeat.objects.create(name=name, at=now)
    assert alarms() == []
    assert "No alarm: everybody is alive, every deal is protected." in shown(browser.get("/admin/"))
    Heartbeat.objects.filter(name="worker:orders").update(at=now - timedelta(minutes=3))
    config.account.balances, config.account.balances_read_at = {"USDT": ["500", "0"]}, now
    config.account.save()
    make.make_closed_deal(config, closed_at=now, profit=Decimal(-30))
    make.make_ticket(config.account)
    assert alarms() == [
        "A ticket is open: its market takes no entries until it is answered.",
        "worker:orders has fallen silent.",
        "main has reached its daily loss limit in USDT: no entries until tomorrow.",
    ]
    StrategyConfig.objects.update(last_bar_at=now - timedelta(minutes=4))
    assert alarms()[-1] == "demo runs and gets no candles of BTCUSDT @ Nobitex: it decides nothing."


def test_workers_whose_hands_are_full_of_backtests_are_not_taken_for_dead(browser):
    now = clock_from_env().now()
    Heartbeat.objects.create(name="worker:backtests", at=now - timedelta(minutes=10))
    run = make.make_backtest(status="running", started_at=now, heartbeat_at=now)
    assert "busy with backtests" in alive(browser)["worker:backtests"]
    type(run).objects.update(heartbeat_at=now - timedelta(minutes=10))
    assert "SILENT" in alive(browser)["worker:backtests"]


def test_exchanges_are_as_the_guardian_and_the_workers_last_knew_them(browser):
    def told():
        return [str(each) for each in browser.get("/admin/").context["exchanges"]]

    now = clock_from_env().now()
    assert all("not known" in each for each in told())
    seen = {"open": False, "answered_at": (now - timedelta(seconds=7)).isoformat()}
    older = {"open": False, "answered_at": (now - timedelta(seconds=70)).isoformat()}
    Heartbeat.objects.create(name="guardian", at=now, detail={"exchanges": {"nobitex": seen}})
    Heartbeat.objects.create(name="worker:orders", at=now, detail={"exchanges": {"nobitex": older}})
    answered = next(each for each in told() if "Nobitex" in each)
    assert re.search(r"answered ([789]|1\d) s ago", answered)
    Heartbeat.objects.filter(name="worker:orders").update(detail={"exchanges": {"nobitex": seen | {"open": True}}})
    assert any("but lately not worker:orders" in each for each in told())  # a quiet process has not asked again
    Heartbeat.objects.update(detail={"exchanges": {"nobitex": older | {"open": True}}})
    assert any("Nobitex · DOES NOT ANSWER guardian, worker:orders" in each for each in told())
    assert any("Nobitex does not answer" in each["text"] for each in browser.get("/admin/").context["alarms"])
    Heartbeat.objects.update(at=now - timedelta(minutes=3))  # as with Redis dead, and the guardian too
    assert all("not known" in each for each in told())


def test_accounts_in_trouble_are_counted(browser, config):
    now = clock_from_env().now()
    type(config.account).objects.filter(pk=config.account.pk).update(
        state="stopped", key_expires_at=now + timedelta(days=13)
    )
    make.make_account(key_expires_at=now + timedelta(days=15))
    text = shown(browser.get("/admin/"))
    assert "Accounts stopped 1" in text
    assert "Keys that expire soon 1" in text


def test_today_begins_with_the_trading_day(config, admin_user):
    make.make_closed_deal(config, closed_at=NOW)
    make.make_closed_deal(config, closed_at=NOW - timedelta(seconds=1))
    assert glance(admin_user, NOW, day_start=NOW).closed_today == 1


def test_query_count_of_the_front_page_does_not_grow(browser, config, django_assert_max_num_queries):
    for _ in range(12):
        make.make_closed_deal(config)
    with django_assert_max_num_queries(26):
        browser.get("/admin/")


def test_unprotected_deals_are_named_with_their_seconds(browser, config):
    now = clock_from_env().now()
    deal = make.make_open_deal(config, unprotected_since=now - timedelta(seconds=90))
    text = shown(browser.get("/admin/"))
    assert f"Deal {deal.pk} " in text
    assert "unprotected for 9" in text


def test_profits_of_today_are_told_by_account_and_quote_and_never_summed_over_quotes(config, admin_user):
    toman = make.make_config(account=config.account, market=make.make_market("BTCTMN", quote="TMN"))
    for profit in ("0.6", "-1.5"):
        make.make_closed_deal(config, closed_at=NOW, profit=Decimal(profit))
    make.make_closed_deal(config, closed_at=NOW - timedelta(seconds=1), profit=Decimal(100))
    make.make_closed_deal(toman, closed_at=NOW, profit=Decimal(5000))
    told = [(each.account, each.quote, each.profit, each.closed) for each in today(admin_user, NOW)]
    assert told == [("main", "USDT", Decimal("-0.9"), 2), ("main", "TMN", Decimal(5000), 1)]


def test_today_stands_against_the_tightest_loss_limit_of_what_runs(browser, config, admin_user):
    """500 USDT and 0.01 BTC of a deal, bought at 50,000, for which 49,000 are bid: 990 are left of a morning's 1,010.
    10 were lost in it, and 10 are lost in the open deal: the limit of 2 % is 20.20, of 5 % 50.50."""
    config.account.balances, config.account.balances_read_at = {"USDT": ["500", "0"]}, NOW
    config.account.save()
    make.make_config(account=config.account, parameters={"max_daily_loss_percent": "2"}, status="stopped")
    make.make_closed_deal(config, closed_at=NOW, profit=Decimal(-10))
    make.make_open_deal(config)
    MarketQuote.objects.create(market=config.market, bid=49_000, ask=49_010, as_of=NOW, received_at=NOW)
    [row] = today(admin_user, NOW)
    assert (row.profit, row.open_profit, row.lost) == (Decimal(-10), Decimal(-10), Decimal(20))
    assert (row.limit_percent, row.limit, row.is_reached) == (Decimal(5), Decimal("50.5"), False)
    StrategyConfig.objects.update(status="running")
    [row] = today(admin_user, NOW)
    assert (row.limit_percent, row.limit, row.is_reached) == (Decimal(2), Decimal("20.2"), False)
    StrategyConfig.objects.update(parameters={"max_daily_loss_percent": "1.9"})
    assert today(admin_user, NOW)[0].is_reached
    StrategyConfig.objects.update(parameters={"max_daily_loss_percent": "0"})
    [row] = today(admin_user, NOW)
    assert (row.limit_percent, row.limit, row.is_reached) == (None, None, False)
    assert "no limit" in shown(browser.get("/admin/"))


def test_running_strategies_tell_their_last_candle_their_entries_and_lead_to_their_journal(browser, config):
    now = clock_from_env().now()
    config.last_bar_at = now - timedelta(minutes=30)
    config.save(update_fields=["last_bar_at"])
    make.make_open_deal(config, created_at=now)
    text = shown(browser.get("/admin/"))
    assert "1 of 10" in text
    assert "5 %" in text
    assert "Why no trade?" in text
    [row] = browser.get("/admin/").context["front_tables"]["Running strategies"]["rows"]
    assert "bg-red-100" in row[2]


def test_front_page_shows_nothing_of_others(config):
    make.make_open_deal(config, unprotected_since=NOW)
    make.make_closed_deal(config, closed_at=NOW, account=config.account)
    stranger = make.make_trader("stranger")
    assert not list(unprotected_deals(stranger))
    assert not list(running_series(stranger))
    assert today(stranger, NOW) == []


def test_login_leads_to_the_dashboard(client, settings):
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    make.make_user("boss", password="some-password-1", is_staff=True)
    page = client.post("/admin/login/", {"username": "boss", "password": "some-password-1"}, follow=True)
    assert page.request["PATH_INFO"] == "/"


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
