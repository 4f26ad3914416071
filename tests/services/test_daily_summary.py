"""The daily summary: once for each channel and local day, and the right figures of the right accounts."""

from __future__ import annotations

import threading
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import pytest
from django.db import connection

from algo.models import NotificationChannel, OutboxEvent
from algo.services.daily_summary import due_day, summaries_record
from tests import factories as make

pytestmark = pytest.mark.django_db

BEGUN = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
DUE = datetime(2026, 11, 2, 4, 30, tzinfo=UTC)  # 08:00 in Tehran


@pytest.fixture
def owner():
    return make.make_trader("sara")


def channel(owner, **fields):
    asked = {"daily_summary": True, "summary_at": time(8), "time_zone": "Asia/Tehran"}
    row = make.make_channel(owner, **(asked | fields))
    NotificationChannel.objects.filter(pk=row.pk).update(created_at=BEGUN)
    return row


def told():
    return [event.payload for event in OutboxEvent.objects.filter(kind="summary.daily").order_by("pk")]


def test_the_local_day_and_its_moment():
    assert due_day(DUE, time(8), "Asia/Tehran") == (date(2026, 11, 2), DUE)
    assert due_day(DUE - timedelta(seconds=1), time(8), "Asia/Tehran") == (date(2026, 11, 1), DUE - timedelta(days=1))


def test_it_comes_once_a_day_at_the_time_of_its_zone(owner):
    channel(owner)
    assert summaries_record(DUE - timedelta(seconds=1)) == 0
    assert summaries_record(DUE) == 1
    assert summaries_record(DUE) == summaries_record(DUE + timedelta(hours=23)) == 0
    assert summaries_record(DUE + timedelta(days=1)) == 1
    (first, second) = told()
    assert (first["since"], first["until"]) == ("2026-11-01T04:30:00Z", "2026-11-02T04:30:00Z")
    assert (second["since"], second["until"]) == ("2026-11-02T04:30:00Z", "2026-11-03T04:30:00Z")


def test_after_days_without_the_platform_one_tells_of_all_of_them_a_week_at_most(owner):
    row = channel(owner)
    summaries_record(DUE)
    assert summaries_record(DUE + timedelta(days=3, hours=5)) == 1
    assert told()[-1]["since"] == "2026-11-02T04:30:00Z"
    assert told()[-1]["until"] == "2026-11-05T04:30:00Z"
    summaries_record(DUE + timedelta(days=30))
    assert told()[-1]["since"] == "2026-11-25T04:30:00Z"
    row.refresh_from_db()
    assert row.summary_told_on == date(2026, 12, 2)


def test_a_channel_that_was_just_made_does_not_tell_of_the_time_before(owner):
    row = channel(owner)
    NotificationChannel.objects.filter(pk=row.pk).update(created_at=DUE + timedelta(minutes=1))
    assert summaries_record(DUE + timedelta(minutes=2)) == 0
    assert summaries_record(DUE + timedelta(days=1)) == 1


def test_who_did_not_ask_or_was_switched_off_gets_none(owner):
    channel(owner, daily_summary=False)
    channel(owner, is_enabled=False)
    gone = make.make_trader()
    channel(gone)
    gone.is_active = False
    gone.save()
    assert summaries_record(DUE) == 0


def test_the_figures_are_of_the_day_and_of_the_accounts_the_owner_sees(owner):
    account = make.make_account(owner=owner, name="main", key_expires_at=DUE + timedelta(days=3))
    config = make.make_config(account=account)
    inside, outside = DUE - timedelta(hours=2), DUE - timedelta(hours=25)
    make.make_closed_deal(config, opened_at=inside, closed_at=inside, profit=Decimal("12.5"))
    make.make_closed_deal(config, opened_at=outside, closed_at=inside, profit=Decimal("-2.5"))
    make.make_closed_deal(config, opened_at=outside, closed_at=outside)
    make.make_open_deal(config, opened_at=inside)
    for code, at in (("cooldown", inside), ("cooldown", inside), ("thin_book", inside), ("cooldown", outside)):
        make.make_signal(config, created_at=at, denial_code=code)
    make.make_ticket(account)
    theirs = make.make_config()
    make.make_closed_deal(theirs, opened_at=inside, closed_at=inside, profit=Decimal(1000))
    make.make_ticket(theirs.account)
    channel(owner)
    summaries_record(DUE)
    (payload,) = told()
    assert payload["opened"] == 2
    assert payload["closed"] == 2
    assert payload["profit"] == {"USDT": "10"}
    assert payload["win_rate_percent"] == 50.0
    assert payload["unprotected_seconds"] == "0.8"
    assert payload["denials"] == {"cooldown": 2, "thin_book": 1}
    assert payload["tickets"] == 1
    assert payload["keys"] == [{"account": "main", "expires_at": "2026-11-05T04:30:00Z"}]


def test_of_chosen_accounts_only_those_are_told(owner):
    first, second = (make.make_account(owner=owner) for _ in range(2))
    for account in (first, second):
        make.make_ticket(account)
    row = channel(owner)
    row.accounts.set([first])
    summaries_record(DUE)
    assert told()[0]["tickets"] == 1


def test_a_day_without_deals_has_no_win_rate(owner):
    channel(owner)
    summaries_record(DUE)
    assert (told()[0]["closed"], told()[0]["win_rate_percent"], told()[0]["profit"]) == (0, None, {})


@pytest.mark.django_db(transaction=True)
def test_workers_at_once_record_it_once():
    channel(make.make_trader())
    start, done = threading.Barrier(4), []

    def work():
        try:
            start.wait(timeout=10)
            done.append(summaries_record(DUE))
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert (sum(done), len(told())) == (1, 1)
