"""Every list, row and admin page asks the database as often for thirty rows as for three. The addresses come from the
router and the admin's registry: a new page is covered without a word here."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from algo.api.urls import router
from algo.models import DealEvent, Order, StrategyConfig
from algo.selectors.rights import Role
from tests import factories as make
from tests.factories import NOW

pytestmark = pytest.mark.django_db
FEW, MANY = 3, 30
LISTS = {prefix: view for prefix, view, _ in router.registry if hasattr(view, "list")}
PAGES = {f"{model._meta.app_label}/{model._meta.model_name}": model for model in admin.site._registry}
REPORTS = ("strategies", "markets", "days", "equity", "risk")


def rows(count: int) -> None:
    """Of everything there is a factory for, `count`: each with an account, a strategy and a market of its own."""
    for _ in range(count):
        config = make.make_config()
        deal = make.make_closed_deal(config, signal=make.make_signal(config))
        order = make.make_order(deal)
        make.make_fill(order)
        make.make_decision(config)
        make.make_parity_report(config)
        make.make_ticket(account=config.account, market=config.market)
        DealEvent.objects.create(deal=deal, at=NOW, kind="status", to_status="CLOSED")


def in_one_deal(count: int) -> int:
    """A deal with `count` orders, each with a fill and an event; its id."""
    deal = make.make_closed_deal()
    for number in range(count):
        order = make.make_order(deal, role="STOP", leg=number + 1, status="CANCELED", side="SELL")
        make.make_fill(order)
        make.make_order_event(order, at=NOW + timedelta(seconds=number))
        DealEvent.objects.create(deal=deal, at=NOW, kind="stop_moved", to_status="OPEN")
    return int(deal.pk)


def asked(client: Any, address: str) -> int:
    """How many queries a page needs; the first time does not count, which fills what a process keeps."""
    followed = {"follow": True} if isinstance(client, Client) else {}
    cache.clear()
    client.get(address, **followed)
    with CaptureQueriesContext(connection) as queries:
        answer = client.get(address, **followed)
    assert answer.status_code == 200, (address, answer.status_code)
    return len(queries)


def grows(client: Any, address: str, more: Callable[[], object]) -> tuple[int, int]:
    before = asked(client, address)
    more()
    return before, asked(client, address)


@pytest.fixture
def api() -> APIClient:
    client = APIClient()
    client.force_authenticate(make.make_user("boss", role=Role.ADMIN))
    return client


@pytest.fixture
def browser() -> Client:
    client = Client()
    client.force_login(make.make_user("admin", is_staff=True, is_superuser=True))
    return client


@pytest.mark.parametrize("prefix", LISTS)
def test_a_list_of_the_api_asks_as_often_for_many_rows_as_for_few(api, prefix):
    rows(FEW)
    few, many = grows(api, f"/api/v1/{prefix}", lambda: rows(MANY - FEW))
    assert few == many


@pytest.mark.parametrize("page", REPORTS)
def test_performance_asks_as_often_for_many_deals_as_for_few(api, page):
    rows(FEW)
    few, many = grows(api, f"/api/v1/performance/{page}", lambda: rows(MANY - FEW))
    assert few == many


@pytest.mark.parametrize("prefix", ["deals", "orders"])
def test_a_row_of_the_api_asks_as_often_with_much_below_it_as_with_little(api, prefix):
    few, many = in_one_deal(FEW), in_one_deal(MANY)
    if prefix == "orders":
        few, many = (Order.objects.filter(deal=deal).latest("id").pk for deal in (few, many))
    assert asked(api, f"/api/v1/{prefix}/{few}") == asked(api, f"/api/v1/{prefix}/{many}")


def with_history(count: int) -> int:
    """A strategy with `count` changes and deals, on an account that as many people look at; its id."""
    config = make.make_config()
    for _ in range(count):
        config.save()
        make.make_closed_deal(config)
        config.account.viewers.add(make.make_user())
    return int(config.pk)


@pytest.mark.parametrize("path", ["strategies/{}", "strategies/{}/versions?newest=100"])
def test_a_strategy_asks_as_often_with_a_long_history_as_with_a_short_one(api, path):
    few, many = with_history(FEW), with_history(MANY)
    assert asked(api, f"/api/v1/{path.format(few)}") == asked(api, f"/api/v1/{path.format(many)}")


def test_accounts_ask_as_often_with_many_viewers_as_with_few(api):
    few, many = (StrategyConfig.objects.get(pk=with_history(count)).account_id for count in (FEW, MANY))
    assert asked(api, f"/api/v1/accounts/{few}") == asked(api, f"/api/v1/accounts/{many}")


@pytest.mark.parametrize("page", PAGES)
def test_a_change_list_asks_as_often_for_many_rows_as_for_few(browser, page):
    rows(FEW)
    few, many = grows(browser, f"/admin/{page}/", lambda: rows(MANY - FEW))
    assert few == many


def test_the_page_of_a_deal_asks_as_often_for_many_orders_as_for_few(browser):
    few, many = in_one_deal(FEW), in_one_deal(MANY)
    assert asked(browser, f"/admin/algo/deal/{few}/change/") == asked(browser, f"/admin/algo/deal/{many}/change/")


def test_the_home_page_asks_as_often_for_many_rows_as_for_few(browser):
    rows(FEW)
    few, many = grows(browser, "/admin/", lambda: rows(MANY - FEW))
    assert few == many
