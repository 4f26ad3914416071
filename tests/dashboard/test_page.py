"""The dashboard as the server makes it: who sees what, in how many queries, and under which policy."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal

import pytest
from django.core.cache import cache, caches
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from algo.dashboard.page import denial_words, words
from algo.dashboard.state import line_points
from algo.models import Candle, Halt, Heartbeat, MarketQuote
from algo.risk.codes import DenialCode
from algo.selectors.health import belonging
from algo.strategies.breakout_rules import SignalReason
from tests import factories as make
from tests.admin.pages import shown

pytestmark = pytest.mark.django_db
PAGES = ("/", "/dashboard/state", "/dashboard/equity", "/dashboard/quotes")


@pytest.fixture
def now():
    return timezone.now().replace(microsecond=0)


@pytest.fixture
def tara(settings):
    settings.EXCHANGE_ENVIRONMENT = "paper"
    return make.make_trader("tara", is_staff=True)


@pytest.fixture
def browser(tara):
    cache.clear()
    caches["process"].clear()
    client = Client()
    client.force_login(tara)
    return client


@pytest.fixture
def config(tara, now):
    account = make.make_account(owner=tara, name="main", balances={"USDT": ["1000", "0"]}, balances_read_at=now)
    return make.make_config(
        account=account, name="demo", parameters={"max_daily_trades": 4, "max_daily_loss_percent": "2"}, last_bar_at=now
    )


def everybody_lives(now):
    for name in belonging():
        Heartbeat.objects.create(name=name, at=now, detail={"up": True})


def earns(config, profit, at):
    return make.make_closed_deal(config, profit=Decimal(profit), opened_at=at, closed_at=at, created_at=at)


@pytest.mark.parametrize("path", [*PAGES, "/dashboard/charts/1"])
def test_who_is_not_signed_in_is_led_to_the_login(client, path):
    answer = client.get(path)
    assert (answer.status_code, answer["Location"]) == (302, f"/admin/login/?next={path}")


@pytest.mark.parametrize("path", PAGES)
def test_nothing_can_be_sent_there_and_nothing_is_kept(browser, path):
    assert browser.post(path).status_code == 405
    assert "no-store" in browser.get(path)["Cache-Control"]


def test_the_page_shows_what_is_held_used_and_run(browser, config, now):
    everybody_lives(now)
    earns(config, "-5", now)
    text = shown(browser.get("/"))
    assert "Equity 1,000 USDT" in text
    assert "Equity in toman – toman" in text
    assert "Today, main -5 USDT" in text
    assert "5 of 20.1 USDT (2 %)" in text  # of the day's first equity, 1005
    assert "demo 1 of 4" in text
    assert "No alarm: everybody is alive, every deal is protected." in text
    assert "demo BTCUSDT @ Wallex Running" in text


def test_alarms_lead_to_what_must_be_looked_at(browser, config, now):
    everybody_lives(now)
    Heartbeat.objects.filter(name="worker:orders").update(at=now - timedelta(minutes=5))
    Heartbeat.objects.filter(name="beat").delete()
    config.last_bar_at = now - timedelta(hours=1)
    config.save()
    make.make_open_deal(config, unprotected_since=now)
    make.make_ticket(account=config.account)
    Halt.objects.create(account=config.account, level="no_entries", changed_at=now)
    Halt.objects.create(config=make.make_config(), level="no_entries", changed_at=now)  # somebody else's
    html = browser.get("/dashboard/state").content.decode()
    told = re.findall(r'<li class="alarm"><a id="[^"]+" href="([^"]+)">([^<]+)</a>', html)
    assert told == [
        ("/admin/algo/deal/", "A deal is unprotected right now: something of it is under no stop."),
        ("/admin/algo/ticket/", "A ticket is open: its market takes no entries until it is answered."),
        (
            "/admin/algo/systemcontrol/",
            "The kill switch of main stands: No new positions; open ones stay protected.",
        ),
        ("/admin/algo/heartbeat/", "beat has never reported."),
        ("/admin/algo/heartbeat/", "worker:orders has fallen silent."),
        (
            f"/admin/algo/strategyconfig/{config.pk}/change/",
            "demo runs and gets no candles of BTCUSDT @ Nobitex: it decides nothing.",
        ),
    ]


def test_parts_that_come_again_say_whom_they_replace(browser, config):
    html = browser.get("/dashboard/state").content.decode()
    parts = re.findall(r'<\w+ [^>]*id="(balances|alarms|limits|strategies)"[^>]*hx-swap-oob="true"', html)
    assert parts == ["balances", "alarms", "limits", "strategies"]
    assert "hx-swap-oob" not in browser.get("/").content.decode()


def test_pages_that_heard_the_same_event_share_one_text_and_the_next_event_makes_another(browser, tara, config, now):
    def text(after, who=browser):
        return shown(who.get(f"/dashboard/state?after={after}"))

    assert "BTCUSDT @ Wallex Running" in text("1-0")
    config.status = "stopped"
    config.save()
    with CaptureQueriesContext(connection) as queries:
        assert "BTCUSDT @ Wallex Running" in text("1-0")
    assert len(queries) <= 4  # who asks, and how they read
    assert "BTCUSDT @ Wallex Stopped" in text("2-0")
    assert "BTCUSDT @ Wallex Stopped" in text("")
    somebody = Client()
    somebody.force_login(make.make_trader(is_staff=True))
    assert "BTCUSDT" not in text("2-0", somebody)


def test_nothing_of_others_is_shown(browser, now):
    theirs = make.make_config(name="not for tara")
    earns(theirs, 3, now)
    assert "not for tara" not in shown(browser.get("/"))
    assert browser.get(f"/dashboard/charts/{theirs.pk}").status_code == 404
    assert browser.get("/dashboard/quotes").json() == {"markets": [], "quotes": []}
    assert browser.get("/dashboard/equity").json()["points"] == []


def test_the_chart_is_told_in_numbers_that_can_be_drawn(browser, config, now):
    opened = now.replace(second=0) - timedelta(minutes=2)
    for number, price in enumerate((50_000, 50_010)):
        at = opened + timedelta(minutes=number)
        Candle.objects.create(
            market=config.data_market, resolution="1", open_time=at,
            open=price, high=price + 5, low=price - 5, close=price + 1, volume="2.5",
        )  # fmt: skip
    deal = make.make_open_deal(config, opened_at=opened)
    make.make_fill(make.make_order(deal), executed_at=opened)
    told = browser.get(f"/dashboard/charts/{config.pk}").json()
    unix = int(opened.timestamp())
    assert told["candles"] == [
        [unix, 50_000, 50_005, 49_995, 50_001, 2.5],
        [unix + 60, 50_010, 50_015, 50_005, 50_011, 2.5],
    ]
    assert told["averages"] == [{"period": 5, "values": [None, None]}, {"period": 13, "values": [None, None]}]
    assert told["marks"] == [{"time": unix, "entry": True, "side": "BUY", "price": "50000", "deal": deal.pk}]
    assert told["stops"] == [{"deal": deal.pk, "steps": [[unix, 49_850.0]], "until": None, "target": 50_300.0}]
    assert (told["market_id"], told["resolution"], told["tick"]) == (config.market_id, "1", "0.01")


def test_the_curve_is_told_with_what_is_left_out_of_it(browser, config, now):
    earns(config, "1.5", now)
    told = browser.get("/dashboard/equity?currency=USDT&span=week").json()
    ((at, value),) = told["points"]
    assert (told["total"], value, told["left_out"]) == ("1.5", 1.5, [])
    assert at >= now.timestamp()
    told = browser.get("/dashboard/equity?currency=IRT&span=week").json()
    assert (told["total"], told["points"]) == ("0", [])
    (left,) = told["left_out"]
    assert (left["quote"], left["deals"], left["profit"]) == ("USDT", 1, "1.5")


@pytest.mark.parametrize("query", ["currency=EUR", "span=year"])
def test_a_curve_that_there_is_not_is_refused_in_words(browser, query):
    answer = browser.get(f"/dashboard/equity?{query}")
    assert (answer.status_code, answer.content[:8]) == (400, b"Ask for ")


def test_markets_with_something_live_come_first_each_with_its_last_quote(browser, config, now):
    make.make_open_deal(config, market=make.make_market("ETHUSDT"))
    MarketQuote.objects.create(market=config.market, bid=Decimal("50000.10"), ask=50_001, as_of=now, received_at=now)
    told = browser.get("/dashboard/quotes").json()
    ids = [make.make_market("ETHUSDT").pk, config.market_id, config.data_market_id]
    assert told["markets"] == ids
    (quote,) = told["quotes"]
    assert (quote["market"], quote["bid"], quote["last"]) == (config.market_id, "50000.1", None)


@pytest.mark.parametrize("path", [*PAGES, "/dashboard/charts/{}"])
def test_much_is_asked_as_often_as_little(browser, tara, config, now, path):
    def asked():
        with CaptureQueriesContext(connection) as queries:
            assert browser.get(path.format(config.pk)).status_code == 200
        return len(queries)

    def more(count):
        for number in range(count):
            account = make.make_account(owner=tara, balances={"USDT": ["1", "0"]}, balances_read_at=now)
            other = make.make_config(account=account)
            earns(other, 1, now - timedelta(minutes=number))
            make.make_open_deal(other)
            make.make_fill(make.make_order(earns(config, 1, now - timedelta(hours=number))))

    more(2)
    asked()
    few = asked()
    more(20)
    assert asked() == few


def test_every_reason_and_every_denial_has_words():
    assert set(denial_words()) == set(DenialCode)
    assert set(words()["reasons"]) == {reason.name for reason in SignalReason if reason}


def test_a_line_is_drawn_from_the_left_with_zero_in_it():
    # from 0 to 4 in 22 of 24 pixels, upside down
    assert line_points([Decimal(0), Decimal(4), Decimal(2)]) == "0.0,23.0 48.0,1.0 96.0,12.0"
    assert line_points([Decimal(0), Decimal(0)]) == "0.0,12.0 96.0,12.0"
