"""Searches in the admin: how far, what they are worth, and stopping one."""

from __future__ import annotations

import pytest
from django.urls import reverse

from tests import factories as make
from tests.admin.pages import shown

pytestmark = pytest.mark.django_db
LIST = "admin:algo_optimisationrun_changelist"


def test_the_list_shows_progress_and_the_page_the_judgement(browser):
    judgement = {"verdict": "luck", "sentence": "The best of 40 sets is not distinguishable from luck.", "warnings": []}
    run = make.make_optimisation(name="mine", summary={"judgement": judgement})
    listed = shown(browser.get(reverse(LIST)))
    for words in ("mine", "Searching", "20 % of 200", "Luck"):
        assert words in listed
    assert judgement["sentence"] in shown(browser.get(reverse("admin:algo_optimisationrun_change", args=[run.pk])))


def test_the_page_shows_the_best_set_and_what_became_of_it_on_unseen_candles(browser):
    train = {"net_profit": 120.5, "net_profit_percent": 1.205, "sharpe": 1.5, "calmar": None, "deals": 1400.0}
    best = {"number": 7, "train": train, "test": {**train, "net_profit": -3.0}, "choice": {"rsi_period": 30}}
    run = make.make_optimisation(evidence={"best": {**best, "border": ["rsi_period"]}})
    page = shown(browser.get(reverse("admin:algo_optimisationrun_change", args=[run.pk])))
    for words in ("rsi_period 30 10 to 30 (border)", "Net profit (USDT) 120.50 -3.00", "Deals 1,400 1,400", "1 minute"):
        assert words in page
    assert "No set has enough deals yet." in page  # the search itself has told none


def test_the_report_of_a_search_opens_from_its_page(browser):
    figures = {"net_profit_percent": 1.0, "sharpe": 1.0, "calmar": 1.0, "deals": 40}
    figures |= {"max_drawdown_percent": 2.0, "profit_factor": None, "win_rate_percent": 50.0}
    best = {"train": figures, "test": None, "choice": {"rsi_period": 20}, "train_equity": None}
    run = make.make_optimisation(method="grid", evidence={"best": best})
    address = reverse("admin:algo_optimisationrun_report", args=[run.pk])
    assert address in browser.get(reverse("admin:algo_optimisationrun_change", args=[run.pk])).content.decode()
    assert "Best set" in browser.get(address).content.decode()


def test_a_running_search_is_stopped_and_keeps_what_it_found(browser):
    run, done = make.make_optimisation(), make.make_optimisation(status="done", finished_at=make.NOW)
    chosen = {"action": "stop", "_selected_action": [run.pk, done.pk]}
    said = [str(each) for each in browser.post(reverse(LIST), chosen, follow=True).context["messages"]]
    run.refresh_from_db()
    done.refresh_from_db()
    assert (run.status, done.status) == ("stopped", "done")
    assert any(f"--resume {run.name}" in text for text in said)
    assert any("over already" in text for text in said)
