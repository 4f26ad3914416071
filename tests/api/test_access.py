from __future__ import annotations

import logging

import pytest
from django.core.cache import cache
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from knox.models import AuthToken
from rest_framework.test import APIClient

from algo.api import throttling
from tests import factories as make

pytestmark = pytest.mark.django_db

PASSWORD = "correct horse battery"  # of the fixture `password`
# without a login: how to log in and in which language, whether the house is alive, and documentation. Nothing else.
PUBLIC = {
    "/api/": 200,
    "/api/redoc/": 200,
    "/api/schema/": 200,
    "/api/v1/system/health": 200,
    "/api/v1/auth/login": 405,
    "/admin/login/": 200,
    "/language/": 405,  # which language the page to log in has
}


def login(client, **data):
    return client.post("/api/v1/auth/login", {"username": "trader", "password": PASSWORD, **data}, format="json")


def addresses(patterns=None, prefix="/"):
    """Every address of the project, with 1 and x where it takes arguments."""
    for item in get_resolver().url_patterns if patterns is None else patterns:
        route = str(item.pattern).lstrip("^").rstrip("$").replace("/?", "").removesuffix(r"\Z")
        if isinstance(item, URLResolver):
            yield from addresses(item.url_patterns, prefix + route)
        elif isinstance(item, URLPattern):
            yield (prefix + route)


def plain(address):
    import re

    address = re.sub(r"<[^>]*>", "1", re.sub(r"\(\?P<\w+>[^)]*\)+", "1", address))
    return address.replace(".*", "nowhere").replace("\\.", ".").replace("?", "")


def test_every_address_but_the_listed_ones_needs_a_login():
    client = Client()
    seen = {plain(address) for address in addresses()}
    assert PUBLIC.keys() <= seen
    assert len(seen) > 60
    for address in sorted(seen - PUBLIC.keys()):
        cache.clear()  # strangers are counted
        answer = client.get(address)
        leads_to_login = answer.status_code == 302 and answer["Location"].startswith(("/admin/login/", "/admin/"))
        assert leads_to_login or answer.status_code == 401, (address, answer.status_code)


@pytest.mark.parametrize(("address", "status"), PUBLIC.items())
def test_public_addresses_answer_without_a_login(address, status):
    assert Client().get(address).status_code == status


def test_password_buys_a_token_that_opens_the_api_until_logout(trader, password):
    client = APIClient()
    answer = login(client)
    assert answer.status_code == 200
    assert set(answer.json()) == {"id", "token", "scope", "label", "expiry"}
    client.credentials(HTTP_AUTHORIZATION=f"Token {answer.json()['token']}")
    assert client.get("/api/v1/deals").status_code == 200
    assert client.post("/api/v1/auth/logout").status_code == 204
    assert client.get("/api/v1/deals").status_code == 401


def test_token_is_stored_as_a_hash_only(trader, password):
    token = login(APIClient()).json()["token"]
    assert token not in str(list(AuthToken.objects.values()))


def test_wrong_password_and_unknown_user_get_the_same_answer(trader, password):
    wrong, unknown = login(APIClient(), password="wrong"), login(APIClient(), username="nobody")
    assert wrong.status_code == unknown.status_code == 401
    assert wrong.json() == unknown.json()
    assert wrong.json()["errors"][0]["code"] == "authentication_failed"
    assert "wrong" not in wrong.content.decode()


def test_disabled_user_gets_no_token(trader, password):
    trader.is_active = False
    trader.save()
    assert login(APIClient()).status_code == 401
    assert not AuthToken.objects.exists()


def test_login_without_a_password_names_the_field(trader, password):
    answer = APIClient().post("/api/v1/auth/login", {"username": "trader"}, format="json")
    assert (answer.status_code, answer.json()["errors"][0]["attr"]) == (400, "password")


def test_sixth_login_within_a_minute_is_refused(trader, password):
    statuses = [login(APIClient(), username=f"name{n}").status_code for n in range(6)]
    assert statuses == [401] * 5 + [429]


def test_forged_forwarding_header_does_not_evade_the_limit(trader, password):
    client = APIClient()
    statuses = []
    for number in range(6):
        client.credentials(HTTP_X_FORWARDED_FOR=f"1.1.1.{number}")
        statuses.append(login(client, username=f"name{number}").status_code)
    assert statuses[-1] == 429


def test_without_redis_the_api_answers_and_the_login_limit_still_holds(trader, password, settings, caplog):
    settings.CACHES = {
        "default": {
            "BACKEND": "algo_trade.caches.OneServerCache",
            "LOCATION": "redis://:secret-of-redis@127.0.0.1:9/0",
        }
    }
    throttling._of_this_process.clear()
    with caplog.at_level(logging.WARNING):
        statuses = [login(APIClient(), username=f"name{n}").status_code for n in range(6)]
    assert statuses == [401] * 5 + [429]
    assert "Redis does not answer" in caplog.text
    assert "secret-of-redis" not in caplog.text
    client = APIClient()
    client.force_authenticate(trader)
    assert client.get("/api/v1/deals").status_code == 200


def test_session_of_the_admin_opens_the_api_too(trader):
    client = Client()
    client.force_login(trader)
    assert client.get("/api/v1/deals").status_code == 200


@pytest.mark.parametrize("address", ["/api/v1/deals", "/api/v1/deals/"])
def test_addresses_work_with_and_without_their_last_slash(api, address):
    assert api.get(address).status_code == 200


def test_account_key_is_nowhere_in_the_api(api, config):
    make.make_closed_deal(config)
    for name in ("deals", "strategies", "signals"):
        assert "CANARY" not in api.get(f"/api/v1/{name}").content.decode()
