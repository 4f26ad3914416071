"""What belongs to the account of somebody else is out of reach, at every address of the API: not in lists, not by its
id, not through filters, orders and fields, not by acts, and not named in a body.

The addresses come from the URL conf, the filters from the lists, the ids in bodies from the serializers: what is new
and stands in no table here fails.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.cache import cache
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.plumbing import ComponentRegistry, force_instance
from rest_framework import serializers
from rest_framework.test import APIClient

from algo.models import Account, Market, StrategyConfig, TokenGrant
from algo.selectors.rights import Role
from algo.services.audit import PLATFORM, audit_record
from algo.services.control import kill_switch_set
from providers.clock import clock_from_env
from tests import factories as make
from tests.api.routes import SAFE, Route, routes
from tests.api.test_scopes import PUBLIC, nothing_written, token_of
from tests.factories import NOW

pytestmark = pytest.mark.django_db

ROUTES = [route for route in routes() if route.name not in PUBLIC]
OF_EVERYBODY = {"markets", "candle-fetches"}  # belong to no account
OF_ADMINS = {"webhooks/deliveries"}  # 403 where others get an empty list
OF_ONESELF = {"auth/tokens", "channels", "deliveries"}  # one's own, whatever the role: 404 where others get 403
ACTS_OF_ADMINS = {("delete", "accounts")}  # 403 before anybody looks which row it is
# Neither lists nor rows: what they could tell, a test below names.
TOTALS = {f"GET performance/{page}" for page in ("strategies", "markets", "days", "equity", "risk")}
TELL_OF_ROWS = TOTALS | {"GET decisions/counts", "GET backtests/compare", "GET system/kill-switch"}
TELL_OF_NOBODY = {
    "GET system/version",  # of the code
    "GET strategies/schemas",  # of classes
    "GET webhooks",  # for Admins
    "POST webhooks/test",  # for Admins
    "POST auth/logout",  # of the token that is sent
    "POST auth/tokens",  # for oneself
}
WITH_A_REASON = {"close", "stop", "reprotect", "cancel", "pause", "activate", "start", "resume", "restore"}
# Name a row in their body, or nothing that belongs to somebody.
WITH_A_BODY = {
    "POST accounts", "POST strategies", "POST strategies/validate", "POST strategies/preview", "POST backtests",
    "POST optimisations/begin", "POST inbound-keys", "POST channels",
    "POST system/kill-switch",
}  # fmt: skip
# Filters that name no row: what they find is among what one sees.
PLAIN = {
    "status", "side", "state", "provider", "environment", "strategy", "ordering_enabled", "resolution", "role", "kind",
    "outcome", "code", "type", "denial_code", "denied", "open", "scope", "act", "door", "subject_kind", "profit_min",
    "profit_max", "after", "before",
    *(f"{what}_{end}" for what in ("created", "opened", "closed", "executed") for end in ("after", "before")),
}  # fmt: skip


@pytest.fixture
def theirs(db: Any) -> SimpleNamespace:
    """Of every kind of row one that belongs to the account of somebody else; SECRET stands in whatever has a name."""
    owner = make.make_trader("SECRET-owner")
    account = make.make_account(name="SECRET account", owner=owner, api_key="CANARY-KEY-zq7X")
    market = make.make_market("SOLUSDT")
    config = make.make_config(account=account, name="SECRET strategy", market=market)
    signal = make.make_signal(config)
    deal = make.make_closed_deal(config, signal=signal, note="SECRET note")
    order = make.make_order(deal, reason="SECRET reason")
    now = clock_from_env().now()
    decision = make.make_decision(config, bar_open_at=now - timedelta(hours=1), journal={"why": "SECRET"})
    external = make.make_config(account=account, name="SECRET external", strategy="ExternalSignals", market=market)
    channel = make.make_channel(owner, name="SECRET channel", target="https://SECRET.example/hook")
    inbound = make.make_inbound_key(external, label="SECRET sender", made_by=owner)
    kill_switch_set("flatten", reason="SECRET switch", by=PLATFORM, target=account)
    token_of(owner, label="SECRET token")
    rows = {
        "accounts": account,
        "strategies": config,
        "deals": deal,
        "orders": order,
        "fills": make.make_fill(order),
        "signals": signal,
        "decisions": decision,
        "tickets": make.make_ticket(account, market=market, summary="SECRET ticket"),
        "backtests": make.make_backtest(config=config),
        "optimisations": make.make_optimisation(name="SECRET search", requested_by=owner),
        "auth/tokens": TokenGrant.objects.get(),
        "system/audit": audit_record("deal.close", by=PLATFORM, subject=deal, at=NOW, reason="SECRET reason"),
        "channels": channel,
        "deliveries": make.make_delivery(channel=channel, payload={"deal": "SECRET"}),
        "inbound-keys": inbound,
        "inbound-signals": make.make_alert(inbound, note="SECRET alert"),
        "webhooks/deliveries": make.make_delivery(payload={"deal": "SECRET"}),
    }
    return SimpleNamespace(
        owner=owner, market=market, **{name.replace("/", "_"): row for name, row in rows.items()}, rows=rows
    )


@pytest.fixture
def mine(db: Any) -> SimpleNamespace:
    """An account of the trader's, with a strategy, a ticket and a backtest."""
    trader = make.make_trader("trader")
    account = make.make_account(name="mine", owner=trader)
    config = make.make_config(account=account, name="my strategy", status="stopped")
    ticket = make.make_ticket(account, market=config.market)
    channel = make.make_channel(trader, name="mine")
    return SimpleNamespace(
        channel=channel,
        trader=trader,
        account=account,
        config=config,
        ticket=ticket,
        backtest=make.make_backtest(config=config),
    )


@pytest.fixture(params=["a trader", "a viewer of another account", "a user without a role"])
def stranger(request: Any, theirs: Any, mine: Any) -> APIClient:
    user = mine.trader
    if request.param != "a trader":
        user = make.make_user("stranger", role=Role.VIEWER if "viewer" in request.param else None)
        mine.account.viewers.add(user)
    return client_of(user)


@pytest.fixture
def admin(db: Any) -> APIClient:
    return client_of(make.make_user("boss", role=Role.ADMIN))


def client_of(user: Any) -> APIClient:
    client = APIClient()
    client.force_authenticate(user)
    return client


def get(client: APIClient, path: str, **asked: Any) -> Any:
    cache.clear()  # requests are counted
    return client.get(f"/api/v1/{path}", asked)


def send(client: APIClient, route: Route, pk: Any = 0, body: Any = None) -> Any:
    cache.clear()
    sent = {} if route.method in SAFE else {"data": body or {}, "format": "json"}
    return getattr(client, route.method)(route.address(pk=pk, version=1), **sent)


def prefix_of(route: Route) -> str:
    return route.path.split("/{pk}")[0]


def ids(answer: Any) -> list[Any]:
    return [row["id"] for row in answer.json()["results"]]


def tells(answer: Any) -> bool:
    """Whether anything of the others is in an answer."""
    text = answer.content.decode()
    return "SECRET" in text or "CANARY" in text


LISTS = [route for route in ROUTES if route.action == "list"]
ROWS = [route for route in ROUTES if "{pk}" in route.path and prefix_of(route) not in OF_EVERYBODY]
OWNED = [route for route in LISTS if route.path not in OF_EVERYBODY]


def test_every_address_is_in_a_table_here(theirs):
    for route in ROUTES:
        of_rows = prefix_of(route) in theirs.rows.keys() | OF_EVERYBODY and (
            "{pk}" in route.path or route.action == "list"
        )
        named = str(route) in TELL_OF_ROWS | TELL_OF_NOBODY | WITH_A_BODY
        assert of_rows or named, f"{route} is new: say in this file whose rows it reaches"


def test_no_list_holds_it(stranger, theirs):
    for route in OWNED:
        answer = get(stranger, route.path)
        if route.path in OF_ADMINS:
            assert answer.status_code == 403, route
        else:
            assert theirs.rows[route.path].pk not in ids(answer), route
        assert not tells(answer), route


def test_no_row_is_found_by_its_id_and_no_act_reaches_it(stranger, theirs, mine):
    trades = stranger.handler._force_user == mine.trader
    assert len(ROWS) > 30
    with nothing_written():
        for route in ROWS:
            body = {"reason": "x"} if route.action in WITH_A_REASON else {}
            body |= {"stop_price": "1"} if route.name == "deal-stop" else {}
            answer = send(stranger, route, theirs.rows[prefix_of(route)].pk, body)
            reads = route.method in SAFE or prefix_of(route) in OF_ONESELF
            for_admins = prefix_of(route) in OF_ADMINS or (route.method, prefix_of(route)) in ACTS_OF_ADMINS
            hidden = not for_admins and (reads or trades)
            assert answer.status_code == (404 if hidden else 403), (route, answer.content)
            assert not tells(answer), route


def test_the_admin_sees_and_finds_all_of_it(admin, theirs):
    for route in OWNED:
        assert theirs.rows[route.path].pk in ids(get(admin, route.path)), route
    for route in ROWS:
        if route.action == "retrieve":
            assert send(admin, route, theirs.rows[prefix_of(route)].pk).status_code == 200, route


def filters_of(route: Route, theirs: Any) -> Iterator[tuple[str, Any]]:
    """Each filter that names a row, with one of theirs."""
    values = {
        "account": theirs.accounts.pk,
        "config": theirs.strategies.pk,
        "deal": theirs.deals.pk,
        "order": theirs.orders.pk,
        "market": theirs.market.symbol,
        "user": theirs.owner.username,
        "username": "SECRET-owner",
        "name": "SECRET strategy",
        "subject_id": theirs.deals.pk,
        "channel": theirs.channels.pk,
    }
    for name in route.view.filterset_class.get_filters():
        if name not in PLAIN:
            assert name in values, f"the filter {name} of {route} is new: say in this file what it names"
            yield name, values[name]


def test_no_filter_finds_it(stranger, admin, theirs):
    found = 0
    for route in OWNED:
        for name, value in filters_of(route, theirs):
            answer = get(stranger, route.path, **{name: value})
            assert answer.status_code in (400, 403) or ids(answer) == [], (route, name)
            found += len(ids(get(admin, route.path, **{name: value})))
    assert found > 15  # they do find it for who may see it


def test_no_order_and_no_choice_of_fields_reaches_into_it(stranger, theirs):
    for route in OWNED:
        for words in (
            {"ordering": "account__api_key_sealed"},
            {"ordering": "-account__name"},
            {"fields": "id,account__name,account.name,api_key_sealed,token"},
        ):
            assert not tells(get(stranger, route.path, **words)), (route, words)
        assert not any("__" in str(name) for name in route.view.ordering_fields), route


def test_totals_and_switches_tell_nothing_of_it(stranger, admin, theirs):
    named = [{}, {"account": theirs.accounts.pk}, {"strategy": theirs.strategies.pk}, {"market": theirs.market.pk}]
    for address in sorted(TOTALS):
        for asked in named:
            path = address.removeprefix("GET ")
            assert get(stranger, path, **asked).json()["results"] == [], (address, asked)
            assert get(admin, path, **asked).json()["results"] != [], (address, asked)
    for asked in ({}, {"config": theirs.strategies.pk}):
        assert get(stranger, "decisions/counts", **asked).json() == []
        assert get(admin, "decisions/counts", **asked).json() != []
    assert not tells(get(stranger, "system/kill-switch"))
    assert tells(get(admin, "system/kill-switch"))


def test_a_backtest_of_theirs_is_not_compared(stranger, mine, theirs):
    answer = get(stranger, "backtests/compare", ids=f"{mine.backtest.pk},{theirs.backtests.pk}")
    assert answer.status_code == 400
    assert "no backtest that is done" in answer.content.decode()


def test_it_is_told_neither_that_it_exists_nor_that_it_does_not(stranger, theirs):
    for route in ROWS:
        if route.action == "retrieve" and prefix_of(route) not in OF_ADMINS:
            there, not_there = (send(stranger, route, pk) for pk in (theirs.rows[prefix_of(route)].pk, 2**40))
            assert json.loads(there.content) == json.loads(not_there.content), route


# --- ids in bodies ----------------------------------------------------------------------------------------------------


NOBODY: dict[str, Any] = {
    "owner": "nobody-there",
    "viewers": ["nobody-there"],
    "accounts": [2**40],
    "strategies": [2**40],
}


def bodies(theirs: Any, mine: Any) -> dict[tuple[str, str], tuple[Any, dict[str, Any]]]:
    """For each address and field that names a row: the id in the address, and a body that is right but for that."""
    begin = {"start": (clock_from_env().now() - timedelta(days=2)).isoformat()}
    market = mine.config.market_id
    strategy = {
        "name": "new",
        "strategy": "BreakoutStrategy",
        "data_market": mine.config.data_market_id,
        "market": market,
    }
    account = {"name": "new", "provider": "wallex", "api_key": "k" * 40}
    channel = {"name": "x", "type": "webhook", "target": "https://example.org/hook"}
    turn = {"level": "cancel", "reason": "x"}
    adopt = {"answer": "adopt", "config": theirs.strategies.pk}
    return {
        ("POST accounts", "owner"): (None, {**account, "owner": "SECRET-owner"}),
        ("POST accounts", "viewers"): (None, {**account, "viewers": ["SECRET-owner"]}),
        ("PATCH accounts/{pk}", "owner"): (mine.account.pk, {"owner": "SECRET-owner"}),
        ("PATCH accounts/{pk}", "viewers"): (mine.account.pk, {"viewers": ["SECRET-owner"]}),
        ("POST strategies", "account"): (None, {**strategy, "account": theirs.accounts.pk}),
        ("POST strategies/validate", "account"): (None, {**strategy, "account": theirs.accounts.pk}),
        ("POST strategies/preview", "account"): (None, {**strategy, "account": theirs.accounts.pk}),
        ("PATCH strategies/{pk}", "account"): (mine.config.pk, {"account": theirs.accounts.pk}),
        ("POST tickets/{pk}/answer", "config"): (mine.ticket.pk, adopt),
        ("POST backtests", "config"): (None, {**begin, "config": theirs.strategies.pk}),
        ("POST channels", "accounts"): (None, {**channel, "accounts": [theirs.accounts.pk]}),
        ("POST channels", "strategies"): (None, {**channel, "strategies": [theirs.strategies.pk]}),
        ("PATCH channels/{pk}", "accounts"): (mine.channel.pk, {"accounts": [theirs.accounts.pk]}),
        ("PATCH channels/{pk}", "strategies"): (mine.channel.pk, {"strategies": [theirs.strategies.pk]}),
        ("POST inbound-keys", "config"): (None, {"config": theirs.strategies.pk}),
        ("POST system/kill-switch", "account"): (None, {**turn, "account": theirs.accounts.pk}),
        ("POST system/kill-switch", "strategy"): (None, {**turn, "strategy": theirs.strategies.pk}),
    }


def named_in_bodies() -> set[tuple[str, str]]:
    """Every field of a body that names a row of somebody, as the serializers have it."""
    found, generator = set(), SchemaGenerator()
    generator._initialise_endpoints()
    for path, path_regex, method, view in generator._get_paths_and_endpoints():
        if method in ("POST", "PUT", "PATCH") and path.startswith("/api/v1/"):
            view.schema.get_operation(path, path_regex, "", method, ComponentRegistry())
            body = force_instance(view.schema.get_request_serializer())
            address = f"{method} {path.removeprefix('/api/v1/').removesuffix('/').replace('{id}', '{pk}')}"
            found |= {(address, name) for name in _relations(body)}
    return found


def _relations(body: Any) -> Iterator[str]:
    for name, field in body.fields.items() if isinstance(body, serializers.Serializer) else ():
        inner = getattr(field, "child_relation", field)
        if isinstance(inner, serializers.RelatedField) and inner.queryset.model is not Market:
            yield name


def test_every_row_that_a_body_may_name_is_in_the_table(theirs, mine):
    assert named_in_bodies() == bodies(theirs, mine).keys()


def test_a_row_of_theirs_named_in_a_body_is_refused_as_one_that_does_not_exist(theirs, mine):
    client, before = client_of(mine.trader), _state()
    by_name = {str(route): route for route in ROUTES}
    for (address, field), (pk, body) in bodies(theirs, mine).items():
        answer = send(client, by_name[address], pk, body)
        assert answer.status_code == 400, (address, field, answer.content)
        assert "SECRET account" not in answer.content.decode()
        assert "SECRET strategy" not in answer.content.decode()
        nobody = NOBODY.get(field, 2**40)
        other = send(client, by_name[address], pk, body | {field: nobody})
        assert _errors(other) == _errors(answer), (address, field)
    assert _state() == before


def _errors(answer: Any) -> Any:
    return [(error["code"], error["attr"]) for error in answer.json()["errors"]]


def _state() -> Any:
    accounts = Account.objects.order_by("pk").values("name", "owner", "state")
    return [*accounts, *StrategyConfig.objects.order_by("pk").values("name", "status", "account")]
