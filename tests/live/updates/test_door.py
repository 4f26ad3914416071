"""Who may listen, and for how long: by the API's own logins, looked at again while a stream lives."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from django.contrib.auth.models import Group

from algo.api.live import ApiDoor
from algo.live.updates.events import Visitor
from algo.live.updates.hub import Client, Hub
from algo.live.updates.server import Admitted, Answer, Live
from algo.selectors.rights import Role
from tests.factories import make_account, make_market, make_trader
from tests.live.updates.listening import cookie_of

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _this_connection(monkeypatch):
    """A test's rows stand in a transaction of its own connection: nobody closes it."""
    monkeypatch.setattr("algo.api.live.close_old_connections", lambda: None)


def scope(query: str = "", **headers: str) -> dict:
    told = [(name.lower().encode(), value.encode()) for name, value in ({"host": "127.0.0.1"} | headers).items()]
    return {
        "type": "http", "method": "GET", "path": "/live/events", "query_string": query.encode(), "headers": told,
        "client": ("127.0.0.1", 1),
    }  # fmt: skip


@pytest.fixture
def trader():
    return make_trader("trader")


@pytest.fixture
def door() -> ApiDoor:
    return ApiDoor()


def test_a_visitor_is_told_of_own_accounts_and_of_those_that_may_be_looked_at(door, trader):
    own, shown, _ = make_account(owner=trader), make_account(), make_account()
    shown.viewers.add(trader)
    admitted = door.enter(scope(**cookie_of(trader)))
    assert isinstance(admitted, Admitted)
    assert admitted.visitor == Visitor(trader.pk, sees_all=False, accounts=frozenset({own.pk, shown.pk}))


def test_markets_are_looked_at_by_their_ids(door, trader):
    one, two = make_market("BTCUSDT"), make_market("ETHUSDT")
    admitted = door.enter(scope(f"markets={one.pk},{two.pk},{10**12}", **cookie_of(trader)))
    assert admitted.markets == {("wallex", "BTCUSDT"): one.pk, ("wallex", "ETHUSDT"): two.pk}


@pytest.mark.parametrize("asked", ["BTCUSDT", "1;2", "-1", "1" * 19, ",".join(map(str, range(51)))])
def test_what_names_no_markets_is_refused_with_a_sentence(door, trader, asked):
    answer = door.enter(scope(f"markets={asked}", **cookie_of(trader)))
    assert isinstance(answer, Answer)
    assert (answer.status, b"50 at most" in answer.body) == (400, True)


def test_unknown_parameters_and_foreign_hosts_are_refused_as_by_the_api(door, trader):
    assert door.enter(scope("market=1", **cookie_of(trader))).status == 400
    assert door.enter(scope(**cookie_of(trader) | {"host": "evil.example"})).status == 400


def test_who_logged_out_or_was_switched_off_may_listen_no_more(door, trader, client):
    client.force_login(trader)
    here = scope(Cookie=f"sessionid={client.cookies['sessionid'].value}")
    assert door.still(here) == door.enter(here).visitor
    client.logout()
    assert door.still(here) is None
    here = scope(**cookie_of(trader))
    assert door.still(here) is not None
    trader.is_active = False
    trader.save()
    assert door.still(here) is None


def test_another_role_or_account_is_seen(door, trader):
    here = scope(**cookie_of(trader))
    assert not door.still(here).sees_all
    trader.groups.add(Group.objects.get(name=Role.ADMIN.value))
    assert door.still(here).sees_all


class _Says:
    """A door that says what it was given."""

    def __init__(self, answer):
        self.answer = answer

    def still(self, scope):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


NARROW, WIDE = (
    Visitor(1, sees_all=False, accounts=frozenset({7})),
    Visitor(1, sees_all=False, accounts=frozenset({7, 8})),
)


def looked_at_again(answer) -> tuple[Client, str]:
    async def look() -> tuple[Client, str]:
        hub, client = Hub(most=1, most_of_user=1), Client(NARROW, frozenset())
        hub.add(client)
        nothing = SimpleNamespace()
        live = Live(hub, nothing, nothing, nothing, _Says(answer))
        live._scopes[client] = {}
        await live._look_again(client)
        return client, (await client.next(0)).decode()

    return asyncio.run(look())


def test_a_stream_ends_with_the_right_to_it():
    client, told = looked_at_again(None)
    assert (client.is_ending, told) == (True, "")


def test_other_rights_are_taken_on_and_the_page_reads_anew():
    client, told = looked_at_again(WIDE)
    assert (client.is_ending, client.visitor, "event: reset" in told) == (False, WIDE, True)


def test_the_same_rights_say_nothing_and_a_database_that_is_away_ends_nothing():
    for answer in (NARROW, OSError("away")):
        client, told = looked_at_again(answer)
        assert (client.is_ending, client.visitor, told) == (False, NARROW, "")
