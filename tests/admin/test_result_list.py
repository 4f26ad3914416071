"""Our rows of change lists are the theme's to the letter, of every page of the admin."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib import admin
from django.test import Client
from unfold.templatetags import unfold_list as theme

from algo.templatetags.result_list import rows_of
from tests import factories as make
from tests.test_query_counts import rows

pytestmark = pytest.mark.django_db
PAGES = [f"{model._meta.app_label}/{model._meta.model_name}" for model in admin.site._registry]
WITH_ROWS = {"algo/deal", "algo/order", "algo/fill", "algo/signal", "algo/decision", "algo/strategyconfig", "auth/user"}


@pytest.fixture
def browser() -> Client:
    client = Client()
    client.force_login(make.make_user("admin", is_staff=True, is_superuser=True))
    return client


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("asked", ["", "?o=-1.2"])
def test_rows_are_as_the_theme_writes_them(browser, page, asked):
    rows(2)
    make.make_open_deal(note="<b>&</b>")
    changelist: Any = (browser.get(f"/admin/{page}/{asked}", follow=True).context or {}).get("cl")
    if changelist is None:
        pytest.skip("it has no list")
    assert changelist.result_list or page not in WITH_ROWS
    ours = [item for row in rows_of(changelist, list(theme.result_headers(changelist))) for item in row]
    theirs = ["".join(theme.items_for_result(changelist, row, None)) for row in changelist.result_list]
    assert ours == theirs


def test_pages_use_them(browser):
    make.make_open_deal()
    [context] = [each for each in browser.get("/admin/algo/deal/").context if "results" in each][:1]
    assert [len(row) for row in context["results"]] == [1]
