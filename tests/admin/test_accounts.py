from __future__ import annotations

import pytest

from algo.models import Account
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


def test_account_with_orders_is_not_deleted(browser, account):
    make.make_deal(make.make_config(account=account))
    browser.post(f"/admin/algo/account/{account.pk}/delete/", {"post": "yes"})
    assert Account.objects.filter(pk=account.pk).exists()
