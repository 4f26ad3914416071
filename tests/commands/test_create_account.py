"""`create_account`: the key never touches the command line, and nothing is stored before the exchange accepted it."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.core.management.base import CommandError

from algo.models import Account, AuditRecord
from providers.errors import AuthFailed, Unavailable
from providers.types import Balance
from tests.factories import make_account, make_user

KEY = "12345|" + "k" * 40


@pytest.fixture
def owner(db):
    return make_user("sara")


@pytest.fixture
def accepting(monkeypatch, venue, settings):
    """An exchange that accepts KEY; gives the keys it was asked with."""
    keys = []

    def create(name, *, base_url, api_key):
        keys.append(api_key)
        venue.name = name
        return venue

    venue.held_balances = {"USDT": Balance("USDT", Decimal(5), Decimal(0))}
    monkeypatch.setattr("algo.management.commands.create_account.create_provider", create)
    settings.WALLEX_API_KEY = KEY
    return keys


def create(run, *args, **changes):
    options = {"--name": "main", "--provider": "wallex", "--owner": "sara"} | changes
    return run("create_account", *(word for pair in options.items() for word in pair), *args)


def test_an_accepted_key_is_sealed_and_never_shown(run, owner, accepting):
    text = create(run, "--expires", "2026-12-24")
    account = Account.objects.get()
    assert accepting == [KEY]
    assert (account.name, account.provider, account.owner, account.environment) == ("main", "wallex", owner, "paper")
    assert account.api_key() == KEY
    assert KEY not in account.api_key_sealed
    assert account.key_expires_at == datetime(2026, 12, 24, tzinfo=UTC)
    assert "USDT" in text
    assert KEY not in text


def test_an_owner_who_may_only_look_is_told_and_the_act_is_recorded(run, owner, accepting):
    assert "sara is no Trader" in create(run)
    record = AuditRecord.objects.get()
    assert (record.act, record.door, record.username) == ("account.create", "shell", "")
    assert KEY not in str(record.details)


def test_a_key_may_be_typed_where_the_environment_has_none(run, owner, accepting, settings, monkeypatch):
    settings.WALLEX_API_KEY = ""
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", lambda prompt: f" {KEY}\n")
    create(run)
    assert Account.objects.get().api_key() == KEY


def test_the_expiry_of_a_wallex_key_is_asked_for(run, owner, accepting):
    assert "--expires" in create(run)


@pytest.mark.parametrize("error", [AuthFailed("wallex balances: HTTP 401"), Unavailable("wallex balances: no answer")])
def test_nothing_is_stored_before_the_exchange_accepted_the_key(run, owner, accepting, venue, error):
    def fail(number):
        raise error

    venue.before = fail
    with pytest.raises(CommandError, match=r"Wallex balances: .*Nothing was stored\.") as caught:
        create(run)
    assert not Account.objects.exists()
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"--owner": "nobody"}, "no user 'nobody'.*Known are: sara"),
        ({"--name": "taken"}, "an account 'taken' already"),
        ({"--name": " "}, "1 to 64 characters"),
        ({"--environment": "live"}, "EXCHANGE_ENVIRONMENT is paper"),
        ({"--expires": "2026-01-01"}, "is past"),
        ({"--expires": "2027-06-01"}, "at most 90 days"),
        ({"--expires": "soon"}, "is no date"),
    ],
)
def test_a_wrong_input_is_refused_before_the_key_is_used(run, owner, accepting, changes, says):
    make_account(name="taken", owner=owner)
    with pytest.raises(CommandError, match=says):
        create(run, **changes)
    assert accepting == []
    assert Account.objects.count() == 1


def test_without_a_key_and_without_a_terminal_it_says_where_a_key_belongs(run, owner, accepting, settings, monkeypatch):
    settings.WALLEX_API_KEY = ""
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(CommandError, match="Set WALLEX_API_KEY"):
        create(run)


def test_two_at_once_with_one_name_leave_one_account(run, owner, accepting, venue):
    venue.before = lambda number: make_account(name="main", owner=owner) and None
    with pytest.raises(CommandError, match="already"):
        create(run)


@pytest.mark.parametrize(("provider", "key"), [("wallex", "wallex_key"), ("nobitex", "nobitex_token")])
def test_a_right_and_a_wrong_key_at_the_paper_exchange(run, owner, paper_exchange, settings, provider, key):
    variable = f"{provider.upper()}_API_KEY"
    setattr(settings, variable, "98765|" + "z" * 40 if provider == "wallex" else "z" * 40)
    with pytest.raises(CommandError, match="Make a new key"):
        create(run, **{"--provider": provider})
    assert not Account.objects.exists()
    setattr(settings, variable, paper_exchange[key])
    assert "USDT" in create(run, **{"--provider": provider})
    assert Account.objects.get().provider == provider
