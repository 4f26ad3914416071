from __future__ import annotations

import threading
from datetime import time, timedelta

import pytest
from django.db import connection

from algo.models import ChannelType, Delivery, DeliveryState, EventKind, NotificationChannel, OutboxEvent
from algo.notifications import deliver
from algo.notifications.deliver import channel_deliver, channels_due, retry_after
from algo.notifications.message import SENDER_SECONDS, DeliveryFailed
from algo.notifications.senders import SENDERS
from algo.services.deliveries import delivery_redeliver
from algo.services.fan_out import fan_out
from algo.services.outbox import event_record
from tests import factories as make
from tests.factories import NOW

pytestmark = pytest.mark.django_db
SECOND, MINUTE, HOUR, DAY = (timedelta(**{unit: 1}) for unit in ("seconds", "minutes", "hours", "days"))
AWAY = DeliveryFailed("the receiver answered 503", status=503)
NOT_THIS = DeliveryFailed("the receiver answered 400", status=400, of_receiver=False)


class Sent(list):
    """A sender that keeps what it was given, and fails as `failing` says: by event, or all."""

    def __init__(self):
        super().__init__()
        self.failing = {}
        self.down = None

    def __call__(self, message):
        failed = self.down or next((self.failing[each.pk] for each in message.events if each.pk in self.failing), None)
        if failed is not None:
            raise failed
        self.append(message)
        return 200

    @property
    def events(self):
        return [[event.pk for event in message.events] for message in self]


@pytest.fixture
def sent():
    return Sent()


def run(channel, now, sender, **options):
    return channel_deliver(channel.pk, now, {channel.type: sender}, **options)


def deliveries(count, channel, **fields):
    return [make.make_delivery(channel=channel, **fields) for _ in range(count)]


def fresh(row):
    row.refresh_from_db()
    return row


# --- one channel ----------------------------------------------------------------------------------------------------


def test_what_is_due_is_delivered_once_in_order(sent):
    channel = make.make_channel()
    first, second = deliveries(2, channel)
    assert run(channel, NOW, sent) == 2
    assert run(channel, NOW + DAY, sent) == 0
    assert sent.events == [[first.event_id], [second.event_id]]
    row = fresh(first)
    assert (row.state, row.delivered_at, row.attempts, row.status_code) == (DeliveryState.DELIVERED, NOW, 1, 200)
    assert [message.id for message in sent] == [f"event_{first.event_id}", f"event_{second.event_id}"]


def test_what_is_of_later_waits(sent):
    channel = make.make_channel()
    make.make_delivery(channel=channel, next_attempt_at=NOW + SECOND)
    assert (channels_due(NOW), run(channel, NOW, sent)) == ([], 0)
    assert channels_due(NOW + SECOND) == [channel.pk]


def test_receiver_that_is_away_is_left_alone_and_asked_again_later(sent):
    channel = make.make_channel()
    first, second = deliveries(2, channel)
    sent.down = AWAY
    assert run(channel, NOW, sent) == 0
    row = fresh(first)
    assert (row.attempts, row.last_error, row.status_code) == (1, "the receiver answered 503", 503)
    assert fresh(second).attempts == 0  # one try tells enough
    sent.down = None
    assert (channels_due(NOW + 19 * SECOND), run(channel, NOW + 19 * SECOND, sent)) == ([], 0)
    assert run(channel, NOW + 20 * SECOND, sent) == 2
    assert sent.events == [[first.event_id], [second.event_id]]
    assert (fresh(channel).failures, channel.retry_at) == (0, None)


def test_silence_doubles_to_ten_minutes_and_a_refused_message_to_an_hour():
    assert [retry_after(n).total_seconds() for n in (1, 2, 3, 8, 9, 30)] == [20, 40, 80, 2560, 3600, 3600]
    assert retry_after(7, deliver.LONGEST_SILENCE) == 10 * MINUTE


def test_receiver_may_ask_for_patience(sent):
    channel = make.make_channel()
    make.make_delivery(channel=channel)
    sent.down = DeliveryFailed("the receiver answered 429", status=429, retry_seconds=300)
    run(channel, NOW, sent)
    assert fresh(channel).retry_at == NOW + 300 * SECOND


def test_it_is_asked_in_wall_time_in_a_fast_replay(sent):
    channel = make.make_channel()
    make.make_delivery(channel=channel)
    sent.down = AWAY
    run(channel, NOW, sent, speed=60)
    assert fresh(channel).retry_at == NOW + 20 * MINUTE


def test_message_that_is_refused_holds_up_its_deal_and_nothing_else(sent):
    channel, deal = make.make_channel(), make.make_deal()
    opened, moved = deliveries(2, channel, deal=deal)
    (other,) = deliveries(1, channel, deal=make.make_deal())
    (alone,) = deliveries(1, channel)
    sent.failing[opened.event_id] = NOT_THIS
    assert run(channel, NOW, sent) == 2
    assert sent.events == [[other.event_id], [alone.event_id]]
    sent.failing.clear()
    assert run(channel, NOW + 19 * SECOND, sent) == 0
    assert run(channel, NOW + 20 * SECOND, sent) == 2
    assert sent.events[2:] == [[opened.event_id], [moved.event_id]]


def test_what_nobody_takes_for_a_day_is_given_up_and_its_deal_goes_on(sent):
    channel, deal = make.make_channel(), make.make_deal()
    opened, closed = deliveries(2, channel, deal=deal)
    Delivery.objects.filter(pk=closed.pk).update(expires_at=NOW + 2 * DAY)
    sent.failing[opened.event_id] = NOT_THIS
    now = NOW
    while fresh(opened).state == DeliveryState.WAITING:
        run(channel, now, sent)
        now = max(now + SECOND, fresh(opened).next_attempt_at)
    assert opened.state == DeliveryState.GIVEN_UP
    assert DAY <= now - NOW <= DAY + 2 * HOUR
    assert 24 <= opened.attempts <= 36
    assert (opened.last_error, opened.delivered_at) == ("the receiver answered 400", None)
    assert fresh(closed).state == DeliveryState.DELIVERED


def test_receiver_that_stays_away_loses_what_is_over_and_gets_the_rest(sent):
    channel = make.make_channel()
    old = deliveries(3, channel, expires_at=NOW + HOUR)
    (young,) = deliveries(1, channel, expires_at=NOW + 2 * HOUR)
    sent.down = AWAY
    now = NOW
    while fresh(old[0]).state == DeliveryState.WAITING:
        run(channel, now, sent)
        now = fresh(channel).retry_at
    assert {fresh(row).state for row in old} == {DeliveryState.GIVEN_UP}
    assert {row.last_error for row in old} == {"the receiver answered 503"}
    assert fresh(young).state == DeliveryState.WAITING
    sent.down = None
    run(channel, now + HOUR / 2, sent)
    assert sent.events == [[young.event_id]]


def test_platform_that_was_off_for_days_still_tells_what_waited(sent):
    channel = make.make_channel()
    make.make_delivery(channel=channel)
    assert run(channel, NOW + 3 * DAY, sent) == 1


def test_given_up_is_sent_once_more_when_somebody_says_so(sent):
    channel = make.make_channel()
    row = make.make_delivery(channel=channel, state=DeliveryState.GIVEN_UP, attempts=30, last_error="503")
    NotificationChannel.objects.update(failures=9, retry_at=NOW + HOUR)
    assert delivery_redeliver(row, by=make.by(), at=NOW + 2 * DAY)
    assert fresh(row).expires_at == NOW + 3 * DAY
    assert not delivery_redeliver(row, by=make.by(), at=NOW + 2 * DAY)
    assert run(channel, NOW + 2 * DAY, sent) == 1
    assert sent[0].id == f"event_{row.event_id}"


def test_message_that_cannot_be_made_does_not_hold_up_the_others(sent):
    channel = make.make_channel()
    broken, sound = deliveries(2, channel)
    sent.failing[broken.event_id] = ZeroDivisionError()
    assert run(channel, NOW, sent) == 1
    assert fresh(sound).state == DeliveryState.DELIVERED
    assert "ZeroDivisionError" in fresh(broken).last_error


def test_secret_that_cannot_be_read_is_told_and_sends_nothing(sent):
    channel = make.make_channel(make.make_trader(), target="https://hooks.example.org/")
    NotificationChannel.objects.update(target_sealed="no token of ours")
    row = make.make_delivery(channel=channel)
    channel_deliver(channel.pk, NOW, SENDERS)
    assert "FIELD_ENCRYPTION_KEYS" in fresh(row).last_error


def test_channel_that_was_switched_off_waits(sent):
    channel = make.make_channel()
    make.make_delivery(channel=channel)
    NotificationChannel.objects.update(is_enabled=False)
    assert (channels_due(NOW), run(channel, NOW, sent)) == ([], 0)
    NotificationChannel.objects.update(is_enabled=True)
    assert run(channel, NOW, sent) == 1


def test_who_answers_comes_before_who_does_not(sent):
    away, there = make.make_channel(make.make_trader()), make.make_channel(make.make_trader())
    make.make_delivery(channel=away)
    make.make_delivery(channel=there)
    NotificationChannel.objects.filter(pk=away.pk).update(failures=3)
    assert channels_due(NOW) == [there.pk, away.pk]


# --- who dies, and who is at work ----------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_network_is_used_outside_any_transaction():
    channel = make.make_channel()
    make.make_delivery(channel=channel)
    inside = []
    run(channel, NOW, lambda _: inside.append(connection.in_atomic_block))
    assert inside == [False]


@pytest.mark.django_db(transaction=True)
def test_channel_is_served_by_one_worker_at_a_time(sent):
    channel = make.make_channel()
    deliveries(2, channel)
    in_flight, go_on = threading.Event(), threading.Event()

    def slow(message):
        in_flight.set()
        go_on.wait(10)

    def work():
        run(channel, NOW, slow)
        connection.close()

    worker = threading.Thread(target=work)
    worker.start()
    assert in_flight.wait(10)
    meanwhile = (channels_due(NOW + 30 * SECOND), run(channel, NOW + 30 * SECOND, sent))
    go_on.set()
    worker.join()
    assert (meanwhile, sent) == (([], 0), [])
    assert not Delivery.objects.filter(state=DeliveryState.WAITING).exists()


def test_worker_that_died_is_followed_after_its_lease_and_nothing_is_lost(sent):
    channel, deal = make.make_channel(), make.make_deal()
    first, second = deliveries(2, channel, deal=deal)

    def dies(message):
        raise SystemExit

    with pytest.raises(SystemExit):
        run(channel, NOW, dies)
    NotificationChannel.objects.update(claim=None, claimed_until=NOW + deliver.LEASE)  # as a SIGKILL leaves it
    assert run(channel, NOW + 59 * SECOND, sent) == 0
    assert run(channel, NOW + 60 * SECOND, sent) == 2
    assert sent.events == [[first.event_id], [second.event_id]]
    assert fresh(first).attempts == 2


def test_lease_outlives_a_slice_of_work_and_one_message_more():
    assert deliver.LEASE.total_seconds() > deliver.SLICE_SECONDS + 2 * SENDER_SECONDS
    assert retry_after(1).total_seconds() > SENDER_SECONDS


# --- storms and quiet hours -----------------------------------------------------------------------------------------


def chat(**fields):
    defaults = {"groups": True, "most_per_minute": 20, "type": ChannelType.CHAT}
    return make.make_channel(make.make_trader(), **(defaults | fields))


def test_a_storm_becomes_one_message_that_counts_it(sent):
    """500 events within a minute, looked at every ten seconds as the beat does."""
    channel = chat()
    for tenth in range(6):
        at = NOW + tenth * 10 * SECOND
        count, kind = (80, "ticket.opened") if tenth else (100, "strategy.denied_often")
        deliveries(count, channel, kind=kind, created_at=at)
        run(channel, at, sent)
    assert sent == []  # it may still be growing
    assert run(channel, NOW + MINUTE, sent) == 500
    (message,) = sent
    assert message.counts == {"ticket.opened": 400, "strategy.denied_often": 100}
    assert message.is_group
    rows = Delivery.objects.all()
    assert set(rows.values_list("state", "group_key")) == {(DeliveryState.DELIVERED, message.id)}


def test_few_events_come_alone_and_at_once(sent):
    channel = chat()
    rows = deliveries(5, channel)
    run(channel, NOW, sent)
    assert sent.events == [[row.event_id] for row in rows]
    deliveries(1, channel, created_at=NOW + 10 * SECOND)  # the sixth in a minute
    run(channel, NOW + 10 * SECOND, sent)
    assert len(sent) == 5
    run(channel, NOW + 70 * SECOND, sent)
    assert len(sent) == 6


def test_critical_event_does_not_wait_for_a_storm_to_end(sent):
    channel = chat()
    deliveries(50, channel, kind="ticket.opened")
    (lost,) = deliveries(1, channel, kind="protection.lost")
    run(channel, NOW, sent)
    assert sent.events == [[lost.event_id]]
    many = deliveries(6, channel, kind="protection.lost")
    run(channel, NOW, sent)
    assert sent.events[1:] == [[row.event_id for row in many]]


def test_group_that_failed_goes_out_as_it_was_under_the_same_id(sent):
    channel = chat()
    ids = []
    rows = deliveries(7, channel)

    def fails(message):
        ids.append(message.id)
        raise AWAY

    run(channel, NOW + MINUTE, fails)
    deliveries(3, channel, created_at=NOW + MINUTE)
    run(channel, NOW + MINUTE + 20 * SECOND, sent)
    assert sent.events[0] == [row.event_id for row in rows]
    assert [message.id for message in sent][:1] == ids


def test_group_that_failed_stays_one_message_where_grouping_is_switched_off_meanwhile(sent):
    channel = chat()
    rows = deliveries(7, channel)
    sent.down = AWAY
    run(channel, NOW + MINUTE, sent)
    NotificationChannel.objects.update(groups=False)
    sent.down = None
    run(channel, NOW + 2 * MINUTE, sent)
    assert sent.events == [[row.event_id for row in rows]]


def test_webhook_gets_each_event_of_a_storm_alone_unless_it_asked_for_groups(sent):
    machine, grouped = make.make_channel(), make.make_channel(make.make_trader(), groups=True)
    deliveries(30, machine)
    deliveries(30, grouped)
    run(machine, NOW, sent)
    assert [len(each) for each in sent.events] == [1] * 30
    sent.clear()
    run(grouped, NOW + MINUTE, sent)
    assert [len(each) for each in sent.events] == [30]


def test_no_more_than_so_many_messages_go_out_in_a_minute(sent):
    channel = make.make_channel(most_per_minute=3)
    deliveries(5, channel)
    assert run(channel, NOW, sent) == 3
    assert run(channel, NOW + 59 * SECOND, sent) == 0
    assert run(channel, NOW + MINUTE, sent) == 2


QUIET = {"quiet_from": time(13), "quiet_to": time(15)}  # in Tehran, where NOW is 13:30: until 11:30 UTC


def test_quiet_hours_hold_what_is_not_critical_until_they_end(sent):
    channel = chat(**QUIET)
    held = deliveries(2, channel)
    (lost,) = deliveries(1, channel, kind="protection.lost")
    run(channel, NOW, sent)
    assert sent.events == [[lost.event_id]]
    run(channel, NOW + 90 * MINUTE - SECOND, sent)
    assert len(sent) == 1
    run(channel, NOW + 90 * MINUTE, sent)
    assert sent.events[1:] == [[row.event_id] for row in held]


def test_quiet_hours_hold_everything_for_who_wants_that(sent):
    channel = chat(**QUIET, quiet_rule="hold_all")
    deliveries(1, channel, kind="kill_switch.changed")
    assert run(channel, NOW, sent) == 0
    assert run(channel, NOW + 90 * MINUTE, sent) == 1


def test_critical_event_brings_along_what_quiet_hours_held_of_its_deal(sent):
    """So that each deal is told in order at all times."""
    channel, deal = make.make_channel(**QUIET), make.make_deal()
    (opened,) = deliveries(1, channel, deal=deal)
    deliveries(1, channel, deal=make.make_deal())
    (lost,) = deliveries(1, channel, deal=deal, kind="protection.lost")
    run(channel, NOW, sent)
    assert sent.events == [[opened.event_id], [lost.event_id]]


# --- together with the fan-out --------------------------------------------------------------------------------------


def test_each_deal_is_told_in_its_order_whatever_fails_when(sent):
    """Four deals of six events each, written in turn. Every third try fails; within one go the next event of the deal
    would be the fourth after it."""
    owner = make.make_trader()
    channel = make.make_channel(owner)
    account = make.make_account(owner=owner)
    configs = [make.make_config(account=account) for _ in range(4)]
    deals = [make.make_closed_deal(config) for config in configs]
    for _ in range(6):
        for deal in deals:
            event_record(EventKind.STOP_MOVED, {}, at=NOW, deal=deal)
    tries = iter(range(10_000))

    def sender(message):
        number = next(tries)
        if number % 3 == 0:
            raise AWAY if number % 12 == 0 else NOT_THIS
        return sent(message)

    now = NOW
    while fan_out(now) or Delivery.objects.filter(state=DeliveryState.WAITING).exists():
        run(channel, now, sender)
        now = fresh(channel).retry_at or now + 20 * SECOND
        assert now < NOW + DAY
    for deal in deals:
        wanted = list(OutboxEvent.objects.filter(deal=deal).values_list("pk", flat=True))
        assert [pk for (pk,) in sent.events if pk in wanted] == wanted
    assert len(sent) == 24
