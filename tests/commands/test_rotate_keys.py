"""Every secret moves to the newest key, and none is lost on the way."""

from __future__ import annotations

import io

import pytest
from cryptography.fernet import Fernet, InvalidToken
from django.core.management import call_command
from django.core.management.base import CommandError

from algo import exchanges
from algo.models import Account, AuditRecord
from algo.models.fields import seal
from algo.services import sealing
from algo.services.sealing import sealed_columns
from providers.clock import AnchoredClock
from tests import factories as make

pytestmark = pytest.mark.django_db

NEW = Fernet.generate_key().decode()


@pytest.fixture(autouse=True)
def _clock(monkeypatch):
    monkeypatch.setattr(exchanges, "CLOCK", AnchoredClock())


def rotate() -> str:
    out = io.StringIO()
    call_command("rotate_keys", stdout=out)
    return out.getvalue()


def put_in_front(settings) -> None:
    settings.FIELD_ENCRYPTION_KEYS = [NEW, *settings.FIELD_ENCRYPTION_KEYS]


def test_afterwards_the_new_key_alone_opens_everything(settings, monkeypatch):
    monkeypatch.setattr(sealing, "BATCH", 1)  # several transactions
    account = make.make_account(api_key="exchange-key-canary")
    owner = make.make_trader()
    channel = make.make_channel(owner, target="https://example.org/token-canary", secret="webhook-canary")
    inbound = make.make_inbound_key(secret="whsec_Y2FuYXJ5")
    make.make_account()  # without a key
    put_in_front(settings)
    assert rotate().startswith("4 secrets were sealed again with the first key; 0 were sealed with it already.")
    settings.FIELD_ENCRYPTION_KEYS = [NEW]
    for row in (account, channel, inbound):
        row.refresh_from_db()
    assert account.api_key() == "exchange-key-canary"
    assert (channel.target(), channel.secret()) == ("https://example.org/token-canary", "webhook-canary")
    assert inbound.secret() == "whsec_Y2FuYXJ5"


def test_a_second_run_changes_nothing(settings):
    account = make.make_account(api_key="exchange-key-canary")
    put_in_front(settings)
    rotate()
    sealed = Account.objects.get(pk=account.pk).api_key_sealed
    assert rotate().startswith("0 secrets were sealed again with the first key; 1 were")
    assert Account.objects.get(pk=account.pk).api_key_sealed == sealed
    assert [(each.act, each.details) for each in AuditRecord.objects.all()] == [
        ("secrets.reseal", {"kind": "account", "secrets": 1})
    ]


def test_a_row_that_no_key_opens_is_named_and_stays_while_the_others_move(settings):
    lost, known = make.make_account(api_key="lost-canary", name="lost one"), make.make_account(api_key="known-canary")
    before = lost.api_key_sealed
    settings.FIELD_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    known.set_api_key("known-canary")
    known.save()
    put_in_front(settings)
    with pytest.raises(
        CommandError, match=r"1 secrets were left as they are:\n  account \d+ \(lost one\): A stored"
    ) as no:
        rotate()
    assert "Keep the old keys" in str(no.value)
    assert "canary" not in str(no.value)
    lost.refresh_from_db()
    known.refresh_from_db()
    assert lost.api_key_sealed == before
    Fernet(NEW).decrypt(known.api_key_sealed.encode())


def test_a_secret_copied_from_another_row_is_not_given_to_its_new_row(settings):
    account, other = make.make_account(api_key="exchange-key-canary"), make.make_account(name="thief")
    Account.objects.filter(pk=other.pk).update(api_key_sealed=account.api_key_sealed)
    put_in_front(settings)
    with pytest.raises(CommandError, match="belongs to another row"):
        rotate()
    other.refresh_from_db()
    with pytest.raises(InvalidToken):
        Fernet(NEW).decrypt(other.api_key_sealed.encode())


def test_a_key_that_is_entered_meanwhile_is_the_one_that_stays(settings, monkeypatch):
    account = make.make_account(api_key="old-canary")
    owner, put = str(account.public_id), []

    def entered_meanwhile(token: str, *, owner: str) -> str | None:
        if not put:
            put.append(seal("new-canary", owner=owner))
            Account.objects.filter(pk=account.pk).update(api_key_sealed=put[0])
        return reseal(token, owner=owner)

    reseal = sealing.reseal
    monkeypatch.setattr(sealing, "reseal", entered_meanwhile)
    put_in_front(settings)
    assert "0 secrets were sealed again with the first key; 1 were" in rotate()
    account.refresh_from_db()
    assert account.api_key() == "new-canary"
    assert owner == str(account.public_id)


def test_every_model_with_a_sealed_column_is_found_and_binds_it_to_a_row():
    columns = {model._meta.model_name: names for model, names in sealed_columns()}
    assert (
        columns.items()
        >= {
            "account": ["api_key_sealed"],
            "notificationchannel": ["target_sealed", "secret_sealed"],
            "inboundkey": ["secret_sealed"],
        }.items()
    )
    for model, _names in sealed_columns():
        assert model._meta.get_field("public_id").unique
