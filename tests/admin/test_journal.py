"""Two clicks from a strategy to why it did not trade; and who did what, for whom it concerns."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse

from providers.clock import clock_from_env
from tests import factories as make
from tests.admin.pages import shown

pytestmark = pytest.mark.django_db
JOURNAL = reverse("admin:algo_decision_changelist")


def test_strategy_leads_to_its_own_journal(browser, config):
    other = make.make_config(account=config.account, name="other", market=make.make_market("ETHUSDT"))
    bar = clock_from_env().now() - timedelta(minutes=5)
    denial = {"denial": {"code": "cooldown", "message": "12 minutes left"}}
    make.make_decision(config, bar_open_at=bar, outcome="denied", journal=denial)
    make.make_decision(other, bar_open_at=bar, outcome="error", journal={"error": "boom"})
    listed = browser.get(reverse("admin:algo_strategyconfig_changelist")).content.decode()
    address = f"{JOURNAL}?config__id__exact={config.pk}"
    assert f'href="{address}"' in listed
    text = shown(browser.get(address))
    assert "cooldown: 12 minutes left" in text
    assert "cooldown Signal denied by the risk gate 1" in text
    assert "boom" not in text


def test_audit_log_shows_others_only_what_concerns_them(browser, config):
    deal = make.make_open_deal(config)
    browser.post(reverse("admin:algo_deal_act", args=[deal.pk, "close"]), {"reason": "because of news"})
    log = reverse("admin:algo_auditrecord_changelist")
    assert "because of news" in shown(browser.get(log))
    stranger = Client()
    stranger.force_login(make.make_trader("stranger", is_staff=True))
    text = shown(stranger.get(log))
    assert "because of news" not in text
