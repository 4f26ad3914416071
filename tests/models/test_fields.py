"""Exact amounts, and secrets that open only where they belong."""

from __future__ import annotations

import uuid
from decimal import Decimal

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from algo.models import Account, Market
from algo.models.fields import SecretUnreadable, plain, seal, unseal
from tests.factories import make_account, make_market

CANARY = "13|canarycanarycanarycanarycanarycanary1"


def test_a_sealed_secret_opens_for_its_row_only():
    token = seal(CANARY, owner="row-1")
    assert CANARY not in token
    assert unseal(token, owner="row-1") == CANARY
    with pytest.raises(SecretUnreadable) as caught:
        unseal(token, owner="row-2")
    assert CANARY not in str(caught.value)


def test_an_old_key_still_opens_after_a_new_one_was_put_in_front(settings):
    token = seal(CANARY, owner="row")
    settings.FIELD_ENCRYPTION_KEYS = [Fernet.generate_key().decode(), *settings.FIELD_ENCRYPTION_KEYS]
    assert unseal(token, owner="row") == CANARY


def test_without_its_key_a_secret_says_what_to_do_and_not_what_it_is(settings):
    token = seal(CANARY, owner="row")
    settings.FIELD_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    with pytest.raises(SecretUnreadable, match="FIELD_ENCRYPTION_KEYS"):
        unseal(token, owner="row")


@pytest.mark.parametrize(
    ("value", "text"), [("50000.000", "50000"), ("0.100", "0.1"), ("1E+3", "1000"), ("0E-18", "0"), ("-2.50", "-2.5")]
)
def test_amounts_lose_their_trailing_zeros_and_nothing_else(value, text):
    assert str(plain(Decimal(value))) == text


@given(st.decimals(min_value=-(10**18), max_value=10**18, places=18, allow_nan=False, allow_infinity=False))
def test_plain_never_changes_a_value(value):
    assert plain(value) == value


@pytest.mark.django_db
def test_the_database_keeps_every_digit_of_an_amount():
    market = make_market(
        "BTCUSDT", tick_size=Decimal("0.000000000000000001"), step_size=Decimal("12345678901234567890")
    )
    market = Market.objects.get(pk=market.pk)
    assert market.tick_size == Decimal("0.000000000000000001")
    assert market.step_size == Decimal("12345678901234567890")


@pytest.mark.django_db
def test_an_account_keeps_its_key_sealed_and_shows_the_last_four():
    account = make_account(api_key=CANARY)
    stored = Account.objects.values().get(pk=account.pk)
    assert not [name for name, value in stored.items() if CANARY in str(value)]
    assert Account.objects.get(pk=account.pk).api_key() == CANARY
    assert account.api_key_hint == "…ary1"


@pytest.mark.django_db
def test_a_key_copied_to_another_account_does_not_open():
    account, other = make_account(api_key=CANARY), make_account()
    Account.objects.filter(pk=other.pk).update(api_key_sealed=account.api_key_sealed)
    other.refresh_from_db()
    assert other.public_id != account.public_id
    assert isinstance(other.public_id, uuid.UUID)
    with pytest.raises(SecretUnreadable):
        other.api_key()
