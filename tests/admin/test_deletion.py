"""Deleting in the admin what a deal hangs on: refused with a sentence that says what to do instead."""

from __future__ import annotations

import pytest

from algo.models import Account, StrategyConfig
from tests import factories as make
from tests.admin.pages import said, shown

pytestmark = pytest.mark.django_db


def page(row, verb="delete"):
    return f"/admin/{row._meta.app_label}/{row._meta.model_name}/{row.pk}/{verb}/"


@pytest.mark.parametrize("method", ["get", "post"])
def test_a_row_with_a_live_deal_is_not_deleted_and_the_page_says_why(browser, method):
    deal = make.make_open_deal()
    for row in (deal.config, deal.account, deal.account.owner):
        answer = getattr(browser, method)(page(row), {"post": "yes"}, follow=True)
        assert answer.redirect_chain[0][0].endswith(page(row, "change"))
        (message,) = said(answer)
        assert f"deal {deal.pk} on BTCUSDT has not ended" in message
        assert "instead" in message
        row.refresh_from_db()


def test_many_rows_are_not_deleted_where_one_of_them_is_kept(browser):
    kept, free = make.make_open_deal().config, make.make_config()
    answer = browser.post(
        "/admin/algo/strategyconfig/",
        {"action": "delete_selected", "_selected_action": [kept.pk, free.pk], "post": "yes"},
        follow=True,
    )
    assert "Stop the strategy instead" in shown(answer)
    assert StrategyConfig.objects.count() == 2


def test_a_row_that_nothing_hangs_on_is_deleted(browser):
    config = make.make_config()
    browser.post(page(config), {"post": "yes"})
    assert not StrategyConfig.objects.exists()
    browser.post(page(config.account), {"post": "yes"})
    assert not Account.objects.exists()


def test_a_changed_strategy_says_which_deal_keeps_its_rules(browser):
    deal = make.make_open_deal()
    answer = browser.post(
        "/admin/algo/strategyconfig/", {"action": "start", "_selected_action": [deal.config.pk]}, follow=True
    )
    assert any(f"Deal {deal.pk} on BTCUSDT" in text and "keeps the rules" in text for text in said(answer))
