"""A token gives what it was given and never more than its user's role, at every address and method there is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.core.cache import cache
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from algo.api.access import InScope
from algo.api.base import Common
from algo.models import KillSwitch, SystemControl, TokenGrant, TokenScope
from algo.selectors.rights import Role
from algo.services.tokens import token_give
from tests import factories as make
from tests.api.routes import SAFE, Route, routes
from tests.factories import NOW

pytestmark = pytest.mark.django_db

ROUTES = list(routes())
PUBLIC = {"login", "health", "inbound"}
# What somebody who may only read does to their own tokens; what they may not touch there, test_tokens says.
OWN_TOKENS = {"POST auth/logout", "POST auth/tokens", "DELETE auth/tokens/{pk}"}
CLOSED = [route for route in ROUTES if route.name not in PUBLIC]
ONLY_CHECKS = {"POST strategies/validate"}  # writes nothing, whatever is sent
WRITES = [
    route for route in CLOSED if route.method not in SAFE and str(route) not in OWN_TOKENS | ONLY_CHECKS
]  # fmt: skip


def token_of(user: Any, scope: str | None = None, **more: Any) -> str:
    """A token for `user`, of a scope that their role may not cover any more."""
    grant, text = token_give(user, by=make.by(user), now=timezone.now(), at=NOW, **more)
    if scope:
        TokenGrant.objects.filter(pk=grant.pk).update(scope=scope)
    return text


def client_of(user: Any, scope: str | None = None) -> APIClient:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Token {token_of(user, scope)}")
    return client


def asked(client: APIClient, route: Route) -> Any:
    cache.clear()  # no request was counted yet
    return getattr(client, route.method)(route.address(pk=1, version=1), {}, format="json")


@contextmanager
def nothing_written() -> Iterator[None]:
    with CaptureQueriesContext(connection) as queries:
        yield
    words = ("INSERT", "UPDATE", "DELETE")
    written = [each["sql"] for each in queries if each["sql"].startswith(words) and "last_used_at" not in each["sql"]]
    assert written == []


def test_the_walk_finds_the_addresses_there_are():
    found = {str(route) for route in ROUTES}
    assert {"GET deals/{pk}", "POST deals/{pk}/close", "POST backtests", "POST system/kill-switch"} <= found
    assert "POST auth/login" in found
    assert len(WRITES) >= 8


def test_every_view_but_the_public_ones_asks_for_a_role_and_a_scope_and_limits_strangers():
    for route in CLOSED:
        assert InScope in route.view.permission_classes, route
        assert issubclass(route.view, Common), f"{route}: derive it from ApiView or RowsViewSet"


def test_without_a_token_every_address_is_401():
    client = APIClient()
    with nothing_written():
        for route in CLOSED:
            assert asked(client, route).status_code == 401, route


def test_a_token_to_read_writes_nowhere(trader):
    client = client_of(trader, "read")
    with nothing_written():
        for route in WRITES:
            answer = asked(client, route)
            assert (answer.status_code, "scope trade; yours has read" in answer.content.decode()) == (403, True) or (
                "scope admin; yours has read" in answer.content.decode()
                or "Only the role Admin" in answer.content.decode()
            ), (route, answer.content)


@pytest.mark.parametrize("role", [Role.VIEWER, None])
def test_who_has_no_role_to_trade_writes_nowhere_whatever_the_token_says(role):
    client = client_of(make.make_user(role=role), "admin")
    with nothing_written():
        for route in WRITES:
            answer = asked(client, route)
            assert answer.status_code == 403, (route, answer.content)
            assert "Only the role" in answer.content.decode(), route


def test_a_token_to_read_reads_every_list(trader):
    client = client_of(trader, "read")
    lists = [route for route in CLOSED if route.method == "get" and route.action == "list"]
    lists = [route for route in lists if route.view.scope_needed != "admin"]
    assert len(lists) > 8
    for route in lists:
        assert asked(client, route).status_code == 200, route


@pytest.mark.parametrize(
    ("role", "scope", "status"),
    [
        (Role.ADMIN, "admin", 200),
        (Role.ADMIN, "trade", 403),
        (Role.TRADER, "admin", 403),
        (Role.VIEWER, "admin", 403),
    ],
)
def test_the_switch_of_the_whole_system_takes_an_admin_and_a_token_for_it(role, scope, status):
    client = client_of(make.make_user(role=role), scope)
    answer = client.post("/api/v1/system/kill-switch", {"level": "cancel", "reason": "odd"}, format="json")
    assert answer.status_code == status
    assert SystemControl.load().kill_switch == (KillSwitch.CANCEL if status == 200 else KillSwitch.OFF)


def test_the_refusal_says_what_is_missing(trader, config):
    deal = make.make_open_deal(config)

    def said(client: APIClient) -> str:
        return str(client.post(f"/api/v1/deals/{deal.pk}/close", {}, format="json").json()["errors"][0]["detail"])

    assert said(client_of(trader, "read")) == (
        "This needs a token of scope trade; yours has read. Log in and ask for it. Nothing was changed."
    )
    assert said(client_of(make.make_user(role=Role.VIEWER), "trade")) == (
        "Only the role Trader or Admin may do this; you are a Viewer. Nothing was changed."
    )
    assert "you have no role" in said(client_of(make.make_user(), "trade"))


def test_a_session_may_what_the_role_may(trader, config):
    client = APIClient()
    client.force_login(trader)
    assert client.post(f"/api/v1/deals/{make.make_open_deal(config).pk}/close", {}, format="json").status_code == 200


def test_a_token_loses_with_the_role_what_the_role_allowed(trader, config):
    client, deal = client_of(trader), make.make_open_deal(config)
    trader.groups.clear()
    assert client.post(f"/api/v1/deals/{deal.pk}/close", {}, format="json").status_code == 403
    assert client.get(f"/api/v1/deals/{deal.pk}").status_code == 200


def test_a_token_without_a_grant_may_only_read(trader, config):
    client, deal = client_of(trader), make.make_open_deal(config)
    TokenGrant.objects.all().delete()
    assert client.get(f"/api/v1/deals/{deal.pk}").status_code == 200
    assert client.post(f"/api/v1/deals/{deal.pk}/close", {}, format="json").status_code == 403


def test_an_upgrade_gives_tokens_what_the_role_of_their_user_allows():
    from importlib import import_module

    people = {
        "read": make.make_user(role=Role.VIEWER),
        "trade": make.make_trader(),
        "admin": make.make_user(role=Role.ADMIN),
    }
    nobody, root = make.make_user(), make.make_user(is_superuser=True)
    for user in (*people.values(), nobody, root):
        token_of(user)
    TokenGrant.objects.all().delete()
    import_module("algo.migrations.0019_scopes_of_tokens").grant_what_was(apps, None)
    got = dict(TokenGrant.objects.values_list("token__user", "scope"))
    assert {scope: got[user.pk] for scope, user in people.items()} == {scope: scope for scope in TokenScope.values}
    assert (got[nobody.pk], got[root.pk]) == ("read", "admin")


def test_the_use_of_a_token_is_noted_once_a_minute(trader):
    client = client_of(trader)
    client.get("/api/v1/deals")
    first = TokenGrant.objects.get().last_used_at
    assert timezone.now() - first < timedelta(minutes=1)
    client.get("/api/v1/deals")
    assert TokenGrant.objects.get().last_used_at == first
    TokenGrant.objects.update(last_used_at=first - timedelta(minutes=2))
    client.get("/api/v1/deals")
    assert TokenGrant.objects.get().last_used_at >= first
