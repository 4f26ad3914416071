from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib import admin
from django.contrib.admin.utils import quote
from django.test import Client
from django.urls import reverse
from knox.models import AuthToken

from algo.models import CandleFetch, Deal, Heartbeat, SystemControl
from algo.services.audit import PLATFORM, audit_record
from tests import factories as make
from tests.admin.conftest import CANARY
from tests.admin.pages import shown
from tests.factories import NOW

pytestmark = pytest.mark.django_db

READ_ONLY = [
    "auditrecord",
    "backtestrun",
    "deal",
    "delivery",
    "decision",
    "fill",
    "candlefetch",
    "heartbeat",
    "inboundalert",
    "market",
    "optimisationrun",
    "order",
    "outboxevent",
    "parityreport",
    "probeorder",
    "signal",
    "ticket",
]
MODELS = sorted((model for model in admin.site._registry), key=lambda model: model._meta.label)


@pytest.fixture
def house(config):
    """One row of every kind."""
    deal = make.make_closed_deal(config, signal=make.make_signal(config))
    entry = make.make_order(deal, status="FILLED", filled_quantity=deal.planned_quantity)
    make.make_fill(entry)
    make.make_order_event(entry, reason="the exchange accepted it")
    make.make_order(deal, role="STOP", status="CANCELED")
    make.make_decision(config, journal={"rsi": "61.2"})
    make.make_ticket(config.account)
    make.make_outbox_event()
    make.make_probe_order(config.account)
    make.make_optimisation(requested_by=config.account.owner)
    make.make_delivery(channel=make.make_channel(config.account.owner, target="https://example.org/hook"))
    make.make_alert(make.make_inbound_key(make.make_config(strategy="ExternalSignals", account=config.account)))
    SystemControl.load()
    Heartbeat.objects.create(name="guardian", at=NOW)
    AuthToken.objects.create(user=config.account.owner)
    make.make_backtest(config=config)
    make.make_parity_report(config)
    hour = {"start": NOW, "end": NOW + timedelta(hours=1), "reached": NOW, "due_at": NOW, "created_at": NOW}
    CandleFetch.objects.create(market=deal.market, resolution="1", **hour)
    audit_record("deal.close", by=PLATFORM, subject=deal, at=NOW, account=deal.account)
    return deal


def address(model, page, *args):
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.label_lower)
def test_every_list_and_page_opens_and_none_shows_the_key(browser, house, model):
    pages = [browser.get(address(model, "changelist"), follow=True)]
    if (row := model.objects.first()) is not None:
        pages.append(browser.get(address(model, "change", quote(row.pk))))
    added = browser.get(address(model, "add"))
    assert added.status_code == (403 if model._meta.model_name in {*READ_ONLY, "systemcontrol", "authtoken"} else 200)
    for page in (*pages, added):
        assert page.status_code in (200, 403)
        body = page.content.decode()
        assert CANARY not in body
        assert house.account.api_key_sealed not in body
    assert pages[0].status_code == 200


def test_front_page_opens(browser, house):
    text = shown(browser.get("/admin/"))
    for word in ("Deals", "Strategies", "Kill switch", "Task monitor (Flower)", "API"):
        assert word in text


@pytest.mark.parametrize("name", READ_ONLY)
def test_ledger_is_never_written_by_hand(browser, house, name):
    model = next(model for model in MODELS if model._meta.model_name == name)
    row = model.objects.first()
    before = model.objects.filter(pk=row.pk).values().get()
    assert browser.post(address(model, "add"), {}).status_code == 403
    assert browser.post(address(model, "change", quote(row.pk)), {"note": "x"}).status_code == 403
    assert browser.post(address(model, "delete", quote(row.pk)), {"post": "yes"}).status_code == 403
    selected = {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"}
    browser.post(address(model, "changelist"), selected)
    assert model.objects.filter(pk=row.pk).values().get() == before


def test_admin_needs_staff():
    client = Client()
    client.force_login(make.make_user())
    assert client.get("/admin/algo/deal/")["Location"].startswith("/admin/login/")


def test_staff_without_a_permission_sees_neither_page_nor_link(house):
    client = Client()
    client.force_login(make.make_user(is_staff=True))
    assert client.get("/admin/algo/deal/").status_code == 403
    assert "Deals" not in shown(client.get("/admin/"))


@pytest.mark.parametrize("name", ["deal", "order", "fill", "signal", "decision", "strategyconfig", "account", "ticket"])
def test_query_count_of_a_list_does_not_grow_with_its_rows(browser, admin_user, django_assert_max_num_queries, name):
    for _ in range(8):
        config = make.make_config(account=make.make_account(owner=admin_user))
        deal = make.make_closed_deal(config, signal=make.make_signal(config))
        order = make.make_order(deal)
        make.make_fill(order)
        make.make_decision(config)
        make.make_ticket(config.account)
    with django_assert_max_num_queries(15):
        page = browser.get(f"/admin/algo/{name}/")
    assert len(page.context["cl"].result_list) == 8


def test_query_count_of_a_deal_does_not_grow_with_its_story(browser, house, django_assert_max_num_queries):
    for number in range(10):
        order = make.make_order(house, role="STOP", status="CANCELED")
        make.make_fill(order, trade_id=f"t{number}")
        make.make_order_event(order)
    with django_assert_max_num_queries(20):
        browser.get(address(Deal, "change", house.pk))


def test_deal_tells_its_story(browser, house):
    text = shown(browser.get(address(Deal, "change", house.pk)))
    for piece in (
        "Take profit",  # why it closed
        "0.4 s",  # how long it was unprotected
        "3 · locking stops",
        "the exchange accepted it",  # an event
        "trade-",  # a fill
        "50,300",
        "0.6",
    ):
        assert piece in text


def test_amounts_are_shown_exactly_and_without_trailing_zeros(browser, config):
    make.make_closed_deal(config, entry_price="7450000000.5000", profit="-0.00000012")
    text = shown(browser.get("/admin/algo/deal/"))
    assert "7,450,000,000.5 " in text
    assert "-0.00000012 " in text
    assert "00000000000" not in text


def test_unprotected_deal_and_account_without_stops_are_red(browser, admin_user):
    account = make.make_account(owner=admin_user, capabilities={"oco": False, "stop_market": False})
    make.make_open_deal(make.make_config(account=account), unprotected_since=NOW)
    deals, accounts = browser.get("/admin/algo/deal/").content.decode(), browser.get("/admin/algo/account/")
    assert "and NOW" in deals
    assert "bg-red-100" in deals
    assert "NO STOPS, guardian only" in shown(accounts)
    assert "bg-red-100" in accounts.content.decode()


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("q=BTC", 1),
        ("q=demo", 1),
        ("q=DOGE", 0),
        ("status__exact=CLOSED", 1),
        ("status__exact=OPEN", 0),
        ("side__exact=BUY", 1),
        ("created_at__year=2026", 1),
        ("created_at__year=2025", 0),
        ("o=-9.1", 1),
    ],
)
def test_deals_are_searched_filtered_and_sorted(browser, house, query, found):
    assert len(browser.get(f"/admin/algo/deal/?{query}").context["cl"].result_list) == found


def test_deal_is_found_by_its_number_and_by_its_order(browser, house):
    other = make.make_order(make.make_deal(make.make_config(name="other")))
    for sought, deal in ((house.pk, house), (other.client_order_id, other.deal)):
        found = browser.get(f"/admin/algo/deal/?q={sought}").context["cl"].result_list
        assert list(found) == [deal]


def test_text_of_an_exchange_is_never_markup(browser, config):
    order = make.make_order(make.make_deal(config), raw={"message": "<script>alert(1)</script>"}, reason="<b>no</b>")
    make.make_order_event(order, reason="<img src=x onerror=alert(1)>", raw={"a": "<i>"})
    for page in (f"/admin/algo/order/{order.pk}/change/", f"/admin/algo/deal/{order.deal_id}/change/"):
        body = browser.get(page).content.decode()
        assert "<script>alert(1)" not in body
        assert "<img src=x" not in body
        assert "<b>no</b>" not in body


def test_nothing_is_fetched_from_elsewhere(browser, house):
    for page in ("/admin/", "/admin/algo/deal/", "/admin/login/"):
        body = browser.get(page).content.decode()
        assert 'src="http' not in body
        assert 'rel="stylesheet" href="http' not in body
