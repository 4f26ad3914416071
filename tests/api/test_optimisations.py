"""Searches over REST: whose they are, beginning and stopping one."""

from __future__ import annotations

import pytest
from rest_framework.test import APIClient

from algo.api import optimisations
from algo.models import AuditRecord, OptimisationRun
from algo.queues import NoBroker
from algo.selectors.rights import Role
from tests import factories as make
from tests.commands.test_optimise_strategy import store

pytestmark = pytest.mark.django_db
ADDRESS = "/api/v1/optimisations"


@pytest.fixture
def sent(monkeypatch):
    """What was handed to the workers."""
    found: list = []
    monkeypatch.setattr(optimisations, "search_hand_out", lambda run_id, jobs: found.append((run_id, jobs)))
    return found


def asked(market, **change):
    space = ["breakout_period=10,20,30", "volume_threshold=0.5"]
    period = {"start": "2025-01-20T00:00Z", "end": "2025-04-10T00:00Z", "resolution": "60"}
    return {"name": "by hand", "strategy": "BreakoutStrategy", "market": market.pk, "space": space, **period, **change}


def test_one_sees_what_one_began_and_staff_sees_all(api, trader, staff_api):
    own, other = make.make_optimisation(requested_by=trader), make.make_optimisation()
    assert [row["id"] for row in api.get(ADDRESS).json()["results"]] == [own.pk]
    assert api.get(f"{ADDRESS}/{other.pk}").status_code == 404
    assert {row["id"] for row in staff_api.get(ADDRESS).json()["results"]} == {own.pk, other.pk}
    shown = api.get(f"{ADDRESS}/{own.pk}").json()
    assert (shown["progress_percent"], shown["verdict"]) == (20.0, None)
    assert shown["report"]["trials"] == {"wanted": 200, "done": 40, "refused": 0}


def test_a_search_is_begun_on_stored_candles_and_handed_to_the_workers(api, trader, sent):
    market = make.make_market(provider="nobitex")
    store(market)
    answer = api.post(f"{ADDRESS}/begin", asked(market), format="json")
    assert answer.status_code == 201, answer.content
    run = OptimisationRun.objects.get()
    assert sent == [(run.pk, 2)]
    assert (answer.json()["id"], run.requested_by, run.status, run.trials_wanted) == (run.pk, trader, "queued", 3)


def test_a_viewer_begins_nothing(sent):
    looking = APIClient()
    looking.force_authenticate(make.make_user(role=Role.VIEWER))
    answer = looking.post(f"{ADDRESS}/begin", asked(make.make_market()), format="json")
    assert (answer.status_code, sent) == (403, [])


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"space": ["breakout=1:2"]}, "space", "there is no parameter"),
        ({"parameters": {"rsi_period": 1}}, "parameters", "at least 2"),
        ({"end": "2025-01-19T00:00Z"}, "end", "after start"),
        ({}, "non_field_errors", "no stored candles"),
    ],
)
def test_what_cannot_be_searched_is_refused_beside_its_field(api, trader, sent, change, field, words):
    answer = api.post(f"{ADDRESS}/begin", asked(make.make_market(), **change), format="json")
    assert answer.status_code == 400
    (error,) = answer.json()["errors"]
    assert words in error["detail"]
    assert (error["attr"] or "").split(".")[0] in (field, "")
    assert not OptimisationRun.objects.exists()


def test_without_a_broker_nothing_is_left_searching(api, trader, monkeypatch):
    def broken(run_id, jobs):
        raise NoBroker("The broker of the workers cannot be reached")

    monkeypatch.setattr(optimisations, "search_hand_out", broken)
    api.raise_request_exception = False
    market = make.make_market(provider="nobitex")
    store(market)
    assert api.post(f"{ADDRESS}/begin", asked(market), format="json").status_code == 503
    assert OptimisationRun.objects.get().status == "stopped"


def test_who_began_a_search_stops_it_and_others_do_not(api, trader, staff_api):
    run = make.make_optimisation(requested_by=trader)
    other = make.make_optimisation(requested_by=trader)
    assert staff_api.post(f"{ADDRESS}/{other.pk}/stop").json()["status"] == "stopped"  # an Admin stops any
    assert api.post(f"{ADDRESS}/{run.pk}/stop").json()["status"] == "stopped"
    assert api.post(f"{ADDRESS}/{run.pk}/stop").status_code == 200
    told = AuditRecord.objects.filter(act="optimisation.stop").order_by("pk").values_list("username", "subject_name")
    assert list(told) == [("boss", other.name), ("trader", run.name)]  # twice is once
    assert api.post(f"{ADDRESS}/{make.make_optimisation().pk}/stop").status_code == 404
