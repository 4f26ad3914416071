from __future__ import annotations

from datetime import time

import pytest
from django.contrib.auth import get_user_model
from django.db import IntegrityError, transaction

from algo.models import ChannelType, Delivery, EventKind, NotificationChannel, Severity
from algo.models.event_kinds import CHOOSABLE, severity_of
from algo.models.fields import SecretUnreadable
from algo.selectors.visible import deliveries_visible, outbox_visible
from algo.services.outbox import event_record
from tests import factories as make
from tests.factories import NOW

pytestmark = pytest.mark.django_db


@pytest.fixture
def owner():
    return get_user_model().objects.create_user("owner")


def channel(owner, **fields):
    return NotificationChannel(owner=owner, **{"name": "mine", "type": ChannelType.WEBHOOK} | fields)


def test_address_and_secret_are_sealed_and_bound_to_their_channel(owner):
    one, other = channel(owner), channel(owner, name="other")
    one.set_target("https://chat.example/CANARY", hint="chat.example")
    one.set_secret("CANARY-secret")
    one.save()
    found = NotificationChannel.objects.get()
    assert (found.target(), found.secret(), found.target_hint) == (
        "https://chat.example/CANARY",
        "CANARY-secret",
        "chat.example",
    )
    assert "CANARY" not in str(NotificationChannel.objects.values().get())
    other.target_sealed = one.target_sealed
    with pytest.raises(SecretUnreadable):
        other.target()


@pytest.mark.parametrize(
    "fields",
    [
        {"quiet_from": time(22)},
        {"quiet_to": time(7)},
        {"daily_summary": True},
    ],
)
def test_half_a_setting_is_refused(owner, fields):
    with pytest.raises(IntegrityError), transaction.atomic():
        channel(owner, **fields).save()


def test_names_are_unique_per_owner_and_the_operator_has_one_channel_of_a_type(owner):
    channel(owner).save()
    channel(None).save()
    for again in (channel(owner), channel(None, name="another")):
        with pytest.raises(IntegrityError), transaction.atomic():
            again.save()


def test_an_event_goes_to_a_channel_once():
    event, mine = make.make_outbox_event(), channel(get_user_model().objects.create_user("o"))
    mine.save()
    fields = {"event": event, "channel": mine, "created_at": NOW, "next_attempt_at": NOW, "expires_at": NOW}
    Delivery.objects.create(**fields)
    with pytest.raises(IntegrityError), transaction.atomic():
        Delivery.objects.create(**fields)


def test_every_kind_fits_its_column_and_the_worst_are_critical():
    assert all(len(kind) <= 32 and kind.label for kind in EventKind)
    assert severity_of(EventKind.PROTECTION_LOST) == severity_of(EventKind.KILL_SWITCH) == Severity.CRITICAL
    assert severity_of(EventKind.TICKET_OPENED) == Severity.WARNING
    assert severity_of(EventKind.DEAL_OPENED) == Severity.INFO
    assert EventKind.TEST not in dict(CHOOSABLE)


def test_event_of_a_deal_knows_its_strategy_and_account():
    deal = make.make_deal()
    event = event_record(EventKind.DEAL_CLOSED, {}, at=NOW, deal=deal)
    assert (event.deal, event.config, event.account) == (deal, deal.config, deal.account)


def test_people_see_events_of_their_accounts_and_those_of_everybody(owner):
    mine, theirs = make.make_account(owner=owner), make.make_account(name="theirs")
    to_me = channel(owner)
    to_me.save()
    to_another = channel(theirs.owner)
    to_another.save()
    seen = [
        event_record(EventKind.ACCOUNT_PAUSED, {}, at=NOW, account=mine),
        event_record(EventKind.EXCHANGE_DOWN, {}, at=NOW),
        event_record(EventKind.TEST, {}, at=NOW, channel=to_me),
    ]
    event_record(EventKind.ACCOUNT_PAUSED, {}, at=NOW, account=theirs)
    event_record(EventKind.GUARDIAN_EVICTED, {}, at=NOW)
    event_record(EventKind.TEST, {}, at=NOW, channel=to_another)
    assert list(outbox_visible(owner)) == seen
    assert not deliveries_visible(owner).exists()
