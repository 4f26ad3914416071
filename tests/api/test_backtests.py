from __future__ import annotations

from datetime import timedelta

import pytest
from rest_framework.test import APIClient

from algo.models import AuditRecord, BacktestRun
from algo.report_pages import SANDBOX
from algo.selectors.rights import Role
from providers.clock import clock_from_env
from tests import factories as make
from tests.backtest.test_html_report import told
from tests.backtest.worlds import calm, market, said, settings, table

pytestmark = pytest.mark.django_db

LIST = "/api/v1/backtests"
FLAT, WON = (100.0, 100.5, 99.5, 100.0), (100.0, 103.0, 99.5, 100.0)


@pytest.fixture
def announced(monkeypatch):
    runs = []
    monkeypatch.setattr("algo.api.backtests.backtest_enqueue", runs.append)
    return runs


@pytest.fixture
def start(announced):
    now = clock_from_env().now()
    begins, ends = (now - timedelta(days=2)).isoformat(), (now - timedelta(days=1)).isoformat()
    return {"strategy": "BreakoutStrategy", "market": make.make_market().pk, "start": begins, "end": ends}


def done(**fields):
    """A backtest that is done, with a report to draw."""
    from algo.backtest import run_both

    report, charts = told(run_both(table(FLAT, WON, FLAT), said(3, c0=1), calm(), market(), settings()))
    return make.make_backtest(summary=report, charts=charts, **fields)


def problems(response):
    assert response.status_code == 400, response.content
    return {error["attr"]: error["detail"] for error in response.json()["errors"]}


def ids(response):
    assert response.status_code == 200, response.content
    return [row["id"] for row in response.json()["results"]]


def test_one_sees_ones_own_runs_and_those_of_ones_strategies(api, staff_api, trader, config):
    own, theirs = make.make_backtest(requested_by=trader), make.make_backtest(requested_by=make.make_user())
    of_config, shell = make.make_backtest(config=config), make.make_backtest()
    assert set(ids(api.get(LIST))) == {own.pk, of_config.pk}
    assert set(ids(staff_api.get(LIST))) == {own.pk, theirs.pk, of_config.pk, shell.pk}
    for pk in (theirs.pk, shell.pk):
        assert api.get(f"{LIST}/{pk}").status_code == 404
        assert api.get(f"{LIST}/{pk}/html/").status_code == 404
        assert api.post(f"{LIST}/{pk}/cancel/").status_code == 404


def test_lists_are_filtered_sorted_and_small(staff_api, django_assert_max_num_queries):
    poor, rich = done(net_profit_percent=-3.0), done(net_profit_percent=4.0)
    waits = make.make_backtest(status="queued")
    assert ids(staff_api.get(LIST, {"status": "queued"})) == [waits.pk]
    assert ids(staff_api.get(LIST, {"status": "done", "ordering": "-net_profit_percent"})) == [rich.pk, poor.pk]
    assert ids(staff_api.get(LIST, {"market": "btcusdt"})) == [waits.pk, rich.pk, poor.pk]
    with django_assert_max_num_queries(3):
        page = staff_api.get(LIST)
    assert "summary" not in page.json()["results"][0]
    assert len(page.content) < 6000


def test_a_backtest_is_started_watched_and_cancelled(api, trader, start, announced):
    answer = api.post(
        LIST, {**start, "parameters": {"take_profit_percent": "1.5"}, "fee_percent": "0.2"}, format="json"
    )
    assert answer.status_code == 201, answer.content
    body = answer.json()
    assert (body["status"], body["progress"], body["requested_by"]) == ("queued", 0, "trader")
    assert (body["parameters"]["take_profit_percent"], body["asked"]["fee_percent"]) == ("1.5", "0.2")
    assert (body["summary"], body["has_html"]) == ({}, False)
    assert announced == [body["id"]]
    assert api.get(f"{LIST}/{body['id']}").json() == body
    assert api.post(f"{LIST}/{body['id']}/cancel/").json()["status"] == "cancelled"
    again = api.post(f"{LIST}/{body['id']}/cancel/")
    assert (again.status_code, again.json()["status"]) == (200, "cancelled")
    [record] = AuditRecord.objects.all()  # twice is once
    assert (record.act, record.username, record.door, record.subject_id) == (
        "backtest.cancel", "trader", "api", str(body["id"])
    )  # fmt: skip


def test_a_viewer_starts_and_cancels_nothing(config, start):
    looking, viewer = APIClient(), make.make_user(role=Role.VIEWER)
    config.account.viewers.add(viewer)
    looking.force_authenticate(viewer)
    assert looking.post(LIST, start, format="json").status_code == 403
    run = make.make_backtest(config=config, status="queued")
    assert looking.get(f"{LIST}/{run.pk}").status_code == 200
    assert looking.post(f"{LIST}/{run.pk}/cancel").status_code == 403
    run.refresh_from_db()
    assert run.status == "queued"


def test_a_config_is_enough_and_it_must_be_ones_own(api, config, start, announced):
    words = {"config": config.pk, "start": start["start"]}
    row = BacktestRun.objects.get(pk=api.post(LIST, words, format="json").json()["id"])
    assert (row.config, row.market) == (config, config.data_market)
    foreign = make.make_config()
    assert "config" in problems(api.post(LIST, {**words, "config": foreign.pk}, format="json"))
    assert announced == [row.pk]


def test_what_is_wrong_is_told_beside_its_field_and_nothing_is_stored(api, start, announced):
    given = {**start, "parameters": {"ema_fast_period": "many"}, "fee_percent": "100", "end": start["start"]}
    found = problems(api.post(LIST, given, format="json"))
    assert set(found) == {"parameters.ema_fast_period", "fee_percent", "start"}
    assert "strategy" in problems(api.post(LIST, {"start": start["start"]}, format="json"))
    assert not BacktestRun.objects.exists()
    assert announced == []


def test_the_thirteenth_start_within_a_minute_is_refused(api, start):
    bad = {**start, "fee_percent": "100"}
    statuses = [api.post(LIST, bad, format="json").status_code for _ in range(13)]
    assert statuses == [400] * 12 + [429]
    assert api.get(LIST).status_code == 200


def test_the_report_is_one_document_in_an_origin_of_its_own(api, trader):
    run = done(requested_by=trader)
    answer = api.get(f"{LIST}/{run.pk}/html/")
    assert answer.status_code == 200
    assert answer["Content-Type"].startswith("text/html")
    assert answer["Content-Disposition"] == f'inline; filename="backtest-{run.pk}-BTCUSDT.html"'
    assert answer["Content-Security-Policy"] == SANDBOX
    assert SANDBOX.startswith("sandbox allow-scripts")
    assert "allow-same-origin" not in SANDBOX
    assert "default-src 'none'" in SANDBOX
    assert answer["X-Frame-Options"] == "DENY"
    assert b"Equity and drawdown" in answer.content


def test_a_run_without_a_report_says_why(api, trader):
    answer = api.get(f"{LIST}/{make.make_backtest(requested_by=trader, status='running').pk}/html/")
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (404, "not_found")


def test_runs_stand_side_by_side_in_the_order_they_were_named(api, trader):
    one = done(requested_by=trader, parameters={"speed": 1, "mood": "calm"})
    two = done(requested_by=trader, parameters={"speed": 2, "mood": "calm"})
    told = api.get(f"{LIST}/compare/", {"ids": f"{two.pk},{one.pk}"}).json()
    assert [run["id"] for run in told["runs"]] == [two.pk, one.pk]
    assert {row["name"]: row["values"] for row in told["differences"]} == {"speed": ["2", "1"]}
    assert {"name": "Deals", "values": ["1", "1"]} in told["figures"]


@pytest.mark.parametrize("wrong", ["", "1", "1,1", "1,x", "1,2,3,4,5,6,7", f"1,{'9' * 30}"])
def test_two_to_six_that_are_done_are_compared_and_nothing_else(api, wrong):
    assert "ids" in problems(api.get(f"{LIST}/compare/", {"ids": wrong}))


def test_one_that_is_not_done_or_not_ones_own_is_not_compared(api, trader):
    own, theirs = done(requested_by=trader), done()
    waits = make.make_backtest(requested_by=trader, status="queued")
    for other in (theirs, waits):
        assert str(other.pk) in problems(api.get(f"{LIST}/compare/", {"ids": f"{own.pk},{other.pk}"}))["ids"]


@pytest.mark.parametrize("method", ["put", "patch", "delete"])
def test_a_run_is_never_edited(staff_api, method):
    assert getattr(staff_api, method)(f"{LIST}/{make.make_backtest().pk}", {}).status_code == 405
