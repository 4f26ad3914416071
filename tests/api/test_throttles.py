from __future__ import annotations

import pytest
from rest_framework.test import APIClient
from rest_framework.throttling import SimpleRateThrottle

from algo.api import throttling

pytestmark = pytest.mark.django_db

UNREACHABLE = {"default": {"BACKEND": "algo_trade.caches.OneServerCache", "LOCATION": "redis://127.0.0.1:9/0"}}


@pytest.fixture
def rates(monkeypatch):
    """Two reads, one act, one act of an Admin and one request without a login a minute."""
    few = {**SimpleRateThrottle.THROTTLE_RATES, "read": "2/min", "trade": "1/min", "admin": "1/min", "anon": "1/min"}
    monkeypatch.setattr(SimpleRateThrottle, "THROTTLE_RATES", few)


def read(client):
    return client.get("/api/v1/deals")


def trade(client):
    return client.post("/api/v1/deals/1/close", {}, format="json")


def administer(client):
    return client.post("/api/v1/system/kill-switch", {"level": "off", "reason": "x"}, format="json")


def test_reading_and_acting_are_counted_apart_and_the_refusal_says_when(api, rates):
    assert [read(api).status_code for _ in range(3)] == [200, 200, 429]
    assert [trade(api).status_code for _ in range(2)] == [404, 429]
    refused = read(api)
    assert refused.status_code == 429
    assert 0 < int(refused["Retry-After"]) <= 60


def test_users_are_counted_apart(api, staff_api, rates):
    assert [trade(api).status_code, trade(staff_api).status_code, trade(api).status_code] == [404, 404, 429]


def test_without_a_login_one_is_counted_by_address(rates):
    assert [read(APIClient()).status_code for _ in range(2)] == [401, 429]


def test_a_token_that_is_wrong_is_counted_by_address(rates, api):
    guesses = APIClient()
    guesses.credentials(HTTP_AUTHORIZATION="Token " + "0" * 64)
    assert [read(guesses).status_code for _ in range(2)] == [401, 429]
    assert read(api).status_code == 200


def test_without_redis_each_process_counts_by_scope_for_itself(api, rates, settings):
    settings.CACHES = UNREACHABLE
    throttling._of_this_process.clear()
    assert [read(api).status_code for _ in range(3)] == [200, 200, 429]
    assert [trade(api).status_code for _ in range(2)] == [404, 429]


def test_what_stops_everybody_has_a_count_of_its_own(staff_api, rates):
    assert [administer(staff_api).status_code for _ in range(2)] == [200, 429]
    assert trade(staff_api).status_code == 404
