from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client

from algo import exchanges
from algo.models import Account, OutboxEvent
from algo.selectors.rights import Role
from providers.clock import clock_from_env
from providers.errors import AuthFailed, Unavailable
from providers.types import Balance, KeyDetails
from tests import factories as make
from tests.admin.conftest import CANARY
from tests.admin.pages import errors, form_data, said, shown
from tests.factories import NOW

pytestmark = pytest.mark.django_db

ADD = "/admin/algo/account/add/"


def change(account):
    return f"/admin/algo/account/{account.pk}/change/"


def new_account(browser, **fields):
    data = form_data(browser.get(ADD)) | {"name": "second", "provider": "nobitex", "state": "active"}
    return browser.post(ADD, data | fields, follow=True)


def test_key_is_stored_sealed_and_only_its_end_is_shown(browser):
    page = new_account(browser, api_key=CANARY)
    account = Account.objects.get(name="second")
    assert account.api_key() == CANARY
    assert CANARY not in account.api_key_sealed
    assert CANARY not in page.content.decode()
    detail = browser.get(change(account))
    assert "…9z9z" in shown(detail)
    assert CANARY not in detail.content.decode()


def test_owner_and_environment_are_filled_in(browser, admin_user):
    new_account(browser, api_key=CANARY)
    account = Account.objects.get(name="second")
    assert (account.owner, account.environment) == (admin_user, "paper")


def test_empty_key_field_keeps_the_key(browser, account):
    browser.post(change(account), form_data(browser.get(change(account))) | {"name": "renamed"})
    account.refresh_from_db()
    assert (account.name, account.api_key()) == ("renamed", CANARY)


def test_new_key_replaces_the_old_one(browser, account):
    browser.post(change(account), form_data(browser.get(change(account))) | {"api_key": "another-key-ABCD"})
    account.refresh_from_db()
    assert (account.api_key(), account.api_key_hint) == ("another-key-ABCD", "…ABCD")


@pytest.mark.parametrize("key", ["with space inside", "short", "line\nbreak-in-it", "کلید-صرافی-من"])
def test_what_is_no_key_is_refused_and_not_shown_again(browser, account, key):
    page = browser.post(change(account), form_data(browser.get(change(account))) | {"api_key": key})
    assert "not an API key" in errors(page)["api_key"][0]
    assert key not in page.content.decode()
    account.refresh_from_db()
    assert account.api_key() == CANARY


def test_error_elsewhere_does_not_give_the_key_back(browser):
    page = new_account(browser, name="", api_key=CANARY)
    assert "name" in errors(page)
    assert CANARY not in page.content.decode()


def test_history_names_the_field_and_not_the_key(browser, account):
    browser.post(change(account), form_data(browser.get(change(account))) | {"api_key": "another-key-ABCD"})
    history = shown(browser.get(f"/admin/algo/account/{account.pk}/history/"))
    assert "API key" in history
    assert "another-key" not in history


def test_save_leaves_what_a_worker_wrote_meanwhile(browser, account):
    data = form_data(browser.get(change(account)))
    Account.objects.filter(pk=account.pk).update(state="stopped", reconciled_at=NOW, last_error="key refused")
    browser.post(change(account), data | {"name": "renamed"})
    account.refresh_from_db()
    assert (account.name, account.reconciled_at, account.last_error) == ("renamed", NOW, "key refused")


def test_account_never_moves_to_another_exchange(browser, account):
    data = form_data(browser.get(change(account))) | {"provider": "nobitex", "environment": "live"}
    browser.post(change(account), data)
    account.refresh_from_db()
    assert (account.provider, account.environment) == ("wallex", "paper")


def test_capabilities_are_shown_and_never_typed(browser, account):
    before = account.capabilities
    page = browser.get(change(account))
    assert "3 · locking stops" in shown(page)
    browser.post(change(account), form_data(page) | {"capabilities": "{}", "api_key_sealed": "x", "api_key_hint": "x"})
    account.refresh_from_db()
    assert account.capabilities == before
    assert account.api_key() == CANARY


def test_account_of_the_other_environment_is_warned_about(browser):
    assert any("EXCHANGE_ENVIRONMENT=paper" in text for text in said(new_account(browser, environment="live")))


def test_account_without_a_key_is_warned_about(browser):
    assert any("no API key yet" in text for text in said(new_account(browser)))


def test_who_is_no_admin_cannot_trade_with_the_key_of_the_environment():
    client = Client()
    client.force_login(make.make_trader(is_staff=True))
    page = new_account(client, api_key="")
    assert errors(page) == {"api_key": ["Enter the key of your account at the exchange."]}
    assert not Account.objects.exists()
    new_account(client, api_key=CANARY)
    assert Account.objects.get().api_key() == CANARY


def test_account_with_orders_is_not_deleted(browser, account):
    make.make_deal(make.make_config(account=account))
    browser.post(f"/admin/algo/account/{account.pk}/delete/", {"post": "yes"})
    assert Account.objects.filter(pk=account.pk).exists()


# --- keys that end ----------------------------------------------------------------------------------------------------


def test_a_new_key_forgets_the_end_of_the_old_one(browser, account):
    Account.objects.filter(pk=account.pk).update(key_expires_at=NOW, key_warned_days=0)
    data = form_data(browser.get(change(account)))
    browser.post(change(account), data | {"api_key": "another-key-ABCD"})
    account.refresh_from_db()
    assert (account.key_expires_at, account.key_warned_days) == (None, None)


def test_a_new_key_may_come_with_its_end(browser, account):
    Account.objects.filter(pk=account.pk).update(key_expires_at=NOW, key_warned_days=0)
    data = form_data(browser.get(change(account)))
    end = {"key_expires_at_0": "2027-01-31", "key_expires_at_1": "00:00:00"}
    browser.post(change(account), data | {"api_key": "another-key-ABCD"} | end)
    account.refresh_from_db()
    assert (f"{account.key_expires_at:%Y-%m-%d}", account.key_warned_days) == ("2027-01-31", None)


@pytest.mark.parametrize(
    ("left", "colour", "says"),
    [(20, "green", ""), (10, "orange", ""), (0.5, "red", ""), (-1, "red", "EXPIRED")],
)
def test_the_end_of_a_key_is_coloured(browser, account, left, colour, says):
    end = clock_from_env().now() + timedelta(days=left)
    Account.objects.filter(pk=account.pk).update(key_expires_at=end)
    page = browser.get("/admin/algo/account/")
    assert f"{end:%Y-%m-%d %H:%M}" in shown(page)
    assert says in shown(page)
    [row] = page.context["cl"].result_list
    assert f"bg-{colour}-100" in page.context["cl"].model_admin.key_badge(row)


# --- pausing, and waking up -------------------------------------------------------------------------------------------


class Gate:
    """An exchange at the seam: what it says about a key."""

    name = "wallex"
    clock_difference = timedelta(0)

    def __init__(self, error: Exception | None = None, scopes: frozenset[str] = frozenset({"read", "trade"})) -> None:
        self.error, self.scopes = error, scopes
        self.asked = 0

    def key_details(self) -> KeyDetails:
        self.asked += 1
        if self.error:
            raise self.error
        return KeyDetails(scopes=self.scopes)

    def balances(self) -> dict[str, Any]:
        if self.error:
            raise self.error
        return {"USDT": Balance("USDT", Decimal("120.5"), Decimal("20.5"))}

    def markets(self) -> list[Any]:
        return []

    def capabilities(self) -> Any:
        return make.WALLEX_LIKE


def act(browser, account, action, monkeypatch=None, gate=None):
    if gate:
        monkeypatch.setattr(exchanges, "account_provider", lambda row: gate)
    data = {"action": action, "_selected_action": [account.pk]}
    page = browser.post("/admin/algo/account/", data, follow=True)
    account.refresh_from_db()
    return " ".join(said(page))


def test_pause_and_activate(browser, account, monkeypatch):
    assert "Paused: main" in act(browser, account, "pause")
    assert (account.state, account.state_reason) == ("paused", "paused by admin")
    assert "main is active" in act(browser, account, "activate", monkeypatch, Gate())
    assert account.state == "active"


def test_a_stopped_account_wakes_up_only_with_a_key_that_works(browser, account, monkeypatch):
    Account.objects.filter(pk=account.pk).update(state="stopped", state_reason="The exchange refused the key.")
    gate = Gate(AuthFailed("wallex key_details: HTTP 401."))
    assert "stays stopped: wallex key_details: HTTP 401. Enter a key" in act(
        browser, account, "activate", monkeypatch, gate
    )
    assert (account.state, gate.asked) == ("stopped", 1)
    assert "stays stopped" in act(browser, account, "activate", monkeypatch, Gate(Unavailable("no answer.")))
    assert account.state == "stopped"
    assert "is active" in act(browser, account, "activate", monkeypatch, Gate())
    assert (account.state, account.state_reason, account.last_error) == ("active", "", "")
    assert OutboxEvent.objects.filter(kind="account.activated").count() == 1


def test_a_key_that_may_not_trade_wakes_nothing_up(browser, account, monkeypatch):
    Account.objects.filter(pk=account.pk).update(state="stopped")
    text = act(browser, account, "activate", monkeypatch, Gate(scopes=frozenset({"read"})))
    assert "may not trade" in text
    assert account.state == "stopped"


def test_an_account_of_the_other_environment_is_not_asked_about(browser, account, monkeypatch):
    Account.objects.filter(pk=account.pk).update(state="stopped", environment="live")
    gate = Gate()
    act(browser, account, "activate", monkeypatch, gate)
    assert (account.state, gate.asked) == ("stopped", 0)


def test_the_state_is_no_form_field_so_an_old_page_wakes_nothing_up(browser, account):
    data = form_data(browser.get(change(account)))
    assert "state" not in data
    Account.objects.filter(pk=account.pk).update(state="stopped")
    browser.post(change(account), data | {"name": "renamed", "state": "active"})
    account.refresh_from_db()
    assert (account.name, account.state) == ("renamed", "stopped")


# --- asking the exchange ----------------------------------------------------------------------------------------------


def do(browser, account, name, monkeypatch, gate):
    """A button of its page."""
    monkeypatch.setattr(exchanges, "account_provider", lambda row: gate)
    return browser.post(f"/admin/algo/account/{account.pk}/do/", {"act": name}, follow=True)


def test_balances_are_read_on_demand_and_shown_as_they_were_read(browser, account, monkeypatch):
    assert "Its balances were never read." in shown(browser.get(change(account)))
    answer = do(browser, account, "read_balances", monkeypatch, Gate())
    assert said(answer) == ["main: 1 balances were read."]
    assert "USDT 120.5 20.5 100" in shown(answer)
    away = do(browser, account, "read_balances", monkeypatch, Gate(Unavailable("no answer")))
    assert said(away) == ["Wallex did not answer: no answer. What was known of main stays. Ask again later."]
    assert "USDT 120.5 20.5 100" in shown(away)


def test_a_probe_tells_what_the_key_may_do_and_what_follows(browser, account, monkeypatch):
    Account.objects.filter(pk=account.pk).update(capabilities={})
    text = shown(browser.get(change(account)))
    assert "3 · locking stops · as documented, not proved" in text
    assert "manage.py probe_account “main” --orders proves it" in text
    answer = do(browser, account, "probe", monkeypatch, Gate())
    (told,) = [text for text in said(answer) if text.startswith("main was probed.")]
    assert "Its key may read, trade, until when is not known." in told
    assert "What the key may do Read Trade" in shown(answer)
    browser.post(change(account), form_data(browser.get(change(account))) | {"api_key": "another-key-of-the-exchange"})
    assert "no probe has asked since the key was entered" in shown(browser.get(change(account)))
    refused = do(browser, account, "probe", monkeypatch, Gate(scopes=frozenset({"read"})))
    assert any("may not trade" in text for text in said(refused))


def test_abilities_are_told_in_words(browser, account):
    text = shown(browser.get(change(account)))
    assert "Yes a stop that sells at the market rests at the exchange" in text
    assert "No stop and target rest as one pair" in text


def test_who_may_only_look_finds_no_button_and_asks_nobody(account, monkeypatch):
    looker = make.make_user("looker", is_staff=True, role=Role.VIEWER)
    account.viewers.add(looker)
    client, gate = Client(), Gate()
    client.force_login(looker)
    assert 'id="buttons"' not in client.get(change(account)).content.decode()
    assert do(client, account, "probe", monkeypatch, gate).status_code == 403
    assert do(client, account, "read_balances", monkeypatch, gate).status_code == 403
    assert gate.asked == 0
