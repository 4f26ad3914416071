"""The history page of a strategy, the way back, and the buttons of its page."""

from __future__ import annotations

import pytest
from django.test import Client

from algo.models import Account, AuditRecord, StrategyConfig
from algo.selectors.rights import Role
from algo.selectors.strategy_changes import config_changes
from algo.strategies.strategy_factory import schema_for
from tests import factories as make
from tests.admin.pages import form_data, said, shown

pytestmark = pytest.mark.django_db


def page(config, end="change/"):
    return f"/admin/algo/strategyconfig/{config.pk}/{end}"


@pytest.fixture
def edited(browser, config):
    """Its stop loss was 0.3 % and is 0.9 %, changed on its page."""
    config.status, config.parameters = "stopped", schema_for(config.strategy)().model_dump(mode="json")
    config.save()  # complete, as the form stores it
    browser.post(page(config), form_data(browser.get(page(config))) | {"parameter_stop_loss_percent": "0.9"})
    config.refresh_from_db()
    assert config.parameters["stop_loss_percent"] == "0.9"
    return config


def back_to(config, version):
    change = next(each for each in config_changes(config, seen=Account.objects.all()) if each.version == version)
    return page(config, f"history/{change.id}/roll-back/")


def test_history_tells_who_when_and_the_difference(browser, edited):
    text = shown(browser.get(page(edited, "history/")))
    assert "stop loss percent: 0.3 → 0.9" in text
    assert "admin, in the admin" in text
    assert "3 20" in text  # the newest version, and its year
    assert AuditRecord.objects.filter(act="strategyconfig.change").count() == 1


def test_a_version_is_rolled_back_after_a_page_that_shows_what_will_change(browser, edited):
    asked = browser.get(back_to(edited, 2))
    assert "stop loss percent 0.9 → 0.3" in shown(asked)
    assert StrategyConfig.objects.get().parameters["stop_loss_percent"] == "0.9"
    answer = browser.post(back_to(edited, 2), {"reason": "too wide"}, follow=True)
    assert "demo was rolled back: parameters." in said(answer)
    assert StrategyConfig.objects.get().parameters["stop_loss_percent"] == "0.3"
    assert "too wide" in config_changes(edited, seen=Account.objects.all())[0].why
    assert edited.checks.exists()  # the version that came back was checked at once
    again = browser.post(back_to(edited, 2), {}, follow=True)
    assert "nothing was changed" in said(again)[0]


@pytest.mark.parametrize("role", [Role.VIEWER, Role.TRADER])
def test_who_may_only_look_reads_the_history_and_finds_no_way_back(edited, role):
    looker = make.make_user("looker", is_staff=True, role=role)
    edited.account.viewers.add(looker)
    client = Client()
    client.force_login(looker)
    text = shown(client.get(page(edited, "history/")))
    assert "0.3 → 0.9" in text
    assert "Roll back" not in text
    text = shown(client.get(page(edited)))
    assert "Clone" not in text
    assert "Stop loss (%): 0.9" in text
    assert "1 minute" in text
    assert client.post(back_to(edited, 2), {}).status_code == 403
    assert client.post(page(edited, "do/"), {"act": "clone"}).status_code == 403
    assert StrategyConfig.objects.get().parameters["stop_loss_percent"] == "0.9"


def test_what_is_not_seen_has_no_history(edited):
    client = Client()
    client.force_login(make.make_trader("other", is_staff=True))
    for address in (page(edited, "history/"), back_to(edited, 2)):
        assert client.get(address).status_code == 404
    assert client.post(back_to(edited, 2), {}).status_code == 404
    assert client.post(page(edited, "do/"), {"act": "start"}).status_code == 404


def test_the_page_has_buttons_for_what_fits(browser, edited):
    text = shown(browser.get(page(edited)))
    assert "Start Pause ordering Clone Backtest 30 days Check for bias" in text
    assert "Run now" not in text

    def act(name):
        return said(browser.post(page(edited, "do/"), {"act": name}, follow=True))

    assert "demo was cloned as" in act("clone")[0]
    assert StrategyConfig.objects.get(name="demo (copy)").status == "stopped"
    assert any("demo runs." in each for each in act("start"))
    assert "demo decides now: its journal tells what it said." in act("run_now")
    assert act("pause_ordering") == ["Ordering paused: demo."]
    assert browser.post(page(edited, "do/"), {"act": "delete_selected"}).status_code == 403
    assert browser.post(page(edited, "do/"), {"act": "no_such"}).status_code == 403
    assert browser.get(page(edited, "do/")).status_code == 405
    assert StrategyConfig.objects.filter(name="demo").exists()


def test_run_now_of_a_stopped_strategy_says_what_to_do(browser, edited):
    answer = browser.post(
        "/admin/algo/strategyconfig/", {"action": "run_now", "_selected_action": [edited.pk]}, follow=True
    )
    assert "demo is stopped: start it, and it decides over its newest closed candle at once." in said(answer)
