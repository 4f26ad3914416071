from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import yaml
from django.core.management import call_command
from django.db import OperationalError
from rest_framework.test import APIClient

from algo.api import views
from algo.models import Door, Heartbeat
from algo.selectors.health import heartbeat_ages
from algo.services.audit import audit_record
from algo.version import VERSION
from tests import factories as make
from tests.factories import NOW, make_account

pytestmark = pytest.mark.django_db


def test_health_tells_how_old_each_heartbeat_is():
    Heartbeat.objects.create(name="guardian", at=datetime.now(UTC) - timedelta(seconds=30))
    answer = APIClient().get("/api/v1/system/health").json()
    assert (answer["status"], answer["database"], answer["redis"]) == ("ok", True, True)
    [beat] = answer["heartbeats"]
    assert beat["name"] == "guardian"
    assert 29 < beat["age_seconds"] < 40


def test_health_tells_of_the_streams():
    now = datetime.now(UTC)
    detail = {"up": True, "alive_at": (now - timedelta(seconds=3)).isoformat(), "reconnects": 2}
    Heartbeat.objects.create(name="stream:wallex", at=now, detail=detail)
    Heartbeat.objects.create(name="stream:nobitex", at=now)
    nobitex, wallex = APIClient().get("/api/v1/system/health").json()["streams"]
    assert nobitex == {"name": "nobitex", "is_up": False, "message_age_seconds": None, "reconnects": 0}
    assert (wallex["name"], wallex["is_up"], wallex["reconnects"]) == ("wallex", True, 2)
    assert 3 <= wallex["message_age_seconds"] < 13


def test_health_counts_accounts_that_need_a_person_and_names_none():
    make_account(name="secretive", state="stopped", key_expires_at=NOW - timedelta(days=1))
    answer = APIClient().get("/api/v1/system/health")
    assert answer.json()["accounts"] == {"stopped": 1, "keys_ending": 1}
    assert "secretive" not in answer.content.decode()


def test_health_says_that_redis_is_away(settings):
    settings.REDIS_URL = "redis://127.0.0.1:9/0"
    assert APIClient().get("/api/v1/system/health").json()["redis"] is False


def test_ages_are_wall_seconds_in_a_fast_replay():
    Heartbeat.objects.create(name="guardian", at=NOW - timedelta(seconds=120))
    assert heartbeat_ages(NOW, speed=60) == {"guardian": 2.0}


def test_health_is_503_without_a_database(monkeypatch):
    def fail(*_, **__):
        raise OperationalError("password=secret")

    monkeypatch.setattr(views, "heartbeat_ages", fail)
    answer = APIClient().get("/api/v1/system/health")
    assert answer.status_code == 503
    assert answer.json() == {"status": "unavailable", "database": False, "heartbeats": [], "streams": []}


def test_schema_is_complete_without_warnings(tmp_path):
    target = tmp_path / "schema.yml"
    call_command("spectacular", "--validate", "--fail-on-warn", "--file", str(target))
    text = target.read_text()
    for name in ("deals", "orders", "fills", "signals", "strategies", "backtests"):
        assert f"/api/v1/{name}/:" in text
        assert f"/api/v1/{name}/{{id}}/:" in text
    assert "/api/v1/auth/login/:" in text
    keys = {
        name for name, schema in yaml.safe_load(text)["components"]["schemas"].items() if "'api_key': {" in str(schema)
    }
    assert keys == {"AccountOpenRequest", "PatchedAccountChangeRequest"}  # goes in, never comes out


def test_documentation_needs_nothing_from_elsewhere():
    for address in ("/api/", "/api/redoc/"):
        page = APIClient().get(address).content.decode()
        assert "https://" not in page
        assert "drf_spectacular_sidecar" in page


# --- versions and the audit log ---------------------------------------------------------------------------------------


def test_the_version_is_for_everybody_and_what_it_stands_on_for_admins(api, staff_api):
    told = api.get("/api/v1/system/version").json()
    assert told == {"version": VERSION, "api": "1", "python": None, "django": None, "database": None}
    told = staff_api.get("/api/v1/system/version").json()
    assert told["python"].startswith("3.")
    assert told["database"].startswith("PostgreSQL 1")


def test_the_audit_log_shows_what_one_did_and_what_was_done_to_ones_accounts(api, staff_api, trader, config):
    def done(act, account=None, user=None, at=NOW):
        by = make.by(user, Door.API)
        return audit_record(act, by=by, subject=account, at=at, reason="why", details={"level": "off"}).pk

    other = make.make_account()
    own = done("deal.close", user=trader)
    to_mine = done("account.pause", account=config.account, at=NOW + timedelta(seconds=1))
    foreign = done("account.pause", account=other)

    def ids(client, **query):
        return [row["id"] for row in client.get("/api/v1/system/audit", query).json()["results"]]

    assert ids(api) == [to_mine, own]
    assert set(ids(staff_api)) == {own, to_mine, foreign}
    assert ids(api, act="account.") == ids(api, account=config.account_id) == [to_mine]
    assert ids(api, username="trader") == ids(api, door="api") == ids(api, before="2026-11-02T10:00:01Z") == [own]
    assert ids(staff_api, subject_kind="account", subject_id=other.pk) == [foreign]
    row = api.get(f"/api/v1/system/audit/{to_mine}").json()
    assert (row["account"], row["subject_name"], row["reason"]) == (config.account_id, config.account.name, "why")
    assert api.get(f"/api/v1/system/audit/{foreign}").status_code == 404
