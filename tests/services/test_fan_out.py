from __future__ import annotations

import threading
from datetime import time, timedelta
from decimal import Decimal

import pytest
from django.db import connection, transaction

from algo.models import Delivery, DeliveryState, EventKind, NotificationChannel, OutboxEvent, Severity
from algo.selectors.rights import Role
from algo.services import fan_out as room
from algo.services.fan_out import fan_out, outbox_prune
from algo.services.outbox import event_record
from tests import factories as make
from tests.factories import NOW

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def without_the_operators(settings):
    settings.WEBHOOK_URL = ""


def told(channel):
    return list(Delivery.objects.filter(channel=channel).order_by("event_id").values_list("event_id", flat=True))


def test_event_is_there_only_if_its_fact_is():
    with pytest.raises(RuntimeError), transaction.atomic():
        event_record(EventKind.DEAL_OPENED, {"deal": 1}, at=NOW)
        raise RuntimeError
    assert not OutboxEvent.objects.exists()


def test_amounts_and_times_are_recorded_as_text():
    event = event_record(EventKind.DEAL_CLOSED, {"profit": Decimal("0.10"), "at": NOW}, at=NOW)
    event.refresh_from_db()
    assert event.payload == {"profit": "0.10", "at": "2026-11-02T10:00:00Z"}


def test_each_channel_gets_one_delivery_however_often_it_is_looked_at():
    deal = make.make_deal()
    one, other = make.make_channel(deal.account.owner), make.make_channel(make.make_user(role=Role.ADMIN))
    event = event_record(EventKind.DEAL_OPENED, {}, at=NOW, deal=deal)
    assert fan_out(NOW) == 2
    OutboxEvent.objects.update(fanned_out_at=None)  # as if the mark had been lost
    fan_out(NOW)
    rows = Delivery.objects.order_by("channel_id").values_list("channel", "event", "deal", "state", "expires_at")
    expected = [(each.pk, event.pk, deal.pk, DeliveryState.WAITING, NOW + timedelta(days=1)) for each in (one, other)]
    assert list(rows) == expected
    assert fan_out(NOW) == 0


def test_more_than_a_batch_is_told_in_one_go(monkeypatch):
    monkeypatch.setattr(room, "BATCH", 2)
    mine = make.make_channel(make.make_user(role=Role.ADMIN))
    events = [make.make_outbox_event().pk for _ in range(5)]
    assert fan_out(NOW) == 5
    assert told(mine) == events


def test_nobody_hears_of_accounts_they_may_not_see():
    deal, looker = make.make_deal(), make.make_trader()
    deal.account.viewers.add(looker)
    owners, lookers = make.make_channel(deal.account.owner), make.make_channel(looker)
    strangers, admins = make.make_channel(make.make_trader()), make.make_channel(make.make_user(role=Role.ADMIN))
    event = event_record(EventKind.DEAL_OPENED, {}, at=NOW, deal=deal)
    fan_out(NOW)
    assert [told(each) for each in (owners, lookers, admins)] == [[event.pk]] * 3
    assert told(strangers) == []


def test_what_belongs_to_no_account_is_everybodys_or_an_admins():
    traders, admins = make.make_channel(make.make_trader()), make.make_channel(make.make_user(role=Role.ADMIN))
    down = event_record(EventKind.EXCHANGE_DOWN, {}, at=NOW)
    evicted = event_record(EventKind.GUARDIAN_EVICTED, {}, at=NOW)
    fan_out(NOW)
    assert (told(traders), told(admins)) == ([down.pk], [down.pk, evicted.pk])


def test_who_left_or_switched_off_hears_nothing():
    gone = make.make_user(role=Role.ADMIN)
    channel, off = make.make_channel(gone), make.make_channel(make.make_user(role=Role.ADMIN), is_enabled=False)
    gone.is_active = False
    gone.save()
    event_record(EventKind.EXCHANGE_DOWN, {}, at=NOW)
    assert fan_out(NOW) == 0
    assert told(channel) == told(off) == []


def test_chosen_kinds_and_severity():
    admin = make.make_user(role=Role.ADMIN)
    closed_only = make.make_channel(admin, kinds=[EventKind.DEAL_CLOSED])
    worst_only = make.make_channel(admin, minimum_severity=Severity.CRITICAL)
    closed = event_record(EventKind.DEAL_CLOSED, {}, at=NOW)
    lost = event_record(EventKind.PROTECTION_LOST, {}, at=NOW)
    released = event_record(EventKind.KILL_SWITCH, {}, at=NOW, severity=Severity.WARNING)
    fan_out(NOW)
    assert told(closed_only) == [closed.pk]
    assert told(worst_only) == [lost.pk]
    assert released.severity == Severity.WARNING


def test_chosen_accounts_and_strategies():
    admin, mine, other = make.make_user(role=Role.ADMIN), make.make_config(), make.make_config()
    of_account, of_strategy = make.make_channel(admin), make.make_channel(admin)
    of_account.accounts.add(mine.account)
    of_strategy.strategies.add(mine)
    sibling = make.make_config(account=mine.account)
    events = {
        "mine": event_record(EventKind.STRATEGY_STOPPED, {}, at=NOW, config=mine).pk,
        "sibling": event_record(EventKind.STRATEGY_STOPPED, {}, at=NOW, config=sibling).pk,
        "other": event_record(EventKind.STRATEGY_STOPPED, {}, at=NOW, config=other).pk,
        "account": event_record(EventKind.KEY_EXPIRING, {}, at=NOW, account=mine.account).pk,
        "other account": event_record(EventKind.KEY_EXPIRING, {}, at=NOW, account=other.account).pk,
        "system": event_record(EventKind.KILL_SWITCH, {}, at=NOW).pk,
    }
    fan_out(NOW)
    assert told(of_account) == [events[name] for name in ("mine", "sibling", "account", "system")]
    assert told(of_strategy) == [events[name] for name in ("mine", "account", "system")]


def test_what_is_said_to_one_channel_no_other_hears():
    admin = make.make_user(role=Role.ADMIN)
    mine, other = make.make_channel(admin, kinds=[EventKind.DEAL_CLOSED]), make.make_channel(admin)
    event = event_record(EventKind.DAILY_SUMMARY, {}, at=NOW, channel=mine)
    fan_out(NOW)
    assert (told(mine), told(other)) == ([event.pk], [])


def test_the_operators_channel_comes_and_goes_with_its_address(settings):
    event = make.make_outbox_event()
    settings.WEBHOOK_URL, settings.WEBHOOK_SECRET = "https://hooks.example.org/CANARY", "s"
    assert fan_out(NOW) == 1
    channel = NotificationChannel.objects.get(owner=None)
    assert (told(channel), channel.target(), channel.secret()) == ([event.pk], settings.WEBHOOK_URL, "s")
    assert (channel.target_hint, channel.groups) == ("hooks.example.org", False)
    settings.WEBHOOK_URL = ""
    make.make_outbox_event()
    assert fan_out(NOW) == 0
    assert NotificationChannel.objects.get().is_enabled is False


def test_a_day_of_tries_begins_when_quiet_hours_end():
    """10:00 UTC is 13:30 in Tehran; quiet until 15:00 there, 11:30 UTC."""
    make.make_channel(make.make_user(role=Role.ADMIN), quiet_from=time(13), quiet_to=time(15))
    make.make_outbox_event()
    fan_out(NOW)
    assert Delivery.objects.get().expires_at == NOW + timedelta(hours=1, minutes=30) + timedelta(days=1)


@pytest.mark.django_db(transaction=True)
def test_one_process_fans_out_at_a_time():
    """Else a later event could reach a channel before an earlier one that another process still holds."""
    make.make_channel(make.make_user(role=Role.ADMIN))
    make.make_outbox_event()
    held, let_go = threading.Event(), threading.Event()

    def other() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s, 0)", [room._FANNING_OUT])
            held.set()
            let_go.wait(10)
        connection.close()

    thread = threading.Thread(target=other)
    thread.start()
    assert held.wait(10)
    meanwhile = fan_out(NOW)
    let_go.set()
    thread.join()
    assert (meanwhile, fan_out(NOW)) == (0, 1)


@pytest.mark.django_db(transaction=True)
def test_who_dies_amid_the_fan_out_leaves_all_of_it_to_the_next(monkeypatch):
    make.make_channel(make.make_user(role=Role.ADMIN))
    make.make_outbox_event()

    def dies(*_, **__):
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(room.OutboxEvent.objects, "filter", dies)
        with pytest.raises(SystemExit):
            fan_out(NOW)
    assert not Delivery.objects.exists()
    assert fan_out(NOW) == 1


def test_what_is_old_and_waits_for_nobody_is_forgotten():
    old, young = NOW - timedelta(days=31), NOW - timedelta(days=29)
    ended = {"state": DeliveryState.DELIVERED, "delivered_at": old}
    make.make_delivery(created_at=old, **ended)
    waiting = make.make_delivery(created_at=old)
    recent = make.make_delivery(created_at=young, **ended)
    untold = make.make_outbox_event(created_at=old)
    OutboxEvent.objects.exclude(pk=untold.pk).update(fanned_out_at=old)
    assert outbox_prune(NOW) == 1
    assert set(OutboxEvent.objects.all()) == {waiting.event, recent.event, untold}
    assert set(Delivery.objects.all()) == {waiting, recent}
