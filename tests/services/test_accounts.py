"""Keys that end are announced in time and once; a refused key stops its account, and nothing else does."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from django.core.exceptions import PermissionDenied

from algo import tasks
from algo.models import Account, AccountState, AuditRecord, Environment, OutboxEvent
from algo.services.accounts import (
    account_create,
    account_pause,
    account_resume,
    account_set_key,
    account_stop,
    balances_note,
    key_note_expiry,
    key_warning_due,
    keys_watch,
)
from algo.services.audit import PLATFORM, SHELL
from algo.services.refused import Refused
from providers.types import Balance, KeyDetails
from tests.factories import NOW, by, make_account, make_trader

pytestmark = pytest.mark.django_db
DAY, SECOND = timedelta(days=1), timedelta(seconds=1)


def events(kind: str = "account.") -> list[tuple[str, object]]:
    found = OutboxEvent.objects.filter(kind__startswith=kind).order_by("id")
    return [(event.kind, event.payload.get("days")) for event in found]


@pytest.mark.parametrize(
    ("left", "due"),
    [
        (timedelta(days=14, seconds=1), None),
        (14 * DAY, 14),
        (timedelta(days=7, seconds=1), 14),
        (7 * DAY, 7),
        (timedelta(days=1, seconds=1), 7),
        (DAY, 1),
        (timedelta(seconds=1), 1),
        (timedelta(0), 0),
        (-90 * DAY, 0),
    ],
)
def test_which_warning_applies(left, due):
    assert key_warning_due(NOW + left, NOW) == due


def test_a_key_whose_end_is_not_known_is_never_due():
    assert key_warning_due(None, NOW) is None
    make_account()
    assert keys_watch(NOW) == 0


def test_each_warning_is_given_once(caplog):
    make_account(name="main", api_key="12345|abcdefgh", key_expires_at=NOW + 20 * DAY)
    for hour in range(21 * 24 + 1):
        keys_watch(NOW + timedelta(hours=hour))
    assert events() == [
        ("account.key_expiring", 14),
        ("account.key_expiring", 7),
        ("account.key_expiring", 1),
        ("account.key_expired", 0),
    ]
    payload = OutboxEvent.objects.first().payload
    assert (payload["account"], payload["provider"]) == ("main", "wallex")
    assert "abcdefgh" not in str(payload) + caplog.text
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING", "ERROR", "ERROR"]


def test_a_watch_that_slept_gives_the_warning_that_applies_and_not_those_it_missed():
    make_account(key_expires_at=NOW + DAY / 2)
    assert keys_watch(NOW) == 1
    assert events() == [("account.key_expiring", 1)]


def test_a_new_key_starts_over():
    account = make_account(key_expires_at=NOW + 5 * DAY)
    keys_watch(NOW)
    account.refresh_from_db()
    assert account.key_warned_days == 7
    account_set_key(account, "another-key-1", expires_at=NOW + 13 * DAY)
    account.save()
    keys_watch(NOW)
    keys_watch(NOW)
    assert events() == [("account.key_expiring", 7), ("account.key_expiring", 14)]


def test_a_new_key_without_a_date_forgets_the_old_date():
    account = make_account(key_expires_at=NOW)
    account_set_key(account, "another-key-1", expires_at=None)
    assert (account.key_expires_at, account.key_warned_days) == (None, None)


def test_a_later_date_is_no_news_and_warns_again_when_it_comes_near():
    account = make_account(key_expires_at=NOW + DAY)
    keys_watch(NOW)
    Account.objects.filter(pk=account.pk).update(key_expires_at=NOW + 10 * DAY)
    assert keys_watch(NOW) == 0
    assert keys_watch(NOW + 3 * DAY) == 1
    Account.objects.filter(pk=account.pk).update(key_expires_at=None)
    assert keys_watch(NOW) == 0
    assert events() == [("account.key_expiring", 1), ("account.key_expiring", 7)]


def test_what_the_exchange_tells_of_the_end_is_kept_and_its_silence_changes_nothing():
    account = make_account(key_expires_at=NOW)
    key_note_expiry(account, None)
    account.refresh_from_db()
    assert account.key_expires_at == NOW
    key_note_expiry(account, NOW + DAY)
    account.refresh_from_db()
    assert account.key_expires_at == NOW + DAY


def test_the_end_of_an_old_key_is_not_told_of_the_new_one():
    account = make_account(api_key="the-old-key-1")
    current = Account.objects.get(pk=account.pk)
    account_set_key(current, "the-new-key-1", expires_at=None)
    current.save()
    key_note_expiry(account, NOW + DAY)
    assert Account.objects.get(pk=account.pk).key_expires_at is None


# --- states -----------------------------------------------------------------------------------------------------------


def test_a_refused_key_stops_the_account_once(caplog):
    account = make_account(name="main")
    assert account_stop(account, "HTTP 401.", at=NOW)
    assert not account_stop(account, "HTTP 401.", at=NOW)
    account.refresh_from_db()
    assert account.state == AccountState.STOPPED
    assert account.state_reason.startswith("The exchange refused the key: HTTP 401. Resting stops stay")
    assert events() == [("account.stopped", None)]
    assert [record.message for record in caplog.records] == ["account=main stopped: HTTP 401."]


def test_the_refusal_of_a_key_that_was_replaced_stops_nothing():
    account = make_account(api_key="the-old-key-1")
    current = Account.objects.get(pk=account.pk)
    account_set_key(current, "the-new-key-1", expires_at=None)
    current.save()
    assert not account_stop(account, "HTTP 401.", at=NOW)
    current.refresh_from_db()
    assert current.state == AccountState.ACTIVE
    assert events() == []


def test_pause_and_resume():
    user = make_trader("sara")
    account = make_account(owner=user)
    assert account_pause(account, by=by(user), at=NOW)
    assert not account_pause(account, by=by(user), at=NOW)
    account.refresh_from_db()
    assert (account.state, account.state_reason) == (AccountState.PAUSED, "paused by sara")
    assert account_resume(account, by=by(user), at=NOW)
    assert not account_resume(account, by=by(user), at=NOW)
    account.refresh_from_db()
    assert (account.state, account.state_reason) == (AccountState.ACTIVE, "")
    assert [kind for kind, _ in events()] == ["account.paused", "account.activated"]
    records = AuditRecord.objects.order_by("pk").values_list("act", "username", "account")
    assert list(records) == [("account.pause", "sara", account.pk), ("account.activate", "sara", account.pk)]


def test_who_may_only_look_at_an_account_neither_pauses_nor_resumes_it():
    account, looker = make_account(), make_trader()
    account.viewers.add(looker)
    for act in (account_pause, account_resume):
        with pytest.raises(PermissionDenied, match="Nothing was changed"):
            act(account, by=by(looker), at=NOW)
    account.refresh_from_db()
    assert account.state == AccountState.ACTIVE
    assert not AuditRecord.objects.exists()


def test_pausing_does_not_hide_that_the_account_is_stopped():
    account = make_account()
    account_stop(account, "HTTP 401.", at=NOW)
    assert not account_pause(account, by=PLATFORM, at=NOW)
    account.refresh_from_db()
    assert account.state == AccountState.STOPPED


def test_an_account_is_not_resumed_on_the_word_about_another_key():
    account = make_account(api_key="the-old-key-1", state="stopped")
    current = Account.objects.get(pk=account.pk)
    account_set_key(current, "the-new-key-1", expires_at=None)
    current.save()
    assert not account_resume(account, by=PLATFORM, at=NOW)
    current.refresh_from_db()
    assert current.state == AccountState.STOPPED


def test_an_older_reading_of_balances_does_not_replace_a_newer_one():
    account = make_account()
    balances_note(account, {"USDT": Balance("USDT", Decimal("1.50"), Decimal(0))}, read_at=NOW)
    balances_note(account, {"USDT": Balance("USDT", Decimal(9), Decimal(0))}, read_at=NOW - 3 * SECOND)
    account.refresh_from_db()
    assert (account.balances, account.balances_read_at) == ({"USDT": ["1.50", "0"]}, NOW)


# --- keys that may withdraw -------------------------------------------------------------------------------------------

TOO_MUCH = ["read", "trade", "withdraw"]


@pytest.mark.parametrize(
    ("environment", "scopes", "state"),
    [
        ("live", TOO_MUCH, AccountState.PAUSED),
        ("live", ["read", "trade"], AccountState.ACTIVE),
        ("live", None, AccountState.ACTIVE),  # not known; the exchange is asked every hour
        ("paper", TOO_MUCH, AccountState.ACTIVE),
    ],
)
def test_a_live_account_whose_key_may_withdraw_opens_nothing(environment, scopes, state, caplog):
    account = make_account(name="main", environment=environment, key_scopes=scopes)
    for _ in range(2):
        keys_watch(NOW)
    account.refresh_from_db()
    assert account.state == state
    told = state == AccountState.PAUSED
    assert ("its key may withdraw" in account.state_reason) == told
    assert events() == [("account.paused", None)] * told
    assert caplog.text.count("its key may withdraw") == told


class LiveVenue:
    name = "wallex"

    def __init__(self, scopes):
        self._scopes = scopes

    def balances(self):
        return {}

    def key_details(self):
        return KeyDetails(scopes=self._scopes)


def store(scopes):
    return account_create(
        name="main",
        owner=make_trader(),
        environment=Environment.LIVE,
        provider=LiveVenue(scopes),
        api_key="12345|abcdefgh",
        by=SHELL,
        at=NOW,
    )[0]


def test_a_live_account_is_not_stored_with_such_a_key():
    with pytest.raises(Refused, match="was not stored: its key may withdraw"):
        store(frozenset(TOO_MUCH))
    assert not Account.objects.exists()
    assert store(frozenset({"read", "trade"})).key_scopes == ["read", "trade"]


def test_every_hour_the_exchange_is_asked_what_nobody_knows(settings, monkeypatch):
    settings.EXCHANGE_ENVIRONMENT = "live"
    account = make_account(name="main", environment="live", api_key="12345|abcdefgh")
    monkeypatch.setattr(tasks, "account_provider", lambda _: LiveVenue(frozenset(TOO_MUCH)))
    tasks.watch_keys()
    account.refresh_from_db()
    assert (account.key_scopes, account.state) == (TOO_MUCH, AccountState.PAUSED)
