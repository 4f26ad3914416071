from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from rest_framework.test import APIClient

from algo import exchanges
from algo.models import Account, AuditRecord
from algo.selectors.rights import Role
from providers.clock import clock_from_env
from providers.errors import AuthFailed, RateLimited, Unavailable
from providers.types import Balance, KeyDetails
from tests import factories as make

pytestmark = pytest.mark.django_db
KEY = "CANARY-KEY-zq7X"


class Venue:
    """An exchange at the seam: what it says about a key and its balances."""

    name = "wallex"
    clock_difference = timedelta(seconds=-1.5)

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.scopes = frozenset({"read", "trade"})
        self.asked = 0

    def key_details(self) -> KeyDetails:
        self._ask()
        return KeyDetails(scopes=self.scopes)

    def balances(self) -> dict[str, Balance]:
        self._ask()
        return {"USDT": Balance("USDT", Decimal("100.50"), Decimal("0.5"))}

    def markets(self) -> list[Any]:
        return []

    def capabilities(self) -> Any:
        return make.WALLEX_LIKE

    def _ask(self) -> None:
        self.asked += 1
        if self.error:
            raise self.error


@pytest.fixture
def venue(monkeypatch):
    found = Venue()
    monkeypatch.setattr(exchanges, "account_provider", lambda account: found)
    return found


@pytest.fixture
def account(trader):
    return make.make_account(owner=trader, api_key=KEY, name="main")


@pytest.fixture
def looker(account):
    """Who may look at the account, and no more."""
    user = make.make_user("looker", role=Role.VIEWER)
    account.viewers.add(user)
    client = APIClient()
    client.force_authenticate(user)
    return client


def call(client, method, path, **data):
    return getattr(client, method)(f"/api/v1/accounts{path}", data, **({} if method == "get" else {"format": "json"}))


def error(answer):
    return answer.status_code, answer.json()["errors"][0]["attr"]


# --- looking ----------------------------------------------------------------------------------------------------------


def test_an_account_is_shown_without_its_key(api, account):
    make.make_account()
    [row] = call(api, "get", "").json()["results"]
    shown = call(api, "get", f"/{account.pk}")
    assert row == shown.json()
    assert (row["name"], row["owner"], row["key_hint"], row["state"]) == ("main", "trader", "…zq7X", "active")
    assert (row["protection_mode"], row["capabilities"]["stop_market"]) == ("LOCKING_STOPS", True)
    for secret in (KEY, account.api_key_sealed):
        assert secret not in shown.content.decode()


def test_accounts_are_filtered(api, trader, account):
    paused = make.make_account(owner=trader, provider="nobitex", state="paused", capabilities={})
    for query in ({"provider": "nobitex"}, {"state": "paused"}):
        [row] = call(api, "get", "", **query).json()["results"]
        assert (row["id"], row["protection_mode"], row["capabilities"]) == (paused.pk, None, None)


# --- opening and changing ---------------------------------------------------------------------------------------------


def test_a_trader_opens_an_account_and_owns_it(api, trader):
    answer = call(api, "post", "", name="mine", provider="nobitex", api_key=KEY)
    assert answer.status_code == 201, answer.content
    assert KEY not in answer.content.decode()
    account = Account.objects.get(name="mine")
    assert (account.owner, account.environment, account.api_key()) == (trader, "paper", KEY)
    record = AuditRecord.objects.get(act="account.create")
    assert (record.username, record.door, record.details["key"]) == ("trader", "api", "…zq7X")


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"name": "main"}, "name"),
        ({"name": ""}, "name"),
        ({"provider": "binance"}, "provider"),
        ({"api_key": "two words"}, "api_key"),
        ({"api_key": None}, "api_key"),
        ({"api_kee": KEY}, "api_kee"),
        ({"key_expires_at": "2020-01-01T00:00:00Z"}, "key_expires_at"),
        ({"key_expires_at": "9999-12-31T23:59:59Z"}, "key_expires_at"),
        ({"owner": "boss"}, "owner"),
        ({"viewers": ["boss"]}, "viewers"),
    ],
)
def test_what_cannot_be_opened_is_named_by_its_field_and_nothing_is_stored(api, account, staff_api, data, field):
    answer = call(api, "post", "", **{"name": "new", "provider": "wallex", "api_key": KEY} | data)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["attr"].partition(".")[0] == field
    assert KEY not in answer.content.decode()
    assert Account.objects.count() == 1


def test_only_an_admin_leaves_the_key_to_the_environment_and_gives_an_account_away(api, staff_api, trader):
    assert error(call(api, "post", "", name="a", provider="wallex")) == (400, "api_key")
    given = {"name": "a", "provider": "wallex", "owner": "trader", "viewers": ["boss"]}
    assert call(staff_api, "post", "", **given).status_code == 201
    account = Account.objects.get()
    assert (account.owner, account.api_key_hint, account.viewers.get().username) == (trader, "", "boss")


def test_a_viewer_opens_nothing_and_changes_nothing(looker, account):
    assert call(looker, "post", "", name="b", provider="wallex", api_key=KEY).status_code == 403
    assert call(looker, "patch", f"/{account.pk}", name="b").status_code == 403
    assert list(Account.objects.values_list("name", flat=True)) == ["main"]


def test_another_key_replaces_the_one_before_and_what_was_known_of_it(api, account):
    Account.objects.update(key_expires_at="2026-12-01T00:00:00Z")
    answer = call(api, "patch", f"/{account.pk}", api_key="another-key-ABCD", name="renamed")
    assert (answer.status_code, answer.json()["key_hint"], answer.json()["key_expires_at"]) == (200, "…ABCD", None)
    account.refresh_from_db()
    assert (account.name, account.api_key()) == ("renamed", "another-key-ABCD")
    record = AuditRecord.objects.get(act="account.key")
    assert record.details["fields"] == ["name", "api_key"]
    assert "another-key" not in str(record.details)


@pytest.mark.parametrize(("field", "value"), [("provider", "nobitex"), ("environment", "live"), ("state", "active")])
def test_what_never_changes_is_refused_beside_its_field(api, account, field, value):
    assert error(call(api, "patch", f"/{account.pk}", **{field: value})) == (400, field)


def test_an_admin_removes_what_nothing_was_done_with(api, staff_api, trader, account):
    used = make.make_config(account=make.make_account(owner=trader)).account
    assert call(api, "delete", f"/{account.pk}").status_code == 403
    refused = call(staff_api, "delete", f"/{used.pk}")
    assert refused.status_code == 409
    assert "Pause the account instead" in refused.json()["errors"][0]["detail"]
    make.make_probe_order(used)
    assert call(staff_api, "delete", f"/{account.pk}").status_code == 204
    assert list(Account.objects.all()) == [used]
    assert AuditRecord.objects.get(act="account.delete").subject_name == "main"


# --- acts -------------------------------------------------------------------------------------------------------------


def test_pause_and_activate(api, account, venue):
    answer = call(api, "post", f"/{account.pk}/pause", reason="holiday").json()
    assert (answer["done"], answer["account"]["state"]) == (True, "paused")
    assert call(api, "post", f"/{account.pk}/pause").json()["done"] is False
    answer = call(api, "post", f"/{account.pk}/activate").json()
    assert (answer["done"], answer["account"]["state"], venue.asked > 0) == (True, "active", True)


def test_a_stopped_account_wakes_up_only_with_a_key_that_works(api, account, venue):
    Account.objects.update(state="stopped")
    venue.error = AuthFailed("HTTP 401")
    answer = call(api, "post", f"/{account.pk}/activate")
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (409, "key_refused")
    venue.error, venue.scopes = None, frozenset({"read"})
    answer = call(api, "post", f"/{account.pk}/activate")
    assert answer.status_code == 409
    assert "may not trade" in answer.json()["errors"][0]["detail"]
    assert Account.objects.get().state == "stopped"


def test_an_exchange_that_does_not_answer_is_said_with_when_to_ask_again(api, account, venue):
    api.raise_request_exception = False
    for path, method in (("/activate", "post"), ("/probe", "post"), ("/balances", "get")):
        venue.error = Unavailable("wallex does not answer")
        answer = call(api, method, f"/{account.pk}{path}")
        assert (answer.status_code, answer["Retry-After"]) == (503, "15"), path
        venue.error = RateLimited("slow", retry_after=39.5)
        assert call(api, method, f"/{account.pk}{path}")["Retry-After"] == "40"


def test_an_exchange_is_asked_twelve_times_a_minute_by_one_user(api, account, venue):
    answers = [call(api, "post", f"/{account.pk}/probe").status_code for _ in range(13)]
    assert answers == [200] * 12 + [429]


def test_a_probe_tells_what_the_key_may_do_and_orders_nothing(api, account, venue):
    found = call(api, "post", f"/{account.pk}/probe").json()
    assert (found["key_scopes"], found["clock_difference_seconds"]) == (["read", "trade"], -1.5)
    assert (found["protection_mode"], found["errors"]) == ("LOCKING_STOPS", [])
    assert call(api, "get", f"/{account.pk}").json()["key_scopes"] == ["read", "trade"]


def test_who_may_only_look_is_refused_and_a_stranger_finds_nothing(api, trader, looker, account, venue):
    foreign, seen = make.make_account(), make.make_account()
    seen.viewers.add(trader)
    for act in ("pause", "activate", "probe"):
        assert call(looker, "post", f"/{account.pk}/{act}").status_code == 403
        assert call(api, "post", f"/{seen.pk}/{act}").status_code == 403
        assert call(api, "post", f"/{foreign.pk}/{act}").status_code == 404
    assert venue.asked == 0


# --- balances ---------------------------------------------------------------------------------------------------------


def test_balances_are_asked_for_once_and_kept_for_a_while(looker, account, venue):
    told = call(looker, "get", f"/{account.pk}/balances").json()
    assert told["balances"] == [{"asset": "USDT", "total": "100.5", "locked": "0.5", "available": "100"}]
    assert call(looker, "get", f"/{account.pk}/balances").json() == told
    assert venue.asked == 1
    Account.objects.update(balances_read_at=clock_from_env().now() - timedelta(seconds=16))
    assert call(looker, "get", f"/{account.pk}/balances", max_age=20).json()["balances"] == told["balances"]
    assert venue.asked == 1
    assert call(looker, "get", f"/{account.pk}/balances", max_age=15).json()["as_of"] > told["as_of"]
    assert venue.asked == 2
    assert error(call(looker, "get", f"/{account.pk}/balances", max_age=0)) == (400, "max_age")


def test_a_refused_key_stops_the_account_and_is_not_used_again(api, account, venue):
    venue.error = AuthFailed("HTTP 401")
    assert call(api, "get", f"/{account.pk}/balances").status_code == 409
    assert Account.objects.get().state == "stopped"
    assert call(api, "get", f"/{account.pk}/balances").status_code == 409
    assert venue.asked == 1


def test_the_key_of_another_environment_is_sent_nowhere(api, account, venue):
    Account.objects.update(environment="live")
    for path, method in (("/activate", "post"), ("/probe", "post"), ("/balances", "get")):
        assert call(api, method, f"/{account.pk}{path}").status_code == 409
    assert venue.asked == 0
