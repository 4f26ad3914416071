from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission
from django.test import Client

from algo.admin import backtests
from algo.models import BacktestRun
from algo.report_pages import SANDBOX
from tests import factories as make
from tests.admin.pages import said, shown
from tests.api.test_backtests import done

pytestmark = pytest.mark.django_db

LIST = "/admin/algo/backtestrun/"
START = f"{LIST}start/"


@pytest.fixture(autouse=True)
def announced(monkeypatch):
    runs = []
    monkeypatch.setattr(backtests, "backtest_enqueue", runs.append)
    return runs


@pytest.fixture
def market():
    return make.make_market("BTCUSDT", provider="nobitex")


def page(run, more="change/"):
    return f"{LIST}{run.pk}/{more}"


def filled(response, **change):
    """What a browser would send from the start form as it stands."""
    form = response.context["form"]
    data = {bound.html_name: bound.value() for bound in form if bound.value() is not None}
    return data | {"start": str(data["start"])} | change


def start(browser, query="", **change):
    return browser.post(START + query, filled(browser.get(START + query), **change), follow=True)


def errors(response):
    return {name: list(texts) for name, texts in response.context["form"].errors.items()}


def clerk(*permissions):
    user = make.make_user(is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client, user


# --- starting --------------------------------------------------------------------------------------------------------


def test_the_form_asks_for_the_last_month_unless_told_otherwise(browser, market, announced):
    text = shown(browser.get(START))
    for words in ("Market of the candles", "Fee (%)", "Balance in quote", "Fast EMA", "As configured"):
        assert words in text
    answer = start(browser, market=market.pk)
    run = BacktestRun.objects.get()
    assert announced == [run.pk]
    assert answer.redirect_chain == [(page(run), 302)]
    assert (run.strategy, run.market, run.resolution, run.requested_by.username) == (
        "BreakoutStrategy",
        market,
        "1",
        "admin",
    )
    assert run.parameters["take_profit_percent"] == "0.6"
    assert run.asked["sides"] == "BUY"
    assert "It waits for a worker" in shown(answer)


def test_everything_on_the_form_is_asked_for(browser, market):
    words = {"resolution": "15", "start": "2026-10-01", "end": "2026-10-08", "sides": "BOTH", "fill_model": "freqtrade"}
    money = {"fee_percent": "0.25", "slippage_percent": "0", "balance": "5000.5", "base_balance": "0.1"}
    parameters = {"parameter_take_profit_percent": "1.5", "parameter_exit_on_opposite_signal": "true"}
    start(browser, market=market.pk, **words, **money, **parameters)
    run = BacktestRun.objects.get()
    assert run.resolution == "15"
    assert run.asked == {
        **money,
        "sides": "BOTH",
        "fill_model": "freqtrade",
        "from": "2026-10-01T00:00:00+00:00",
        "to": "2026-10-08T00:00:00+00:00",
        "rules_of": market.pk,
    }
    assert (run.parameters["take_profit_percent"], run.parameters["exit_on_opposite_signal"]) == ("1.5", True)


def test_a_config_is_enough_and_what_is_filled_in_overrules_it(browser, config):
    config.parameters = {"max_daily_trades": 3, "exit_on_opposite_signal": True}
    config.save()
    start(browser, config=config.pk, parameter_max_daily_trades="4")
    run = BacktestRun.objects.get()
    assert (run.config, run.market) == (config, config.data_market)
    assert (run.parameters["max_daily_trades"], run.parameters["exit_on_opposite_signal"]) == (4, True)


def test_what_is_wrong_stands_beside_its_field_and_nothing_is_queued(browser, market, announced):
    answer = start(browser, fee_percent="200", parameter_ema_fast_period="99", start="2026-10-01", end="2026-09-01")
    found = errors(answer)
    assert set(found) == {"market", "fee_percent", "start", "parameter_ema_fast_period"}
    for texts in found.values():
        assert texts[0] in shown(answer)
    assert "<details" in answer.content.decode()
    assert re.search(r"<details[^>]* open>", answer.content.decode())
    assert not BacktestRun.objects.exists()
    assert announced == []


def test_who_may_not_add_backtests_starts_none(market, config, announced):
    client, _ = clerk("view_backtestrun", "view_strategyconfig", "change_strategyconfig")
    assert client.get(START).status_code == 403
    assert client.post(START, {"market": market.pk}).status_code == 403
    assert "Run a backtest" not in client.get(LIST).content.decode()
    client.post("/admin/algo/strategyconfig/", {"action": "backtest", "_selected_action": [config.pk]})
    assert not BacktestRun.objects.exists()


def test_strategies_are_tested_over_the_last_30_days_by_an_action(browser, config, announced):
    broken = make.make_config(name="broken", parameters={"stop_loss_percent": "-1"})
    chosen = {"action": "backtest", "_selected_action": [config.pk, broken.pk]}
    answer = browser.post("/admin/algo/strategyconfig/", chosen, follow=True)
    run = BacktestRun.objects.get()
    assert (run.config, announced) == (config, [run.pk])
    assert any(page(run) in text and "was queued" in text for text in said(answer))
    assert any("broken was not tested" in text and "greater than 0" in text for text in said(answer))
    from datetime import datetime

    first, last = (datetime.fromisoformat(run.asked[name]) for name in ("from", "to"))
    assert last - first == timedelta(days=30)


# --- one run ---------------------------------------------------------------------------------------------------------


def test_the_list_shows_what_a_trader_compares(browser, config):
    done(config=config, net_profit_percent=12.34, sharpe=1.5, max_drawdown_percent=4.5, win_rate_percent=60.0, deals=7)
    make.make_backtest(status="running", progress=41)
    text = shown(browser.get(LIST))
    for words in ("12.34 %", "1.50", "4.50 %", "60.00 %", "demo", "Running · 41 %", "Done"):
        assert words in text
    rows = browser.get(f"{LIST}?status__exact=running").context["cl"].result_list
    assert [run.progress for run in rows] == [41]


def test_a_finished_run_shows_both_models_its_warnings_and_the_way_to_its_report(browser):
    run = done()
    text = shown(browser.get(page(run)))
    for words in ("Conservative", "Freqtrade", "Net profit (USDT)", "Report with charts", "Weekday", "not known"):
        assert words in text
    assert page(run, "report/") in browser.get(page(run)).content.decode()
    report = browser.get(page(run, "report/"))
    assert (report.status_code, report["Content-Security-Policy"]) == (200, SANDBOX)
    assert b"Equity and drawdown" in report.content


def test_a_failed_run_says_why_and_hostile_text_is_text(browser):
    run = make.make_backtest(status="failed", error="The <b>exchange</b> said no.", parameters={"x": "<script>1"})
    body = browser.get(page(run)).content.decode()
    assert "The &lt;b&gt;exchange&lt;/b&gt; said no." in body
    assert "<script>1" not in body
    assert browser.get(page(run, "report/")).status_code == 404


def test_a_run_is_cancelled_by_a_button_and_only_by_post(browser, admin_user):
    run = make.make_backtest(status="running", requested_by=admin_user)
    assert "Cancel" in shown(browser.get(page(run)))
    assert browser.get(page(run, "cancel/")).status_code == 405
    assert said(browser.post(page(run, "cancel/"), follow=True)) == [f"Backtest {run.pk} was cancelled."]
    run.refresh_from_db()
    assert run.status == "cancelled"
    assert "had ended already" in said(browser.post(page(run, "cancel/"), follow=True))[0]


def test_ones_own_run_may_be_cancelled_and_that_of_others_is_not_there():
    client, user = clerk("view_backtestrun")
    own, theirs = make.make_backtest(status="queued", requested_by=user), make.make_backtest(status="queued")
    assert client.post(page(theirs, "cancel/")).status_code == 404
    assert client.post(page(own, "cancel/")).status_code == 302
    assert sorted(BacktestRun.objects.values_list("status", flat=True)) == ["cancelled", "queued"]
    stranger, _ = clerk()
    assert stranger.get(page(own, "change/")).status_code == 403
    assert stranger.get(page(own, "report/")).status_code == 404
    assert stranger.post(page(own, "cancel/")).status_code == 404
    assert stranger.get(f"{LIST}compare/?ids=1,2").status_code == 403


# --- several ---------------------------------------------------------------------------------------------------------


def test_chosen_runs_stand_side_by_side(browser):
    one, two = done(parameters={"speed": 1}), done(parameters={"speed": 2})
    chosen = {"action": "compare", "_selected_action": [two.pk, one.pk]}
    answer = browser.post(LIST, chosen, follow=True)
    assert answer.redirect_chain == [(f"{LIST}compare/?ids={one.pk},{two.pk}", 302)]
    text = shown(answer)
    assert "speed 1 2" in text
    assert "Net profit (quote)" in text
    twins = done(parameters={"speed": 2})
    assert "Nothing: the same strategy" in shown(browser.get(f"{LIST}compare/?ids={two.pk},{twins.pk}"))


@pytest.mark.parametrize("ids", ["", "1", "x,y", f"1,{'9' * 30}"])
def test_fewer_than_two_are_not_compared(browser, ids):
    answer = browser.get(f"{LIST}compare/?ids={ids}", follow=True)
    assert said(answer) == ["Choose 2 to 6 backtests that are done."]
