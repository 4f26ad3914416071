from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection

from algo.models import CloseReason, Deal, DealStatus, EventKind, Heartbeat, OutboxEvent, Severity
from algo.notifications.texts import event_text
from algo.services import alarm_events
from algo.services.alarm_events import alarms_watch
from algo.services.control import strategy_stop
from algo.services.deal_events import record_deal_event
from tests import factories as make
from tests.factories import NOW

pytestmark = pytest.mark.django_db
SECOND, MINUTE, HOUR = (timedelta(**{unit: 1}) for unit in ("seconds", "minutes", "hours"))


@pytest.fixture(autouse=True)
def every_event_is_said_in_words():
    """Each of the events that a test makes names what it is about."""
    yield
    for event in OutboxEvent.objects.all():
        text = event_text(event)
        assert ": " in text.title, event.kind
        assert len(text.lines) > 1, event.kind


def told(*kinds):
    return list(OutboxEvent.objects.filter(kind__in=kinds).order_by("pk").values_list("kind", flat=True))


# --- protection -----------------------------------------------------------------------------------------------------

LOST, RESTORED = EventKind.PROTECTION_LOST, EventKind.PROTECTION_RESTORED


def bare(since=NOW, **fields):
    return make.make_open_deal(opened_at=NOW - HOUR, unprotected_since=since, **fields)


def protect(deal, at):
    seconds = (at - deal.unprotected_since).total_seconds()
    Deal.objects.filter(pk=deal.pk).update(unprotected_since=None)
    deal.refresh_from_db()
    record_deal_event(deal, "protected", deal.status, at, seconds=str(seconds))


def test_position_that_is_bare_for_long_is_told_once_and_so_is_its_end():
    deal = bare()
    assert alarms_watch(NOW + 4 * SECOND) == 0  # a stop that is moved
    assert alarms_watch(NOW + 5 * SECOND) == 1
    assert alarms_watch(NOW + 15 * SECOND) == 0
    event = OutboxEvent.objects.get()
    assert (event.kind, event.deal, event.account, event.severity) == (LOST, deal, deal.account, Severity.CRITICAL)
    assert (event.payload["since"], event.payload["deal_id"]) == ("2026-11-02T10:00:00Z", deal.pk)
    protect(deal, NOW + 17 * SECOND)
    alarms_watch(NOW + 20 * SECOND)
    alarms_watch(NOW + 30 * SECOND)
    assert told(LOST, RESTORED) == [LOST, RESTORED]


def test_a_second_spell_is_told_anew():
    deal = bare()
    alarms_watch(NOW + 5 * SECOND)
    protect(deal, NOW + 6 * SECOND)
    Deal.objects.update(unprotected_since=NOW + 7 * SECOND)
    alarms_watch(NOW + 8 * SECOND)
    assert told(LOST, RESTORED) == [LOST]
    alarms_watch(NOW + 12 * SECOND)
    assert told(LOST, RESTORED) == [LOST, LOST]


def test_what_was_bare_between_two_looks_is_told_afterwards():
    deal = bare()
    protect(deal, NOW + 8 * SECOND)
    short = bare()
    protect(short, NOW + 2 * SECOND)
    alarms_watch(NOW + 10 * SECOND)
    alarms_watch(NOW + 20 * SECOND)
    assert told(LOST, RESTORED) == [LOST, RESTORED]
    rows = OutboxEvent.objects.order_by("pk").values_list("deal", "payload__since", "payload__until")
    begin, end = "2026-11-02T10:00:00Z", "2026-11-02T10:00:08Z"
    assert list(rows) == [(deal.pk, begin, end), (deal.pk, None, end)]
    assert OutboxEvent.objects.first().severity == Severity.WARNING  # it is over


def test_end_of_a_deal_is_the_end_of_its_alarm():
    deal = bare()
    alarms_watch(NOW + 5 * SECOND)
    ended = {"status": DealStatus.CLOSED, "closed_at": NOW + 6 * SECOND, "close_reason": CloseReason.MANUAL}
    with make.unguarded():
        Deal.objects.filter(pk=deal.pk).update(**ended, unprotected_since=None)
    assert alarms_watch(NOW + 10 * SECOND) == 0


def test_seconds_are_wall_seconds_in_a_fast_replay():
    bare()
    assert alarms_watch(NOW + 4 * MINUTE, speed=60) == 0
    assert alarms_watch(NOW + 5 * MINUTE, speed=60) == 1


# --- strategies -----------------------------------------------------------------------------------------------------


def deny(config, times, *, code="cooldown", begin=NOW, every=MINUTE):
    for number in range(times):
        make.make_signal(config, denial_code=code, denial_message="because", created_at=begin + number * every)


def test_strategy_that_is_denied_often_is_told_once_an_hour():
    config, patient = make.make_config(), make.make_config()
    deny(config, 7)
    deny(config, 3, code="thin_book", begin=NOW + 10 * MINUTE)
    deny(patient, 9)
    assert alarms_watch(NOW + 11 * MINUTE) == 0
    assert alarms_watch(NOW + 12 * MINUTE) == 1
    event = OutboxEvent.objects.get()
    assert (event.kind, event.config, event.payload["times"]) == (EventKind.DENIED_OFTEN, config, 10)
    assert event.payload["codes"] == {"cooldown": 7, "thin_book": 3}
    deny(config, 30, begin=NOW + 13 * MINUTE)
    assert alarms_watch(NOW + 50 * MINUTE) == 0
    deny(config, 10, begin=NOW + 60 * MINUTE, every=SECOND)
    assert alarms_watch(NOW + 73 * MINUTE) == 1


def test_each_limit_of_a_strategy_is_told_once_a_trading_day():
    """The day in Tehran begins at 20:30 UTC."""
    config = make.make_config()
    deny(config, 3, code="daily_trades", every=SECOND)
    deny(config, 1, code="daily_loss", begin=NOW + 5 * SECOND)
    assert alarms_watch(NOW + 10 * SECOND) == 2
    assert set(OutboxEvent.objects.values_list("payload__limit", flat=True)) == {"daily_trades", "daily_loss"}
    deny(config, 1, code="daily_trades", begin=NOW + HOUR)
    assert alarms_watch(NOW + HOUR) == 0
    deny(config, 1, code="daily_trades", begin=NOW + 11 * HOUR)
    assert alarms_watch(NOW + 11 * HOUR) == 1


# --- exchanges ------------------------------------------------------------------------------------------------------


def guardian_said(at, *, answered_at, is_open):
    told_of = {"answered_at": answered_at.isoformat(), "open": is_open}
    Heartbeat.objects.update_or_create(
        name="guardian", defaults={"at": at, "detail": {"exchanges": {"wallex": told_of}}}
    )


def test_exchange_that_does_not_answer_is_told_once_and_so_is_its_return():
    guardian_said(NOW, answered_at=NOW, is_open=False)
    assert alarms_watch(NOW) == 0
    guardian_said(NOW + 40 * SECOND, answered_at=NOW, is_open=True)
    assert alarms_watch(NOW + 40 * SECOND) == 0  # not for a minute yet
    guardian_said(NOW + 70 * SECOND, answered_at=NOW, is_open=True)
    assert alarms_watch(NOW + 70 * SECOND) == 1
    assert alarms_watch(NOW + 80 * SECOND) == 0
    guardian_said(NOW + 90 * SECOND, answered_at=NOW + 90 * SECOND, is_open=False)
    assert alarms_watch(NOW + 90 * SECOND) == 1
    assert alarms_watch(NOW + 95 * SECOND) == 0
    down, up = OutboxEvent.objects.order_by("pk")
    assert (down.kind, down.payload["exchange"]) == ("exchange.down", "wallex")
    assert down.payload["since"] == "2026-11-02T10:00:00Z"
    assert (up.kind, up.payload, up.account) == ("exchange.up", {"exchange": "wallex"}, None)


def test_where_nobody_calls_it_nobody_knows_and_nothing_is_told():
    guardian_said(NOW, answered_at=NOW - HOUR, is_open=True)
    assert alarms_watch(NOW + 10 * MINUTE) == 0


@pytest.mark.django_db(transaction=True)
def test_one_process_looks_at_a_time():
    bare()
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s, 0)", [alarm_events._LOOKING])
            assert alarms_watch(NOW + MINUTE) == 0
            cursor.execute("SELECT pg_advisory_unlock(%s, 0)", [alarm_events._LOOKING])
    finally:
        other.close()
    assert alarms_watch(NOW + MINUTE) == 1


def test_strategy_that_a_person_stops_is_told_in_the_act():
    config = make.make_config()
    by = make.by(config.account.owner)
    assert strategy_stop(config, by=by, at=NOW, reason="enough")
    assert not strategy_stop(config, by=by, at=NOW)
    event = OutboxEvent.objects.get()
    assert (event.kind, event.config, event.payload["by"]) == ("strategy.stopped", config, by.name)
    assert event.payload["reason"] == "enough"
