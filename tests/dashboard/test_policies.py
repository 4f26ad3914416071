"""Which scripts, styles and connections a browser is told to allow."""

from __future__ import annotations

import re

import pytest
from django.contrib import admin
from django.contrib.staticfiles import finders
from django.template.loader import get_template
from django.test import Client
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from algo_trade.csp import strict_policy
from tests import factories as make

pytestmark = pytest.mark.django_db
STRICT = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self'",
    "font-src": "'self'",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
}


@pytest.fixture
def browser():
    client = Client()
    client.force_login(make.make_user("admin", is_staff=True, is_superuser=True))
    return client


def policy(answer):
    parts = [part.strip().partition(" ") for part in answer["Content-Security-Policy"].split(";")]
    return {name: values for name, _, values in parts}


@pytest.mark.parametrize(
    "path", ["/", "/dashboard/state", "/dashboard/equity", "/api/v1/deals", "/api/schema/", "/gone"]
)
def test_the_strict_policy_is_for_everything_that_is_not_named(browser, path):
    assert policy(browser.get(path)) == STRICT


def test_live_events_from_another_place_are_the_only_thing_from_elsewhere():
    assert strict_policy("http://127.0.0.1:8002/")["connect-src"] == ["'self'", "http://127.0.0.1:8002"]
    assert strict_policy("")["connect-src"] == ["'self'"]


@pytest.mark.parametrize("path", ["/admin/", "/admin/algo/deal/", "/admin/login/?next=/"])
def test_the_admin_may_evaluate_but_run_nothing_inline_and_nothing_from_elsewhere(browser, path):
    told = policy(browser.get(path))
    assert told == STRICT | {
        "script-src": "'self' 'unsafe-eval'",
        "style-src": "'self' 'unsafe-inline'",
        "img-src": "'self' data:",
        "font-src": "'self' data:",
    }


@pytest.mark.parametrize(("path", "more"), [("/api/", {}), ("/api/redoc/", {"worker-src": "blob:"})])
def test_the_pages_of_the_api_run_nothing_inline(browser, path, more):
    told = policy(browser.get(path))
    assert told == STRICT | {"style-src": "'self' 'unsafe-inline'", "img-src": "'self' data:"} | more


INLINE = re.compile(r"""<script(?![^>]*\bsrc=)(?![^>]*application/json)[^>]*>|\son[a-z]+=["'][^"']""")


@pytest.mark.parametrize("model", admin.site._registry, ids=lambda model: model._meta.label_lower)
def test_no_page_of_the_admin_holds_a_script_that_its_policy_forbids(browser, model):
    place = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
    for path in (place, f"{place}add/"):
        answer = browser.get(path, follow=True)
        if answer.status_code == 200:  # not everything can be added
            assert INLINE.findall(answer.content.decode()) == [], path


def test_the_form_of_a_schedule_holds_no_script_that_its_policy_forbids(browser):
    every = IntervalSchedule.objects.create(every=5, period="seconds")
    task = PeriodicTask.objects.create(name="a task", task="algo.tasks.run_strategies", interval=every)
    answer = browser.get(f"/admin/django_celery_beat/periodictask/{task.pk}/change/")
    assert answer.status_code == 200
    assert INLINE.findall(answer.content.decode()) == []


@pytest.mark.parametrize("name", ["page", "state"])
def test_the_dashboards_templates_hold_no_script_and_no_style(name):
    source = get_template(f"algo/dashboard/{name}.html").template.source
    assert "<style" not in source
    assert " style=" not in source
    assert "onclick" not in source


def test_libraries_come_out_of_their_packages():
    assert "site-packages" in str(finders.find("litecharts/lightweight-charts.js"))
    assert "site-packages" in str(finders.find("django_htmx/htmx-2.min.js"))
